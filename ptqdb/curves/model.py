"""Curves as Model and Results of statsmodels, computed by `ptqdb.curves.function`."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.base._prediction_inference import PredictionResultsBase
from statsmodels.base.model import LikelihoodModelResults, Model
from statsmodels.iolib.summary import Summary

from ptqdb.curves.bootstrap import NetworkBootstrap, network_bootstrap
from ptqdb.curves.function import CurveFit, CurveFunction
from ptqdb.curves.points import Floats, Places, checked_points


class CurveModel(Model):  # type: ignore[misc]
    """A curve of one variable.

    Parameters
    ----------
    endog
        y, shape (points,), finite and not all equal.
    exog
        x, shape (points,) or (points, 1), finite and not all equal.
    function
        The curve: its formula and the search for its parameters.
    name
        Its name in the summary.
    **columns
        Further columns of `ptqdb.curves.points.Points`.

    Raises
    ------
    DataError
        The points cannot determine the curve; see `ptqdb.curves.points.checked_points`.
    """

    def __init__(
        self,
        endog: ArrayLike,
        exog: ArrayLike,
        *,
        function: CurveFunction,
        name: str = "curve",
        **columns: ArrayLike,
    ) -> None:
        self.points = checked_points(exog, endog, function.least_point_count, columns)
        self.points.require(function.needs)
        super().__init__(self.points.y, self.points.x.reshape(-1, 1), hasconst=False)
        self.function = function.prepared(self.points)
        self.name = name

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One name per parameter."""
        return self.function.parameter_names

    @property
    def domain(self) -> tuple[float, float]:
        """The range on which the curve holds; see `CurveFunction.domain`."""
        return self.function.domain(self.points.x)

    def fit(self) -> "CurveResults":
        """Fit the curve; deterministic."""
        return self.results(self.function.estimate(self.points))

    def results(self, params: ArrayLike) -> "CurveResults":
        """Return the results of these parameters."""
        return CurveResults(self, params)

    def predict(
        self,
        params: ArrayLike,
        exog: ArrayLike | None = None,
        chance_loss: ArrayLike | None = None,
    ) -> Floats:
        """Return the curve's y at `exog`, by default at the points; extrapolates.

        Parameters
        ----------
        params
            As `parameter_names` lists them.
        exog
            x, shape (values,) or (values, 1).
        chance_loss
            Of the networks at `exog`; for curves that use it.

        Returns
        -------
        Shape (values,); infinite at a pole.
        """
        if exog is None:
            return self.function.values(params, self.points.places)
        return self.function.values(params, Places.of(exog, chance_loss))

    def is_monotone(self, params: ArrayLike) -> bool:
        """Whether the curve is proven finite and non-decreasing on `domain`."""
        return self.function.is_monotone(params, *self.domain)

    def loglike(self, params: ArrayLike) -> float:
        """Log-likelihood; NaN for a curve without one."""
        params = np.asarray(params, dtype=np.float64)
        return self.function.log_likelihood(params, self.points)


class CurveResults(LikelihoodModelResults):  # type: ignore[misc]
    """A fitted curve, in the vocabulary of statsmodels.

    Points of one network are not independent. With points of several networks, ``cov_params()``,
    ``bse``, ``conf_int()`` and ``get_prediction()`` use `bootstrap`, a bootstrap over the networks
    (takes seconds at first use). With points of one network they use `CurveFunction.covariance`,
    which assumes independent points; so does a curve that `models_networks`, whose covariance
    accounts for the networks itself. Intervals use Student's t.
    """

    def __init__(self, model: CurveModel, params: ArrayLike) -> None:
        params = np.asarray(params, dtype=np.float64)
        self.curve_fit = CurveFit(model.function, model.points, params)
        self.fittedvalues: Floats = self.curve_fit.fittedvalues
        self.resid: Floats = self.curve_fit.resid
        self.nobs = float(len(model.points))
        self.df_model = self.curve_fit.df_model
        self.df_resid = self.curve_fit.df_resid
        self.ssr = self.curve_fit.ssr
        scale = self.ssr / self.df_resid if self.df_resid > 0 else np.nan
        super().__init__(model, params, None, scale, use_t=True)

    @cached_property
    def bootstrap(self) -> NetworkBootstrap | None:
        """The curve over networks drawn with replacement.

        None for points of one network, and for a curve that `models_networks`.
        """
        return network_bootstrap(self.curve_fit) if self._resamples else None

    @property
    def _resamples(self) -> bool:
        fit = self.curve_fit
        return fit.points.network_count > 1 and not fit.function.models_networks

    @cached_property
    def cov_params_default(self) -> Floats:
        """Covariance of the parameters, shape (parameters, parameters); NaN if undefined."""
        if self.bootstrap is not None:
            return self.bootstrap.covariance()
        return self.curve_fit.function.covariance(self.params, self.curve_fit.points)

    @property
    def cov_type(self) -> str:
        """Where the standard errors come from."""
        return "network bootstrap" if self._resamples else "nonrobust"

    @property
    def monotone(self) -> bool:
        """Whether the curve is proven finite and non-decreasing on the range of the points' x."""
        return self.curve_fit.monotone

    @property
    def centered_tss(self) -> float:
        """Sum of squares of y about its mean."""
        return self.curve_fit.centered_tss

    @property
    def rsquared(self) -> float:
        """1 - ssr / centered_tss."""
        return self.curve_fit.rsquared

    @property
    def rsquared_adj(self) -> float:
        """`rsquared` adjusted for the degrees of freedom; NaN if none is left."""
        return self.curve_fit.rsquared_adj

    @property
    def rmse(self) -> float:
        """sqrt(ssr / nobs), in the unit of y."""
        return self.curve_fit.rmse

    @property
    def aic(self) -> float:
        """Akaike's criterion; NaN for a curve without a likelihood."""
        return self.curve_fit.aic

    @property
    def bic(self) -> float:
        """Schwarz's criterion; NaN for a curve without a likelihood."""
        return self.curve_fit.bic

    def predict(
        self, exog: Any = None, transform: bool = True, *args: Any, hold: bool = True, **kwargs: Any
    ) -> Any:
        """Return the curve's y.

        Parameters
        ----------
        exog
            x; by default the points' own.
        transform, *args, **kwargs
            As in statsmodels; `chance_loss` for curves that use it.
        hold
            True: outside `CurveModel.domain`, where the curve is not proven monotone and may have a
            pole, return the value at the nearest end. False: evaluate the formula anywhere.

        Returns
        -------
        Shape (values,); a pandas Series for a pandas `exog`.
        """
        if exog is not None and hold:
            exog = np.clip(exog, *self.model.domain)
        return super().predict(exog, transform, *args, **kwargs)

    def get_prediction(
        self, exog: ArrayLike | None = None, chance_loss: ArrayLike | None = None
    ) -> PredictionResultsBase:
        """The curve's y with its standard error; not the spread of points about the curve.

        Parameters
        ----------
        exog
            x, held within the points' range; by default the points' own.
        chance_loss
            Of the networks at `exog`; for curves that use it.

        Returns
        -------
        Of statsmodels, with ``predicted, se, conf_int(), summary_frame()``; ``se`` is NaN where
        the curve has no covariance.
        """
        fit = self.curve_fit
        x = fit.x if exog is None else np.clip(np.ravel(exog), *fit.domain).astype(np.float64)
        chance = fit.points.chance_loss if exog is None else chance_loss
        if chance is not None:
            chance = np.asarray(chance, dtype=np.float64)
        variance = np.full(len(x), np.nan)
        if self.bootstrap is not None and len(self.bootstrap.fits) > 1:
            variance = self.bootstrap.predictions(x, chance).var(axis=0, ddof=1)
        elif self.bootstrap is None:
            jacobian = fit.function.jacobian(self.params, Places(x, chance))
            if jacobian is not None:
                # A parameter without influence at `x` adds nothing, even if its variance is NaN.
                used = np.any(jacobian != 0, axis=0)
                jacobian, covariance = jacobian[:, used], self.cov_params()[np.ix_(used, used)]
                variance = np.einsum("ij,jk,ik->i", jacobian, covariance, jacobian)
        return PredictionResultsBase(
            fit.predict(x, chance), variance, df=max(self.df_resid, 1.0), dist="t"
        )

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
            ("Model:", [self.model.name]),
            ("No. Observations:", [f"{self.nobs:.0f}"]),
            ("Df Residuals:", [f"{self.df_resid:.4g}"]),
            ("Df Model:", [f"{self.df_model:.4g}"]),
            ("Covariance Type:", [self.cov_type]),
        ]
        right = [
            ("R-squared:", [f"{self.rsquared:.4f}"]),
            ("Adj. R-squared:", [f"{self.rsquared_adj:.4f}"]),
            ("Log-Likelihood:", [f"{self.llf:.5g}"]),
            ("AIC:", [f"{self.aic:.5g}"]),
            ("BIC:", [f"{self.bic:.5g}"]),
            ("Monotone:", ["proved" if self.monotone else "no"]),
        ]
        title = title or f"{self.model.name} Results"
        tables = Summary()
        tables.add_table_2cols(self, gleft=left, gright=right, yname=yname, title=title)
        tables.add_table_params(self, yname=yname, xname=names, alpha=alpha, use_t=self.use_t)
        return tables
