"""The style of all charts: colours for all kinds of colour vision, sizes and themes."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar, cast

import altair as alt

from ptqdb.charts.rows import Rows
from ptqdb.errors import UsageError
from ptqdb.support.closest import closest_first
from ptqdb.support.text import visible

# Okabe and Ito's palette for all kinds of colour vision (Color Universal Design, 2008), dark
# colours first, yellow last. An added grey makes nine, one per reference network; it is as
# distinct as the others are for all kinds of colour vision.
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
    "#606060",
    "#F0E442",
)
# On a dark background black becomes white, and the blue and the grey are lighter.
DARK_PALETTE = ("#2878C0", *PALETTE[1:6], "#FFFFFF", "#C8C8C8", PALETTE[8])
# Index of the colour that nearly equals the text colour.
BLACK = 6
FAMILIES = ("INT", "POT", "FLOAT")
SHAPES = {"INT": "circle", "POT": "triangle-up", "FLOAT": "diamond"}
# Lightness decreases steadily, so it is readable without colours, too (ColorBrewer's YlGnBu).
SEQUENTIAL = ("#ffffd9", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#0c2c84")
# On a dark background small values are dark and large ones light.
DARK_SEQUENTIAL = ("#181a1b", "#14284f", "#225ea8", "#1d91c0", "#41b6c4", "#7fcdbb", "#ffffd9")
# Orange and blue of equal lightness on either side of a pale middle (ColorBrewer's PuOr), or of a
# middle as dark as the background.
DIVERGING = ("#b35806", "#f1a340", "#fee0b6", "#f7f7f7", "#d8daeb", "#998ec3", "#542788")
DARK_DIVERGING = ("#fdc57a", "#e08214", "#7a4208", "#181a1b", "#4a3a80", "#8073ac", "#cfc8f0")
DASHES = ([1, 0], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2, 1, 2, 1, 2])

WIDTH, HEIGHT = 640, 400
PANEL_WIDTH, PANEL_HEIGHT = 300, 210
CELL = 15
SMALL_AXIS: dict[str, Any] = {"titleFontSize": 11, "labelFontSize": 10}

Chart = TypeVar("Chart", bound=alt.TopLevelMixin)


def _mixed(one: str, other: str) -> str:
    """Return the colour halfway between two, given in hexadecimal or as CSS.

    Examples
    --------
    >>> _mixed("#0072B2", "#111111")
    '#084161'
    """
    if not (one.startswith("#") and other.startswith("#")):
        return f"color-mix(in srgb, {one}, {other})"
    channels = [(int(one[i : i + 2], 16) + int(other[i : i + 2], 16)) // 2 for i in (1, 3, 5)]
    return "#" + "".join(f"{channel:02x}" for channel in channels)


@dataclass(frozen=True)
class Theme:
    """The colours of a chart.

    Attributes
    ----------
    background, text, muted, grid
        Background; titles and labels; secondary text; grid lines.
    ink
        Curves and highlights.
    palette
        Networks and families, in their order.
    sequential, diverging
        Cells: from small to large; from negative over 0 to positive. Zero looks like the
        background.
    font
        A CSS font name.
    """

    background: str
    text: str
    muted: str
    grid: str
    ink: str
    palette: tuple[str, ...]
    sequential: tuple[str, ...] = SEQUENTIAL
    diverging: tuple[str, ...] = DIVERGING
    font: str = "sans-serif"

    @property
    def _further_colours(self) -> list[str]:
        """For more than nine networks: the palette mixed with the text colour."""
        colours = [colour for place, colour in enumerate(self.palette) if place != BLACK]
        return [_mixed(colour, self.text) for colour in colours]

    def config(self) -> dict[str, Any]:
        """Return Vega-Lite's configuration, with everything that depends on the theme."""
        return {
            "background": self.background,
            "font": self.font,
            "view": {"stroke": None},
            "axis": {
                "gridColor": self.grid,
                "domainColor": self.muted,
                "tickColor": self.muted,
                "labelColor": self.text,
                "titleColor": self.text,
                "labelFontSize": 12,
                "titleFontSize": 13,
                "titleFontWeight": "normal",
            },
            "legend": {
                "labelColor": self.text,
                "titleColor": self.text,
                "labelFontSize": 12,
                "titleFontSize": 12,
                "labelLimit": 260,
                "symbolBaseFillColor": self.muted,
                "symbolBaseStrokeColor": self.muted,
            },
            "header": {"labelColor": self.text, "titleColor": self.text},
            "title": {
                "color": self.text,
                "subtitleColor": self.muted,
                "fontSize": 16,
                "subtitleFontSize": 12,
                "anchor": "start",
                "frame": "group",
                "offset": 10,
            },
            "range": {
                "category": [*self.palette, *self._further_colours],
                "heatmap": list(self.sequential),
                "diverging": list(self.diverging),
            },
            "style": {
                "curve": {"color": self.ink, "strokeWidth": 2.5},
                "extrapolation": {"color": self.ink, "strokeWidth": 1.5, "strokeDash": [4, 4]},
                "ceiling": {"color": self.muted, "strokeWidth": 1.2, "opacity": 0.7},
                "band": {"color": self.muted, "fillOpacity": 0.18},
                "rule": {"color": self.muted, "strokeWidth": 1},
                "ghost": {"color": self.muted, "fillOpacity": 0.35},
                "label": {"color": self.text},
                "halo": {"stroke": self.background, "strokeWidth": 4, "opacity": 0.9},
                "bar": {"color": self.palette[0]},
            },
        }


LIGHT = Theme("#FFFFFF", "#111111", "#555555", "#E6E6E6", "#333333", PALETTE)
DARK = Theme(
    *("#181A1B", "#EEEEEE", "#AAAAAA", "#3A3D3F", "#DDDDDD"),
    DARK_PALETTE,
    DARK_SEQUENTIAL,
    DARK_DIVERGING,
)
THEMES = MappingProxyType({"light": LIGHT, "dark": DARK})


def apply_theme(chart: Chart, theme: str = "light") -> Chart:
    """Apply a theme to a chart, and escape control characters in its texts.

    Such characters crash the renderer, and names in a database may contain them.

    Raises
    ------
    UsageError
        There is no such theme.
    """
    if theme not in THEMES:
        names = ", ".join(closest_first(theme, THEMES))
        raise UsageError(f"expected a theme, found {theme!r}; choose one of {names}")
    chart.config = _config(theme)  # type: ignore[attr-defined]
    return cast(Chart, _visible(chart))


def _visible(part: Any) -> Any:
    """Return any part of a chart with control characters escaped in all its texts."""
    if isinstance(part, str):
        return visible(part)
    if isinstance(part, Rows):
        return part  # already escaped
    if isinstance(part, alt.SchemaBase):
        for name, value in part._kwds.items():
            part._kwds[name] = _visible(value)
    elif isinstance(part, dict):
        return {_visible(name): _visible(value) for name, value in part.items()}
    elif isinstance(part, list | tuple):
        return [_visible(value) for value in part]
    return part


class _Config(alt.Config):
    """Configuration shared by the copies of a chart: Altair copies a chart at every step."""

    def __deepcopy__(self, memo: Any) -> "_Config":
        return self


@cache
def _config(theme: str) -> alt.Config:
    return _Config(**THEMES[theme].config())


def layer_charts(*layers: alt.Chart) -> alt.LayerChart:
    """Layer charts; the return type of Altair's own function also allows facets."""
    return cast("alt.LayerChart", alt.layer(*layers))


def title(text: str, *subtitle: str, small: bool = False) -> alt.TitleParams:
    """Return a title with subtitle lines; empty lines are dropped."""
    lines = [line for line in subtitle if line]
    sizes: dict[str, Any] = {"fontSize": 13, "subtitleFontSize": 11, "offset": 6} if small else {}
    return alt.TitleParams(text, subtitle=lines or alt.Undefined, **sizes)


def family_order(families: Iterable[str]) -> list[str]:
    """Return the distinct families: INT, POT and FLOAT first, others by name."""
    found = set(families)
    known = [name for name in FAMILIES if name in found]
    return known + sorted(found - set(known))


def family_shapes(families: Iterable[str]) -> list[str]:
    """Return the shapes of families, in their order."""
    return [SHAPES.get(name, "square") for name in families]


def format_key(name: str) -> tuple[int, list[int]]:
    """Return a sort key of number formats by family and width: INT_2 .., POT_2 .., FLOAT_3_E1 ..

    Examples
    --------
    >>> sorted(["POT_3", "INT_10", "INT_9", "FLOAT_4_E1"], key=format_key)
    ['INT_9', 'INT_10', 'POT_3', 'FLOAT_4_E1']
    """
    family, *widths = name.split("_")
    place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    return place, [int("".join(filter(str.isdigit, width)) or 0) for width in widths]


def panel_columns(panel_count: int, most: int = 3) -> int:
    """Return the number of panels in a row.

    Examples
    --------
    >>> [panel_columns(count) for count in (1, 2, 3, 4, 5, 9)]
    [1, 2, 3, 2, 3, 3]
    """
    return 2 if panel_count == 4 else min(panel_count, most)
