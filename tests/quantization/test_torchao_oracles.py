"""The deployed formats, to the bit, against `torchao`; its import takes seconds, so in one file.

Where torchao multiplies by the reciprocal of a scale, its quotient may be off by an ulp and fall on
the other side of a tie: such elements, and only those, may differ by one code.
"""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from oracles import quantize_rows, round_to_codes
from torch import Tensor, nn

from ptqdb.quantization.codes import code_weight
from ptqdb.quantization.formats import find_format
from ptqdb.quantization.input_codes import InputRange, input_codes
from ptqdb.quantization.number_formats import NumberFormat, number_format

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of optional parts that are missing, and of old interfaces
    from torchao.prototype.mx_formats import mx_tensor, nvfp4_tensor
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.quantization import quant_primitives
    from torchao.quantization.quant_primitives import MappingType
    from torchao.quantization.quantize_.workflows.nf4 import nf4_tensor

Doubles = NDArray[np.float64]

NF_4 = number_format("NF_4")
MX_ELEMENTS: dict[str, Any] = {
    "mxfp8_e4m3": torch.float8_e4m3fn,
    "mxfp8_e5m2": torch.float8_e5m2,
    "mxfp6_e2m3": "fp6_e2m3",
    "mxfp6_e3m2": "fp6_e3m2",
    "mxfp4": torch.float4_e2m1fn_x2,
}
MX_CODES = {
    "mxfp8_e4m3": "FLOAT_8_E4M3FN",
    "mxfp8_e5m2": "FLOAT_8_E5M2",
    "mxfp6_e2m3": "FLOAT_6_E2",
    "mxfp6_e3m2": "FLOAT_6_E3",
    "mxfp4": "FLOAT_4_E2",
}
# An ulp of the reciprocal and one of the product: quotients that close to a tie may differ.
TIE_MARGIN = 2.0**-21


def kinds_of_rows(codes: NumberFormat, columns: int = 256, count: int = 40) -> dict[str, Tensor]:
    """Random values, codes and the middles between them, zeros, and the ends of float32."""
    draw = np.random.default_rng(0)
    normal = draw.normal(0, 0.03, (count, columns))
    listed = codes.codes()
    marks = np.concatenate([listed, (listed[:-1] + listed[1:]) / 2])
    on_marks = draw.choice(marks, (count, columns))
    on_marks[:, ::16] = listed[-1]  # in every block: the scale is a power of two
    powers = np.exp2(draw.integers(-30, 30, (count, columns // 16)).repeat(16, 1))
    kinds = {
        "normal": normal,
        "heavy tails": draw.laplace(0, 1, (count, columns)) ** 3,
        "of very different scales": normal * powers,
        "codes and ties": on_marks * powers,
        "mostly zeros": normal * (draw.random((count, columns)) < 0.03),
        "one sign": abs(normal),
        "constants": np.full((2, columns), 0.3),
        "negative zeros": np.full((2, columns), -0.0),
        "large": normal * 1e38,
        "small": normal * 1e-25,
    }
    return {name: torch.from_numpy(values.astype(np.float32)) for name, values in kinds.items()}


def to_mx(rows: Tensor, name: str, mode: Any = ScaleCalculationMode.FLOOR) -> tuple[Tensor, Tensor]:
    element = MX_ELEMENTS[name]
    scales, codes = mx_tensor.to_mx(rows, element, 32, mode)
    return mx_tensor.to_dtype(codes, scales, element, 32, torch.float32), scales.float().flatten()


@pytest.mark.parametrize("name", MX_ELEMENTS)
def test_microscaling_is_that_of_torchao(name: str) -> None:
    for kind, rows in kinds_of_rows(number_format(MX_CODES[name])).items():
        values, scales = quantize_rows(name, rows)
        expected, expected_scales = to_mx(rows, name)
        assert torch.equal(values, expected), kind
        assert torch.equal(scales, expected_scales), kind


@pytest.mark.parametrize("name", MX_ELEMENTS)
def test_blocks_of_subnormal_scale(name: str) -> None:
    """Below 2^-126, torchao divides by 2^-126 and multiplies by the stored 2^-127: half the values.

    The smallest scale of the specification is 2^-127, for both.
    """
    largest = number_format(MX_CODES[name]).max_code
    rows = torch.full((1, 64), largest * 2.0**-127)
    rows[:, ::3] *= -0.5
    values, scales = quantize_rows(name, rows)
    assert torch.equal(values, rows)
    expected, expected_scales = to_mx(rows, name)
    assert torch.equal(scales, expected_scales)
    assert torch.unique(scales).tolist() == [2.0**-127]
    assert torch.equal(expected.abs().amax(), rows.abs().amax() / 2)


def test_scales_rounded_up_are_other_scales() -> None:
    """7 of 6: the specification saturates, torchao's RCEIL takes the next power of two."""
    rows = torch.full((1, 32), 7.0)
    values, scales = quantize_rows("mxfp4", rows)
    assert (torch.unique(values).tolist(), scales.tolist()) == ([6.0], [1.0])
    rounded_up, scales = to_mx(rows, "mxfp4", ScaleCalculationMode.RCEIL)
    assert (torch.unique(rounded_up).tolist(), scales.tolist()) == ([8.0], [2.0])


def check_but_for_ties(
    found: Tensor, expected: Tensor, rows: Tensor, steps: Tensor, codes: Doubles
) -> None:
    """Equal, but for quotients at a tie, which may be the code before or after."""
    is_other = found != expected
    exact, step = rows[is_other].double().numpy(), steps[is_other].double().numpy()
    quotients = (exact / step)[:, None]
    distances = np.abs(quotients - (codes[:-1] + codes[1:]) / 2).min(1)
    assert (distances <= TIE_MARGIN * abs(quotients[:, 0])).all()
    places = [
        np.abs(values[is_other].double().numpy()[:, None] / step[:, None] - codes).argmin(1)
        for values in (found, expected)
    ]
    assert (abs(places[0] - places[1]) <= 1).all()


def by_element(scales: Tensor, rows: Tensor) -> Tensor:
    """The scale of each element; the scales are those of rows or of their blocks, or one."""
    if scales.numel() == 1:
        return scales.expand_as(rows)
    return scales.reshape(len(rows), -1).repeat_interleave(rows.numel() // scales.numel(), 1)


def nvfp4(rows: Tensor, largest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    largest = rows.abs().amax() if largest is None else largest
    of_tensor = nvfp4_tensor.per_tensor_amax_to_scale(largest)
    scales, packed = nvfp4_tensor.nvfp4_quantize(rows, 16, of_tensor)
    codes = mx_tensor.f4_unpacked_to_f32(mx_tensor.unpack_uint4(packed))
    steps = (of_tensor * scales.float()).flatten()
    return codes.view_as(rows) * by_element(steps, rows), steps


def test_nvfp4_is_that_of_torchao() -> None:
    codes = number_format("FLOAT_4_E2")
    for kind, rows in kinds_of_rows(codes).items():
        if not rows.any():
            continue  # torchao divides 0 by 0
        values, scales = quantize_rows("nvfp4", rows)
        expected, expected_scales = nvfp4(rows)
        of_tensor = rows.abs().amax() / (448 * 6)
        is_normal = expected_scales > of_tensor * 2.0**-6 * (1 + 2.0**-20)
        assert torch.equal(scales[is_normal], expected_scales[is_normal]), kind
        inside, steps = by_element(is_normal, rows), by_element(scales, rows)
        check_but_for_ties(
            values[inside], expected[inside], rows[inside], steps[inside], codes.codes()
        )


def test_ties_in_nvfp4() -> None:
    """Where reciprocals are exact, everything is equal: a tensor's scale of 1, 2^k for blocks."""
    codes = number_format("FLOAT_4_E2").codes()
    marks = np.concatenate([codes, (codes[:-1] + codes[1:]) / 2])
    draw = np.random.default_rng(0)
    rows = draw.choice(marks, (40, 256)) * np.exp2(draw.integers(-6, 9, (40, 16))).repeat(16, 1)
    rows[:, ::16] = 6 * np.exp2(draw.integers(-6, 9, (40, 16)))
    rows[0, 0] = 448 * 6
    given = torch.from_numpy(rows.astype(np.float32))
    values, scales = quantize_rows("nvfp4", given)
    expected, expected_scales = nvfp4(given)
    assert torch.equal(values, expected)
    assert torch.equal(scales, expected_scales)


def test_a_tensor_of_zeros_stays_zero_in_nvfp4() -> None:
    values, scales = quantize_rows("nvfp4", torch.zeros(2, 32))
    assert not values.any()
    assert bool(scales.isfinite().all())


def test_small_blocks_have_subnormal_scales_in_nvfp4() -> None:
    """Our scales go down to E4M3's smallest code, 2^-9, those of torchao to the normal 2^-6."""
    rows = torch.cat([torch.full((1, 16), 2688.0), torch.full((1, 16), 6 * 2.0**-8)], 1)
    values, scales = quantize_rows("nvfp4", rows)
    assert torch.equal(values, rows)
    assert scales.tolist() == [448, 2.0**-8]
    expected, expected_scales = nvfp4(rows)
    assert expected_scales.tolist() == [448, 2.0**-6]
    assert torch.unique(expected[0, 16:]).tolist() == [1.5 * 2.0**-6]


def affine(
    rows: Tensor, size: int, mapping: Any, limits: tuple[int, int], **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, scales (stored in float16 if asked) and zero points of groups."""
    storage = options.pop("storage", torch.float32)
    scales, zero_points = quant_primitives.choose_qparams_affine(
        rows, mapping, (1, size), torch.int8, *limits, scale_dtype=storage, **options
    )
    scales = scales.float()
    codes = quant_primitives.quantize_affine(
        rows, (1, size), scales, zero_points, torch.int8, *limits
    )
    values = quant_primitives.dequantize_affine(
        codes, (1, size), scales, zero_points, torch.int8, *limits
    )
    return values, scales, zero_points


@pytest.mark.parametrize(("name", "size"), [("int4_g128", 128), ("int4_g32", 32)])
def test_symmetric_groups_are_those_of_torchao(name: str, size: int) -> None:
    codes = number_format("INT_4").codes()
    for kind, rows in kinds_of_rows(number_format("INT_4")).items():
        values, scales = quantize_rows(name, rows)
        expected, expected_scales, _ = affine(
            rows, size, MappingType.SYMMETRIC, (-7, 7), storage=torch.float16
        )
        check_groups(rows, (values, scales), (expected, expected_scales), codes, kind)


def test_groups_with_zero_point_are_those_of_torchao() -> None:
    codes_minus_zero_points = np.arange(-15.0, 16.0)
    for kind, rows in kinds_of_rows(number_format("INT_4")).items():
        found = quantize_rows("int4_g128_zp", rows)
        expected, expected_scales, _ = affine(
            rows, 128, MappingType.ASYMMETRIC, (0, 15), storage=torch.float16
        )
        check_groups(rows, found, (expected, expected_scales), codes_minus_zero_points, kind)


def check_groups(
    rows: Tensor,
    found: tuple[Tensor, Tensor],
    expected: tuple[Tensor, Tensor],
    codes: Doubles,
    kind: str,
) -> None:
    """Groups whose scale float16 holds: to the others torchao gives 0 or infinity."""
    scales, theirs = found[1], expected[1].flatten()
    is_held = (theirs > 0) & theirs.isfinite()
    assert torch.equal(scales[is_held], theirs[is_held]), kind
    assert bool(is_held.all()) or kind not in ("normal", "one sign", "constants")
    inside, steps = by_element(is_held, rows), by_element(scales, rows)
    values, others = found[0][inside], expected[0][inside]
    if kind == "codes and ties" and codes[-1] == 7:  # the reciprocals are exact
        assert torch.equal(values, others)
    check_but_for_ties(values, others, rows[inside], steps[inside], codes)


def test_symmetric_ranges_of_torchao_may_be_wider() -> None:
    """Its default for INT_4 is -8 to 7 and amax / 7.5, for INT_8 amax / 127.5."""
    rows = torch.linspace(-1, 1, 128)[None]
    for name, limits, divisor in [
        ("int4_g128", (-8, 7), 7.5),
        ("INT_8@block128,inputs=float", (-128, 127), 127.5),
    ]:
        _, theirs, _ = affine(rows, 128, MappingType.SYMMETRIC, limits)
        assert theirs.item() == np.float32(1 / divisor)
        _, ours = quantize_rows(name, rows)
        assert ours.item() == pytest.approx(1 / (divisor - 0.5), rel=1e-3)


def test_int_8_by_token_is_that_of_torchao() -> None:
    codes = number_format("INT_8")
    for kind, rows in kinds_of_rows(codes).items():
        values, scales = quantize_rows("int8_dynamic", rows)
        expected, expected_scales, _ = affine(rows, 256, MappingType.SYMMETRIC, (-127, 127))
        is_held = (expected_scales > 2.0**-126).flatten()
        assert torch.equal(scales[is_held], expected_scales.flatten()[is_held]), kind
        check_but_for_ties(values, expected, rows, by_element(scales, rows), codes.codes())


@pytest.mark.parametrize(
    ("name", "element", "by_row"),
    [
        ("fp8", torch.float8_e4m3fn, False),
        ("fp8_rowwise", torch.float8_e4m3fn, True),
        ("fp8_e5m2", torch.float8_e5m2, False),
    ],
)
def test_eight_bit_floats_are_those_of_torchao(
    name: str, element: torch.dtype, by_row: bool
) -> None:
    codes = "FLOAT_8_E4M3FN" if element == torch.float8_e4m3fn else "FLOAT_8_E5M2"
    for kind, rows in kinds_of_rows(number_format(codes)).items():
        size = (1, rows.shape[1]) if by_row else rows.shape
        expected_scales = quant_primitives._choose_scale_float8(rows, size, element)
        is_held = by_element(expected_scales >= 2.0**-126, rows)
        lowered = quant_primitives._quantize_affine_float8(rows, expected_scales, element)
        expected = quant_primitives._dequantize_affine_float8(lowered, expected_scales)
        values, scales = quantize_rows(name, rows)
        assert torch.equal(values[is_held], expected[is_held]), kind
        assert torch.equal(
            by_element(scales, rows)[is_held], by_element(expected_scales, rows)[is_held]
        )
        assert bool(is_held.all()) or not rows[~is_held].any()


def test_normal_float_rounds_like_torchao() -> None:
    """Whose search for the nearest of any table takes the smaller of two equally near."""
    codes = torch.from_numpy(NF_4.codes()).float()
    middle = (codes[:-1] + codes[1:]) / 2
    generator = torch.Generator().manual_seed(0)
    parts = [codes, middle, torch.rand(5000, generator=generator) * 2 - 1]
    parts += [middle.nextafter(torch.tensor(side)) for side in (-1.0, 1.0)]
    parts += [torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.2e-38])]
    values = torch.cat(parts)
    expected = codes[nf4_tensor.NF4Tensor.quantize_tensor_nearest(values, codes)]
    assert torch.equal(round_to_codes(values, NF_4), expected)


def test_blocks_of_normal_float_are_those_of_torchao() -> None:
    """With our table and its scales before it quantizes them a second time."""
    codes = torch.from_numpy(NF_4.codes()).float()
    for kind, rows in kinds_of_rows(NF_4).items():
        values, scales = quantize_rows("nf4", rows)
        expected_scales = nf4_tensor.get_block_absmax(rows.flatten(), 64)
        is_held = expected_scales > 0
        assert torch.equal(scales[is_held], expected_scales[is_held]), kind
        packed = nf4_tensor.NF4Tensor.convert_to_norm_float_weight(
            rows, len(expected_scales), 64, codes
        )
        places = torch.stack([packed >> 4, packed & 15], 1).flatten().long()
        expected = codes[places].view_as(rows) * by_element(expected_scales, rows)
        inside = by_element(is_held, rows)
        assert torch.equal(values[inside], expected[inside]), kind
        assert not values[~inside].any()  # of a block of zeros


def test_table_of_torchao_is_ours_to_four_digits() -> None:
    """It is written with four: a dequantized value differs in the fifth."""
    theirs = nf4_tensor.to_nf4(torch.linspace(-1, 1, 64 * 256)).nf4
    np.testing.assert_array_equal(theirs.numpy(), NF_4.codes().round(4).astype(np.float32))
    assert not torch.equal(theirs, torch.tensor(NF_4.codes()).float())


@pytest.mark.parametrize("columns", [1, 9, 31, 33, 100])
def test_ragged_rows(columns: int) -> None:
    """The last block of a row is shorter; zeros behind it, which torchao needs, change nothing."""
    for rows in kinds_of_rows(number_format("INT_4")).values():
        ragged = rows[:, :columns].contiguous()
        whole = padded(ragged, 32)
        for name in MX_ELEMENTS:
            values, scales = quantize_rows(name, ragged)
            assert torch.equal(values, to_mx(whole, name)[0][:, :columns])
            assert len(scales) == len(ragged) * -(-columns // 32)
        values, _ = quantize_rows("int4_g32", ragged)
        assert torch.equal(values, quantize_rows("int4_g32", whole)[0][:, :columns])


def padded(rows: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, -rows.shape[-1] % size))


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "int4_g32"])
def test_blocks_of_a_convolution_run_along_its_channels(name: str) -> None:
    """Then along the positions of the kernel: 360 = 11 x 32 + 8 weights to an output channel."""
    weight = torch.randn(5, 40, 3, 3, generator=torch.Generator().manual_seed(0))
    rows = padded(weight.permute(0, 2, 3, 1).reshape(5, 360), 32)
    known = find_format(name)
    found = code_weight(weight, known.number_format, known.scheme, nn.Conv2d(40, 5, 3))
    if name == "mxfp4":
        expected, _ = to_mx(rows, name)
    elif name == "nvfp4":
        expected, _ = nvfp4(rows)
    else:
        expected, _, _ = affine(rows, 32, MappingType.SYMMETRIC, (-7, 7), storage=torch.float16)
    in_order = expected[:, :360].reshape(5, 3, 3, 40).permute(0, 3, 1, 2)
    assert torch.equal(found.dequantized(), in_order)


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4", "nvfp4", "int8_dynamic", "fp8_rowwise"])
@pytest.mark.parametrize("layer", [nn.Conv2d(40, 2, 3), nn.Linear(40, 2)], ids=["conv", "linear"])
def test_inputs_are_quantized_along_their_channels(name: str, layer: nn.Module) -> None:
    """At each position of an image, in each row; calibrated on half of what comes."""
    is_linear = isinstance(layer, nn.Linear)
    shape = (7, 40) if is_linear else (2, 40, 5, 6)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    largest = inputs.abs().amax() / 2
    known = find_format(name)
    codes = input_codes(layer, InputRange.symmetric(largest), known.number_format, known.scheme)
    assert codes is not None
    rows = inputs if is_linear else inputs.permute(0, 2, 3, 1).reshape(-1, 40)
    if name == "nvfp4":  # the calibrated range gives the scale of the tensor
        expected, _ = nvfp4(padded(rows, 16), largest)
    elif name == "int8_dynamic":
        expected, _, _ = affine(rows, 40, MappingType.SYMMETRIC, (-127, 127))
    elif name == "fp8_rowwise":
        scales = quant_primitives._choose_scale_float8(rows, (1, 40))
        expected = quant_primitives._quantize_affine_float8(rows, scales).float() * scales
    else:
        expected, _ = to_mx(padded(rows, 32), name)
    found, _ = codes.dequantized(inputs)
    in_rows = found if is_linear else found.permute(0, 2, 3, 1).reshape(-1, 40)
    assert torch.equal(in_rows, expected[:, :40])
