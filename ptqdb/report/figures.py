"""The pictures of the page: what each shows, and what a reader can choose in it."""

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
    """A list to choose from, beside a picture.

    Attributes
    ----------
    label
        What is chosen.
    options
        In the order of the list; the first is chosen when the page opens.
    """

    label: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A picture of the page, or several of which one is shown.

    Attributes
    ----------
    name
        Its id in the page.
    charts
        Altair charts by what is chosen in each of `choices`; ``()`` is the key where there is
        nothing to choose.
    choices
        What a reader can choose.
    is_wide
        Whether the picture scrolls on a narrow screen, in place of becoming small.
    caption
        A sentence beneath.
    """

    name: str
    charts: Mapping[Key, Any]
    choices: tuple[Choice, ...] = ()
    is_wide: bool = False
    caption: str = ""

    @property
    def html(self) -> str:
        """Its place in the page; the script draws into it."""
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
        """What the script needs of it."""
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
        Its id, and what it is called.
    body
        HTML, and figures, in their order.
    is_folded
        Whether it is to be opened before anything of it is drawn.
    """

    name: str
    heading: str
    body: Sequence[str | Figure] = field(default_factory=tuple)
    is_folded: bool = False

    @property
    def html(self) -> str:
        """The section, with places for its figures."""
        parts = [part if isinstance(part, str) else part.html for part in self.body]
        body, heading = "\n".join(parts), f"<h2>{escape(self.heading)}</h2>"
        if self.is_folded:
            heading = ""
            body = f"<details><summary><h2>{escape(self.heading)}</h2></summary>{body}</details>"
        return f'<section id="{escape(self.name)}">{heading}{body}</section>'

    @property
    def figures(self) -> list[Figure]:
        """Its pictures."""
        return [part for part in self.body if isinstance(part, Figure)]


def page_spec(chart: Any, parts: Parts) -> Any:
    """A chart for the page, which brings the configuration itself."""
    # Rows stand where they are used: equal ones are shared all the same.
    with alt.data_transformers.enable(consolidate_datasets=False):
        spec = chart.to_dict(validate=False)
    for key in ("config", "$schema"):
        spec.pop(key, None)
    return parts.put(spec)
