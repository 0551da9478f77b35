"""Networks of torchvision and timm, without any download: random weights, files, and errors."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import output_count

from ptqdb.datasets.preprocessing import Geometry, Preprocessing
from ptqdb.errors import DataError, UsageError
from ptqdb.networks.checkpoints import checkpoint_sha256
from ptqdb.networks.sources import network_source

torchvision = pytest.importorskip("torchvision", reason="torchvision is an extra")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET: dict[str, Any] = {"mean": MEAN, "std": STD}


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is an extra")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes"),
    [("resnet18", None), ("mobilenet_v2", 10), ("vit_b_16", None), ("googlenet", 7)],
)
def test_networks_of_torchvision_are_built(name: str, classes: int | None) -> None:
    source = network_source(
        f"torchvision:{name}", weights="random", class_count=classes, **IMAGENET
    )
    assert (source.name, source.architecture) == (name, name)
    edge = 224 if name == "vit_b_16" else 64
    assert output_count(source.load(), (3, edge, edge)) == (classes or 1000)


def test_preprocessing_is_that_of_the_weights() -> None:
    def known(name: str, weights: str, **options: Any) -> Preprocessing | None:
        return network_source(f"torchvision:{name}", weights=weights, **options).preprocessing

    expected = Preprocessing(MEAN, STD, Geometry(256, 224))
    assert known("resnet18", "DEFAULT") == known("resnet18", "IMAGENET1K_V1") == expected
    large = known("vit_b_16", "IMAGENET1K_SWAG_E2E_V1")
    assert large == Preprocessing(MEAN, STD, Geometry(384, 384, "bicubic"))
    changed = known("resnet18", "DEFAULT", mean=(0, 0, 0), std=(1, 1, 1), crop=192)
    assert changed == Preprocessing((0, 0, 0), (1, 1, 1), Geometry(256, 192))


@pytest.mark.parametrize(
    ("spec", "weights", "named"),
    [
        ("torchvision:resnet81", "random", r"no classification network 'resnet81'; .* resnet18,"),
        ("torchvision:fcn_resnet50", "random", "no classification network 'fcn_resnet50'"),
        ("torchvision:resnet18", None, "give weights=DEFAULT, which downloads them"),
        ("torchvision:resnet18", "IMAGENET1K_V3", r"no 'IMAGENET1K_V3' for resnet18; expected IMA"),
        ("timm:resnet81", "random", "timm has no network 'resnet81'; closest are resnet18"),
        (
            "timm:resnet18.a9_in1k",
            "random",
            r"no weights 'a9_in1k' for resnet18; choose from a\d_in",
        ),
        ("timm:resnet18", "a9_in1k", r"no weights 'a9_in1k' for resnet18; choose from a\d_in1k"),
        ("timm:resnet18.a1_in1k", "a2_in1k", "names the tag 'a1_in1k', found 'a2_in1k'"),
        ("timm:resnet18", None, "give weights=DEFAULT"),
    ],
)
def test_wrong_names_are_answered_with_the_closest(
    timm: Any, spec: str, weights: str | None, named: str
) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        network_source(spec, weights=weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extra", ["torchvision", "timm"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == extra]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(UsageError) as caught:
        network_source(f"{extra}:resnet18", weights="DEFAULT")
    assert str(caught.value) == f"{extra}:resnet18 needs {extra}; pip install 'ptqdb[{extra}]'"


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    source = network_source("torchvision:resnet18", weights="DEFAULT")
    with pytest.raises(DataError, match=r"from https://download.pytorch.org/.*checkpoint") as got:
        source.load()
    assert "\n" not in str(got.value)
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_failed_download_of_timm_is_one_line(
    timm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = network_source("timm:resnet10t", weights="DEFAULT")
    with pytest.raises(DataError, match=r"from https://huggingface.co/timm/resnet10t") as caught:
        source.load()
    assert "\n" not in str(caught.value)


def resnet18(seed: int, classes: int = 1000) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(torchvision.models.resnet18(num_classes=classes).state_dict())


def test_published_weights_are_taken_from_torchs_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(resnet18(5), folder / "resnet18-f37072fd.pth")
    source = network_source("torchvision:resnet18", weights="DEFAULT")
    trained = source.load()
    assert torch.equal(trained.module.get_parameter("conv1.weight"), resnet18(5)["conv1.weight"])
    assert trained.checkpoint_sha256 == source.checkpoint_sha256
    assert trained.preprocessing.geometry == Geometry(256, 224)


def test_a_file_of_published_weights_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "somewhere.pt"
    torch.save(resnet18(0), path)
    spec = "torchvision:resnet18"
    assert network_source(spec, checkpoint=path).preprocessing is None
    entry = torchvision.models.get_model_weights("resnet18").DEFAULT
    published = f"https://example.org/resnet18-{checkpoint_sha256(path)[:8]}.pth"
    monkeypatch.setattr(type(entry), "url", published)
    trained = network_source(spec, checkpoint=path).load()
    assert trained.preprocessing == Preprocessing(MEAN, STD, Geometry(256, 224))
    assert trained.remarks == (
        "somewhere.pt is torchvision's IMAGENET1K_V1: its transforms are used",
    )


def test_a_file_of_fewer_classes_builds_fewer(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    torch.save({"state_dict": resnet18(0, classes=10)}, path)
    trained = network_source("torchvision:resnet18", checkpoint=path, **IMAGENET).load()
    assert output_count(trained, (3, 32, 32)) == 10
    assert trained.remarks[-1] == "built with 10 classes, as in the checkpoint"
    with pytest.raises(DataError, match=r"fit torchvision:mobilenet_v2: missing .* more$"):
        network_source("torchvision:mobilenet_v2", checkpoint=path, **IMAGENET).load()


def test_auxiliary_classifiers_of_a_file_are_left_out(tmp_path: Path) -> None:
    module = torchvision.models.googlenet(num_classes=5, aux_logits=True, init_weights=False)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    source = network_source("torchvision:googlenet", checkpoint=tmp_path / "a.pt", **IMAGENET)
    trained = source.load()
    assert output_count(trained, (3, 64, 64)) == 5
    assert not [name for name, _ in trained.module.named_modules() if name.startswith("aux")]
    assert trained.remarks[0].startswith("skipped 20 keys of training-only classifiers")


def test_keys_of_published_densenets_have_a_dot_more(tmp_path: Path) -> None:
    module = torchvision.models.densenet121(num_classes=5)
    old = {
        re.sub(r"(denselayer\d+)\.(norm|conv)([12])\.", r"\1.\2.\3.", key): tensor
        for key, tensor in module.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "a.pt")
    source = network_source("torchvision:densenet121", checkpoint=tmp_path / "a.pt", **IMAGENET)
    assert output_count(source.load(), (3, 32, 32)) == 5


def test_networks_of_timm_are_built_and_fed_as_their_tag_says(timm: Any, tmp_path: Path) -> None:
    source = network_source("timm:resnet10t", weights="random", class_count=4, **IMAGENET)
    assert output_count(source.load(), (3, 64, 64)) == 4
    tagged = network_source("timm:resnet18", weights="a1_in1k")
    # 224 / 0.95 = 235.8
    expected = Preprocessing(MEAN, STD, Geometry(235, 224, "bicubic"))
    assert tagged.preprocessing == expected
    assert network_source("timm:resnet18.a1_in1k", weights="DEFAULT").preprocessing == expected
    torch.save(timm.create_model("resnet10t", num_classes=3).state_dict(), tmp_path / "a.pt")
    untagged = network_source("timm:resnet10t", checkpoint=tmp_path / "a.pt")
    assert untagged.preprocessing == Preprocessing(MEAN, STD)
    (remark,) = untagged.remarks
    assert remark.startswith("normalized as timm's own weights of resnet10t")
    file = network_source("timm:resnet10t.c3_in1k", checkpoint=tmp_path / "a.pt")
    assert output_count(file.load(), (3, 64, 64)) == 3
