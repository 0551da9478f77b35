"""On a real network: codes in bfloat16 give what codes in float32 give."""

import pytest
import torch

from ptqdb.checkpoints import load_checkpoint
from ptqdb.collection.evaluation import Batches, logits_of
from ptqdb.datasets import read_parquet
from ptqdb.embedded import embedded_checkpoints, embedded_folder
from ptqdb.number_formats import number_format
from ptqdb.quantization.network import QuantizedNetwork, input_ranges, prepare
from ptqdb.quantization.precision import has_bfloat16_units, matrix_precision
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX

pytestmark = pytest.mark.skipif(
    not has_bfloat16_units(torch.device("cpu")), reason="this CPU has no bfloat16 units"
)
IMAGE_COUNT = 500

Calibrated = tuple[QuantizedNetwork, dict[str, torch.Tensor], Batches]


@pytest.fixture(scope="module")
def calibrated() -> Calibrated:
    trained = load_checkpoint(embedded_checkpoints()["AlexNet_BN"])
    mean, std = trained.description.mean, trained.description.std
    images, calibration = (
        Batches(read_parquet(embedded_folder(), split).head(count), mean, std, torch.device("cpu"))
        for split, count in (("test", IMAGE_COUNT), ("train", 64))
    )
    network = prepare(trained.module, images.example())
    return network, input_ranges(network, calibration), images


def both_logits(calibrated: Calibrated, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    network, ranges, images = calibrated
    known = number_format(name)
    network.use_codes(
        {
            key: layer.code(ranges[key], known, PER_TENSOR_SYMMETRIC_MAX)
            for key, layer in network.layers.items()
        }
    )
    found = []
    for precision in ("bfloat16", "float32"):
        with matrix_precision(precision):
            found.append(logits_of(network.module, images))
    return found[0], found[1]


@pytest.mark.parametrize("bits", range(2, 10))
def test_narrow_integers_agree_to_the_bit(calibrated: Calibrated, bits: int) -> None:
    low, exact = both_logits(calibrated, f"INT_{bits}")
    assert torch.equal(low, exact)


@pytest.mark.parametrize("name", ["POT_4", "POT_8", "FLOAT_4_E2", "FLOAT_6_E3", "FLOAT_8_E4"])
def test_other_formats_agree_within_two_images_in_a_thousand(
    calibrated: Calibrated, name: str
) -> None:
    low, exact = both_logits(calibrated, name)
    differing = int((low.argmax(1) != exact.argmax(1)).sum())
    assert differing <= 2 * IMAGE_COUNT / 1000


def test_wide_integers_would_not_agree(calibrated: Calibrated) -> None:
    low, exact = both_logits(calibrated, "INT_12")
    assert not torch.equal(low, exact)
