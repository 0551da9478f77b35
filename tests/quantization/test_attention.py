"""Attention whose linear layers are called: the same outputs, and every weight in a layer."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ptqdb.quantization.attention import LayeredAttention
from ptqdb.quantization.network import prepare


def lived_in(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fresh biases are zero, and would hide a wrong one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return module.eval()


def near(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


VARIANTS = list(itertools.product([True, False], [True, False], [False, True], [False, True]))


@pytest.mark.parametrize(("bias", "batch_first", "bias_kv", "zero_attention"), VARIANTS)
def test_self_attention_is_torchs(
    bias: bool, batch_first: bool, bias_kv: bool, zero_attention: bool
) -> None:
    attention = nn.MultiheadAttention(
        12, 3, bias=bias, batch_first=batch_first, add_bias_kv=bias_kv, add_zero_attn=zero_attention
    )
    lived_in(attention)
    twin = LayeredAttention(attention, is_self_attention=True)
    x = torch.randn(5, 4, 12, generator=torch.Generator().manual_seed(1))
    length, batch = (4, 5) if batch_first else (5, 4)
    causal = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
    padding = torch.zeros(batch, length, dtype=torch.bool)
    padding[:, -1] = True
    per_head = torch.randn(batch * 3, length, length)
    arguments: list[dict[str, Any]] = [
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"attn_mask": causal},
        {"attn_mask": causal, "is_causal": True, "need_weights": False},
        {"attn_mask": per_head},
        {"key_padding_mask": padding, "need_weights": False},
        {"key_padding_mask": padding, "attn_mask": causal},
    ]
    with torch.inference_mode():
        for given in arguments:
            expected, found = attention(x, x, x, **given), twin(x, x, x, **given)
            assert near(found[0], expected[0]), given
            assert (found[1] is None) == (expected[1] is None)
            assert found[1] is None or near(found[1], expected[1])
        unbatched = x[0]
        expected, found = attention(*[unbatched] * 3), twin(*[unbatched] * 3)
    assert found[0].shape == expected[0].shape
    assert near(found[0], expected[0])
    assert near(found[1], expected[1])


@pytest.mark.parametrize("sizes", [{}, {"kdim": 7, "vdim": 9}])
def test_attention_to_something_else_is_torchs(sizes: dict[str, int]) -> None:
    attention = nn.MultiheadAttention(12, 3, batch_first=True, **sizes)
    lived_in(attention)
    query = torch.randn(2, 4, 12)
    key = torch.randn(2, 6, sizes.get("kdim", 12))
    value = torch.randn(2, 6, sizes.get("vdim", 12))
    with torch.inference_mode():
        expected = attention(query, key, value)
        for is_self in (False, True):
            found = LayeredAttention(attention, is_self_attention=is_self)(query, key, value)
            assert near(found[0], expected[0])
            assert near(found[1], expected[1])


class Crossed(nn.Module):
    """Queries of its own attend to the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 2, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.queries.expand(len(x), -1, -1)
        out: Tensor = self.attention(queries, x, x)[0].flatten(1)
        return out


def test_queries_keys_and_values_are_layers_apart_where_they_read_apart() -> None:
    network = prepare(lived_in(Crossed()), torch.randn(1, 3, 8))
    names = ["q_proj", "k_proj", "v_proj", "out_proj"]
    assert list(network.layers) == [f"attention.{name}" for name in names]
    assert network.first_readers["attention.v_proj"] == "attention.k_proj"


@pytest.mark.parametrize("norm_first", [True, False])
def test_torchs_encoder_calls_its_layers(norm_first: bool) -> None:
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first),
        2,
        enable_nested_tensor=not norm_first,
    )
    lived_in(encoder)
    x = torch.randn(3, 5, 8)
    network = prepare(encoder, x[:1])
    parts = ["self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"]
    assert list(network.layers) == [f"layers.{i}.{part}" for i in (0, 1) for part in parts]
    with torch.inference_mode():
        assert near(network.module(x), encoder(x))
    assert torch.backends.mha.get_fastpath_enabled()
    assert isinstance(encoder.layers[0].self_attn, nn.MultiheadAttention)


class Prying(Crossed):
    """Reads the attention's weight beside calling it: with a twin it would fail."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) * self.attention.in_proj_weight.mean()
        return out


def test_attention_whose_weights_the_network_reads_itself_is_left_alone() -> None:
    module = nn.Sequential(nn.Linear(8, 8), lived_in(Prying())).eval()
    network = prepare(module, torch.randn(1, 3, 8))
    assert list(network.layers) == ["0"]
    x = torch.randn(2, 3, 8)
    with torch.inference_mode():
        assert near(network.module(x), module(x))


@pytest.mark.parametrize("version", ["", "V2"])
@pytest.mark.parametrize("size", [4, 7, 8])
def test_shifted_windows_are_torchvisions(version: str, size: int) -> None:
    swin = pytest.importorskip("torchvision.models.swin_transformer", reason="needs torchvision")
    attention = getattr(swin, f"ShiftedWindowAttention{version}")
    blocks = [attention(8, [4, 4], shift, 2) for shift in ([0, 0], [2, 2], [2, 0])]
    module = lived_in(nn.Sequential(*blocks))
    x = torch.randn(2, size, size + 1, 8)
    network = prepare(module, x[:1])
    names = ["qkv", "proj"] if not version else ["qkv", "cpb_mlp.0", "cpb_mlp.2", "proj"]
    assert list(network.layers) == [f"{i}.{name}" for i in range(3) for name in names]
    with torch.inference_mode():
        assert near(network.module(x), module(x))
