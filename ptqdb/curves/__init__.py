"""The curves that ptqdb fits to (divergence, loss), by name; each is imported when used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ptqdb.errors import UsageError
from ptqdb.support.closest import closest_first

if TYPE_CHECKING:
    from ptqdb.curves.function import CurveFit, CurveFunction
    from ptqdb.curves.model import CurveModel, CurveResults

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
    place
        Module and class of its `ptqdb.curves.function.CurveFunction`.
    options
        Keyword arguments that the class takes.
    """

    name: str
    description: str
    place: tuple[str, str]
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def function(self) -> "CurveFunction":
        """The curve's formula and search, not prepared for any points."""
        function: CurveFunction = self.function_class(**self.options)
        return function

    @property
    def function_class(self) -> "type[CurveFunction]":
        """The class of `function`."""
        module, name = self.place
        found: type[CurveFunction] = getattr(import_module(module), name)
        return found

    def estimate(self, x: Any, y: Any, **columns: Any) -> "CurveFit":
        """Fit `y` over `x` without statsmodels: parameters, goodness of fit, predictions.

        Parameters
        ----------
        **columns
            Further columns that some curves need: see `ptqdb.curves.points.Points`.

        Raises
        ------
        DataError
            The points cannot determine the curve; see `ptqdb.curves.points.checked_points`.
        """
        from ptqdb.curves.function import fit_curve

        return fit_curve(self.function, x, y, **columns)

    def model(self, x: Any, y: Any, **columns: Any) -> "CurveModel":
        """Return the statsmodels model of `y` over `x`, not yet fitted; raises as `estimate`."""
        from ptqdb.curves.model import CurveModel

        return CurveModel(y, x, function=self.function, name=self.name, **columns)

    def fit(self, x: Any, y: Any, **columns: Any) -> "CurveResults":
        """Fit `y` over `x` with the statistics of statsmodels; raises as `estimate`."""
        return self.model(x, y, **columns).fit()


def _rational(degree: int) -> Curve:
    return Curve(
        f"rational{degree}",
        f"non-decreasing ratio of two polynomials of degree {degree}",
        ("ptqdb.curves.rational", "RationalFunction"),
        MappingProxyType({"degree": degree}),
    )


_CURVES = (
    *(_rational(degree) for degree in (2, 3, 4)),
    Curve(
        "segmented",
        "rational2 up to a breakpoint, constant past it",
        ("ptqdb.curves.segmented", "SegmentedFunction"),
    ),
    Curve(
        "logistic",
        "fraction of the chance loss, logistic in log x: quasi-binomial on the correct counts",
        ("ptqdb.curves.logistic", "LogisticFunction"),
    ),
    Curve(
        "hill",
        "Hill curve of x, from 0 up to a fitted height",
        ("ptqdb.curves.hill", "HillFunction"),
    ),
    Curve(
        "hill_chance",
        "Hill curve of x, from 0 up to each network's chance loss",
        ("ptqdb.curves.hill", "HillChanceFunction"),
    ),
    Curve(
        "isotonic",
        "isotonic regression, the upper bound for any monotone curve",
        ("ptqdb.curves.isotonic", "IsotonicFunction"),
    ),
    Curve(
        "spline",
        "non-decreasing cubic spline, smoothness chosen by cross-validation",
        ("ptqdb.curves.spline", "SplineFunction"),
    ),
    Curve(
        "linear",
        "straight line over log x, may decrease",
        ("ptqdb.curves.linear", "LinearFunction"),
    ),
    Curve(
        "mixed",
        "straight line over log x, with a random intercept for each network",
        ("ptqdb.curves.mixed", "MixedFunction"),
    ),
)

CURVES: Mapping[str, Curve] = MappingProxyType({entry.name: entry for entry in _CURVES})


def curve(name: str) -> Curve:
    """Return the curve of that name.

    Raises
    ------
    UsageError
        No such curve; the message lists the names, the closest first.

    Examples
    --------
    >>> curve("rational2").function.least_point_count
    5
    """
    if name in CURVES:
        return CURVES[name]
    names = ", ".join(closest_first(name, CURVES))
    raise UsageError(f"expected the name of a curve, found {name!r}; choose one of {names}")
