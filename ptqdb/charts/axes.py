"""The axes of a view's points: their titles and scales."""

from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import numpy as np

from ptqdb.charts.style import SMALL_AXIS
from ptqdb.curves.points import Floats
from ptqdb.errors import UsageError
from ptqdb.support.closest import closest_first

SCALES = ("auto", "linear", "log", "symlog")
LOSS_TITLE = "Relative accuracy loss (% of the float accuracy)"
CURVE_POINTS = 400
# Above this ratio of the largest to the smallest positive x, the axis is logarithmic.
LOG_SPAN = 100.0
# Longest line of an axis title that fits below a small panel.
TITLE_CHARACTERS = 50
# A symlog axis is linear below this share of the largest x.
SYMLOG_SHARE = 1e-3
TICK_LABEL = (
    "datum.value == 0 || abs(datum.value) >= 0.001 && abs(datum.value) < 1e6 "
    "? format(datum.value, '~g') : format(datum.value, '~e')"
)

HEAD_WORDS = {
    "fakefreeze": "Jensen-Shannon divergence (base 2)",
    "l2": "L2-rescaled Jensen-Shannon divergence (base 2)",
    "nsr": "Noise-to-signal ratio",
    "channelnsr": "Noise-to-signal ratio of the median channel",
}
BASELINE_TITLES = {
    "baseline_bits": "Relative step size, 2^(1 - bits)",
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
FAN_IN_WORDS = {
    "fanin": "over fan-in",
    "rootfanin": "over square root of fan-in",
}
COMBINE_WORDS = {
    "nodiv": "weight + bias",
    "weightratio": "weight and bias by size",
    "weightonly": "weights only",
}


def axis_title(view: str) -> str:
    """Return the title of a view's x axis.

    Examples
    --------
    >>> axis_title("fakefreeze_flops_log")
    'Jensen-Shannon divergence (base 2), weighted by share of MACs, times log10(MMAC)'
    >>> axis_title("channelnsr_layer_rootfanin")
    'Noise-to-signal ratio of the median channel, mean over the layers, over square root of fan-in'
    >>> axis_title("variant(share := 'flops')")
    "Divergence of variant(share := 'flops')"
    >>> axis_title("baseline_bits@*")
    'Relative step size, 2^(1 - bits)'
    """
    view = view if "(" in view else view.partition("@")[0]
    words = view.split("_")
    segmented = words[-1] == "segmented"
    words = words[: len(words) - segmented]
    if view in BASELINE_TITLES:
        return BASELINE_TITLES[view]
    if words[0] not in HEAD_WORDS:
        return f"Divergence of {view}"
    parts = [HEAD_WORDS[words[0]]]
    known = COMBINE_WORDS | SHARE_WORDS | MAC_WORDS | FAN_IN_WORDS
    parts += [known.get(word, f"corrected by {word}") for word in words[1:]]
    return ", ".join(parts + ["capped at the breakpoint"] * segmented)


def title_lines(text: str) -> list[str]:
    """Break a title at its commas into lines that fit a panel: first the measure, then the rest.

    Examples
    --------
    >>> title_lines("Noise, mean over the layers, times square root of depth, over fan-in")
    ['Noise', 'mean over the layers, times square root of depth', 'over fan-in']
    """
    lines: list[str] = []
    for part in text.split(", "):
        if len(lines) > 1 and len(lines[-1]) + len(part) <= TITLE_CHARACTERS:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


@dataclass(frozen=True)
class XAxis:
    """The scale of the x axis.

    Attributes
    ----------
    kind
        linear, log or symlog.
    low, high
        The range of x; on a logarithmic axis `low` is above 0, and smaller x are drawn there.
    at_low
        Number of points drawn at `low` although their x is smaller.
    """

    kind: Literal["linear", "log", "symlog"]
    low: float
    high: float
    at_low: int = 0

    @classmethod
    def of(cls, x: Floats, scale: str = "auto") -> "XAxis":
        """Return the axis for x of shape (points,).

        Parameters
        ----------
        scale
            ``linear``, ``log``, ``symlog``, or ``auto``: logarithmic if positive x span more than
            a factor of 100 and none is negative.

        Raises
        ------
        UsageError
            Unknown scale, or a logarithmic one without an x above 0.
        """
        if scale not in SCALES:
            names = ", ".join(closest_first(scale, SCALES))
            raise UsageError(f"expected a scale of x, found {scale!r}; choose one of {names}")
        positive, least, most = x[x > 0], float(x.min()), float(x.max())
        if scale == "auto":
            wide = bool(positive.size) and positive.max() > LOG_SPAN * positive.min()
            scale = "log" if wide and least >= 0 else "linear"
        if scale == "linear":
            return cls("linear", least, most)
        if not positive.size:
            raise UsageError(f"expected divergences above 0 on a {scale} axis, found none")
        if scale == "symlog":
            return cls("symlog", least, most)
        # Leave a gap between points at 0 and the smallest positive x.
        below = int(np.sum(x <= 0))
        return cls("log", float(positive.min()) / (2 if below else 1), most, below)

    @property
    def note(self) -> str:
        """A note on the axis for the reader, or empty."""
        if not self.at_low:
            return ""
        points = "1 point" if self.at_low == 1 else f"{self.at_low} points"
        return f"{points} with divergence 0 drawn at the left end of the logarithmic axis"

    @property
    def _constant(self) -> float:
        return max(abs(self.low), abs(self.high)) * SYMLOG_SHARE

    def placed(self, x: Floats) -> Floats:
        """Position of x along the axis, in arbitrary units."""
        if self.kind == "linear":
            return x
        placed: Floats = np.log(x) if self.kind == "log" else np.arcsinh(x / self._constant)
        return placed

    def grid(self) -> Floats:
        """Return ascending x for computing curves, dense on this axis and on a linear one."""
        grid = np.linspace(self.low, self.high, CURVE_POINTS)
        low, high = self.placed(np.array([self.low, self.high]))
        if self.kind == "log":
            grid = np.concatenate([grid, np.exp(np.linspace(low, high, CURVE_POINTS))])
        if self.kind == "symlog":
            further = np.sinh(np.linspace(low, high, CURVE_POINTS)) * self._constant
            grid = np.concatenate([grid, further])
        return np.unique(np.clip(grid, self.low, self.high))

    def encoding(self, title: str, *, small: bool = False, whole: bool = False) -> alt.X:
        """Return the encoding of the column ``x``.

        Parameters
        ----------
        small
            For a panel among others: fewer ticks.
        whole
            Whether the axis always spans `low` to `high`, regardless of the panel's points.
        """
        further: dict[str, Any] = {"constant": self._constant} if self.kind == "symlog" else {}
        if self.kind == "linear":
            further["zero"] = False
        if whole:
            further["domain"] = [self.low, self.high]
        return alt.X(
            "x:Q",
            title=title_lines(title),
            scale=alt.Scale(type=self.kind, nice=False, padding=10, **further),
            axis=alt.Axis(
                labelExpr=TICK_LABEL,
                values=self._ticks() or alt.Undefined,
                tickCount=5 if small else alt.Undefined,
                labelOverlap="greedy",
                **(SMALL_AXIS if small else {}),
            ),
        )

    def _ticks(self) -> list[float]:
        """Only whole decades: more grid lines would dominate the chart."""
        if self.kind == "linear":
            return []
        low = self.low if self.kind == "log" else self._constant * 10
        high = max(self.high, low)
        powers = range(int(np.floor(np.log10(low))), int(np.floor(np.log10(high))) + 2)
        ticks = [float(f"1e{power}") for power in powers]
        if self.kind == "log":
            return ticks
        return [-tick for tick in reversed(ticks) if self.low < 0] + [0.0, *ticks]


@dataclass(frozen=True)
class Columns:
    """The columns of a user's table, of unknown meaning and unit.

    Attributes
    ----------
    x, y
        Their names.
    """

    x: str
    y: str


def loss_axis(*, small: bool = False, named: bool = True, columns: Columns | None = None) -> alt.Y:
    """Return the encoding of a loss in percent, or of a table's y."""
    sizes = SMALL_AXIS if small else {}
    said = "Relative accuracy loss" if small else LOSS_TITLE
    return alt.Y(
        "accuracy_loss:Q",
        title=(said if columns is None else columns.y) if named else None,
        scale=alt.Scale(nice=False, padding=10),
        axis=alt.Axis(
            format="%" if columns is None else "~g",
            tickCount=5 if small else alt.Undefined,
            **sizes,
        ),
    )
