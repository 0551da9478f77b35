"""Quantization schemes: which values share a scale, and how it is found and stored."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ptqdb.defaults import STUDY_SCHEME
from ptqdb.errors import UsageError
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.support.closest import closest_first

LARGEST_BLOCK = 1 << 16
OTHER = "other"
"""What a user's own function or checkpoint does, which nothing is known of."""
SCALE_BITS = MappingProxyType({"float32": 32, "float16": 16, "E8M0": 8, "E4M3": 8})
"""Bits of a stored scale, by scale format."""
RANGE_RULES = ("max", "percentile", "mse")
PERCENTILE = 99.9
"""Under the range rule ``percentile``: of the absolute values that share a scale."""
MSE_FRACTIONS = tuple(1 - 0.02 * step for step in range(41))
"""Under the range rule ``mse``: the fractions of the largest absolute value that are tried."""


@dataclass(frozen=True)
class Scheme:
    """A quantization scheme, as stored with the facts.

    Attributes
    ----------
    granularity
        Which weights share one scale. ``tensor``: all of a layer. ``channel``: those of an output
        channel. ``block``: `block_size` weights along the fan-in of an output channel, with a
        shorter last block if the size does not divide the fan-in. ``other``: a user's own function
        or checkpoint.
    symmetry
        ``symmetric``: the range is symmetric around 0, which is a code. ``zero_point``: from the
        smallest to the largest value, widened to include 0, which is the code zero point.
    range_rule
        ``max``: the largest absolute value. ``percentile``: their 99.9th percentile. ``mse``: the
        fraction of the largest, in steps of 0.02 from 1 to 0.2, with the least squared error.
        ``gguf``: as the reference implementation of the format computes it. Applies to weights, and
        to inputs that share one scale.
    quantized
        The roles of the tensors that are quantized.
    calibration
        The data for the ranges of the inputs; ``none`` if they need none.
    input_granularity
        ``tensor``: one scale, from the calibration images. The others compute their scales when
        the network runs. ``token``: a row, or the channels at one position of a convolution's
        input. ``block``: `block_size` channels of a token. ``float``: inputs are not quantized.
    input_symmetry
        As `symmetry`.
    block_size
        None without blocks.
    block_order
        ``channel_first``: along the fan-in, input channels vary fastest and positions in the kernel
        slowest, so that a block of weights multiplies a block of inputs. None without blocks.
    scale_format
        ``float32``; ``float16``; ``E8M0``: powers of two; ``E4M3``: FLOAT_8_E4M3FN, times one
        float32 per tensor; ``6-bit``: integers, times one float16 per 8 blocks.
    bias
        ``study``: codes at the scale of the input times that of the weight, in the bias format of
        the family. ``INT32``: integers at that scale. ``float32``: not quantized.
    source_sha256
        Of a user's own function, the digest of its file; None otherwise.
    """

    name: str
    granularity: str = "tensor"
    symmetry: str = "symmetric"
    range_rule: str = "max"
    quantized: tuple[str, ...] = ("weight", "input")
    calibration: str = "none"
    input_granularity: str = "tensor"
    input_symmetry: str = "symmetric"
    block_size: int | None = None
    block_order: str | None = None
    scale_format: str = "float32"
    bias: str = "float32"
    source_sha256: str | None = None

    @property
    def is_of_study(self) -> bool:
        """Whether it is the study's scheme, whose facts are stored in codes."""
        return self.name == STUDY_SCHEME

    @property
    def is_of_weights_alone(self) -> bool:
        """Whether inputs stay in floats."""
        return self.input_granularity == "float"

    @property
    def accumulates_codes(self) -> bool:
        """Whether a layer can sum products of integers: one scale per output and per input."""
        return (
            self.granularity in ("tensor", "channel")
            and self.symmetry == "symmetric"
            and self.input_granularity == "tensor"
            and self.scale_format == "float32"
        )


PER_TENSOR_SYMMETRIC_MAX = Scheme(
    STUDY_SCHEME,
    quantized=("weight", "bias", "input"),
    calibration="calibration images",
    bias="study",
)


def _named(name: str, text: str) -> Scheme:
    return replace(_parsed_options(text), name=name)


_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "inputs": ("float", "tensor", "token", "block"),
        "scale": ("float32", "float16", "E8M0", "E4M3"),
        "range": RANGE_RULES,
        "zero_point": ("none", "weights", "inputs", "both"),
        "bias": ("study", "float32", "INT32"),
    }
)
_GRANULARITIES = ("tensor", "channel", "block32")


def _parsed_options(text: str) -> Scheme:
    """The scheme of a granularity and options; its name is the shortest such text."""
    first, *said = [part.strip() for part in text.split(",")]
    options = _read_options(text, said)
    granularity, block_size = _read_granularity(first)
    inputs = options.get("inputs", granularity if granularity != "channel" else "tensor")
    if inputs == "block" and block_size is None:
        raise UsageError(f"--number-formats: {text}: inputs=block needs weights in blocks too")
    zero_point = options.get("zero_point", "none")
    bias = options.get("bias", "float32")
    roles = {"weight": True, "bias": bias != "float32", "input": inputs != "float"}
    scheme = Scheme(
        _canonical(granularity if block_size is None else f"block{block_size}", options),
        granularity=granularity,
        symmetry="zero_point" if zero_point in ("weights", "both") else "symmetric",
        range_rule=options.get("range", "max"),
        quantized=tuple(role for role, is_quantized in roles.items() if is_quantized),
        calibration="calibration images" if _is_calibrated(inputs, options) else "none",
        input_granularity=inputs,
        input_symmetry="zero_point" if zero_point in ("inputs", "both") else "symmetric",
        block_size=block_size,
        block_order=None if block_size is None else "channel_first",
        scale_format=options.get("scale", "float32"),
        bias=bias,
    )
    _refuse_contradictions(text, scheme)
    return scheme


def _is_calibrated(inputs: str, options: Mapping[str, str]) -> bool:
    """Whether inputs have a scale that does not depend on the input itself."""
    return inputs == "tensor" or (inputs != "float" and options.get("scale") == "E4M3")


def _read_options(text: str, said: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for each in said:
        key, sign, value = (part.strip() for part in each.partition("="))
        if not sign or key not in _OPTIONS:
            raise UsageError(
                f"--number-formats: {text}: expected options such as scale=E8M0, found {each!r}; "
                f"closest are {', '.join(closest_first(key, _OPTIONS)[:3])}; valid are "
                f"{', '.join(_OPTIONS)}"
            )
        known = _OPTIONS[key]
        if value not in known:
            closest = closest_first(value, known)[0]
            raise UsageError(
                f"--number-formats: {text}: expected {key}= one of {', '.join(known)}, found "
                f"{value!r}; the closest is {closest}"
            )
        if key in options:
            raise UsageError(f"--number-formats: {text}: expected {key}= once, found it twice")
        options[key] = value
    return options


def _read_granularity(text: str) -> tuple[str, int | None]:
    if text in ("tensor", "channel"):
        return text, None
    found = re.fullmatch(r"block(-?[0-9]+)", text)
    if found is None:
        known = (*_GRANULARITIES, *SCHEMES)
        raise UsageError(
            f"--number-formats: no scheme is named {text!r}; the closest are "
            f"{', '.join(closest_first(text, known)[:3])}; valid are tensor, channel, blockN and "
            f"{', '.join(SCHEMES)}"
        )
    size = int(found[1])
    if not 2 <= size <= LARGEST_BLOCK:
        raise UsageError(
            f"--number-formats: expected a block of 2 to {LARGEST_BLOCK} values, found {text}; "
            "usual are block16, block32 and block128"
        )
    return "block", size


def _canonical(granularity: str, options: Mapping[str, str]) -> str:
    """The shortest text: options in one order, without those that are the default."""
    default_inputs = {"tensor": "tensor", "channel": "tensor"}.get(granularity, "block")
    defaults = {
        "inputs": default_inputs,
        "scale": "float32",
        "range": "max",
        "zero_point": "none",
        "bias": "float32",
    }
    said = [
        f"{key}={options[key]}"
        for key in _OPTIONS
        if options.get(key, defaults[key]) != defaults[key]
    ]
    return ",".join([granularity, *said])


def _refuse_contradictions(text: str, scheme: Scheme) -> None:
    problem = None
    has_small_scales = scheme.scale_format in ("E8M0", "E4M3")
    if has_small_scales and scheme.range_rule != "max":
        problem = f"scale={scheme.scale_format} has its own range rule: leave out range="
    elif has_small_scales and "zero_point" in (scheme.symmetry, scheme.input_symmetry):
        problem = f"scale={scheme.scale_format} is symmetric: leave out zero_point="
    elif scheme.input_symmetry == "zero_point" and scheme.input_granularity == "float":
        problem = "inputs=float have no zero point: give zero_point=weights"
    elif scheme.bias != "float32" and not scheme.accumulates_codes:
        problem = (
            f"bias={scheme.bias} needs one scale per output channel: tensor or channel, "
            "inputs=tensor, scale=float32, weights without zero point"
        )
    elif scheme.bias == "study" and (
        scheme.granularity != "tensor" or scheme.input_symmetry != "symmetric"
    ):
        problem = "bias=study needs one scale per tensor, symmetric; give bias=INT32"
    if problem is not None:
        raise UsageError(f"--number-formats: {text}: {problem}")


SCHEMES: dict[str, Scheme] = {}
"""The schemes with a name of their own, without the study's."""
for _name, _text in {
    "channel_tensor_zp": "channel,zero_point=inputs,bias=INT32",
    "channel_token": "channel,inputs=token",
    "tensor_tensor": "tensor",
    "group128": "block128,inputs=float,scale=float16",
    "group128_zp": "block128,inputs=float,scale=float16,zero_point=weights",
    "group32": "block32,inputs=float,scale=float16",
    "mx32_e8m0": "block32,scale=E8M0",
    "nv16_e4m3": "block16,scale=E4M3",
    "absmax64": "block64,inputs=float",
}.items():
    SCHEMES[_name] = _named(_name, _text)
_GGUF = replace(SCHEMES["group32"], range_rule="gguf")
SCHEMES["gguf_q8_0"] = replace(_GGUF, name="gguf_q8_0")
SCHEMES["gguf_q4_0"] = replace(_GGUF, name="gguf_q4_0")
SCHEMES["gguf_q4_k"] = replace(_GGUF, name="gguf_q4_k", symmetry="zero_point", scale_format="6-bit")

ONLY_FORMATS = MappingProxyType({"gguf_q8_0": "INT_8", "gguf_q4_0": "INT_4", "gguf_q4_k": "INT_4"})
"""The only number format of some schemes, by scheme."""


def find_scheme(text: str) -> Scheme:
    """Return the scheme of a name or of a granularity with options.

    Parameters
    ----------
    text
        A name in `SCHEMES`, or ``tensor``, ``channel`` or ``blockN``, then any of ``inputs=``,
        ``scale=``, ``range=``, ``zero_point=`` and ``bias=``, separated by commas. A scheme that
        has a name gets it.

    Raises
    ------
    UsageError
        No such scheme, or options that contradict each other; the message names the closest.

    Examples
    --------
    >>> find_scheme("block32,scale=E8M0").name, find_scheme("channel,range=mse").name
    ('mx32_e8m0', 'channel,range=mse')
    """
    text = " ".join(text.split())  # messages quote it in one line
    if text in SCHEMES:
        return SCHEMES[text]
    if text == PER_TENSOR_SYMMETRIC_MAX.name:
        return PER_TENSOR_SYMMETRIC_MAX
    found = _parsed_options(text)
    for known in (PER_TENSOR_SYMMETRIC_MAX, *SCHEMES.values()):
        if replace(found, name=known.name, calibration=known.calibration) == known:
            return known
    return found


def refuse_unfit(number_format: NumberFormat, scheme: Scheme) -> None:
    """Refuse a number format that a scheme cannot scale.

    Raises
    ------
    UsageError
        The message says which ones it can.
    """
    pair, only = f"{number_format.name}@{scheme.name}", ONLY_FORMATS.get(scheme.name)
    if only is not None and number_format.name != only:
        raise UsageError(
            f"--number-formats: {pair}: {scheme.name} scales {only} alone; give "
            f"{only}@{scheme.name}"
        )
    if "zero_point" in (scheme.symmetry, scheme.input_symmetry) and number_format.family != "INT":
        raise UsageError(
            f"--number-formats: {pair}: a zero point needs integers, such as INT_8, found "
            f"{number_format.name}; leave out zero_point="
        )
    if scheme.bias == "INT32" and number_format.family != "INT":
        raise UsageError(
            f"--number-formats: {pair}: bias=INT32 needs integers, such as INT_8, found "
            f"{number_format.name}; give bias=float32"
        )
    if scheme.bias == "study" and number_format.family == "NF":
        raise UsageError(
            f"--number-formats: {pair}: bias=study needs INT, POT or FLOAT, found "
            f"{number_format.name}; give bias=float32"
        )
    if number_format.family == "NF":
        return
    is_in_range = number_format.unit >= 2.0**-126 and number_format.max_code < 2.0**127
    if number_format.significant_bits > 22 or not is_in_range:
        raise UsageError(
            f"--number-formats: {pair}: expected codes that float32 can scale, such as INT_16 or "
            f"FLOAT_8_E4, found {number_format.name}"
        )
