"""docs/reference/curves.md says of every curve what is true of it."""

import re
from pathlib import Path

import numpy as np
import pytest

from ptqdb.curves import CURVES, curve
from ptqdb.curves.model import CurveResults

PAGE = Path(__file__).parents[2] / "docs/reference/curves.md"


def rows(title: str) -> dict[str, list[str]]:
    """The cells of the table with this title in its second column, by curve."""
    page = PAGE.read_text("utf-8")
    table = page[page.index(f"| curve | {title}") :].split("\n\n")[0]
    found: dict[str, list[str]] = {}
    for line in table.splitlines()[2:]:
        first, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        found |= dict.fromkeys(re.findall(r"`(\w+)`", first), cells)
    return found


# Their bootstraps take many seconds, by the code that rational2's runs through.
SLOW = ("rational3", "rational4", "segmented")
FORMULAS, STATISTICS = rows("y"), rows("`bse`")


def results(name: str, *, networks: int) -> CurveResults:
    """Fit a sweep that rises to a chance loss of 0.9."""
    rng = np.random.default_rng(4)
    x = np.tile(np.geomspace(1e-4, 5, 24), networks)
    y = 0.9 / (1 + (0.1 / x) ** 1.2) + rng.uniform(0, 0.09, len(x))
    columns = {
        "chance_loss": np.full(len(x), 0.9),
        "float_accuracy": np.full(len(x), 0.9),
        "images": np.full(len(x), 1000.0),
    }
    if networks > 1 or name == "mixed":
        columns["network"] = np.arange(len(x)) * max(networks, 2) // len(x)
    return curve(name).fit(x, y, **columns)


def test_every_curve_is_in_both_tables() -> None:
    assert CURVES.keys() <= FORMULAS.keys()
    assert FORMULAS.keys() == STATISTICS.keys()


@pytest.mark.parametrize("name", CURVES)
def test_needs_and_degrees_of_freedom(name: str) -> None:
    _, _, needs, rises, freedom = FORMULAS[name]
    function = CURVES[name].function
    assert tuple(re.findall(r"`(\w+)`", needs)) == function.needs
    assert function.uses_chance_loss == ("each L" in rises)
    if name not in ("spline", "isotonic", "segmented"):
        numbers = [int(number) for number in re.findall(r"\d+", freedom)]
        number = numbers[int(name[-1]) - 2 if name.startswith("rational") else 0]
        assert results(name, networks=1).df_model + 1 == number


@pytest.mark.parametrize("name", CURVES)
def test_statistics_of_one_network(name: str) -> None:
    errors, criteria, prediction = STATISTICS[name]
    found = results(name, networks=1)
    assert np.isfinite(found.bse).all() == errors.startswith("yes")
    assert np.isnan(found.bse).all() == (errors == "no")
    assert np.isfinite([found.aic, found.bic]).all() == (criteria == "yes")
    predicted = found.get_prediction([0.1], chance_loss=[0.9])
    assert np.isfinite(predicted.se).all() == (prediction == "yes")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CURVES if name not in SLOW])
def test_statistics_of_several_networks(name: str) -> None:
    found = results(name, networks=3)
    if name == "mixed":
        assert found.bootstrap is None
        assert np.isfinite(found.bse[:2]).all()
    else:
        assert found.bootstrap is not None
        assert len(found.bootstrap.fits) + found.bootstrap.failed_count == 200
        assert np.isfinite(found.bse).all()
    assert np.isfinite(found.get_prediction([0.1], chance_loss=[0.9]).se).all()
