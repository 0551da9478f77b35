"""Names of formats: what each stands for, and what is said of names that stand for nothing."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from ptqdb.errors import UsageError, in_options, reword
from ptqdb.quantization.formats import (
    DEPLOYED_FORMATS,
    PRESETS,
    STUDY_FORMATS,
    Format,
    find_format,
    format_name,
    match_formats,
    refuse_taken,
)
from ptqdb.quantization.number_formats import number_format
from ptqdb.quantization.schemes import SCHEMES, find_scheme

# Bits of a code, plus those of scale and zero point over the values that share them.
BITS_PER_WEIGHT = {
    "int8": 8.0,
    "int8_dynamic": 8.0,
    "int4_g128": 4 + 16 / 128,
    "int4_g128_zp": 4 + (16 + 4) / 128,
    "int4_g32": 4 + 16 / 32,
    "fp8": 8.0,
    "fp8_rowwise": 8.0,
    "fp8_e5m2": 8.0,
    "mxfp8_e4m3": 8 + 8 / 32,
    "mxfp8_e5m2": 8 + 8 / 32,
    "mxfp6_e2m3": 6 + 8 / 32,
    "mxfp6_e3m2": 6 + 8 / 32,
    "mxfp4": 4 + 8 / 32,
    "mxint8": 8 + 8 / 32,
    "nvfp4": 4 + 8 / 16,
    "nf4": 4 + 32 / 64,
    "q8_0": 8 + 16 / 32,
    "q4_0": 4 + 16 / 32,
    "q4_K": 4 + (2 * 6 + 2 * 16 / 8) / 32,
}
# Symmetric integers leave the code -2^(b-1) out, except where the range or the format has it.
CODES = {
    "int8": 255,
    "int4_g128": 15,
    "int4_g128_zp": 16,
    "fp8": 253,
    "fp8_e5m2": 247,
    "mxfp6_e2m3": 63,
    "mxfp4": 15,
    "nf4": 16,
    "q8_0": 255,
    "q4_0": 16,
    "q4_K": 16,
    "FLOAT_4_E2": 15,
    "POT_4": 15,
}


def names(patterns: str) -> list[str]:
    return [each.name for each in match_formats(patterns)]


def refused(patterns: str) -> str:
    """The message for the command line, which is one line that begins with the option."""
    with reword(in_options), pytest.raises(UsageError) as caught:
        match_formats(patterns)
    message = str(caught.value)
    assert message.startswith("--number-formats: ")
    assert "\n" not in message
    return message


# --- names -----------------------------------------------------------------------------------


def test_study_and_deployed_name_their_lists_in_order() -> None:
    assert match_formats("study") == match_formats("*") == STUDY_FORMATS
    assert match_formats("deployed") == DEPLOYED_FORMATS
    assert (len(STUDY_FORMATS), len(DEPLOYED_FORMATS)) == (43, 19)
    assert names("deployed") == list(PRESETS) == list(BITS_PER_WEIGHT)
    assert match_formats("deployed,study") == (*STUDY_FORMATS, *DEPLOYED_FORMATS)
    assert all(each.scheme.is_of_study for each in STUDY_FORMATS)
    assert not any(each.scheme.is_of_study for each in DEPLOYED_FORMATS)


def test_globs_match_both_lists_and_case_matters() -> None:
    assert names("mx*6*,INT_1?") == [f"INT_{bits}" for bits in range(10, 17)] + [
        "mxfp6_e2m3",
        "mxfp6_e3m2",
    ]
    assert names("q4_[0K]") == ["q4_0", "q4_K"]
    assert names("*t8") == ["int8", "mxint8"]
    assert names("int8,INT_8") == ["INT_8", "int8"]
    assert "mxfp4" in refused("MXFP4")


def test_each_format_is_chosen_once() -> None:
    assert names("mxfp4,mxfp*4, FLOAT_4_E2@mx32_e8m0 ,mxfp4") == ["mxfp4"]


def test_others_keep_the_order_of_the_patterns_after_the_lists() -> None:
    asked = "INT_6@channel,range=mse,FLOAT_6_E3@block8,scale=E8M0,inputs=token,INT_3,nf4"
    assert names(asked) == [
        "INT_3",
        "nf4",
        "INT_6@channel,range=mse",
        "FLOAT_6_E3@block8,inputs=token,scale=E8M0",
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_a_pair_equal_to_a_preset_has_its_name(name: str) -> None:
    codes, scheme = PRESETS[name]
    assert find_format(name) == find_format(f"{codes}@{scheme}")
    assert find_format(name).name == format_name(codes, scheme) == name
    assert find_format(name) == Format(number_format(codes), SCHEMES[scheme])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("block32,scale=E8M0", "mx32_e8m0"),
        ("block32,inputs=block,scale=E8M0,range=max", "mx32_e8m0"),
        ("block16,scale=E4M3", "nv16_e4m3"),
        ("channel,bias=INT32,zero_point=inputs", "channel_tensor_zp"),
        ("zero", None),
        ("channel, inputs=token", "channel_token"),
        ("tensor,inputs=tensor", "tensor_tensor"),
        ("tensor,bias=study", "per_tensor_symmetric_max"),
        ("block64,inputs=float", "absmax64"),
        ("block128,zero_point=weights,scale=float16,inputs=float", "group128_zp"),
        ("block032,scale=float32", "block32"),
        ("channel,range=mse,inputs=float", "channel,inputs=float,range=mse"),
    ],
)
def test_one_scheme_has_one_name(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            find_scheme(text)
    else:
        assert find_scheme(text).name == expected


VALUES = {
    "inputs": ("float", "tensor", "token", "block"),
    "scale": ("float32", "float16", "E8M0", "E4M3"),
    "range": ("max", "percentile", "mse"),
    "zero_point": ("none", "weights", "inputs", "both"),
    "bias": ("study", "float32", "INT32"),
}


@settings(max_examples=100, deadline=None)
@given(
    some.sampled_from(["tensor", "channel", "block2", "block32", "block65536"]),
    some.fixed_dictionaries({}, optional={k: some.sampled_from(v) for k, v in VALUES.items()}),
    some.randoms(use_true_random=False),
)
def test_names_are_read_back_and_the_order_of_options_does_not_matter(
    granularity: str, options: dict[str, str], draw: random.Random
) -> None:
    said = [f"{key}={value}" for key, value in options.items()]
    try:
        found = find_scheme(",".join([granularity, *said]))
    except UsageError:
        with pytest.raises(UsageError):
            find_scheme(",".join([granularity, *reversed(said)]))
        return
    draw.shuffle(said)
    assert find_scheme(",".join([granularity, *said])) == found
    assert find_scheme(found.name) == found


def test_schemes_of_different_content_have_different_names() -> None:
    by_name = {}
    for inputs in VALUES["inputs"]:
        for zero_point in VALUES["zero_point"]:
            for rule in VALUES["range"]:
                text = f"block8,inputs={inputs},zero_point={zero_point},range={rule}"
                try:
                    found = find_scheme(text)
                except UsageError:
                    continue
                by_name[found.name] = found
    # Twelve with each of three inputs; float inputs have no zero point of theirs.
    assert len(by_name) == len(set(by_name.values())) == 3 * 12 + 6


# --- facts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BITS_PER_WEIGHT)
def test_bits_per_weight(name: str) -> None:
    assert find_format(name).bits_per_weight == BITS_PER_WEIGHT[name]


def test_bits_per_weight_of_the_study_and_of_pairs() -> None:
    assert all(each.bits_per_weight == each.number_format.bits for each in STUDY_FORMATS)
    assert find_format("INT_3@block8,zero_point=both").bits_per_weight == 3 + (32 + 3) / 8
    assert find_format("POT_5@block4,scale=E4M3").bits_per_weight == 5 + 8 / 4


@pytest.mark.parametrize("name", CODES)
def test_code_count(name: str) -> None:
    assert find_format(name).code_count == CODES[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("int8", "bytes"),
        ("INT_8", "bytes"),
        ("INT_9", "codes"),
        ("INT_9@channel", "codes"),
        ("INT_8@tensor,range=mse", "bytes"),
        ("FLOAT_8_E4", "codes"),
        ("POT_4", "bytes"),
        ("POT_4@channel", "dequantized"),
        ("fp8", "dequantized"),
        ("int8_dynamic", "dequantized"),
        ("INT_8@channel,zero_point=weights", "dequantized"),
        ("INT_8@channel,scale=float16", "dequantized"),
        ("mxint8", "dequantized"),
        ("nf4", "dequantized"),
    ],
)
def test_what_a_layer_computes_in(name: str, expected: str) -> None:
    assert find_format(name).computes_in == expected


def test_quantized_roles_follow_the_options() -> None:
    roles = {
        "nf4": ("weight",),
        "mxfp4": ("weight", "input"),
        "int8": ("weight", "bias", "input"),
        "INT_8": ("weight", "bias", "input"),
    }
    assert {name: find_format(name).scheme.quantized for name in roles} == roles
    calibrated = [each.name for each in DEPLOYED_FORMATS if each.scheme.calibration != "none"]
    assert calibrated == ["int8", "fp8", "fp8_e5m2", "nvfp4"]


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "parts"),
    [
        # names, and what is closest
        ("mxfp44", ("'mxfp44'", "closest are mxfp4,")),
        ("INT_8,", ("found ''",)),
        ("INT_6@chanel", ("'chanel'", "closest are channel,", "blockN")),
        ("INT_6@mx32", ("'mx32'", "mx32_e8m0")),
        ("INT_6@token", ("'token'", "channel_token")),
        ("INT_6@", ("''", "valid are tensor, channel, blockN")),
        ("INT_6@32", ("'32'",)),
        ("FLOT_6_E3@channel", ("'FLOT_6_E3'", "FLOAT_6_E3")),
        ("mxfp4@channel", ("'mxfp4'", "FLOAT_4_E2")),
        ("INT_65@channel", ("'INT_65'", "INT_b (b from 2 to 64)")),
        # options and values
        ("INT_6@channel,scal=E8M0", ("'scal=E8M0'", "closest are scale,", "zero_point")),
        ("INT_6@channel,sca\nle=E8M0", ("'sca le=E8M0'",)),
        ("INT\n6@channel", ("'INT 6'", "INT_6")),
        ("INT_6@channel,=", ("found '='", "valid are inputs, scale")),
        ("INT_6@channel,scale=E8M", ("scale=", "'E8M'", "closest is E8M0")),
        ("INT_6@channel,scale=", ("found ''",)),
        ("INT_6@channel,range=mean", ("max, percentile, mse", "'mean'")),
        ("INT_6@channel,range=max,range=mse", ("range= once",)),
        ("INT_6@block32,scale=E8M0=E8M0", ("'E8M0=E8M0'", "closest is E8M0")),
        # blocks
        ("INT_6@block", ("'block'", "blockN")),
        ("INT_6@block0", ("2 to 65536", "block0", "block32")),
        ("INT_6@block1", ("2 to 65536", "block1")),
        ("INT_6@block-8", ("2 to 65536", "block-8")),
        ("INT_6@block65537", ("2 to 65536", "block65537")),
        ("INT_6@block32.5", ("'block32.5'",)),
        # contradictions
        ("INT_6@channel,inputs=block", ("inputs=block needs weights in blocks",)),
        ("INT_6@block32,scale=E8M0,range=mse", ("leave out range=",)),
        ("INT_6@block16,scale=E4M3,range=percentile", ("leave out range=",)),
        ("INT_6@block32,scale=E8M0,zero_point=inputs", ("leave out zero_point=",)),
        ("INT_6@channel,inputs=float,zero_point=both", ("give zero_point=weights",)),
        ("INT_6@channel,bias=study", ("give bias=INT32",)),
        ("INT_6@tensor,bias=study,zero_point=inputs", ("give bias=INT32",)),
        ("INT_6@channel,inputs=token,bias=INT32", ("inputs=tensor",)),
        ("INT_6@block8,inputs=tensor,bias=INT32", ("tensor or channel",)),
        ("INT_6@channel,scale=float16,bias=INT32", ("scale=float32",)),
        ("INT_6@channel,zero_point=weights,bias=INT32", ("weights without zero point",)),
        # number formats that a scheme cannot scale
        ("FLOAT_6_E3@channel,zero_point=inputs", ("integers, such as INT_8", "FLOAT_6_E3")),
        ("POT_4@group128_zp", ("POT_4@group128_zp", "leave out zero_point=")),
        ("NF_4@channel_tensor_zp", ("NF_4@channel_tensor_zp", "INT_8")),
        ("POT_4@tensor,bias=INT32", ("give bias=float32",)),
        ("NF_4@tensor,bias=study", ("give bias=float32",)),
        ("NF_4@per_tensor_symmetric_max", ("give bias=float32",)),
        ("INT_8@gguf_q4_0", ("give INT_4@gguf_q4_0",)),
        ("FLOAT_4_E2@gguf_q8_0", ("give INT_8@gguf_q8_0",)),
        ("INT_24@channel", ("float32 can scale", "INT_16", "INT_24")),
        ("POT_9@block32", ("float32 can scale", "POT_9")),
        ("FLOAT_9_E8@tensor", ("float32 can scale", "FLOAT_9_E8")),
        ("INT_32@per_tensor_symmetric_max", ("float32 can scale", "INT_32")),
        ("FLOAT_32_E8@channel", ("float32 can scale",)),
    ],
)
def test_an_error_is_one_line_that_helps(patterns: str, parts: tuple[str, ...]) -> None:
    message = refused(patterns)
    assert [part for part in parts if part not in message] == []


def test_one_format_is_asked_for() -> None:
    with pytest.raises(UsageError, match="one format, found 'mx\\*'"):
        find_format("mx*")


@pytest.mark.parametrize(
    "name",
    [
        *("INT_8", "INT_20", "mxfp4", "study", "deployed", "channel", "block7", "gguf_q4_k"),
        *("per_tensor_symmetric_max", "channel,range=mse"),
    ],
)
def test_names_of_formats_and_schemes_are_taken(name: str) -> None:
    with reword(in_options), pytest.raises(UsageError, match=f"--quantized: {name} is the name"):
        refuse_taken("--quantized", name)


def test_other_names_are_free() -> None:
    for name in ("gptq4", "INT_8_gptq", "channels", "int9"):
        refuse_taken("--quantized", name)


# --- a user's own functions ------------------------------------------------------------------

OWN = """
import functools, torch

def rounded(x):
    return x.round()

def with_bits(x, bits=4):
    return (x * 2**bits).round() / 2**bits
with_bits.bits_per_weight = 4.5

def both(x, role):
    return x
def optional(x, role="weight"):
    return x
def none():
    return 0
def three(x, y, z):
    return x
def int8(x):
    return x
def channel(x):
    return x
def wrong_bits(x):
    return x
wrong_bits.bits_per_weight = "four"
class Called:
    def __call__(self, x):
        return x
called = Called()
partial = functools.partial(with_bits, bits=3)
built_in = torch.round
number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("function", "takes_role", "bits"),
    [
        ("rounded", False, None),
        ("with_bits", False, 4.5),
        ("both", True, None),
        ("optional", True, None),
        ("called", False, None),
        ("partial", False, None),
        ("built_in", False, None),
    ],
)
def test_own_functions(file: Path, function: str, takes_role: bool, bits: float | None) -> None:
    known = find_format(f"{file}:{function}")
    assert known.own is not None
    assert known.own.takes_role is takes_role
    assert known.bits_per_weight == bits
    assert (known.name, known.number_format.name) == (function, "FLOAT_32_E8")
    assert known.scheme.quantized == (("weight", "input") if takes_role else ("weight",))
    assert known.scheme.source_sha256 is not None
    assert known.computes_in == "dequantized"


def test_the_digest_is_that_of_the_file(file: Path, tmp_path: Path) -> None:
    def digest(name: str) -> str | None:
        return find_format(name).scheme.source_sha256

    before = digest(f"{file}:rounded")
    assert before == digest(f"{file}:partial") == digest(f"{file}:called")
    file.write_text(OWN + "\n", encoding="utf-8")
    assert digest(f"{file}:rounded") not in (None, before)


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        ("none", ("take a tensor", "found ()")),
        ("three", ("take a tensor", "found (x, y, z)")),
        ("number", ("function of a tensor", "found a int")),
        ("int8", ("int8 is the name",)),
        ("channel", ("channel is the name",)),
        ("wrong_bits", ("bits_per_weight", "'four'")),
    ],
)
def test_functions_that_cannot_be_used(file: Path, function: str, parts: tuple[str, ...]) -> None:
    message = refused(f"{file}:{function}")
    assert [part for part in parts if part not in message] == []


def test_two_functions_of_one_name(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("def rounded(x):\n    return x\n", encoding="utf-8")
    assert "two named rounded" in refused(f"{file}:rounded,{other}:rounded")
    assert names(f"{file}:rounded,{file}:rounded") == ["rounded"]


def test_names_need_no_torch() -> None:
    script = (
        "import sys\nfrom ptqdb.quantization import formats, schemes\n"
        "formats.match_formats('study,deployed,INT_6@channel,range=mse')\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
