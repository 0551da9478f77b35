"""The figures and sections of the page, and the choices that a reader has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from ptqdb.report.parts import Parts
from ptqdb.support.text import visible

Key = tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A list to choose from, above a figure.

    Attributes
    ----------
    label
        The label of the list.
    options
        In the order of the list; the first is selected when the page opens.
    """

    label: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A chart of the page, or several of which one is shown.

    Attributes
    ----------
    name
        Its id in the page.
    charts
        Altair charts by the selected options of `choices`; the key is ``()`` without choices.
    choices
        The lists to choose from.
    is_wide
        Whether the chart scrolls on a narrow screen instead of shrinking.
    caption
        A sentence below.
    """

    name: str
    charts: Mapping[Key, Any]
    choices: tuple[Choice, ...] = ()
    is_wide: bool = False
    caption: str = ""

    def data(self, parts: Parts) -> dict[str, Any]:
        """Return the chart specifications for the script."""
        return {
            "|".join(map(visible, key)): page_spec(chart, parts)
            for key, chart in self.charts.items()
        }


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes
    ----------
    name, heading
        Its id and its heading.
    body
        HTML and figures, in order.
    is_folded
        Whether it is collapsed at first; its figures are drawn when it is opened.
    """

    name: str
    heading: str
    body: Sequence[str | Figure] = field(default_factory=tuple)
    is_folded: bool = False

    @property
    def figures(self) -> list[Figure]:
        """The figures of the section."""
        return [part for part in self.body if isinstance(part, Figure)]


def page_spec(chart: Any, parts: Parts) -> Any:
    """Return a chart's specification without configuration, which the page has itself."""
    # Keep rows inline: equal ones are shared by `parts` anyway.
    with alt.data_transformers.enable(consolidate_datasets=False):
        spec = chart.to_dict(validate=False)
    for key in ("config", "$schema"):
        spec.pop(key, None)
    return parts.put(spec)
