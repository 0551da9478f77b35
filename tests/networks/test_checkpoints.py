"""Files of weights: what is recognised is said, what is not weights is refused, nothing is run."""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.networks.checkpoints import (
    NetworkDescription,
    checkpoint_sha256,
    read_description,
    read_weights,
    save_checkpoint,
    weights_sha256,
)
from ptqdb.networks.reference import reference_network
from ptqdb.networks.sources import described_source

DESCRIPTION = NetworkDescription("AlexNet", 0.0625, 10, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def some() -> dict[str, Tensor]:
    return {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(reference_network("AlexNet").build(0.0625).state_dict())


def saved(path: Path, content: Any, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def same(found: Any, expected: dict[str, Tensor]) -> bool:
    return set(found) == set(expected) and all(
        torch.equal(found[key], tensor) for key, tensor in expected.items()
    )


def test_a_checkpoint_of_ours_comes_back_as_it_was(tmp_path: Path) -> None:
    path, expected = tmp_path / "net.safetensors", weights()
    save_checkpoint(path, DESCRIPTION, expected)
    assert read_description(path) == DESCRIPTION
    network = described_source(path).load()
    assert (network.name, network.architecture, network.remarks) == ("AlexNet", "AlexNet", ())
    assert network.checkpoint_sha256 == checkpoint_sha256(path)
    assert network.preprocessing.mean == DESCRIPTION.mean
    assert network.preprocessing.std == DESCRIPTION.std
    assert not network.module.training
    assert same(network.module.state_dict(), expected)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_are_read_whatever_they_are_called(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "a.safetensors", some(), _use_new_zipfile_serialization=zipped)
    found = read_weights(path)
    assert same(found.tensors, some())
    assert found.remarks == ()
    assert read_description(path) is None


def test_safetensors_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    save_file(some(), tmp_path / "a.pth")
    assert same(read_weights(tmp_path / "a.pth").tensors, some())
    # a header of 384 bytes, 0x180, begins as a pickle does
    for padding in range(300):
        save_file(some(), tmp_path / "b", {"x": "y" * padding})
        if (tmp_path / "b").read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no header of that length")
    assert same(read_weights(tmp_path / "b").tensors, some())
    with pytest.raises(DataError, match="no description"):
        described_source(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "remarks"),
    [
        ({"state_dict": some(), "epoch": 3}, ("weights under 'state_dict'",)),
        ({"net": some(), "acc": torch.tensor(0.9)}, ("weights under 'net'",)),
        ({"mine": some(), "epoch": 3}, ("weights under 'mine'",)),
        ({"a": {"model": {"weights": some()}}}, ("weights under 'a.model.weights'",)),
        (
            {"ema": {}, "model_ema": some(), "model": some()},
            ("weights under 'model'", "used 'model'; weights are also under 'model_ema'"),
        ),
        (
            {"optimizer": {"state": {0: {"momentum": torch.ones(2)}}}, "model": some()},
            ("weights under 'model'",),
        ),
        ({**some(), "epoch": 3}, ("skipped entries that are not tensors: epoch",)),
    ],
)
def test_wrappers_are_recognised_and_said(
    tmp_path: Path, content: Any, remarks: tuple[str, ...]
) -> None:
    found = read_weights(saved(tmp_path / "a.pt", content))
    assert same(found.tensors, some())
    assert found.remarks == remarks


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_cast_and_that_is_said(tmp_path: Path, dtype: torch.dtype) -> None:
    half = {key: tensor.to(dtype) for key, tensor in some().items()}
    for path in (saved(tmp_path / "a.pt", half), tmp_path / "a.safetensors"):
        save_file(half, tmp_path / "a.safetensors")
        found = read_weights(path)
        assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}
        assert same(found.tensors, some())
        assert found.remarks == (f"2 tensors cast from {str(dtype)[6:]} to float32",)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_file_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "marker"
    content = {"state_dict": some(), "evil": Evil(marker)}
    path = saved(tmp_path / "a.pt", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"mkdir\): ptqdb never unpickles code; .*safetensors"):
        read_weights(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (nn.Linear(2, 2), "Linear"),
        ({"state_dict": {}, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
    ],
)
def test_more_than_weights_is_refused_by_name(tmp_path: Path, content: Any, named: str) -> None:
    with pytest.raises(DataError, match=rf"{named}\): ptqdb never unpickles code") as caught:
        read_weights(saved(tmp_path / "a.pt", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([torch.ones(1)], "found a list"),
        (torch.ones(1), "found a Tensor"),
        ({}, "an empty dict"),
        ({"epoch": 1, "lr": 2.0}, "a dict of epoch, lr"),
        ({0: torch.ones(1)}, "a dict of 0"),
    ],
)
def test_files_without_weights_are_refused(tmp_path: Path, content: Any, named: str) -> None:
    with pytest.raises(DataError, match=f"expected keys with tensors in .*{named}.*state_dict"):
        read_weights(saved(tmp_path / "a.pt", content))


def test_other_files_are_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pt", some()).read_bytes()
    legacy = saved(tmp_path / "old.pt", some(), _use_new_zipfile_serialization=False).read_bytes()
    save_file(some(), tmp_path / "safe")
    safe = (tmp_path / "safe").read_bytes()
    for content in (b"", b"not a checkpoint", whole[:300], legacy[:40], safe[:-5], safe[:20]):
        path = tmp_path / "damaged"
        path.write_bytes(content)
        with pytest.raises(DataError, match="expected a safetensors file or a torch file") as got:
            read_weights(path)
        assert "\n" not in str(got.value)
    with pytest.raises(DataError, match="found no file"):
        read_weights(tmp_path / "missing.pt")
    with pytest.raises(DataError, match="found the folder"):
        read_weights(tmp_path)
    save_file({}, tmp_path / "empty")
    with pytest.raises(DataError, match="found no tensor"):
        read_weights(tmp_path / "empty")


@pytest.mark.filterwarnings("ignore")  # torch wants TorchScript to be forgotten
def test_a_compiled_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"\(TorchScript\): ptqdb never unpickles code"):
        read_weights(tmp_path / "a.pt")


def test_the_identity_of_weights_is_their_keys_types_shapes_and_bytes() -> None:
    given = {"b": torch.arange(6.0), "a": torch.tensor(1), "c": torch.zeros(2).bfloat16()}
    expected = weights_sha256(given)
    assert weights_sha256(dict(reversed(given.items()))) == expected
    assert weights_sha256(given | {"b": torch.arange(12.0)[::2] / 2}) == expected
    for other in (
        {"b": torch.arange(6.0).reshape(2, 3)},
        {"b": torch.arange(6)},
        {"b": torch.arange(6.0).flip(0)},
        {"d": torch.ones(0)},
        {"c": torch.zeros(2).half()},
    ):
        assert weights_sha256(given | other) != expected
    renamed = {"x": given["b"], "a": given["a"], "c": given["c"]}
    assert weights_sha256(renamed) != expected


NAMES: tuple[Any, ...] = ([], None, 3)
WIDTHS = (0, -1, 1e9, 10**400, float("nan"), float("inf"), "1", None, True)
CLASS_COUNTS = (0, -1, 1e12, 10**12, 2.5, "10", None, True)


def described(**values: Any) -> str:
    """The description of a network with some values in place of its own."""
    return json.dumps(asdict(DESCRIPTION) | values)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{", "{}", "[" * 100_000, "NaN", "1" * 5000),
        described(mean=None, std=None),
        described(mean=[], std=[]),
        described(mean=["a"], std=[1]),
        described(std=[0, 1, 1]),
        described(std=[float("nan"), 1, 1]),
        described(more=1),
        described(training=[]),
        *(described(name=name) for name in NAMES),
        *(described(width=width) for width in WIDTHS),
        *(described(class_count=count) for count in CLASS_COUNTS),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"ptqdb": text})
    with pytest.raises(DataError, match="expected the description that `ptqdb train` writes"):
        read_description(path)


def test_a_description_of_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    """Of AlexNet 1,000 times as wide: 3.4 TB."""
    path = tmp_path / "a.safetensors"
    save_file(weights(), path, {"ptqdb": described(width=1000)})
    with pytest.raises(DataError, match=r"of width 1000 with 10 classes, which has \d+ params"):
        described_source(path)


def test_a_description_names_no_code(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code = tmp_path / "evil.py"
    code.write_text(f"open({str(marker)!r}, 'w')\ndef net(): pass\n")
    path = tmp_path / "a.safetensors"
    save_file(weights(), path, {"ptqdb": described(name=f"{code}:net")})
    with pytest.raises(DataError, match="expected the name of a reference network"):
        described_source(path)
    assert not marker.exists()


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_weights, read_description, checkpoint_sha256):
        with pytest.raises(DataError, match="it is not a regular file"):
            read(tmp_path / "pipe")
