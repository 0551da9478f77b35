"""The gallery of the page: pooled fits of three degrees, and each network with two shares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptqdb.charts import distribution_chart, variants_chart
from ptqdb.charts.distributions import choose_layers, read_distributions
from ptqdb.charts.variants import Variant
from ptqdb.fitting.fitted_view import FittedView
from ptqdb.fitting.view_fit import finite_rows
from ptqdb.report.figures import Figure
from ptqdb.report.text import said, subheading
from ptqdb.support.text import visible

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DEGREES = ("rational2", "rational3", "rational4")
CAPTIONS = {
    "pointed": "The weight with the highest kurtosis. Most values are near zero, where powers of "
    "two are dense.",
    "flat": "The weight with the lowest kurtosis. Powers of two leave gaps at larger values.",
    "only": "The only weight.",
}
# None: the view has no rows.
Fitted = Callable[[str, str], FittedView | None]


@dataclass(frozen=True)
class Chapter:
    """The charts of one kind of divergence.

    Attributes
    ----------
    heading
        The heading.
    pooled
        Views with a chart of all networks.
    single
        Two views side by side in a chart of each network; empty: no such charts.
    """

    heading: str
    pooled: tuple[str, ...]
    single: tuple[str, ...]


CHAPTERS = (
    Chapter(
        "L2: codes rescaled to the norm of the floats",
        ("l2_param", "l2_flops", "l2_flops_sqrt"),
        ("l2_flops", "l2_param"),
    ),
    Chapter(
        "Fake freeze: codes times their scale",
        (
            *("fakefreeze_param", "fakefreeze_flops"),
            *("fakefreeze_flops_log", "fakefreeze_flops_cuberoot"),
        ),
        ("fakefreeze_flops", "fakefreeze_param"),
    ),
    Chapter(
        "Nodiv: weight and bias added up",
        (
            *("fakefreeze_nodiv_param", "fakefreeze_nodiv_flops"),
            *("fakefreeze_nodiv_flops_log", "fakefreeze_nodiv_flops_cuberoot"),
        ),
        ("fakefreeze_nodiv_flops", "fakefreeze_nodiv_param"),
    ),
    Chapter(
        "Weightratio: weight and bias by their size",
        ("fakefreeze_weightratio_param", "fakefreeze_weightratio_flops"),
        (),
    ),
)
VIEWS = tuple(dict.fromkeys(view for chapter in CHAPTERS for view in chapter.pooled))


def gallery(
    connection: "DuckDBPyConnection", fitted: Fitted, networks: Sequence[str]
) -> list[str | Figure]:
    """Return all charts of the gallery, in chapters.

    Parameters
    ----------
    fitted
        Returns the fits of a view and a curve.
    networks
        The networks with their own chart in each chapter.
    """
    layers = choose_layers(connection)
    words = ("pointed", "flat") if len(layers) == 2 else ("only",)
    body: list[str | Figure] = [subheading("Distributions")]
    for word, layer in zip(words, layers, strict=True):
        name = f"distribution-{word}"
        chart = distribution_chart(read_distributions(connection, [layer]))
        body.append(Figure(name, {(): chart}, caption=CAPTIONS[word]))
    for chapter in CHAPTERS:
        body.append(subheading(chapter.heading))
        body += [part for view in chapter.pooled for part in _pooled(fitted, view)]
        if chapter.single:
            body += [
                part for network in networks for part in _single(fitted, chapter.single, network)
            ]
    return body


def _pooled(fitted: Fitted, view: str) -> list[str | Figure]:
    whole = [one for curve in DEGREES if (one := fitted(view, curve)) is not None]
    if not whole:
        return [said(f"{view} has no rows here: log10(MMAC) is undefined up to 1 MMAC.")]
    variants = [Variant(one.frame, view, one.pool, one.predictor) for one in whole]
    return [Figure(f"gallery-{view}", {(): _drawn(variants)})]


def _single(fitted: Fitted, views: Sequence[str], network: str) -> list[str | Figure]:
    whole = [one for view in views if (one := fitted(view, DEGREES[0])) is not None]
    variants = [
        Variant(one.frame, one.view, one.of(network))
        for one in whole
        if network in set(finite_rows(one.frame)["network"])
    ]
    if not variants:
        return []
    return [Figure(f"gallery-{views[0]}-{visible(network)}", {(): _drawn(variants, network)})]


def _drawn(variants: Sequence[Variant], network: str | None = None) -> Any:
    return variants_chart(variants, network=network)
