"""Exports a study as a folder of Parquet files, and merges such a folder into a database."""

from ptqdb.database.exchange.exporting import export_study
from ptqdb.database.exchange.importing import create_if_imported, import_study
from ptqdb.database.exchange.tables import TABLE_NAMES

__all__ = ["TABLE_NAMES", "create_if_imported", "export_study", "import_study"]
