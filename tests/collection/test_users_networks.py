"""Networks in other people's styles: what is stored of each is torch's, and checks hold."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from collecting import Silence
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from users_networks import NETWORKS

import ptqdb
from ptqdb.datasets.images import ImageSet, normalize
from ptqdb.study import Study

MEAN, STD = [0.5] * 3, [0.25] * 3


def pictures(count: int, split: str, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return ImageSet("toy", split, pixels, labels, tuple("abcdefghij"))


def built(kind: type[nn.Module]) -> nn.Module:
    """With statistics of batch norms that matter."""
    torch.manual_seed(0)
    module = kind()
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    module.eval()
    return module


IMAGES, CALIBRATION = pictures(16, "test", 0), pictures(12, "train", 1)
FED = normalize(IMAGES.images, torch.tensor(MEAN), torch.tensor(STD))


@pytest.fixture(scope="module")
def study(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """All of the networks in one database."""
    path = Path(shutil.copy(empty_file, tmp_path_factory.mktemp("users") / "study.duckdb"))
    sources = [ptqdb.network(built(kind), mean=MEAN, std=STD) for kind in NETWORKS]
    outcome = ptqdb.open(path, create=True).collect(
        sources, IMAGES, CALIBRATION, number_formats="INT_4,INT_16", reporter=Silence()
    )
    assert outcome.failures == []
    with ptqdb.open(path) as opened:
        yield opened


def rows(study: Study, query: str) -> list[dict[str, Any]]:
    return study.sql(query).rows(named=True)


@pytest.mark.parametrize("kind", NETWORKS, ids=lambda kind: kind.__name__)
def test_a_network_is_measured_as_it_is(study: Study, kind: type[nn.Module]) -> None:
    module, name = built(kind), kind.__name__
    with torch.inference_mode():
        logits = torch.cat([module(image.clone()) for image in torch.split(FED, 1)])
    of_float = rows(
        study,
        "select params, macs, evaluation.* from network join evaluation using (network_id) "
        f"where name = '{name}' and scope = 'none'",
    )[0]
    assert of_float["params"] == sum(each.numel() for each in module.parameters())
    right = logits.argmax(1) == IMAGES.known_labels()
    assert of_float["correct_top1"] == int(right.sum())
    cross_entropy = torch.nn.functional.cross_entropy(
        logits.double(), IMAGES.known_labels(), reduction="sum"
    )
    assert of_float["cross_entropy_sum"] == pytest.approx(float(cross_entropy), rel=1e-4)
    close = rows(study, f"select accuracy_loss l from fakefreeze_param where network = '{name}'")
    assert len(close) == 2


MACS = {
    # by hand: 3 x 9 x 8 places of 14 x 14; what no layer multiplies stays in float
    "Functional": ({"conv1": 42336}, {"kernel": 576 * 196, "fc": 80}),
    "Nested": ({"stem.0": 42336, "body.a": 64 * 196, "body.b": 64 * 196, "class": 80}, {}),
    "Shared": ({"stem": 216 * 49, "block": 3 * 576 * 49, "head": 80}, {}),
    "Pyramid": ({"near": 216 * 256, "far": 216 * 256, "head": 80}, {}),
    "Subclasses": ({"conv": 216 * 64, "fc.down": 16, "fc.up": 20}, {"fc.weight": 80}),
    "EarlyExit": ({"first": 42336, "heads.0": 80, "second": 576 * 144, "heads.1": 80}, {}),
    "Casts": ({"conv": 42336, "head": 80}, {}),
    "Properties": ({"_stages.0": 42336, "_stages.1": 80}, {}),
    "CalledOtherwise": ({"conv": 42336, "head": 80}, {}),
    "Frames": ({"clip": 648 * 2 * 2 * 14, "up": 288 * 2 * 14, "head": 40}, {}),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_of_layers_and_of_what_stays_in_float(study: Study, name: str) -> None:
    layers, parts = MACS[name]
    found = rows(
        study,
        "select l.name, l.macs from layer as l join network as n using (network_id) "
        f"where n.name = '{name}' order by position",
    )
    for row, (layer, macs) in zip(found, layers.items(), strict=True):
        assert row["name"].endswith(layer)
        assert row["macs"] == macs
    found = rows(
        study,
        "select p.name, p.macs from unquantized_part as p join network as n using (network_id) "
        f"where n.name = '{name}' and p.macs > 0",
    )
    assert {row["name"]: row["macs"] for row in found} == parts


def test_each_network_without_shortcuts_has_the_macs_that_torch_counts(study: Study) -> None:
    for kind in NETWORKS:
        if kind.__name__ in ("Recurrent", "EarlyExit", "Experts"):
            continue  # torch counts nothing of an LSTM; the others take many ways
        module = built(kind).requires_grad_(False)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(FED[:1])
        found = rows(
            study,
            "select macs + (select coalesce(sum(macs), 0) from unquantized_part as p "
            "where p.network_id = n.network_id) as macs from network as n "
            f"where name = '{kind.__name__}'",
        )
        assert found[0]["macs"] == counter.get_total_flops() // 2, kind.__name__


def test_what_is_stored_of_all_of_them_holds(study: Study) -> None:
    from ptqdb.database.checks import check

    assert [found.name for found in check(study.connection) if not found.has_passed] == []
