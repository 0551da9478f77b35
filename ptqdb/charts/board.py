"""The entries of a leaderboard chart: stored by ``compare``, or else a few views fitted now."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import polars as pl

from ptqdb.charts.reading import view_rows
from ptqdb.database import looks_at_losses, query
from ptqdb.defaults import PREDICTION_VIEW
from ptqdb.fitting.fitted_view import FittedView, fit_whole_view
from ptqdb.fitting.leaderboard import BASELINE_PREFIX, matching_views

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FEW_VIEWS = (
    *("l2_flops", "fakefreeze_param", "fakefreeze_flops", "fakefreeze_flops_log"),
    *("fakefreeze_flops_cuberoot", "fakefreeze_nodiv_flops", "fakefreeze_weightratio_flops"),
    *("fakefreeze_flops_rootdepth", "nsr_flops", PREDICTION_VIEW),
)
FIGURES = ("view", "curve", "held_out_r_squared", "held_out_rmse", "r_squared")
FEW_CURVES = ("rational2", "hill", "logistic", "isotonic")


def read_board(
    connection: "DuckDBPyConnection",
    views: Sequence[str] = (),
    fitted: Mapping[tuple[str, str], FittedView] = MappingProxyType({}),
) -> tuple[pl.DataFrame, str]:
    """Return the entries for `ptqdb.charts.leaderboard`, and a note on their origin.

    Parameters
    ----------
    views
        Names, globs or calls of ``variant`` to fit; empty: use the fits stored by ``ptqdb
        compare``, or else fit a few views.
    fitted
        Fits already made, by view and curve.

    Raises
    ------
    UsageError
        No view matches.
    """
    if not views:
        stored = query(
            connection,
            f"select {', '.join(FIGURES)} from fit where leave_out = 'network' order by fit_id",
        )
        if stored.height:
            return _marked(stored), f"{stored.height} fits by ptqdb compare"
    chosen = [name for one in views for name in matching_views(connection, one)]
    if not views:
        chosen = [*FEW_VIEWS, *matching_views(connection, f"{BASELINE_PREFIX}*")]
    names = list(dict.fromkeys(chosen))
    frames = {view: view_rows(connection, view) for view in names}
    rows = []
    for view in names:
        for curve in FEW_CURVES:
            whole = fitted.get((view, curve)) or fit_whole_view(
                frames[view], view, curve, by_network=False
            )
            rows.append({name: getattr(whole.pool, name) for name in FIGURES})
    note = f"{len(names)} views fitted for this chart; ptqdb compare fits and stores all views"
    return _marked(pl.DataFrame(rows, infer_schema_length=None)), note


def _marked(entries: pl.DataFrame) -> pl.DataFrame:
    views = entries["view"].to_list()
    return entries.with_columns(
        pl.col("held_out_r_squared", "held_out_rmse", "r_squared").cast(pl.Float64),
        baseline=pl.Series([view.startswith(BASELINE_PREFIX) for view in views], dtype=pl.Boolean),
        evaluated=pl.Series([looks_at_losses(view) for view in views], dtype=pl.Boolean),
    )
