"""What curves share: checks on the points, statsmodels' Model and Results, the proof of a rise."""

from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from statsmodels.base.model import LikelihoodModelResults, Model
from statsmodels.iolib.summary import Summary

from ptqdb.errors import DataError

Floats = NDArray[np.float64]
Polynomial = list[Fraction]  # the constant first, the last coefficient not 0

# Relative to the largest singular value of the Jacobian with columns of unit length.
SINGULAR = 1e-10


class CurveModel(Model):  # type: ignore[misc]
    """A curve of one variable, fitted by least squares.

    Parameters
    ----------
    endog
        y, shape (points,), finite and not all equal.
    exog
        x, shape (points,) or (points, 1), finite and not all equal.
    parameter_names
        One name per parameter, in the order of ``params``.
    **kwargs
        As `statsmodels.base.model.Model` takes them.

    Raises
    ------
    DataError
        `endog` and `exog` differ in length; a value is missing or infinite; there are fewer
        points than parameters; x, or y, is the same everywhere.
    """

    def __init__(
        self, endog: ArrayLike, exog: ArrayLike, *, parameter_names: tuple[str, ...], **kwargs: Any
    ) -> None:
        y = np.asarray(endog, dtype=np.float64)
        x = np.asarray(exog, dtype=np.float64)
        _check_points(x, y, len(parameter_names))
        super().__init__(y.ravel(), x.reshape(-1, 1), hasconst=False, **kwargs)
        self.parameter_names = parameter_names
        self.x: Floats = self.exog[:, 0]
        self.df_model = float(len(parameter_names) - 1)
        self.df_resid = float(len(self.endog) - len(parameter_names))

    @property
    def domain(self) -> tuple[float, float]:
        """The smallest and the largest x of the points."""
        return float(self.x.min()), float(self.x.max())

    @abstractmethod
    def fit(self) -> "CurveResults":
        """Fit by least squares, the same way each time."""

    @abstractmethod
    def predict(self, params: ArrayLike, exog: ArrayLike | None = None) -> Floats:
        """Return the curve's y at `exog`, by default at the points; shape (values,)."""

    @abstractmethod
    def jacobian(self, params: ArrayLike) -> Floats:
        """Return dy/dparams at the points, shape (points, parameters)."""

    @abstractmethod
    def is_monotone(self, params: ArrayLike) -> bool:
        """Whether the curve is proved finite and non-decreasing on `domain`."""

    def loglike(self, params: ArrayLike) -> float:
        """Gaussian log-likelihood, the variance at its maximum ssr / points (as in OLS)."""
        points = len(self.endog)
        ssr = float(np.sum((self.endog - self.predict(params)) ** 2))
        with np.errstate(divide="ignore"):
            return float(-points / 2 * (np.log(2 * np.pi * np.float64(ssr) / points) + 1))


class CurveResults(LikelihoodModelResults):  # type: ignore[misc]
    """A fitted curve, in the vocabulary of statsmodels.

    ``cov_params()`` is ``scale * inverse(J'J)`` with J the Jacobian at the estimate and scale
    the residual variance ``ssr / df_resid``; ``bse`` is the root of its diagonal, and
    ``conf_int()`` uses Student's t. They are NaN where J is singular (the curve has fewer
    degrees of freedom at the estimate than it has parameters, such as a constant) and where no
    residual degree of freedom is left. They know nothing of the monotone constraint: where it
    binds, they overstate the uncertainty.
    """

    def __init__(self, model: CurveModel, params: ArrayLike) -> None:
        params = np.asarray(params, dtype=np.float64)
        self.fittedvalues: Floats = model.predict(params)
        self.resid: Floats = model.endog - self.fittedvalues
        self.nobs = float(len(model.endog))
        self.df_model = model.df_model
        self.df_resid = model.df_resid
        self.ssr = float(np.sum(self.resid**2))
        scale = self.ssr / self.df_resid if self.df_resid > 0 else np.nan
        super().__init__(model, params, _inverse_gram(model.jacobian(params)), scale, use_t=True)

    @cached_property
    def monotone(self) -> bool:
        """Whether the curve is proved finite and non-decreasing from the least to the largest x."""
        return bool(self.model.is_monotone(self.params))

    @cached_property
    def centered_tss(self) -> float:
        """Sum of squares of y about its mean."""
        return float(np.sum((self.model.endog - self.model.endog.mean()) ** 2))

    @cached_property
    def rsquared(self) -> float:
        """1 - ssr / centered_tss."""
        return 1.0 - self.ssr / self.centered_tss

    @cached_property
    def rsquared_adj(self) -> float:
        """`rsquared` for the degrees of freedom spent; NaN where none is left."""
        if self.df_resid <= 0:
            return float("nan")
        return 1.0 - (self.nobs - 1.0) / self.df_resid * (1.0 - self.rsquared)

    @cached_property
    def rmse(self) -> float:
        """Root of ssr / nobs, in the unit of y."""
        return float(np.sqrt(self.ssr / self.nobs))

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 llf + 2 parameters (as in OLS, the variance not counted)."""
        return float(-2.0 * self.llf + 2.0 * len(self.params))

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 llf + log(nobs) parameters."""
        return float(-2.0 * self.llf + np.log(self.nobs) * len(self.params))

    def predict(
        self, exog: Any = None, transform: bool = True, *args: Any, hold: bool = True, **kwargs: Any
    ) -> Any:
        """Return the curve's y.

        Parameters
        ----------
        exog
            x; by default the points' own.
        transform, *args, **kwargs
            As in statsmodels.
        hold
            Past the points' x the curve is proved nothing about and may have a pole: there the
            value at the nearest end is returned. False evaluates the formula anywhere.

        Returns
        -------
        Shape (values,); a pandas Series for a pandas `exog`.
        """
        if exog is not None and hold:
            exog = np.clip(exog, *self.model.domain)
        return super().predict(exog, transform, *args, **kwargs)

    def summary(
        self,
        yname: str | None = None,
        xname: list[str] | None = None,
        title: str | None = None,
        alpha: float = 0.05,
    ) -> Summary:
        """Tables of the fit and of the parameters, as statsmodels prints them.

        Parameters
        ----------
        yname, xname
            Names for y and for the parameters.
        title
            Above the first table.
        alpha
            1 - the confidence of the intervals.
        """
        names = list(self.model.parameter_names) if xname is None else xname
        left = [
            ("Dep. Variable:", None),
            ("Model:", None),
            ("Method:", ["Least Squares"]),
            ("No. Observations:", [f"{self.nobs:.0f}"]),
            ("Df Residuals:", [f"{self.df_resid:.0f}"]),
            ("Df Model:", [f"{self.df_model:.0f}"]),
        ]
        right = [
            ("R-squared:", [f"{self.rsquared:.4f}"]),
            ("Adj. R-squared:", [f"{self.rsquared_adj:.4f}"]),
            ("Log-Likelihood:", [f"{self.llf:.5g}"]),
            ("AIC:", [f"{self.aic:.5g}"]),
            ("BIC:", [f"{self.bic:.5g}"]),
            ("Monotone:", ["proved" if self.monotone else "no"]),
        ]
        title = title or f"{type(self.model).__name__} Results"
        tables = Summary()
        tables.add_table_2cols(self, gleft=left, gright=right, yname=yname, title=title)
        tables.add_table_params(self, yname=yname, xname=names, alpha=alpha, use_t=self.use_t)
        return tables


def _check_points(x: Floats, y: Floats, parameter_count: int) -> None:
    """Raise DataError unless a curve can be fitted to the points."""
    if x.size != y.size or y.ndim > 2 or max(x.shape, default=1) != x.size:
        raise DataError(
            f"expected one x per y, found shapes {x.shape} and {y.shape}; pass two columns"
        )
    bad = int(np.sum(~(np.isfinite(x.ravel()) & np.isfinite(y.ravel()))))
    if bad:
        raise DataError(
            f"expected finite x and y, found {bad} of {y.size} points missing or infinite; "
            "leave those points out"
        )
    if y.size < parameter_count:
        raise DataError(
            f"expected at least {parameter_count} points, one per parameter, found {y.size}; "
            "add points or choose a curve of fewer parameters"
        )
    for name, values in (("x", x), ("y", y)):
        if values.min() == values.max():
            raise DataError(
                f"expected {name} to vary, found {name} = {float(values.flat[0]):g} at all "
                f"{y.size} points; a curve cannot be told from them"
            )


def _inverse_gram(jacobian: Floats) -> Floats:
    """inverse(J'J), or NaN throughout where J is singular to working precision."""
    count = jacobian.shape[1]
    lengths = np.sqrt(np.sum(jacobian**2, axis=0))
    if not np.all(np.isfinite(lengths) & (lengths > 0)):
        return np.full((count, count), np.nan)
    _, singular, rotation = np.linalg.svd(jacobian / lengths, full_matrices=False)
    if singular[-1] <= SINGULAR * singular[0]:
        return np.full((count, count), np.nan)
    inverse: Floats = (rotation.T / singular**2) @ rotation / np.outer(lengths, lengths)
    return inverse


def is_nondecreasing(
    numerator: Sequence[float], denominator: Sequence[float], low: float, high: float
) -> bool:
    """Whether p / q is proved free of poles and non-decreasing on [low, high].

    The proof is exact: the coefficients and ends are taken as the rational numbers that they
    are in floating point, and no tolerance is used. By Sturm's theorem q has no root in
    [low, high]; p'q - pq', the numerator of the slope, is 0 everywhere, or is nowhere negative
    in between: there its factors of odd multiplicity have no root, and it is positive somewhere.

    Parameters
    ----------
    numerator, denominator
        Coefficients of p and q, the constant first.
    low, high
        Ends of the interval, low < high.

    Returns
    -------
    False also where a coefficient is not finite. What two equal roots of p and q cancel is a
    pole here.

    Examples
    --------
    >>> is_nondecreasing([0, 1], [1, 1], 0, 10)
    True
    >>> is_nondecreasing([0, 1], [1, -1], 0, 10)
    False
    """
    if not np.all(np.isfinite([*numerator, *denominator, low, high])):
        return False
    p, q = (_trim([Fraction(c) for c in side]) for side in (numerator, denominator))
    ends = Fraction(low), Fraction(high)
    if not q or any(_at(q, end) == 0 for end in ends) or _root_count(q, *ends):
        return False
    rise = _subtract(multiply(_derivative(p), q), multiply(p, _derivative(q)))
    if all(_at(rise, end) > 0 for end in ends) and not _root_count(rise, *ends):
        return True
    # One of degree + 1 points is no root of the slope; without a change of sign it tells.
    between = [ends[0] + (ends[1] - ends[0]) * i / (len(rise) + 1) for i in range(1, len(rise) + 1)]
    if any(_at(rise, x) < 0 for x in between):
        return False
    odd = _odd_part(rise)
    for end in ends:
        while len(odd) > 1 and _at(odd, end) == 0:
            odd = _divide(odd, [-end, Fraction(1)])[0]
    return not _root_count(odd, *ends)


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """Return the product of two polynomials."""
    total = [Fraction(0)] * max(len(a) + len(b) - 1, 0)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            total[i + j] += x * y
    return total if a and b else []


def _trim(a: Polynomial) -> Polynomial:
    while a and a[-1] == 0:
        a = a[:-1]
    return a


def _at(a: Polynomial, x: Fraction) -> Fraction:
    total = Fraction(0)
    for c in reversed(a):
        total = total * x + c
    return total


def _derivative(a: Polynomial) -> Polynomial:
    return [i * c for i, c in enumerate(a)][1:]


def _subtract(a: Polynomial, b: Polynomial) -> Polynomial:
    count = max(len(a), len(b))
    a, b = (side + [Fraction(0)] * (count - len(side)) for side in (a, b))
    return _trim([x - y for x, y in zip(a, b, strict=True)])


def _divide(a: Polynomial, b: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Quotient and remainder."""
    quotient = [Fraction(0)] * max(len(a) - len(b) + 1, 0)
    while len(a) >= len(b):
        shift, factor = len(a) - len(b), a[-1] / b[-1]
        quotient[shift] = factor
        a = _trim([c - factor * b[i - shift] if i >= shift else c for i, c in enumerate(a)][:-1])
    return quotient, a


def _root_count(a: Polynomial, low: Fraction, high: Fraction) -> int:
    """How many different roots lie in (low, high] (Sturm); `a` is not 0 at either end."""
    chain = [a, _derivative(a)]
    while chain[-1]:
        remainder = _divide(chain[-2], chain[-1])[1]
        # Only signs count; without the scaling the fractions grow to thousands of digits.
        scale = -abs(remainder[-1]) if remainder else Fraction(1)
        chain.append([c / scale for c in remainder])
    changes = []
    for end in (low, high):
        signs = [value > 0 for value in (_at(link, end) for link in chain) if value != 0]
        changes.append(sum(one != other for one, other in pairwise(signs)))
    return changes[0] - changes[1]


def _common_factor(a: Polynomial, b: Polynomial) -> Polynomial:
    while b:
        a, b = b, _divide(a, b)[1]
        b = [c / b[-1] for c in b]
    return a


def _odd_part(a: Polynomial) -> Polynomial:
    """Return the factors of odd multiplicity, once each (Musser's square-free factorization)."""
    odd = [Fraction(1)]
    repeated = _common_factor(a, _derivative(a))
    rest, is_odd = _divide(a, repeated)[0] if repeated else [], True
    while len(rest) > 1:
        shared = _common_factor(rest, repeated)
        if is_odd:
            odd = multiply(odd, _divide(rest, shared)[0])
        rest, repeated, is_odd = shared, _divide(repeated, shared)[0], not is_odd
    return odd
