"""Proves in exact arithmetic that a ratio of polynomials is non-decreasing and has no pole."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

Polynomial = list[Fraction]  # the constant first, the last coefficient not 0


def is_nondecreasing(
    numerator: Sequence[float], denominator: Sequence[float], low: float, high: float
) -> bool:
    """Whether p / q is proven free of poles and non-decreasing on [low, high].

    The proof is exact: coefficients and ends are converted to fractions, without a tolerance. By
    Sturm's theorem, q has no root in [low, high]. The numerator of the slope, p'q - pq', is 0
    everywhere or non-negative in between: its factors of odd multiplicity have no root there, and
    it is positive somewhere.

    Parameters
    ----------
    numerator, denominator
        Coefficients of p and q, the constant first.
    low, high
        Ends of the interval, low < high.

    Returns
    -------
    False also if a coefficient is not finite. A common root of p and q counts as a pole.

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
    # Of degree + 1 points, at least one is not a root of the slope: its sign decides.
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
    """Number of distinct roots in (low, high] (Sturm); `a` is not 0 at either end."""
    chain = [a, _derivative(a)]
    while chain[-1]:
        remainder = _divide(chain[-2], chain[-1])[1]
        # Only signs matter; without scaling, the fractions grow to thousands of digits.
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
