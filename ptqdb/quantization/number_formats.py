"""The number formats INT, POT, FLOAT and NF: codes, names and the grid of the study."""

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptqdb.errors import UsageError
from ptqdb.support.closest import closest_first

Family = Literal["INT", "POT", "FLOAT", "NF"]

# Within these limits float64 holds every code exactly, except the last bits of large INT codes.
_MAX_BITS: dict[Family, int] = {"INT": 64, "POT": 11, "FLOAT": 32}
_MAX_EBITS = 10
_LARGEST_BYTE = 127
# 32768 magnitudes; wider formats have too many to list.
_MAX_LISTED_BITS = 16

# The quantiles of a normal distribution, so that each code stands for about as many weights:
# QLoRA (Dettmers et al., 2023, appendix E), in float32 as the library bitsandbytes stores them.
_NORMAL_FLOAT_4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)


@dataclass(frozen=True)
class NumberFormat:
    """A set of codes, in units of the scale. `number_format` builds one from its name.

    Except in NF, the set is symmetric: zero, and magnitudes of either sign.

    Attributes
    ----------
    name
        ``INT_b``, ``POT_b``, ``FLOAT_b_Ee``, ``FLOAT_8_E4M3FN``, ``FLOAT_8_E5M2`` or ``NF_4``.
    family
        ``INT``: the integers up to ±(2^(b-1) - 1). ``POT``: 0 and ±2^i for i from
        -2^(b-1) + 2 to 0. ``FLOAT``: sign, e exponent bits with bias 2^(e-1) - 1 and
        m = b - 1 - e mantissa bits, with subnormals and without infinities or NaN, as the
        elements of the OCP Microscaling Formats (MX) Specification v1.0: FLOAT_4_E2 is its
        E2M1, FLOAT_6_E2 its E2M3, FLOAT_6_E3 its E3M2. ``NF``: 16 quantiles of a normal
        distribution from -1 to 1, as float32 numbers; 0 is one of them.
    bits
        Bits per code, including the sign.
    ebits, mbits
        Exponent and mantissa bits of a FLOAT; None otherwise.
    reserved_count
        How many of the largest magnitudes of a FLOAT are no numbers: FLOAT_8_E4M3FN spends one on
        NaN, FLOAT_8_E5M2 four on infinity and NaN (OCP 8-bit Floating Point Specification v1.0).
    """

    name: str
    family: Family
    bits: int
    ebits: int | None = None
    mbits: int | None = None
    reserved_count: int = 0

    @property
    def max_code(self) -> float:
        """The largest code; for INT_55 and wider, rounded down to float64.

        >>> number_format("INT_8").max_code, number_format("FLOAT_4_E2").max_code
        (127.0, 6.0)
        >>> number_format("INT_64").max_code == 2**63 - 1024
        True
        """
        if self.family in ("POT", "NF"):
            return 1.0
        if self.mbits is not None:
            largest = (1 << self.bits - 1) - 1 - self.reserved_count
            field, mantissa = divmod(largest, 1 << self.mbits)
            significand = (1 << self.mbits) + mantissa
            return math.ldexp(significand, field - 1 + self.min_exponent - self.mbits)
        exact = (1 << self.bits - 1) - 1
        nearest = float(exact)
        return nearest if int(nearest) <= exact else math.nextafter(nearest, 0.0)

    @property
    def min_exponent(self) -> int:
        """log2 of the smallest normal code, in NF rounded down (only FLOAT has subnormals)."""
        if self.family == "INT":
            return 0
        if self.family == "NF":
            return math.frexp(min(abs(code) for code in _NORMAL_FLOAT_4 if code))[1] - 1
        if self.ebits is None:
            return 2 - (1 << self.bits - 1)
        bias = (1 << self.ebits - 1) - 1
        return 1 - bias

    @property
    def unit(self) -> float:
        """The smallest positive code, of which every code is a multiple; in NF only a divisor.

        >>> number_format("INT_8").unit, number_format("FLOAT_4_E2").unit
        (1.0, 0.5)
        """
        if self.family == "INT":
            return 1.0
        return math.ldexp(1.0, self.min_exponent - (self.significant_bits - 1))

    @property
    def fits_bytes(self) -> bool:
        """Whether every code is a multiple of the unit between -127 and 127.

        >>> [known.name for known in STUDY_GRID if known.fits_bytes and known.family == "POT"]
        ['POT_2', 'POT_3', 'POT_4']
        """
        return self.max_code <= _LARGEST_BYTE * self.unit

    @property
    def code_count(self) -> int:
        """Number of distinct codes; zero counts once.

        >>> [number_format(name).code_count for name in ("FLOAT_4_E2", "FLOAT_8_E4M3FN", "NF_4")]
        [15, 253, 16]
        """
        if self.family == "NF":
            return len(_NORMAL_FLOAT_4)
        return (1 << self.bits) - 1 - 2 * self.reserved_count

    @property
    def significant_bits(self) -> int:
        """Maximum number of significant bits in the magnitude of a code.

        Up to 8 are exact in bfloat16, up to 11 in TF32, up to 24 in float32.
        """
        if self.family == "INT":
            return self.bits - 1
        if self.family == "NF":
            return 24
        return 1 if self.mbits is None else self.mbits + 1

    @property
    def is_in_study_grid(self) -> bool:
        """Whether the format is one of the study's 43 (INT_64 and FLOAT_16_E7 are not)."""
        return self in STUDY_GRID

    def magnitudes(self) -> NDArray[np.float64]:
        """List the codes from zero up.

        Returns
        -------
        NDArray[np.float64]
            Shape (2^(bits-1) - reserved_count,), ascending, in units of the scale; the position is
            the magnitude index, which decides ties.

        Raises
        ------
        UsageError
            The format has more than 16 bits, or its codes are not symmetric (NF).

        Examples
        --------
        >>> number_format("FLOAT_4_E2").magnitudes().tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
        """
        if self.family == "NF":
            raise UsageError(
                f"expected a format with codes of either sign, found {self.name}, whose negative "
                "codes have other magnitudes than its positive ones; use codes() instead"
            )
        if self.bits > _MAX_LISTED_BITS:
            raise UsageError(
                f"expected a format of at most {_MAX_LISTED_BITS} bits, found {self.name}, which "
                "has too many codes to list; use max_code and code_count instead"
            )
        index = np.arange((1 << self.bits - 1) - self.reserved_count)
        if self.family == "INT":
            return index.astype(np.float64)
        # The index of a POT is an exponent field without a mantissa: the FLOAT formula applies to
        # both.
        mbits = self.mbits or 0
        field, mantissa = index >> mbits, index & ((1 << mbits) - 1)
        significand = np.where(field > 0, mantissa + (1 << mbits), mantissa)
        exponent = np.maximum(field, 1) - 1 + self.min_exponent - mbits
        codes: NDArray[np.float64] = np.ldexp(significand.astype(np.float64), exponent)
        return codes

    def codes(self) -> NDArray[np.float64]:
        """List all codes, from the smallest up.

        Returns
        -------
        NDArray[np.float64]
            Shape (code_count,), ascending, in units of the scale; one of them is 0.

        Raises
        ------
        UsageError
            The format has more than 16 bits.

        Examples
        --------
        >>> number_format("INT_3").codes().tolist()
        [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
        >>> number_format("NF_4").codes()[[0, 6, 7, 8, 15]].round(4).tolist()
        [-1.0, -0.0911, 0.0, 0.0796, 1.0]
        """
        if self.family == "NF":
            return np.array(_NORMAL_FLOAT_4)
        magnitudes = self.magnitudes()
        return np.concatenate([-magnitudes[:0:-1], magnitudes])


# Deployed formats outside the grid, which the rule for names does not give.
_NAMED = {
    named.name: named
    for named in (
        NumberFormat("FLOAT_8_E4M3FN", "FLOAT", 8, 4, 3, reserved_count=1),
        NumberFormat("FLOAT_8_E5M2", "FLOAT", 8, 5, 2, reserved_count=4),
        NumberFormat("NF_4", "NF", 4),
    )
}
_VALID_NAMES = (
    f"INT_b (b from 2 to {_MAX_BITS['INT']}), POT_b (b from 2 to {_MAX_BITS['POT']}), "
    f"FLOAT_b_Ee (b up to {_MAX_BITS['FLOAT']}, e from 1 to {_MAX_EBITS} and at most b-1), "
    f"{', '.join(list(_NAMED)[:-1])} and {list(_NAMED)[-1]}"
)


def number_format(name: str) -> NumberFormat:
    """Return the format of that name, which need not be in the study's grid.

    Raises
    ------
    UsageError
        No format has that name; the message lists the closest ones and the rule.

    Examples
    --------
    >>> number_format("FLOAT_8_E4")
    NumberFormat(name='FLOAT_8_E4', family='FLOAT', bits=8, ebits=4, mbits=3, reserved_count=0)
    >>> number_format("FLOAT_8_E4").max_code, number_format("FLOAT_8_E4M3FN").max_code
    (480.0, 448.0)
    """
    parsed = _parsed(name)
    if parsed is not None:
        return parsed
    raise UsageError(
        f"no number format is named {name!r}; the closest are {_closest(name, *_NAMED)}; "
        f"valid are {_VALID_NAMES}"
    )


def _parsed(name: str) -> NumberFormat | None:
    if name in _NAMED:
        return _NAMED[name]
    number = "([1-9][0-9]{0,3})"
    if match := re.fullmatch(f"FLOAT_{number}_E{number}", name):
        bits, ebits = int(match[1]), int(match[2])
        is_valid = bits <= _MAX_BITS["FLOAT"] and ebits <= min(bits - 1, _MAX_EBITS)
        return NumberFormat(name, "FLOAT", bits, ebits, bits - 1 - ebits) if is_valid else None
    if match := re.fullmatch(f"(INT|POT)_{number}", name):
        family: Family = "INT" if match[1] == "INT" else "POT"
        bits = int(match[2])
        return NumberFormat(name, family, bits) if 2 <= bits <= _MAX_BITS[family] else None
    return None


def _study_grid() -> tuple[NumberFormat, ...]:
    names = [f"INT_{bits}" for bits in range(2, 17)]
    names += [f"POT_{bits}" for bits in range(2, 9)]
    names += [f"FLOAT_{bits}_E{ebits}" for bits in range(3, 9) for ebits in range(1, bits - 1)]
    return tuple(number_format(name) for name in names)


STUDY_GRID: tuple[NumberFormat, ...] = _study_grid()

_BIAS_FORMATS = {
    "INT": number_format("INT_64"),
    "POT": number_format("POT_8"),
    "FLOAT": number_format("FLOAT_16_E7"),
}


def bias_format(family: str) -> NumberFormat:
    """Return the bias format of a family.

    Raises
    ------
    UsageError
        No such family.

    Examples
    --------
    >>> bias_format("INT").name, bias_format("POT").name, bias_format("FLOAT").name
    ('INT_64', 'POT_8', 'FLOAT_16_E7')
    """
    if family not in _BIAS_FORMATS:
        raise UsageError(f"no family is named {family!r}; choose from {', '.join(_BIAS_FORMATS)}")
    return _BIAS_FORMATS[family]


def _closest(name: str, *others: str, count: int = 5) -> str:
    """Join the names, of the grid and others, most similar to this one, the closest first."""
    names = (*(known.name for known in STUDY_GRID), *others)
    return ", ".join(closest_first(name, names)[:count])
