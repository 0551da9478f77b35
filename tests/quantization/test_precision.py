"""On a real network: what low precision may change, and what it may not.

A bfloat16 unit multiplies numbers of 8 significant bits and adds the exact products up in
float32. What such a unit can give at best is computed here with bfloat16 codes in float64, on
any processor; where the library really uses such units, they are tried as well.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ptqdb.datasets.parquet import read_parquet
from ptqdb.measurement.batches import Batches
from ptqdb.measurement.evaluation import compute_logits
from ptqdb.networks.embedded import embedded_checkpoints, embedded_folder
from ptqdb.networks.sources import described_source
from ptqdb.networks.training import CIFAR10_MEAN, CIFAR10_STD
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.network import QuantizedNetwork, input_ranges, prepare
from ptqdb.quantization.number_formats import number_format
from ptqdb.quantization.precision import has_bfloat16_units, matrix_precision
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX

IMAGE_COUNT = 500
NARROW_INTEGERS = [f"INT_{bits}" for bits in range(2, 10)]
OTHERS = ["POT_4", "POT_8", "FLOAT_4_E2", "FLOAT_6_E3", "FLOAT_8_E4"]
needs_units = pytest.mark.skipif(
    not has_bfloat16_units(torch.device("cpu")),
    reason="the library multiplies float32 in bfloat16 nowhere on this processor",
)

Calibrated = tuple[QuantizedNetwork, dict[str, InputRange], Batches]
Logits = Callable[[str], Tensor]


@pytest.fixture(scope="module")
def calibrated() -> Calibrated:
    trained = described_source(embedded_checkpoints()["AlexNet_BN"]).load()
    network = prepare(trained.module, batches("test", 1).head())
    return network, input_ranges(network, batches("train", 64)), batches("test", IMAGE_COUNT)


@pytest.fixture(scope="module")
def few(calibrated: Calibrated) -> Calibrated:
    """The same on fewer images: enough where every logit is compared to the bit."""
    network, ranges, _ = calibrated
    return network, ranges, batches("test", 100)


def batches(split: str, count: int) -> Batches:
    images = read_parquet(embedded_folder(), split).head(count)
    cpu = torch.device("cpu")
    return Batches(images, CIFAR10_MEAN, CIFAR10_STD, cpu, memory_format=torch.channels_last)


def use(calibrated: Calibrated, name: str) -> None:
    network, ranges, _ = calibrated
    known = number_format(name)
    network.use_codes(
        {
            key: layer.code(ranges[key], known, PER_TENSOR_SYMMETRIC_MAX)
            for key, layer in network.layers.items()
        }
    )


def logits(calibrated: Calibrated, name: str, precision: str) -> Tensor:
    use(calibrated, name)
    with matrix_precision(precision):
        return compute_logits(calibrated[0].module, calibrated[2])


def unit_logits(calibrated: Calibrated, name: str) -> Tensor:
    """Multiply what bfloat16 holds of codes, add without error, round to float32 once."""
    use(calibrated, name)
    with pytest.MonkeyPatch.context() as patch:
        for layer in calibrated[0].layers.values():
            codes = layer._codes
            assert codes is not None
            bias = None if codes.bias is None else codes.bias.double()
            exact = replace(codes, weight=codes.weight.bfloat16().double(), bias=bias)
            patch.setattr(layer, "_codes", exact)
            patch.setattr(layer, "_original", in_float64(layer._original))
        with torch.no_grad():  # in place: a copy would not take the exchanged forwards along
            return torch.cat([calibrated[0].module(batch).float() for batch in calibrated[2]])


def in_float64(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda codes: forward(codes.bfloat16().double()).float()


@pytest.mark.parametrize("name", NARROW_INTEGERS)
def test_narrow_integers_agree_to_the_bit(few: Calibrated, name: str) -> None:
    assert torch.equal(unit_logits(few, name), logits(few, name, "float32"))


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_agree_within_two_images_in_a_thousand(
    calibrated: Calibrated, name: str
) -> None:
    low, exact = unit_logits(calibrated, name), logits(calibrated, name, "float32")
    assert int((low.argmax(1) != exact.argmax(1)).sum()) <= 2 * IMAGE_COUNT / 1000


def test_wide_integers_would_not_agree(few: Calibrated) -> None:
    low, exact = unit_logits(few, "INT_12"), logits(few, "INT_12", "float32")
    assert float((low - exact).abs().max()) > 1e-3 * float(exact.abs().max())


@needs_units
@pytest.mark.parametrize("name", NARROW_INTEGERS)
def test_real_units_agree_to_the_bit(few: Calibrated, name: str) -> None:
    low, exact = logits(few, name, "bfloat16"), logits(few, name, "float32")
    assert torch.equal(low, exact)


@needs_units
@pytest.mark.parametrize("name", OTHERS)
def test_real_units_agree_within_two_images_in_a_thousand(
    calibrated: Calibrated, name: str
) -> None:
    low, exact = logits(calibrated, name, "bfloat16"), logits(calibrated, name, "float32")
    assert int((low.argmax(1) != exact.argmax(1)).sum()) <= 2 * IMAGE_COUNT / 1000
