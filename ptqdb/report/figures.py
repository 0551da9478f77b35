"""The figures and sections of the page, and the choices that a reader has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
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

    @property
    def html(self) -> str:
        """The HTML element into which the script draws."""
        lists = "".join(
            f'<label>{escape(choice.label)} <select data-place="{place}">'
            + "".join(
                f'<option value="{escape(option)}">{escape(option)}</option>'
                for option in map(visible, choice.options)
            )
            + "</select></label>"
            for place, choice in enumerate(self.choices)
        )
        controls = f'<div class="controls">{lists}</div>' if lists else ""
        caption = f"<p class=said>{escape(self.caption)}</p>" if self.caption else ""
        wide = " wide" if self.is_wide else ""
        return (
            f'<figure id="{escape(self.name)}" class="picture{wide}">{controls}'
            f"<figcaption></figcaption><div class=chart></div>{caption}</figure>"
        )

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
    def html(self) -> str:
        """The section as HTML, with elements for its figures."""
        parts = [part if isinstance(part, str) else part.html for part in self.body]
        body, heading = "\n".join(parts), f"<h2>{escape(self.heading)}</h2>"
        if self.is_folded:
            heading = ""
            body = f"<details><summary><h2>{escape(self.heading)}</h2></summary>{body}</details>"
        return f'<section id="{escape(self.name)}">{heading}{body}</section>'

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
