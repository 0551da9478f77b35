"""Rational curves as a statsmodels model."""

from typing import Any

from numpy.typing import ArrayLike

from ptqdb.curves.base import CurveModel, CurveResults
from ptqdb.curves.rational_function import RationalFunction


class RationalModel(CurveModel):
    """y = (a0 + a1 x + ... + ad x^d) / (1 + b1 x + ... + bd x^d), non-decreasing.

    Parameters
    ----------
    endog
        y, shape (points,).
    exog
        x, shape (points,) or (points, 1).
    degree
        d: 2, 3 or 4. ``params`` is a0, ..., ad, b1, ..., bd, for x and y in their own units.
    **kwargs
        As `statsmodels.base.model.Model` takes them.

    Raises
    ------
    UsageError
        Another degree.
    DataError
        The points cannot carry the curve; see `CurveModel`.

    Notes
    -----
    How the curve is found: see `ptqdb.curves.rational_function.RationalFunction`.
    """

    def __init__(
        self, endog: ArrayLike, exog: ArrayLike, *, degree: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(endog, exog, function=RationalFunction(degree), **kwargs)
        self.degree = degree

    def results(self, params: ArrayLike) -> "RationalResults":
        """Return the results of these parameters."""
        return RationalResults(self, params)


class RationalResults(CurveResults):
    """A fitted rational curve; ``params`` is a0, ..., ad, b1, ..., bd."""
