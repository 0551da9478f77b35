"""Curves as statsmodels' Model and Results, over the numbers of least_squares."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.base.model import LikelihoodModelResults, Model
from statsmodels.iolib.summary import Summary

from ptqdb.curves.least_squares import CurveFit, CurveFunction, Floats, checked_points

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
    function
        The curve: its formula and the search for its parameters.
    **kwargs
        As `statsmodels.base.model.Model` takes them.

    Raises
    ------
    DataError
        The points cannot carry the curve; see `ptqdb.curves.least_squares.checked_points`.
    """

    def __init__(
        self, endog: ArrayLike, exog: ArrayLike, *, function: CurveFunction, **kwargs: Any
    ) -> None:
        parameter_names = function.parameter_names
        x, y = checked_points(exog, endog, len(parameter_names))
        super().__init__(y, x.reshape(-1, 1), hasconst=False, **kwargs)
        self.function = function
        self.parameter_names = parameter_names
        self.x: Floats = self.exog[:, 0]
        self.df_model = float(len(parameter_names) - 1)
        self.df_resid = float(len(self.endog) - len(parameter_names))

    @property
    def domain(self) -> tuple[float, float]:
        """The smallest and the largest x of the points."""
        return float(self.x.min()), float(self.x.max())

    def fit(self) -> "CurveResults":
        """Fit by least squares, the same way each time."""
        return self.results(self.function.estimate(self.x, self.endog))

    def results(self, params: ArrayLike) -> "CurveResults":
        """Return the results of these parameters."""
        return CurveResults(self, params)

    def predict(self, params: ArrayLike, exog: ArrayLike | None = None) -> Floats:
        """Return the curve's y at `exog`, by default at the points, whatever their range.

        Parameters
        ----------
        params
            As `parameter_names` lists them.
        exog
            x, shape (values,) or (values, 1).

        Returns
        -------
        Shape (values,); infinite at a pole.
        """
        x = self.x if exog is None else np.asarray(exog, dtype=np.float64).ravel()
        return self.function.values(params, x)

    def jacobian(self, params: ArrayLike) -> Floats:
        """Return dy/dparams at the points, shape (points, parameters)."""
        return self.function.jacobian(params, self.x)

    def is_monotone(self, params: ArrayLike) -> bool:
        """Whether the curve is proved finite and non-decreasing on `domain`."""
        return self.function.is_monotone(params, *self.domain)

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
        self.curve_fit = CurveFit(model.function, model.x, model.endog, params)
        self.fittedvalues: Floats = self.curve_fit.fittedvalues
        self.resid: Floats = self.curve_fit.resid
        self.nobs = float(len(model.endog))
        self.df_model = model.df_model
        self.df_resid = model.df_resid
        self.ssr = self.curve_fit.ssr
        scale = self.ssr / self.df_resid if self.df_resid > 0 else np.nan
        super().__init__(model, params, _inverse_gram(model.jacobian(params)), scale, use_t=True)

    @cached_property
    def monotone(self) -> bool:
        """Whether the curve is proved finite and non-decreasing from the least to the largest x."""
        return self.curve_fit.monotone

    @cached_property
    def centered_tss(self) -> float:
        """Sum of squares of y about its mean."""
        return self.curve_fit.centered_tss

    @cached_property
    def rsquared(self) -> float:
        """1 - ssr / centered_tss."""
        return self.curve_fit.rsquared

    @cached_property
    def rsquared_adj(self) -> float:
        """`rsquared` for the degrees of freedom spent; NaN where none is left."""
        if self.df_resid <= 0:
            return float("nan")
        return 1.0 - (self.nobs - 1.0) / self.df_resid * (1.0 - self.rsquared)

    @cached_property
    def rmse(self) -> float:
        """Root of ssr / nobs, in the unit of y."""
        return self.curve_fit.rmse

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
