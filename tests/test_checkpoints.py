"""Checkpoints say what they are, and keys that do not fit are listed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ptqdb.checkpoints import NetworkDescription, load_checkpoint, save_checkpoint
from ptqdb.errors import DataError
from ptqdb.networks import reference_network

DESCRIPTION = NetworkDescription("AlexNet", 0.0625, 10, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(reference_network("AlexNet").build(0.0625).state_dict())


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path, expected = tmp_path / "net.safetensors", weights()
    save_checkpoint(path, DESCRIPTION, expected)
    network = load_checkpoint(path)
    assert network.description == DESCRIPTION
    assert not network.module.training
    found = network.module.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_keys_that_do_not_fit_are_all_listed(tmp_path: Path) -> None:
    given = weights()
    given["classifier.9.weight"] = given.pop("classifier.6.weight")
    given["features.0.bias"] = torch.zeros(3)
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, DESCRIPTION, given)
    with pytest.raises(DataError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "missing classifier.6.weight" in message
    assert "unexpected classifier.9.weight" in message
    assert "features.0.bias of shape (3,) instead of (2,)" in message


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("not a checkpoint")
    with pytest.raises(DataError, match="expected a safetensors file"):
        load_checkpoint(text)
    with pytest.raises(DataError, match="expected a safetensors file"):
        load_checkpoint(tmp_path / "missing.safetensors")
    bare = tmp_path / "bare.safetensors"
    save_file(weights(), bare)
    with pytest.raises(DataError, match="no description"):
        load_checkpoint(bare)
