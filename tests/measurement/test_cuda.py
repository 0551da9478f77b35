"""On a GPU: the codes are the CPU's, sums agree up to their order, accuracies nearly always."""

from pathlib import Path

import polars as pl
import pytest
import torch
from collecting import Silence, images, request, source

from ptqdb.collection.sweep import collect
from ptqdb.database import connect, query
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat
from ptqdb.quantization.precision import has_bfloat16_units, matrix_precision
from ptqdb.quantization.rounding import scaled_codes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
IMAGE_COUNT = 1000


@pytest.mark.parametrize("known", STUDY_GRID, ids=lambda known: known.name)
def test_codes_are_those_of_the_cpu(known: NumberFormat) -> None:
    values = torch.randn(100_003, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor(3.1) / known.max_code
    found = scaled_codes(values.cuda(), scale.cuda(), known)
    assert torch.equal(found.cpu(), scaled_codes(values, scale, known))


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same collection on either device."""
    folder = tmp_path_factory.mktemp("cuda")
    paths = {}
    for device in ("cpu", "cuda"):
        paths[device] = folder / f"{device}.duckdb"
        networks = [source(folder, name) for name in ("AlexNet_BN", "Inception_BN", "MobileNetV2")]
        asked = request(folder, networks=networks, images=images(IMAGE_COUNT), device=device)
        assert not collect(asked, paths[device], Silence()).failures
    return paths


def both(collected: dict[str, Path], sql: str) -> list[pl.DataFrame]:
    frames = []
    for path in collected.values():
        with connect(path, read_only=True) as connection:
            frames.append(query(connection, sql))
    return frames


def test_accuracies_differ_by_two_images_in_a_thousand_at_most(
    collected: dict[str, Path],
) -> None:
    sql = "select correct_top1 from evaluation order by network_id, number_format_id, scope"
    on_cpu, on_gpu = both(collected, sql)
    assert len(on_cpu) == len(on_gpu)
    differences = (on_cpu["correct_top1"] - on_gpu["correct_top1"]).abs()
    assert all(differences <= 2 * IMAGE_COUNT / 1000)


def test_facts_agree_up_to_the_order_of_sums(collected: dict[str, Path]) -> None:
    """Those of weights and biases; an input's depend on the order of the convolutions' sums."""
    sql = """
        select q.sum_codes2, q.sum_code_x, q.squared_error_sum, q.softmax_js_l2
        from quantized_tensor as q join tensor as t using (tensor_id)
        where t.role = 'weight' order by q.tensor_id, q.number_format_id
    """
    on_cpu, on_gpu = both(collected, sql)
    assert len(on_cpu) > 0
    for name in on_cpu.columns:
        given, found = on_cpu[name].to_torch(), on_gpu[name].to_torch()
        assert torch.allclose(found, given, rtol=1e-9, atol=1e-12), name


def test_low_precision_is_exact_where_it_is_chosen() -> None:
    device = torch.device("cuda")
    if not has_bfloat16_units(device):
        pytest.skip("this GPU has no units of low precision")
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(-127, 128, (64, 512), generator=generator).float()
    with matrix_precision("bfloat16"):
        found = codes.cuda() @ codes.cuda().T
    assert torch.equal(found.cpu(), codes @ codes.T)
