"""Sums of coded inputs, beside those of every value rounded by itself."""

import pytest
import torch
from oracles import round_to_codes
from torch import Tensor

from ptqdb.measurement import coded_inputs
from ptqdb.measurement.coded_inputs import CodedInputs, first_values
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat, number_format
from ptqdb.quantization.scales import compute_scale

NARROW = [each for each in STUDY_GRID if each.bits <= coded_inputs.NARROW_BITS]


def activations(kind: str) -> Tensor:
    """float32, (6, 5, 8, 9), half of them zero in the first kind."""
    values = torch.randn(6, 5, 8, 9, generator=torch.Generator().manual_seed(0))
    if kind == "relu":
        return values.relu().to(memory_format=torch.channels_last)
    if kind == "pixels":
        return ((values * 40 + 128).round().clamp(0, 255) / 255 - 0.47) / 0.25
    return values.pow(3) * 1e-3


def sums_of_numpy(values: Tensor, max_abs: Tensor, each: NumberFormat) -> tuple[float, ...]:
    """Scale, clipped count and the four sums, value by value in float64."""
    scale = compute_scale(max_abs, each)
    quotients = values / scale
    codes, x = round_to_codes(quotients, each).double().numpy(), values.double().numpy()
    clipped = int((abs(quotients.double().numpy()) > each.max_code * (1 + 2.0**-20)).sum())
    error = codes * float(scale) - x
    return (
        float(scale),
        clipped,
        codes.sum(),
        (codes**2).sum(),
        (codes * x).sum(),
        (error**2).sum(),
    )


@pytest.mark.parametrize("reach", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["relu", "pixels", "long tails"])
def test_sums_are_those_of_numpy_in_every_format(
    kind: str, reach: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches and pieces; where the range reaches half as far, values are clipped."""
    monkeypatch.setattr(coded_inputs, "SORTED_SIZE", 100)
    monkeypatch.setattr("ptqdb.measurement.chunks.CHUNK_SIZE", 100)
    values = activations(kind)
    max_abs = values.abs().amax() * reach
    measured = CodedInputs(max_abs, STUDY_GRID)
    for batch in torch.split(values, 4):
        measured.add(batch)
    for each in STUDY_GRID:
        facts = measured.facts(each)
        scale, clipped, *sums = sums_of_numpy(values, max_abs, each)
        assert (facts.scale, facts.clipped_count) == (scale, clipped), each.name
        assert (clipped > 0) == (reach < 1)
        found = (facts.sum_codes, facts.sum_codes2, facts.sum_code_x, facts.squared_error_sum)
        # codes of both signs may nearly cancel: the first sum is held to their size
        tolerance = 1e-12 * sums[1] ** 0.5
        assert found[0] == pytest.approx(sums[0], rel=1e-12, abs=tolerance), each.name
        assert found[1:3] == pytest.approx(sums[1:3], rel=1e-12), each.name
        assert found[3] == pytest.approx(sums[3], rel=1e-9), each.name


@pytest.mark.parametrize("max_abs", [1.0, 0.7310586, 3e38, 1e-28])
def test_first_values_are_the_first_to_the_bit(max_abs: float) -> None:
    """Even of a range so small that several codes of POT_8 begin at the smallest float32."""
    for each in NARROW:
        scale = compute_scale(torch.tensor(max_abs), each)
        first, codes = first_values(scale, each), each.magnitudes()
        before = torch.nextafter(first, torch.zeros(()))
        assert (round_to_codes(first / scale, each).numpy() >= codes[1:]).all(), each.name
        assert (round_to_codes(before / scale, each).numpy() < codes[1:]).all(), each.name


@pytest.mark.parametrize("sign", [1, -1])
def test_values_on_the_ties_fall_as_the_rounding_says(sign: int) -> None:
    """Ties and their neighbours by one bit: where a search could slip by one place.

    Of eight codes at a time, so that their sums are exact and no slip is lost among large codes.
    """
    for each in NARROW:
        magnitudes = each.magnitudes()
        between = torch.from_numpy((magnitudes[1:] + magnitudes[:-1]) / 2).float()
        for ties in torch.split(between, 8):
            up, down = (torch.nextafter(ties, torch.tensor(end)) for end in (torch.inf, 0.0))
            values = sign * torch.cat([ties, up, down])
            measured = CodedInputs(torch.tensor(each.max_code), [each])
            measured.add(values)
            facts, codes = measured.facts(each), round_to_codes(values, each).double()
            assert facts.scale == 1
            assert facts.sum_codes == float(codes.sum()), each.name


def test_nothing_but_zeros_adds_nothing() -> None:
    formats = [number_format("INT_4"), number_format("INT_16")]
    measured = CodedInputs(torch.tensor(0.0), formats)
    measured.add(torch.zeros(3, 4))
    measured.add(torch.zeros(0, 4))
    for each in formats:
        facts = measured.facts(each)
        sums = (facts.sum_codes, facts.sum_codes2, facts.sum_code_x, facts.squared_error_sum)
        assert (facts.scale, facts.clipped_count, *sums) == (1.0, 0, 0.0, 0.0, 0.0, 0.0)


def test_threads_change_no_bit() -> None:
    values, formats = activations("relu"), [number_format("POT_4"), number_format("INT_12")]
    found = []
    before = torch.get_num_threads()
    try:
        for thread_count in (1, 3):
            torch.set_num_threads(thread_count)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(coded_inputs, "SORTED_SIZE", 100)
                patch.setattr("ptqdb.measurement.chunks.CHUNK_SIZE", 100)
                measured = CodedInputs(values.amax(), formats)
                measured.add(values)
            assert torch.get_num_threads() == thread_count
            found.append(
                [
                    (facts.sum_code_x, facts.squared_error_sum)
                    for facts in map(measured.facts, formats)
                ]
            )
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]
