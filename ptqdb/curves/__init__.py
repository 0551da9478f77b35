"""The curves that ptqdb fits to (divergence, loss), by name; each is imported when used."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ptqdb.closest import closest_first
from ptqdb.errors import UsageError

if TYPE_CHECKING:
    from ptqdb.curves.base import CurveModel, CurveResults
    from ptqdb.curves.least_squares import CurveFit, CurveFunction

__all__ = ["CURVES", "Curve", "curve"]


@dataclass(frozen=True)
class Curve:
    """One curve that can be fitted, described without importing SciPy or statsmodels (seconds).

    Attributes
    ----------
    name
        What the user types, such as ``rational2``.
    description
        One line for help and listings.
    parameter_count
        Free parameters, and so the fewest points that it takes.
    function_class, model_class
        Modules and classes of its formula and search, and of its statsmodels model.
    options
        Keyword arguments that the function takes, and the model besides ``endog`` and ``exog``.
    """

    name: str
    description: str
    parameter_count: int
    function_class: tuple[str, str]
    model_class: tuple[str, str]
    options: Mapping[str, Any]

    def estimate(self, x: Any, y: Any) -> "CurveFit":
        """Fit `y` over `x` without statsmodels: parameters, goodness of fit, predictions.

        Raises
        ------
        DataError
            The points cannot carry the curve; see `ptqdb.curves.least_squares.checked_points`.
        """
        from ptqdb.curves.least_squares import fit_curve

        function: CurveFunction = _named(self.function_class)(**self.options)
        return fit_curve(function, x, y)

    def model(self, x: Any, y: Any) -> "CurveModel":
        """Return the statsmodels model of `y` over `x`, not yet fitted; raises as `estimate`."""
        model: CurveModel = _named(self.model_class)(y, x, **self.options)
        return model

    def fit(self, x: Any, y: Any) -> "CurveResults":
        """Fit `y` over `x` with the statistics of statsmodels; raises as `estimate`."""
        return self.model(x, y).fit()


def _named(place: tuple[str, str]) -> Any:
    """Import a class, given as module and name."""
    return getattr(import_module(place[0]), place[1])


def _rational(degree: int) -> Curve:
    return Curve(
        name=f"rational{degree}",
        description=f"non-decreasing ratio of two polynomials of degree {degree}",
        parameter_count=2 * degree + 1,
        function_class=("ptqdb.curves.rational_function", "RationalFunction"),
        model_class=("ptqdb.curves.rational", "RationalModel"),
        options=MappingProxyType({"degree": degree}),
    )


CURVES: Mapping[str, Curve] = MappingProxyType(
    {entry.name: entry for entry in (_rational(degree) for degree in (2, 3, 4))}
)


def curve(name: str) -> Curve:
    """Return the curve of that name.

    Raises
    ------
    UsageError
        There is none; the message lists the names, the closest first.

    Examples
    --------
    >>> curve("rational2").parameter_count
    5
    """
    if name in CURVES:
        return CURVES[name]
    names = ", ".join(closest_first(name, CURVES))
    raise UsageError(f"expected the name of a curve, found {name!r}; choose one of {names}")
