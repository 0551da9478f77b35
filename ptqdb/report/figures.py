"""The pictures of the page: what each shows, and what a reader can choose in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
