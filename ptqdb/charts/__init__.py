"""Pictures: what a person looks at, one file per chart."""

from ptqdb.charts.fit import fit_chart
from ptqdb.charts.saving import save_chart

__all__ = ["fit_chart", "save_chart"]
