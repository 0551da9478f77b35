"""Formats: a number format under a scheme, as `--number-formats` names it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

from ptqdb.errors import UsageError
from ptqdb.quantization.number_formats import (
    STUDY_GRID,
    NumberFormat,
    number_format,
)
from ptqdb.quantization.own_quantizers import OwnQuantizer, is_own_quantizer, load_own_quantizer
from ptqdb.quantization.schemes import (
    PER_TENSOR_SYMMETRIC_MAX,
    SCALE_BITS,
    SCHEMES,
    Scheme,
    find_scheme,
    refuse_unfit,
)
from ptqdb.support.closest import closest_first

STUDY, DEPLOYED = "study", "deployed"

PRESETS = MappingProxyType(
    {
        "int8": ("INT_8", "channel_tensor_zp"),
        "int8_dynamic": ("INT_8", "channel_token"),
        "int4_g128": ("INT_4", "group128"),
        "int4_g128_zp": ("INT_4", "group128_zp"),
        "int4_g32": ("INT_4", "group32"),
        "fp8": ("FLOAT_8_E4M3FN", "tensor_tensor"),
        "fp8_rowwise": ("FLOAT_8_E4M3FN", "channel_token"),
        "fp8_e5m2": ("FLOAT_8_E5M2", "tensor_tensor"),
        "mxfp8_e4m3": ("FLOAT_8_E4M3FN", "mx32_e8m0"),
        "mxfp8_e5m2": ("FLOAT_8_E5M2", "mx32_e8m0"),
        "mxfp6_e2m3": ("FLOAT_6_E2", "mx32_e8m0"),
        "mxfp6_e3m2": ("FLOAT_6_E3", "mx32_e8m0"),
        "mxfp4": ("FLOAT_4_E2", "mx32_e8m0"),
        "mxint8": ("INT_8", "mx32_e8m0"),
        "nvfp4": ("FLOAT_4_E2", "nv16_e4m3"),
        "nf4": ("NF_4", "absmax64"),
        "q8_0": ("INT_8", "gguf_q8_0"),
        "q4_0": ("INT_4", "gguf_q4_0"),
        "q4_K": ("INT_4", "gguf_q4_k"),
    }
)
"""The formats that people ship: number format and scheme, by name."""
_PRESET_NAMES = {pair: name for name, pair in PRESETS.items()}


@dataclass(frozen=True)
class Format:
    """A number format under a scheme.

    Attributes
    ----------
    number_format
        The codes.
    scheme
        Which values share a scale, and how it is found and stored.
    own
        A user's own quantizer, which takes the place of both; its values are float32.
    """

    number_format: NumberFormat
    scheme: Scheme = PER_TENSOR_SYMMETRIC_MAX
    own: OwnQuantizer | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Its name, as `find_format` takes it.

        >>> find_format("FLOAT_4_E2@block32,scale=E8M0").name, find_format("INT_6@channel").name
        ('mxfp4', 'INT_6@channel')
        """
        return format_name(self.number_format.name, self.scheme.name)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of a weight's code and of its share of scales and zero points.

        Scales per output channel or tensor are not counted: their share depends on the layer. None
        for a user's own function that does not state it.

        >>> [find_format(name).bits_per_weight for name in ("mxfp4", "nvfp4", "q4_K")]
        [4.25, 4.5, 4.5]
        """
        if self.own is not None:
            return self.own.bits_per_weight
        size = self.scheme.block_size
        if size is None:
            return float(self.number_format.bits)
        shared = self.bits_per_block
        return self.number_format.bits + shared / size

    @property
    def code_count(self) -> int:
        """Number of codes of a weight.

        >>> find_format("INT_4").code_count, find_format("q4_0").code_count
        (15, 16)
        """
        uses_all = self.scheme.symmetry == "zero_point" or self.scheme.name == "gguf_q4_0"
        return 1 << self.number_format.bits if uses_all else self.number_format.code_count

    @property
    def computes_in(self) -> str:
        """What a layer computes with.

        ``bytes``: codes, on the integer units of a processor that has them. ``codes``: codes in
        float32 or, where exact, bfloat16; the sum is scaled once. ``dequantized``: float32 values.

        >>> [find_format(name).computes_in for name in ("int8", "FLOAT_8_E4", "mxfp4")]
        ['bytes', 'codes', 'dequantized']
        """
        codes = self.number_format
        accumulates = self.scheme.accumulates_codes and codes.family == "INT"
        if not (self.scheme.is_of_study or accumulates):
            return "dequantized"
        return "bytes" if codes.fits_bytes else "codes"

    @property
    def bits_per_block(self) -> float:
        """Bits of scale and zero point of one block (channel, tensor) of a weight."""
        if self.scheme.scale_format == "6-bit":
            return 2 * 6 + 2 * 16 / 8
        has_zero_point = self.scheme.symmetry == "zero_point"
        zero_point = self.number_format.bits if has_zero_point else 0
        return SCALE_BITS[self.scheme.scale_format] + zero_point


def format_name(number_format_name: str, scheme_name: str) -> str:
    """Return the name of a number format under a scheme, both by name.

    >>> format_name("INT_8", "per_tensor_symmetric_max"), format_name("INT_8", "mx32_e8m0")
    ('INT_8', 'mxint8')
    """
    if scheme_name == PER_TENSOR_SYMMETRIC_MAX.name:
        return number_format_name
    if number_format_name == OWN_VALUES.name:
        return scheme_name
    preset = _PRESET_NAMES.get((number_format_name, scheme_name))
    return preset or f"{number_format_name}@{scheme_name}"


OWN_VALUES = number_format("FLOAT_32_E8")
"""The number format of values that a user's own quantizer returns: float32."""

STUDY_FORMATS = tuple(Format(known) for known in STUDY_GRID)
DEPLOYED_FORMATS = tuple(
    Format(number_format(known), SCHEMES[scheme]) for known, scheme in PRESETS.values()
)


def study_format(name: str) -> Format:
    """Return a number format, by name, under the study's scheme."""
    return Format(number_format(name))


def find_format(name: str) -> Format:
    """Return the one format of a name; see `match_formats`.

    Raises
    ------
    UsageError
        No such format or scheme, one that does not fit the other, or several formats; the message
        names the closest.
    """
    found = match_formats(name)
    if len(found) != 1:
        raise UsageError(f"--number-formats: expected the name of one format, found {name!r}")
    return found[0]


def _pair(text: str) -> Format:
    """The format of a number format, an at sign and a scheme."""
    text = " ".join(text.split())  # messages quote it in one line
    codes, _, scheme_text = text.partition("@")
    try:
        known = number_format(codes.strip())
    except UsageError as error:
        raise UsageError(f"--number-formats: {text}: {error}") from error
    found = Format(known, find_scheme(scheme_text))
    refuse_unfit(found.number_format, found.scheme)
    return found


def match_formats(
    patterns: str, located: Callable[[str], str] = lambda spec: spec
) -> tuple[Format, ...]:
    """List the formats that any of the patterns names.

    Parameters
    ----------
    patterns
        Comma separated: number formats of the study, such as ``INT_8``; presets, such as
        ``mxfp4``; globs over both, with ``*``, ``?`` and ``[...]`` as in file names; pairs of a
        number format and a scheme (see `ptqdb.quantization.schemes.find_scheme`), such as
        ``FLOAT_6_E3@block32,scale=E8M0``; a user's own functions, such as ``file.py:function``;
        ``study`` or ``*``, the 43 formats of the study; ``deployed``, the presets. Case matters.
    located
        Returns where a user's own function is, from its name.

    Returns
    -------
    tuple[Format, ...]
        Formats of the study in grid order, presets in the order of `PRESETS`, then others in the
        order of the patterns.

    Raises
    ------
    UsageError
        A pattern names no format, or a number format that its scheme cannot scale; the message
        names the closest.
    DataError
        The file of a user's own function cannot be imported.

    Examples
    --------
    >>> [each.name for each in match_formats("mxfp*, INT_[2-4], INT_6@channel,range=mse")]
    ['INT_2', 'INT_3', 'INT_4', 'mxfp8_e4m3', 'mxfp8_e5m2', 'mxfp6_e2m3', 'mxfp6_e3m2', 'mxfp4', \
'INT_6@channel,range=mse']
    """
    known = (*STUDY_FORMATS, *DEPLOYED_FORMATS)
    chosen: dict[str, Format] = {}
    for pattern in _split(patterns):
        pattern = located(pattern) if is_own_quantizer(pattern) else pattern
        for each in _matching(pattern, known):
            other = chosen.setdefault(each.name, each)
            if other.scheme != each.scheme:
                raise UsageError(
                    f"--number-formats: expected functions of different names, found two named "
                    f"{each.name}"
                )
    order = {each.name: place for place, each in enumerate(known)}
    # sorted() is stable: others keep the order of the patterns
    return tuple(sorted(chosen.values(), key=lambda each: order.get(each.name, len(order))))


def _split(patterns: str) -> list[str]:
    """The patterns: a part with an equals sign belongs to the pair before it."""
    found: list[str] = []
    for part in patterns.split(","):
        is_option = "=" in part and bool(found) and "@" in found[-1]
        if is_option:
            found[-1] += f",{part.strip()}"
        else:
            found.append(part.strip())
    return found


def _matching(pattern: str, known: Sequence[Format]) -> Iterable[Format]:
    if pattern in (STUDY, "*"):
        return STUDY_FORMATS
    if pattern == DEPLOYED:
        return DEPLOYED_FORMATS
    if is_own_quantizer(pattern):
        own = load_own_quantizer(pattern)
        refuse_taken("--number-formats", own.scheme.name)
        return (Format(OWN_VALUES, own.scheme, own),)
    if "@" in pattern:
        return (_pair(pattern),)
    matches = [each for each in known if fnmatchcase(each.name, pattern)]
    if not matches:
        raise UsageError(
            f"--number-formats: expected patterns that each match a format, found {pattern!r}, "
            f"which matches none; closest are {_closest(pattern)}; a pattern such as INT_* or "
            "FLOAT_8_E? matches several, `ptqdb formats` lists all"
        )
    return matches


def refuse_taken(option: str, name: str) -> None:
    """Refuse a name of a user's own for which a format or a scheme is known.

    Raises
    ------
    UsageError
        The message begins with the option.
    """
    is_taken = name in {STUDY, DEPLOYED, *PRESETS}
    for find in (number_format, find_scheme):
        with suppress(UsageError):
            find(name)
            is_taken = True
    if is_taken:
        raise UsageError(f"{option}: {name} is the name of a format or scheme; take another one")


def _closest(name: str, count: int = 5) -> str:
    names = [each.name for each in (*STUDY_FORMATS, *DEPLOYED_FORMATS)]
    return ", ".join(closest_first(name, [*names, STUDY, DEPLOYED])[:count])
