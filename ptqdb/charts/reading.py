"""Reads the rows that pictures show, and says why there are none."""

from typing import TYPE_CHECKING

import polars as pl

from ptqdb.database import layer_call, query, read_view
from ptqdb.errors import DataError, UsageError
from ptqdb.fitting.fitted_view import FittedView
from ptqdb.fitting.view_fit import finite_rows, of_network

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def view_rows(
    connection: "DuckDBPyConnection", view: str, network: str | None = None
) -> pl.DataFrame:
    """The rows of a view that has some.

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
            f"{', '.join(sorted(missing))}; `ptqdb fit --help` says more"
        )
    if frame.is_empty():
        raise DataError(f"the view {view} has no rows; `ptqdb views` says why")
    if network is not None:
        of_network(frame, network)
    return frame


def frontier_rows(whole: FittedView, curve: str) -> tuple[pl.DataFrame, str]:
    """A view's rows with what is predicted from the other networks, and by what.

    Of a single network there are no predictions, and no column of them.
    """
    rows = finite_rows(whole.frame)
    if whole.predictor is None:
        return rows, ""
    predicted = pl.Series("predicted_loss", whole.predictor.held_out)
    return rows.with_columns(predicted), f"predicted by {curve} over {whole.view}"


def layer_rows(connection: "DuckDBPyConnection", view: str) -> pl.DataFrame:
    """What each layer adds to a view's divergence, with what it costs alone where that is known.

    Returns
    -------
    Rows of ``layer_divergence``, with the columns ``accuracy_loss, accuracy_loss_se, images`` of
    ``layer_loss``, NULL where the layer was not evaluated alone.

    Raises
    ------
    UsageError
        No such view, or one of which nothing says what its layers add.
    """
    try:
        call = layer_call(view)
    except UsageError:
        read_view(connection, view)  # says what is wrong with it, if something is
        raise
    key = ["network", "number_format", "layer"]
    losses = query(
        connection,
        f"select {', '.join(key)}, accuracy_loss, accuracy_loss_se, images from layer_loss",
    )
    return read_view(connection, call).join(losses, on=key, how="left", maintain_order="left")
