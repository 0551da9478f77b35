"""The points of a view and the curve fitted to them."""

from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Literal

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from ptqdb.errors import DataError, UsageError
from ptqdb.fitting import ALL, GroupFit

if TYPE_CHECKING:
    from ptqdb.curves.function import CurveFit

# Okabe and Ito's palette for every kind of colour vision (Color Universal Design, 2008), the
# dark ones first, yellow last; a grey makes nine, one for each reference network.
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
    "#999999",
    "#F0E442",
)
SHAPES = {"INT": "circle", "POT": "triangle-up", "FLOAT": "diamond"}
CURVE_COLOUR = "#333333"
WIDTH, HEIGHT = 640, 400
CURVE_POINTS = 400
# x that spans more than this is drawn on a logarithmic axis.
LOG_SPAN = 100.0

HEAD_WORDS = {
    "fakefreeze": "Jensen-Shannon divergence (base 2)",
    "l2": "L2-rescaled Jensen-Shannon divergence (base 2)",
    "nsr": "Noise-to-signal ratio",
}
BASELINE_TITLES = {
    "baseline_bits": "Relative width of a code, 2^(1 - bits)",
    "baseline_nsr": "Noise-to-signal ratio, weights only, mean over the layers",
}
SHARE_WORDS = {
    "param": "weighted by share of params",
    "flops": "weighted by share of MACs",
    "layer": "mean over the layers",
}
MAC_WORDS = {
    "log": "times log10(MMAC)",
    "cuberoot": "times cube root of MMAC",
    "sqrt": "times square root of MMAC",
    "depth": "times depth",
    "rootdepth": "times square root of depth",
}
COMBINE_WORDS = {
    "nodiv": "weight + bias",
    "weightratio": "weight and bias by size",
    "weightonly": "weights only",
}
TOOLTIPS: tuple[tuple[str, str, Literal["nominal", "quantitative"], str], ...] = (
    ("network", "Network", "nominal", ""),
    ("number_format", "Format", "nominal", ""),
    ("divergence", "Divergence", "quantitative", ".4g"),
    ("loss_and_error", "Relative loss", "nominal", ""),
    ("accuracy", "Accuracy", "quantitative", ".2%"),
)


def fit_chart(
    frame: pl.DataFrame, fits: Sequence[GroupFit], *, view: str, network: str | None = None
) -> alt.LayerChart:
    """Draw a view's points and the curve fitted to all of them, or to one network's.

    Parameters
    ----------
    frame
        The view's rows, at least with its columns ``network``, ``number_format``, ``family``,
        ``divergence`` and ``accuracy_loss`` (a fraction); rows without the last two are left
        out.
    fits
        As `ptqdb.fitting.fit_view_frame` gives them by network.
    view
        The view's name, from which the axis title is worded.
    network
        Draw this network's points (coloured by family) and curve. None draws all points
        (coloured by network) and the pooled curve.

    Returns
    -------
    A layered chart: the points below, the curve above (absent where the fit failed). Where x
    spans more than a hundredfold the axis is logarithmic, and points at 0 or less stand at its
    left end, which the subtitle says.

    Raises
    ------
    UsageError
        No fit, or no row, of that network.
    DataError
        No row has a divergence and a loss.
    """
    group = ALL if network is None else network
    fit = next((fit for fit in fits if fit.group == group), None)
    if fit is None:
        groups = ", ".join(fit.group for fit in fits) or "none"
        raise UsageError(f"expected a fit of {group}, found fits of {groups}; choose one of them")
    rows = _rows(frame, network)
    floor, at_floor = _floor(rows["divergence"].to_numpy())
    rows = rows.with_columns(x=pl.col("divergence").clip(lower_bound=floor))
    subtitle = [_goodness(fit)]
    if at_floor:
        points = "1 point" if at_floor == 1 else f"{at_floor} points"
        subtitle.append(f"{points} of divergence 0 drawn at the left end of the logarithmic axis")
    title = alt.TitleParams(
        f"{view}: " + ("all networks" if network is None else network),
        subtitle=subtitle,
        anchor="start",
        subtitleColor="#555555",
    )
    layers = [_points(rows, view, log=floor is not None, by_network=network is None)]
    if fit.fitted is not None:
        layers.append(_curve(fit.fitted, rows["x"].to_numpy(), log=floor is not None))
    chart: alt.LayerChart = (
        alt.layer(*layers)
        .properties(width=WIDTH, height=HEIGHT, title=title)
        .configure_axis(
            gridColor="#E6E6E6", labelFontSize=12, titleFontSize=13, titleFontWeight="normal"
        )
        .configure_legend(labelFontSize=12, titleFontSize=12)
        .configure_title(fontSize=16, subtitleFontSize=12)
        .configure_view(stroke=None)
    )
    return chart


def axis_title(view: str) -> str:
    """Say in words what a view's x is.

    Examples
    --------
    >>> axis_title("fakefreeze_flops_log")
    'Jensen-Shannon divergence (base 2), weighted by share of MACs, times log10(MMAC)'
    >>> axis_title("nsr_layer_rootdepth")
    'Noise-to-signal ratio, mean over the layers, times square root of depth'
    >>> axis_title("variant(share := 'flops')")
    "Divergence of variant(share := 'flops')"
    """
    words = view.split("_")
    segmented = words[-1] == "segmented"
    words = words[: len(words) - segmented]
    if view in BASELINE_TITLES:
        return BASELINE_TITLES[view]
    if words[0] not in HEAD_WORDS:
        return f"Divergence of {view}"
    parts = [HEAD_WORDS[words[0]]]
    known = COMBINE_WORDS | SHARE_WORDS | MAC_WORDS
    parts += [known.get(word, f"corrected by {word}") for word in words[1:]]
    return ", ".join(parts + ["capped at the breakpoint"] * segmented)


def _rows(frame: pl.DataFrame, network: str | None) -> pl.DataFrame:
    """Select the rows to draw, numbers as DOUBLE: Altair refuses DuckDB's HUGEINT and DECIMAL."""
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
            "collect the network first or choose another view"
        )
    loss = pl.col("accuracy_loss").map_elements(lambda value: f"{value:.2%}", pl.String)
    if "accuracy_loss_se" in rows.columns:
        error = pl.col("accuracy_loss_se").cast(pl.Float64)
        loss = loss + error.map_elements(lambda value: f" ± {value:.2%}", pl.String).fill_null("")
    rows = rows.with_columns(loss_and_error=loss)
    if "accuracy" in rows.columns:
        rows = rows.with_columns(pl.col("accuracy").cast(pl.Float64))
    kept = [name for name, *_ in TOOLTIPS if name in rows.columns]
    return rows.select(*kept, "family", "accuracy_loss")


def _floor(x: NDArray[np.float64]) -> tuple[float | None, int]:
    """Where a logarithmic axis begins, None for a linear one, and how many x lie below it."""
    positive = x[x > 0]
    if not positive.size or positive.max() <= LOG_SPAN * positive.min() or np.any(x < 0):
        return None, 0
    # A little to the left of the smallest, so that points at 0 stand apart.
    below = int(np.sum(x <= 0))
    return float(positive.min()) / (2 if below else 1), below


def _goodness(fit: GroupFit) -> str:
    points = "1 point" if fit.points == 1 else f"{fit.points} points"
    if fit.fitted is None or fit.r_squared is None or fit.rmse is None:
        return f"{fit.curve} was not fitted to {points}: {fit.error}"
    at_chance = ", drawn to the mean loss at chance"
    return (
        f"{fit.curve}: R² {fit.r_squared:.4f}, RMSE {fit.rmse:.2%} of the float accuracy, {points}"
        + at_chance * fit.fitted.function.uses_chance_loss
    )


def _points(rows: pl.DataFrame, view: str, *, log: bool, by_network: bool) -> alt.Chart:
    families = [name for name in SHAPES if name in set(rows["family"])]
    families += sorted(set(rows["family"]) - set(families))
    shapes = [SHAPES.get(name, "square") for name in families]
    column = "network" if by_network else "family"
    values = sorted(set(rows["network"])) if by_network else families
    colours = list(islice(cycle(PALETTE), len(values)))
    scale = alt.Scale(type="log" if log else "linear", zero=False, nice=False, padding=10)
    tooltips = [
        alt.Tooltip(field=name, title=title, type=kind, format=form or alt.Undefined)
        for name, title, kind, form in TOOLTIPS
        if name in rows.columns
    ]
    # Whole decades only: the lines between them would be the loudest thing in the picture.
    powers = np.floor(np.log10(rows["x"].to_numpy())).astype(int) if log else np.zeros(1, int)
    ticks = [10.0**power for power in range(powers.min(), powers.max() + 2)] if log else []
    title = axis_title(view).split(", ", 1)
    chart: alt.Chart = (
        alt.Chart(_inline(rows))
        .mark_point(filled=True, size=55, opacity=0.75)
        .encode(
            x=alt.X(
                "x:Q",
                title=title,
                scale=scale,
                axis=alt.Axis(format="~g", values=ticks or alt.Undefined),
            ),
            y=alt.Y(
                "accuracy_loss:Q",
                title="Relative loss of accuracy (% of the float network's)",
                scale=alt.Scale(nice=False, padding=10),
                axis=alt.Axis(format="%"),
            ),
            color=alt.Color(
                f"{column}:N",
                title=column.capitalize(),
                scale=alt.Scale(domain=values, range=colours),
            ),
            shape=alt.Shape(
                "family:N", title="Family", scale=alt.Scale(domain=families, range=shapes)
            ),
            tooltip=tooltips,
        )
    )
    return chart


def _curve(fitted: "CurveFit", x: NDArray[np.float64], *, log: bool) -> alt.Chart:
    """Draw the curve over the points' range, on a linear grid and, if `log`, a geometric one."""
    grid = np.linspace(x.min(), x.max(), CURVE_POINTS)
    if log:
        grid = np.concatenate([grid, np.geomspace(x.min(), x.max(), CURVE_POINTS)])
    grid = np.unique(np.clip(grid, x.min(), x.max()))
    line = pl.DataFrame({"x": grid, "fitted": fitted.predict(grid, _chance_loss(fitted))})
    chart: alt.Chart = (
        alt.Chart(_inline(line))
        .mark_line(color=CURVE_COLOUR, strokeWidth=2.5, clip=True)
        .encode(x="x:Q", y="fitted:Q")
    )
    return chart


def _chance_loss(fitted: "CurveFit") -> float | None:
    """One loss at chance for a whole curve: the mean of the points'."""
    chance = fitted.points.chance_loss
    return None if chance is None else float(chance.mean())


def _inline(rows: pl.DataFrame) -> alt.InlineData:
    """Put rows into the chart as they are; Altair refuses a frame of more than 5,000."""
    return alt.InlineData(values=rows.to_dicts())
