"""The GGUF block formats, to the bit, against the library `gguf`, golden bytes and plain loops."""

import hashlib
import math
from collections.abc import Callable

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import Q4_K
from numpy.typing import NDArray
from torch import Tensor

from ptqdb.errors import DataError
from ptqdb.quantization.gguf_blocks import (
    QuantizedBlocks,
    SuperBlocks,
    code_q4_k,
    quantize_q4_0,
    quantize_q4_k,
    quantize_q8_0,
)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SIMPLE = {
    gguf.GGMLQuantizationType.Q8_0: quantize_q8_0,
    gguf.GGMLQuantizationType.Q4_0: quantize_q4_0,
}
simple = pytest.mark.parametrize(
    ("kind", "quantize"), SIMPLE.items(), ids=[kind.name for kind in SIMPLE]
)
every = pytest.mark.parametrize("quantize", [quantize_q8_0, quantize_q4_0, quantize_q4_k])

# Three blocks of `golden_weights`, as quantize_row_q4_K_ref of ggml 0.13.1 (llama.cpp, compiled
# without fused multiply-add) stores them: step, min_step, 12 bytes of scales and minima, 128 codes.
GOLDEN_Q4_K = [
    "140cec17fffffffffffbfcfcdfdfefef20fddba88664311fecca987553200edbb98764421ffdcaa87653310eecb99765"
    "74422ffddaa88663311eecc9977552200ddbb88664411ffccaa77553300eebb9b99774422ffddaa88663311eecc99775"
    "52200ddbb88664411ffccaa77553300e0eebb99774422ffddaa88663311eecc9977552200ddbb88664411ffccaa77553",
    "0d0c101c3f200800dd0e0000f012010042200ddba98664311feccaa87553200edbb99764421ffdcaa88653311eecb997"
    "01050a0f0c070203070c0e0a050005090e0c080302060b0f0b060104080d0d09f0c0a070503000e0b090704020f0d0a0"
    "80603010e0c090705020f0d0b08060403016e4c29070502006d3b180604017f5c2a070503006e4b190604027f5d3a080",
    "18012600fefcf9fac000271ffa0f0d0c01155bcaa4411002278ff7722001144aabb5511002266de883300003399dd662"
    "622001166ddaa4411003388ff7722001155bbcb5511002277ff9833001144aad9dc6521002165dca94310003398fd762"
    "2001155cbba5411002277fe873200114144aacc5511002266dd993300003389dd6622001155bcaa4411002277ff77220",
]

# SHA-256 of the values, float32, that ggml 0.13.1 reads from what it makes of 500 normal blocks.
GOLDEN_DIGEST = "6c5efa475fbc76908d1d0fb867bf061d54e4df78f16d48a2e6087f22e54dd56d"


def golden_weights() -> Tensor:
    """Multiples of 2^-12; scales that fall, a positive, a zero, a constant sub-block; squares."""
    places = np.arange(3 * 256)
    weights = (((places * 7919) % 1009 - 504) / 4096).astype(np.float32).reshape(3, 256)
    weights[1] *= np.float32(2) ** -(np.arange(256) // 32)
    weights[1, 64:96] = abs(weights[1, 64:96])
    weights[1, 96:128], weights[1, 128:160] = 0, -0.25
    weights[2] = abs(weights[2]) ** 2
    return torch.from_numpy(weights)


def kinds_of_blocks(size: int, count: int = 300) -> dict[str, Tensor]:
    draw = np.random.default_rng(size)
    normal = draw.normal(0, 0.03, (count, size))
    per_group = np.exp2(draw.uniform(-20, 10, (count, size // 32))).repeat(32, 1)
    kinds = {
        "normal": normal,
        "heavy tails": draw.laplace(0, 1, (count, size)),
        "integers and halves": draw.integers(-40, 41, (count, size)) / 2,
        "positive": draw.random((count, size)),
        "negative": -draw.random((count, size)),
        "mostly zeros": normal * (draw.random((count, size)) < 0.05),
        "constants": per_group,
        "zeros": np.zeros((2, size)),
        "of very different scales": normal * per_group,
        "scales that float16 rounds coarsely": normal * np.exp2(draw.uniform(-25, 0, (count, 1))),
        "scales that are 0 in float16": normal * 1e-8,
        "subnormal": normal * 1e-39,
    }
    return {name: torch.from_numpy(values.astype(np.float32)) for name, values in kinds.items()}


def of_library(blocks: Tensor, kind: gguf.GGMLQuantizationType) -> tuple[Floats, Floats]:
    """The dequantized values and the scales; it divides by subnormal numbers on the way."""
    with np.errstate(over="ignore", invalid="ignore"):
        packed = gguf.quantize(blocks.numpy(), kind)
    scales = packed[:, :2].copy().view(np.float16)
    return gguf.dequantize(packed, kind), abs(scales.astype(np.float32))


@simple
def test_values_are_those_of_gguf(
    kind: gguf.GGMLQuantizationType, quantize: Callable[[Tensor], QuantizedBlocks]
) -> None:
    for name, blocks in kinds_of_blocks(32).items():
        found = quantize(blocks)
        values, scales = of_library(blocks, kind)
        np.testing.assert_array_equal(found.values.numpy(), values, err_msg=name)
        np.testing.assert_array_equal(found.scales.numpy(), scales, err_msg=name)
        assert found.values.dtype == found.scales.dtype == torch.float32


@simple
@pytest.mark.parametrize("size", [1, 2, 9, 31])
def test_short_blocks_are_those_of_gguf_with_zeros_behind(
    kind: gguf.GGMLQuantizationType, quantize: Callable[[Tensor], QuantizedBlocks], size: int
) -> None:
    """Zeros change neither the largest magnitude nor the codes of the others."""
    for blocks in kinds_of_blocks(32, 20).values():
        short = blocks[:, :size].contiguous()
        padded = torch.nn.functional.pad(short, (0, 32 - size))
        expected, _ = of_library(padded, kind)
        np.testing.assert_array_equal(quantize(short).values.numpy(), expected[:, :size])


def test_ties_written_out() -> None:
    # 127 / 127 = 1 and 8 / -8 = -1 (-8 / -8 = 1): codes are the values, or minus the values.
    ties = torch.tensor([[127.0, 0.5, 1.5, -0.5, -1.5, 0.49999997, -0.49999997, 126.5]])
    assert quantize_q8_0(ties).values.tolist() == [[127, 1, 2, -1, -2, 0, 0, 127]]
    ties = torch.tensor([[-8.0, 0.5, -0.5, 1.5, -1.5, 8.0, 6.5]])
    assert quantize_q4_0(ties).values.tolist() == [[-8, 1, 0, 2, -1, 7, 7]]
    assert quantize_q4_0(-ties).values.tolist() == [[8, -1, 0, -2, 1, -7, -7]]
    assert quantize_q4_0(ties).scales.tolist() == quantize_q4_0(-ties).scales.tolist() == [[1.0]]


def header(blocks: SuperBlocks) -> Bytes:
    """The 16 bytes of each block before its codes: the high 2 bits of late scales go with early."""
    scales, minima = (each.numpy().astype(np.uint8) for each in (blocks.scales, blocks.minima))
    steps = [each.numpy().view(np.uint8) for each in (blocks.step, blocks.min_step)]
    early = [each[:, :4] | (each[:, 4:] >> 4) << 6 for each in (scales, minima)]
    late = scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4
    return np.concatenate([*steps, *early, late], 1)


def packed(blocks: SuperBlocks) -> Bytes:
    pairs = blocks.codes.numpy().astype(np.uint8).reshape(-1, 4, 2, 32)
    codes = pairs[:, :, 0] | pairs[:, :, 1] << 4
    return np.concatenate([header(blocks), codes.reshape(-1, 128)], 1)


def test_packed_q4_k_is_read_by_gguf() -> None:
    for name, blocks in kinds_of_blocks(256, 50).items():
        found = code_q4_k(blocks)
        scales, minima = Q4_K.get_scale_min(header(found)[:, 4:])
        np.testing.assert_array_equal(found.scales.numpy(), scales, err_msg=name)
        np.testing.assert_array_equal(found.minima.numpy(), minima, err_msg=name)
        expected = gguf.dequantize(packed(found), gguf.GGMLQuantizationType.Q4_K)
        values = quantize_q4_k(blocks).values.numpy()
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_q4_k_is_that_of_the_reference() -> None:
    golden = np.stack([np.frombuffer(bytes.fromhex(row), np.uint8) for row in GOLDEN_Q4_K])
    found = code_q4_k(golden_weights())
    np.testing.assert_array_equal(header(found), golden[:, :16])
    expected = gguf.dequantize(golden, gguf.GGMLQuantizationType.Q4_K)
    np.testing.assert_array_equal(found.dequantize().values.numpy(), expected)


def test_many_q4_k_blocks_are_those_of_the_reference() -> None:
    """Where a rounding of the search differs in the last bit, one value in a thousand does."""
    blocks = np.random.RandomState(0).standard_normal((500, 256)).astype(np.float32)
    values = quantize_q4_k(torch.from_numpy(blocks)).values.numpy() + np.float32(0)  # no -0
    assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest() == GOLDEN_DIGEST


def searched(values: list[np.float32]) -> tuple[np.float32, np.float32]:
    """Scale and minus the minimum of one sub-block, number by number in float32."""
    f, zero = np.float32, np.float32(0)
    squares = zero
    for x in values:
        squares += x * x
    weights = [np.sqrt(squares / f(len(values))) + abs(x) for x in values]
    low, high = min(zero, *values), max(values)
    if low == high:
        return zero, -low

    def coded(levels: np.float32, smallest: np.float32) -> list[np.float32]:
        inverse = levels / (high - smallest)
        return [np.clip(np.rint(inverse * (x - smallest)), 0, 15) for x in values]

    def error(codes: list[np.float32], scale: np.float32, smallest: np.float32) -> np.float32:
        total = zero
        for w, x, c in zip(weights, values, codes, strict=True):
            difference = scale * c + smallest - x
            total += w * (difference * difference)
        return total

    scale, smallest = f(1) / (f(15) / (high - low)), low
    least = error(coded(f(15), low), scale, low)
    for step in range(21):
        codes = coded(f(-1) + f(0.1) * f(step) + f(15), smallest)
        w_sum = x_sum = c_sum = cc_sum = cx_sum = zero
        for w, x, c in zip(weights, values, codes, strict=True):
            w_sum, x_sum, c_sum = w_sum + w, x_sum + w * x, c_sum + w * c
            cc_sum, cx_sum = cc_sum + w * c * c, cx_sum + w * c * x
        determinant = w_sum * cc_sum - c_sum * c_sum
        if determinant <= 0:
            continue
        slope = (w_sum * cx_sum - x_sum * c_sum) / determinant
        offset = (cc_sum * x_sum - c_sum * cx_sum) / determinant
        if offset > 0:
            slope, offset = cx_sum / cc_sum, zero
        tried = error(codes, slope, offset)
        if tried < least:
            least, scale, smallest = tried, slope, offset
    return scale, -smallest


@pytest.mark.parametrize("size", [1, 31, 33, 80, 256])
def test_blocks_of_any_size_are_searched_number_by_number(size: int) -> None:
    """The sub-blocks that a short block has, the last one short, and nothing else."""
    draw = np.random.default_rng(size)
    blocks: Floats = draw.normal(0, 0.03, (2, size)).astype(np.float32)
    found = code_q4_k(torch.from_numpy(blocks))
    for row, block in enumerate(blocks):
        parts = [list(block[start : start + 32]) for start in range(0, size, 32)]
        scales, minima = zip(*map(searched, parts), strict=True)
        for stored, step, wanted in [
            (found.scales, found.step, scales),
            (found.minima, found.min_step, minima),
        ]:
            largest = max(wanted)
            assert step[row].item() == np.float16(largest / np.float32(63))
            inverse = np.float32(63) / largest if largest > 0 else np.float32(0)
            assert stored[row].tolist() == [np.rint(inverse * each) for each in wanted]
    values, steps = found.dequantize().values, found.dequantize().scales
    assert (values.shape, steps.shape) == ((2, size), (2, math.ceil(size / 32)))


def test_blocks_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqdb.quantization.gguf_blocks._CHUNK_SUB_BLOCKS", 5)
    blocks = kinds_of_blocks(256, 7)["of very different scales"]
    whole = quantize_q4_k(blocks)
    for row, block in enumerate(blocks):
        assert torch.equal(quantize_q4_k(block[None]).values[0], whole.values[row])


def test_q4_k_is_better_than_minimum_and_maximum() -> None:
    """The same storage, but scale and minimum from the range of a sub-block, without a search."""
    for name in ("normal", "heavy tails", "positive"):
        blocks = kinds_of_blocks(256)[name].numpy()
        parts = blocks.reshape(len(blocks), 8, 32)
        low = np.minimum(parts.min(2), 0)
        stored = []
        for wanted in ((parts.max(2) - low) / 15, -low):
            step = np.float32(np.float16(wanted.max(1, keepdims=True) / 63))
            with np.errstate(invalid="ignore"):
                codes = np.nan_to_num(np.round(wanted / step).clip(0, 63))
            stored.append((step * codes)[..., None])
        scale, offset = stored
        plain = scale * np.round((parts + offset) / scale).clip(0, 15) - offset
        weights = np.sqrt((parts**2).mean(2, keepdims=True)) + abs(parts)
        found = quantize_q4_k(torch.from_numpy(blocks)).values.numpy().reshape(parts.shape)
        ours, theirs = (float((weights * (each - parts) ** 2).sum()) for each in (found, plain))
        assert 0.5 * theirs < ours < theirs, name


@every
@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_refused(
    quantize: Callable[[Tensor], QuantizedBlocks], wrong: float
) -> None:
    blocks = torch.ones(3, 32)
    blocks[1, 7] = wrong
    with pytest.raises(DataError, match="expected finite weights, found NaN or infinity"):
        quantize(blocks)


@every
@pytest.mark.parametrize("largest", [1e9, 3e38])
def test_what_float16_cannot_scale_is_refused(
    quantize: Callable[[Tensor], QuantizedBlocks], largest: float
) -> None:
    blocks = torch.linspace(-1, 1, 32)[None] * largest
    with pytest.raises(DataError, match=r"float16 holds, found a scale of .* above 65504"):
        quantize(blocks)
