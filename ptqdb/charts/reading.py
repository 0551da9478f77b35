"""Reads the rows of charts, with helpful errors if there are none."""

from typing import TYPE_CHECKING

import polars as pl

from ptqdb.database import layer_call, query, read_view
from ptqdb.errors import DataError, UsageError
from ptqdb.fitting.fitted_view import FittedView
from ptqdb.fitting.view_fit import finite_rows, select_network

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def view_rows(
    connection: "DuckDBPyConnection", view: str, network: str | None = None
) -> pl.DataFrame:
    """Return the rows of a view, at least one.

    Raises
    ------
    UsageError
        No such view; or no such network in it.
    DataError
        The view is empty.
    """
    frame = read_view(connection, view)
    missing = {"network", "number_format", "divergence", "accuracy_loss"} - set(frame.columns)
    if missing:
        raise UsageError(
            f"expected a view of losses over divergences, found {view} without "
            f"{', '.join(sorted(missing))}; see `ptqdb fit --help`"
        )
    if frame.is_empty():
        raise DataError(f"the view {view} has no rows; `ptqdb views` shows the reason")
    if network is not None:
        select_network(frame, network)
    return frame


def frontier_rows(whole: FittedView, curve: str) -> tuple[pl.DataFrame, str]:
    """Return a view's rows with predictions from the other networks, and a note on these.

    With a single network there are no predictions and no such column.
    """
    rows = finite_rows(whole.frame)
    if whole.predictor is None:
        return rows, ""
    predicted = pl.Series("predicted_loss", whole.predictor.held_out)
    return rows.with_columns(predicted), f"predicted by {curve} over {whole.view}"


def layer_rows(connection: "DuckDBPyConnection", view: str) -> pl.DataFrame:
    """Return each layer's contribution to a view's divergence, and its loss alone if evaluated.

    Returns
    -------
    Rows of ``layer_divergence``, with the columns ``accuracy_loss, accuracy_loss_se, images`` of
    ``layer_loss``, NULL if the layer was not evaluated alone.

    Raises
    ------
    UsageError
        No such view, or a view without known contributions of layers.
    """
    try:
        call = layer_call(view)
    except UsageError:
        read_view(connection, view)  # raises a better error if the view itself is wrong
        raise
    key = ["network", "number_format", "layer"]
    losses = query(
        connection,
        f"select {', '.join(key)}, accuracy_loss, accuracy_loss_se, images from layer_loss",
    )
    return read_view(connection, call).join(losses, on=key, how="left", maintain_order="left")
