"""The figures of a fit, used wherever fits are printed, ranked or stored."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FitRecord:
    """One curve fitted to points of one view: a row of the table ``fit``.

    Figures are None if nothing was fitted or if they are undefined. Losses and their errors are
    fractions of the float accuracy.

    Attributes
    ----------
    view, curve
        Their names.
    points
        Number of points in the fit: rows with a finite divergence and loss.
    r_squared, adjusted_r_squared
        1 - ssr / (sum of squares about the mean), where ssr is the sum of squared residuals; the
        same, adjusted for the degrees of freedom used.
    rmse
        Root of ssr / points.
    aic, bic
        Akaike's and Schwarz's criteria; None for curves without a likelihood.
    ceiling_r_squared
        R² of isotonic regression, the upper bound for any monotone curve.
    held_out_r_squared, held_out_rmse, held_out_median_error
        From predictions by curves fitted without the point's network (or architecture): see
        `ptqdb.fitting.cross_validation.HeldOut`.
    monotone
        Whether the curve is proved non-decreasing over the points' range.
    params
        The curve's parameters, in the order of its model.
    error
        The reason why nothing was fitted, or None.
    """

    view: str
    curve: str
    points: int
    r_squared: float | None = None
    adjusted_r_squared: float | None = None
    rmse: float | None = None
    aic: float | None = None
    bic: float | None = None
    ceiling_r_squared: float | None = None
    held_out_r_squared: float | None = None
    held_out_rmse: float | None = None
    held_out_median_error: float | None = None
    monotone: bool | None = None
    params: tuple[float, ...] = ()
    error: str | None = None
