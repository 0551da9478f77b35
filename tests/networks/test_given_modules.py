"""What is no float network in Python: unwrapped, or refused in a line that says what it is."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from collecting import Silence, images
from torch import Tensor, nn

import ptqdb
from ptqdb.collection.sweep import CollectionOutcome
from ptqdb.networks.given import float_network

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


compiled: Any = partial(torch.compile, backend="eager")
quantization: Any = import_module("torch.ao.quantization")
trace: Any = torch.jit.trace


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    ).eval()


def collected(module: nn.Module, path: Any) -> CollectionOutcome:
    source = ptqdb.network(module, name="net", mean=[0.5] * 3, std=[0.25] * 3)
    shown = images(8), images(4, "train")
    return ptqdb.open(path, create=True).collect(
        source, *shown, number_formats="INT_8", reporter=Silence()
    )


class Rounded(nn.Linear):
    """Holds whole numbers where a weight belongs."""

    def __init__(self) -> None:
        super().__init__(8, 10)
        self.weight = nn.Parameter(self.weight.mul(127).to(torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight / 127, self.bias)


def simulated() -> Any:
    module = small().train()
    module.qconfig = quantization.get_default_qat_qconfig("x86")
    return quantization.prepare_qat(module).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: torch.jit.script(small()), "TorchScript"),
        (lambda: trace(small(), torch.randn(1, 3, 8, 8)), "TorchScript"),
        (
            lambda: quantization.quantize_dynamic(small(), {nn.Linear}),
            "already quantized: 4 is a Linear of torch.ao.nn.quantized.dynamic",
        ),
        (simulated, "which simulates it"),
        (lambda: nn.Sequential(*small()[:-1], Rounded()), "4.weight is of int8"),
    ],
    ids=["scripted", "traced", "dynamic", "simulated", "rounded"],
)
def test_other_modules_are_refused_in_a_line(module: Any, said: str, path: Path) -> None:
    (failure,) = collected(module(), path).failures
    assert said in failure.reason
    assert "\n" not in failure.reason


def test_compiled_networks_are_those_from_before() -> None:
    plain = small()
    whole = compiled(plain)
    assert float_network(whole) is plain
    assert ptqdb.network(whole, mean=[0.5] * 3, std=[0.25] * 3).name == "Sequential"
    parts = nn.Sequential(compiled(small()[0]), *small()[1:])
    assert type(float_network(parts)[0]) is nn.Conv2d  # type: ignore[index]


def test_a_network_that_stays_mostly_in_float_says_so_first(tmp_path: Any) -> None:
    class Heavy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.table = small(), nn.Parameter(torch.randn(1000, 10))
            self.norm = nn.BatchNorm1d(10)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(self.net(x).relu()) + self.table.mean(0)
            return out

    said = Silence()
    source = ptqdb.network(Heavy().eval(), mean=[0.5] * 3, std=[0.25] * 3)
    shown = images(8), images(4, "train")
    ptqdb.open(tmp_path / "s.duckdb", create=True).collect(
        source, *shown, number_formats="INT_8", reporter=said
    )
    assert said.remarks[0].startswith("Heavy: warning: most of this network stays in float: 97 %")
    assert "batch norm stays in float" in said.remarks[1]
