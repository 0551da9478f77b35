"""Charts, one module per kind."""

from ptqdb.charts.crowding import crowding_chart
from ptqdb.charts.distribution import distribution_chart
from ptqdb.charts.fit import fit_chart
from ptqdb.charts.frontier import frontier_chart
from ptqdb.charts.layers import layers_chart
from ptqdb.charts.leaderboard import leaderboard_chart
from ptqdb.charts.networks import networks_chart
from ptqdb.charts.residuals import residuals_chart
from ptqdb.charts.saving import save_chart
from ptqdb.charts.variants import variants_chart

__all__ = [
    "crowding_chart",
    "distribution_chart",
    "fit_chart",
    "frontier_chart",
    "layers_chart",
    "leaderboard_chart",
    "networks_chart",
    "residuals_chart",
    "save_chart",
    "variants_chart",
]
