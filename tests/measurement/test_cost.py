"""What a format costs, counted and not timed: roundings and bytes beside the float network."""

import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from collecting import Silence, images, request, source
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ptqdb.collection.sweep import collect
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.networks.sources import network_source
from ptqdb.quantization.formats import match_formats
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.quantization.rounding import byte_codes, scaled_codes

CHUNK_SIZE = 2048


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations made and somebody still holds.

    Attributes
    ----------
    live, peak
        Now, and at most since the mode was entered.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._held: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {
            tensor.untyped_storage().data_ptr()
            for tensor in tree_leaves((args, kwargs))
            if isinstance(tensor, Tensor)
        }
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._hold(tensor, is_fresh=tensor.untyped_storage().data_ptr() not in known)
        return made

    def _hold(self, tensor: Tensor, *, is_fresh: bool) -> None:
        place = tensor.untyped_storage().data_ptr()
        if is_fresh and place:
            byte_count = tensor.untyped_storage().nbytes()
            self._held[place] = 0
            self.live += byte_count
            self.peak = max(self.peak, self.live)
        if place in self._held:
            self._held[place] += 1
            weakref.finalize(tensor, self._let_go, place, tensor.untyped_storage().nbytes())

    def _let_go(self, place: int, byte_count: int) -> None:
        self._held[place] -= 1
        if not self._held[place]:
            del self._held[place]
            self.live -= byte_count


def test_live_bytes_are_counted() -> None:
    with LiveBytes() as counted:
        kept = torch.zeros(100)
        view = kept[:50]
        del kept
        torch.zeros(25)
        assert (counted.live, counted.peak) == (400, 500)
        del view
    assert counted.live == 0


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks far smaller than a layer, in one thread: a mode sees the calls of its own."""
    monkeypatch.setattr("ptqdb.measurement.chunks.CHUNK_SIZE", CHUNK_SIZE)
    monkeypatch.setattr("ptqdb.quantization.rounding.CHUNK_ELEMENTS", CHUNK_SIZE)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_a_format_needs_its_codes_and_some_chunks() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4, padding=1),
        nn.Flatten(),
        nn.Linear(512, 512),
        nn.Linear(512, 256, bias=False),
    )
    trained = network_source(module, mean=(0.5,) * 3, std=(0.5,) * 3).load()
    formats = match_formats("INT_4,INT_16,POT_4,FLOAT_8_E1,FLOAT_8_E4")
    device = torch.device("cpu")
    measurement = NetworkMeasurement(trained, images(4), formats, device=device)
    layers = list(measurement.network.layers.values())
    # float32 codes of weights, float64 codes of biases
    of_layer = [
        4 * layer.weight.numel() + 8 * (0 if layer.bias is None else layer.bias.numel())
        for layer in layers
    ]
    # beside them a dozen chunks in float64, and the counts of 4095 bins, twice
    buffers = 12 * 8 * CHUNK_SIZE + 2 * 8 * 4095
    assert max(of_layer) > buffers
    with LiveBytes() as counted:
        for each in formats:
            coded = measurement.code(each)
            assert counted.live >= sum(of_layer)
            measurement.quantized_facts(coded, each)
            del coded
    assert counted.peak <= sum(of_layer) + buffers
    assert counted.live == 0
    with LiveBytes() as counted:
        for each in formats:
            measurement.facts_without_codes(each)
    assert counted.peak <= max(of_layer) + buffers
    with LiveBytes() as counted:
        measurement.float_facts()
    assert counted.peak <= buffers


def test_no_tensor_is_rounded_twice(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A format's scopes share its weights and biases; an evaluation codes an input once."""
    rounded: list[tuple[str, torch.dtype, torch.Size]] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def count(values: Tensor, scale: Tensor, each: NumberFormat, **more: Any) -> Any:
            rounded.append((each.name, values.dtype, values.shape))
            return function(values, scale, each, **more)

        return count

    for module in ("codes", "input_codes"):
        monkeypatch.setattr(f"ptqdb.quantization.{module}.scaled_codes", counted(scaled_codes))
    monkeypatch.setattr("ptqdb.quantization.input_codes.byte_codes", counted(byte_codes))
    asked = request(tmp_path, networks=[source(tmp_path, "AlexNet")], probe=0)
    assert set(asked.scopes) == {"all", "weight"}
    assert not collect(asked, path, Silence()).failures
    biases = [shape for _, dtype, shape in rounded if dtype == torch.float64]
    weights = [shape for _, dtype, shape in rounded if dtype == torch.float32 and shape[0] != 20]
    inputs = [shape for _, dtype, shape in rounded if dtype == torch.float32 and shape[0] == 20]
    # 8 layers, of which each reads a tensor of its own; inputs are coded in scope all alone
    expected = 8 * len(asked.number_formats)
    assert (len(weights), len(biases), len(inputs)) == (expected, expected, expected)


@pytest.mark.slow
def test_counting_work_does_not_load_the_compiler() -> None:
    """It would take seconds, once per process; hence a process of its own."""
    text = (
        "import sys, torch\n"
        "from ptqdb.measurement.macs import count_work\n"
        "work = count_work(torch.nn.Sequential(torch.nn.Linear(2, 3)), torch.zeros(1, 2))\n"
        "print(sum(work.macs.values()), 'torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["6", "False"]
