"""One self-contained page of a whole study."""

from ptqdb.report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
