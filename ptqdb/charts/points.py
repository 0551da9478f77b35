"""The points of a view: loss over divergence, with tooltips."""

from typing import Literal

import altair as alt
import polars as pl

from ptqdb.charts.axes import Columns, XAxis, loss_axis
from ptqdb.charts.rows import inline
from ptqdb.charts.style import family_order, family_shapes
from ptqdb.defaults import VIEW_OF_SMALL_NETWORKS
from ptqdb.errors import DataError

TOOLTIPS: tuple[tuple[str, str, Literal["nominal", "quantitative"], str], ...] = (
    ("network", "Network", "nominal", ""),
    ("number_format", "Format", "nominal", ""),
    ("divergence", "Divergence", "quantitative", ".4g"),
    ("loss_and_error", "Relative loss", "nominal", ""),
    ("accuracy", "Accuracy", "quantitative", ".2%"),
)


def drawable_rows(
    frame: pl.DataFrame, network: str | None = None, columns: Columns | None = None
) -> pl.DataFrame:
    """Return the rows with a divergence and a loss, with the columns that a chart needs.

    Numbers become floats: Altair refuses DuckDB's HUGEINT and DECIMAL.

    Raises
    ------
    DataError
        There is none.
    """
    numbers = pl.col("divergence", "accuracy_loss").cast(pl.Float64)
    rows = frame.with_columns(numbers).filter(
        pl.col("divergence").is_finite() & pl.col("accuracy_loss").is_finite()
    )
    if network is not None:
        rows = rows.filter(pl.col("network") == network)
    if not rows.height:
        whose = "" if network is None else f" of {network}"
        raise DataError(
            f"expected rows{whose} with a divergence and a loss, found none; "
            f"choose another view, such as {VIEW_OF_SMALL_NETWORKS} for networks up to 1 MMAC, "
            "or collect the network first"
        )
    form = "{:.2%}" if columns is None else "{:.5g}"
    loss = pl.col("accuracy_loss").map_elements(form.format, pl.String)
    if "accuracy_loss_se" in rows.columns:
        error = pl.col("accuracy_loss_se").cast(pl.Float64)
        loss = loss + error.map_elements(lambda value: f" ± {value:.2%}", pl.String).fill_null("")
    rows = rows.with_columns(loss_and_error=loss)
    if "accuracy" in rows.columns:
        rows = rows.with_columns(pl.col("accuracy").cast(pl.Float64))
    kept = [name for name, *_ in TOOLTIPS if name in rows.columns]
    return rows.select(*kept, "family", "accuracy_loss")


def whose(rows: pl.DataFrame) -> str:
    """Return the name of the rows' only network, or "all networks"."""
    names = rows["network"].unique()
    return str(names.item()) if len(names) == 1 else "all networks"


def points_layer(
    rows: pl.DataFrame,
    axis: XAxis,
    x_title: str,
    *,
    small: bool = False,
    y_named: bool = True,
    whole_x: bool = False,
    families: list[str] | None = None,
    columns: Columns | None = None,
) -> alt.Chart:
    """Draw rows of `drawable_rows`, coloured by network, or by family for a single network.

    Parameters
    ----------
    small
        For a panel among others.
    y_named
        Whether the y axis has a title.
    whole_x
        Whether the x axis is the same for any rows.
    families
        The families in the legend; by default those of the rows.
    columns
        Of a user's table.
    """
    families = families or family_order(rows["family"])
    networks = sorted(set(rows["network"]))
    column, values = ("network", networks) if len(networks) > 1 else ("family", families)
    # A single kind of points needs no legend.
    legend = None if columns is not None and len(values) == len(families) == 1 else alt.Undefined
    of_table = {} if columns is None else {"divergence": columns.x, "loss_and_error": columns.y}
    tooltips = [
        alt.Tooltip(
            field=name, title=of_table.get(name, title), type=kind, format=form or alt.Undefined
        )
        for name, title, kind, form in TOOLTIPS
        if name in rows.columns
    ]
    placed = rows.with_columns(x=pl.col("divergence").clip(lower_bound=axis.low))
    chart: alt.Chart = (
        alt.Chart(inline(placed))
        .mark_point(filled=True, size=28 if small else 55, opacity=0.75)
        .encode(
            x=axis.encoding(x_title, small=small, whole=whole_x),
            y=loss_axis(small=small, named=y_named, columns=columns),
            color=alt.Color(
                f"{column}:N",
                title=column.capitalize(),
                scale=alt.Scale(domain=values),
                legend=legend,
            ),
            shape=alt.Shape(
                "family:N",
                title="Family",
                scale=alt.Scale(domain=families, range=family_shapes(families)),
                legend=legend,
            ),
            tooltip=tooltips,
        )
    )
    return chart
