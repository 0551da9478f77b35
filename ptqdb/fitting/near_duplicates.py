"""Number formats that are nearly the same, and how much each counts beside them."""

import numpy as np
import polars as pl

from ptqdb.curves.points import Floats
from ptqdb.defaults import STUDY_SCHEME

# POT_5 and wider differ only in codes below 2^-14 of the largest.
WIDEST_POT_BITS = 5
FORMAT_COLUMNS = ("number_format", "family", "bits", "ebits")


def distinct_format(frame: pl.DataFrame) -> pl.Series:
    """Return the name of the first of the formats that are nearly the same as each row's.

    Up to a factor, FLOAT_b_E1 has the codes of INT_b, and POT_2 those of INT_2; only the formats of
    the biases differ. POT_5, POT_6, POT_7 and POT_8 differ only in codes below 2^-14 of the
    largest. So the study's 43 formats are 33; under other schemes no format is nearly the same.
    In 13 networks the losses of INT_4 and FLOAT_4_E1 differed by up to 0.07, all others mostly by
    less than 0.02, and those of the POT by 0.004.

    Parameters
    ----------
    frame
        With the `FORMAT_COLUMNS` of a view.

    Examples
    --------
    >>> rows = {"number_format": ["POT_7", "FLOAT_4_E1"], "family": ["POT", "FLOAT"]}
    >>> distinct_format(pl.DataFrame(rows | {"bits": [7, 4], "ebits": [None, 1]})).to_list()
    ['POT_5', 'INT_4']
    """
    is_pot, bits = pl.col("family") == "POT", pl.col("bits")
    as_int = (is_pot & (bits == 2)) | ((pl.col("family") == "FLOAT") & (pl.col("ebits") == 1))
    if "scheme" in frame.columns:
        of_study = pl.col("scheme") == STUDY_SCHEME
        is_pot, as_int = is_pot & of_study, as_int & of_study
    return frame.select(
        pl.when(as_int)
        .then(pl.format("INT_{}", bits))
        .when(is_pot & (bits > WIDEST_POT_BITS))
        .then(pl.lit(f"POT_{WIDEST_POT_BITS}"))
        .otherwise("number_format")
        .alias("distinct_format")
    ).to_series()


def format_weights(frame: pl.DataFrame) -> Floats | None:
    """Return the weight of each row: 1 over the rows of its network in nearly the same format.

    Parameters
    ----------
    frame
        Rows of a view.

    Returns
    -------
    Shape (rows,), dimensionless, in (0, 1]; None if the frame lacks ``network`` or one of the
    `FORMAT_COLUMNS`: then every row counts alike.
    """
    if not {"network", *FORMAT_COLUMNS} <= set(frame.columns):
        return None
    named = frame.select("network").with_columns(distinct_format(frame))
    weights: Floats = 1.0 / named.select(pl.len().over(named.columns)).to_series().to_numpy()
    return weights.astype(np.float64)


def weighted_median(values: Floats, weights: Floats) -> float:
    """Return the median of weighted values, as `numpy.median` does where all weights are equal.

    Each value covers the levels of its weight, in ascending order; the median is interpolated
    between the middles of the two that lie around one half.

    Parameters
    ----------
    values, weights
        Shape (values,), at least one; weights positive. The result has the unit of the values.

    Examples
    --------
    >>> weighted_median(np.array([1.0, 9.0, 5.0]), np.ones(3))
    5.0
    >>> weighted_median(np.array([1.0, 2.0, 2.0]), np.array([1.0, 0.5, 0.5]))
    1.6666666666666665
    """
    order = np.argsort(values, kind="stable")
    level = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(0.5, level / weights.sum(), values[order]))
