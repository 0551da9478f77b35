"""Replaces attention that reads the weights of its linear layers by attention that calls them.

``nn.MultiheadAttention`` and torchvision's shifted-window attention pass their weights to
functions. A quantized layer in place of such a linear layer would never run.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptqdb.networks.copies import scratch_copy
from ptqdb.networks.eager import eager

_WINDOW_ATTENTION = ("ShiftedWindowAttention", "ShiftedWindowAttentionV2")


class LayeredAttention(nn.Module):
    """``nn.MultiheadAttention`` in evaluation mode, computed by calls of linear layers.

    Parameters
    ----------
    original
        Its parameters are shared, not copied.
    is_self_attention
        Whether query, key and value are the same tensor: then one layer, ``in_proj``, computes all
        three. Otherwise ``q_proj``, ``k_proj`` and ``v_proj`` read one each.
    """

    def __init__(self, original: nn.MultiheadAttention, *, is_self_attention: bool):
        super().__init__()
        self.embed_dim, self.num_heads = original.embed_dim, original.num_heads
        self.batch_first, self.add_zero_attn = original.batch_first, original.add_zero_attn
        self.kdim, self.vdim, self.head_dim = original.kdim, original.vdim, original.head_dim
        self.dropout, self.bias_k, self.bias_v = 0.0, original.bias_k, original.bias_v
        bias = original.in_proj_bias
        packed = original.in_proj_weight
        self.in_proj = self.q_proj = self.k_proj = self.v_proj = None
        if is_self_attention and packed is not None:
            self.in_proj = linear_layer(packed, bias)
        else:
            weights = (
                (original.q_proj_weight, original.k_proj_weight, original.v_proj_weight)
                if packed is None
                else packed.chunk(3)
            )
            biases = (None, None, None) if bias is None else bias.chunk(3)
            self.q_proj, self.k_proj, self.v_proj = map(linear_layer, weights, biases)
        self.out_proj = linear_layer(original.out_proj.weight, original.out_proj.bias)
        self.train(original.training)
        # nn.TransformerEncoderLayer checks these before its fast path, which bypasses the layers.
        self.in_proj_bias = self.in_proj_weight = None
        self._qkv_same_embed_dim = False

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention``."""
        # Like torch, ignore the mask where is_causal replaces it.
        is_causal = is_causal and key_padding_mask is None and not need_weights
        attn_mask = None if is_causal else attn_mask
        is_batched = query.dim() == 3
        projected = self._project(query, key, value)
        if not is_batched:
            projected = [tensor.unsqueeze(0) for tensor in projected]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            projected = [tensor.transpose(0, 1) for tensor in projected]
        mask = self._merged_mask(attn_mask, key_padding_mask, query.dtype)
        q, k, v, mask = self._heads(projected, mask)
        weights = None
        if need_weights:
            scores = (q * math.sqrt(1.0 / q.shape[-1])) @ k.transpose(-2, -1)
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            mixed = weights @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
        mixed = mixed.transpose(1, 2).flatten(2)
        if is_batched and not self.batch_first:
            mixed = mixed.transpose(0, 1)
        output = self.out_proj(mixed if is_batched else mixed.squeeze(0))
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if is_batched else weights.squeeze(0)
        return output, weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if self.in_proj is None:
            assert self.q_proj is not None
            assert self.k_proj is not None
            assert self.v_proj is not None
            return [self.q_proj(query), self.k_proj(key), self.v_proj(value)]
        if query is key and key is value:
            return list(self.in_proj(query).chunk(3, -1))
        inputs = (query, key, value)
        return [self.in_proj(x).chunk(3, -1)[place] for place, x in enumerate(inputs)]

    def _merged_mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, dtype: torch.dtype
    ) -> Tensor | None:
        """Both masks as a term added to the scores, (batch or 1, heads or 1, query, key)."""
        mask = None
        if attn_mask is not None:
            mask = _additive(attn_mask, dtype)
            heads = (1, 1) if mask.dim() == 2 else (-1, self.num_heads)
            mask = mask.reshape(*heads, *mask.shape[-2:])
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, dtype)[:, None, None]
            mask = padding if mask is None else mask + padding
        return mask

    def _heads(
        self, projected: list[Tensor], mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(batch, heads, length, head size), including the constant keys and values."""
        q, k, v = projected
        added = 0
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), 1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(len(v), 1, -1)], 1)
            added += 1
        if self.add_zero_attn:
            k, v = functional.pad(k, (0, 0, 0, 1)), functional.pad(v, (0, 0, 0, 1))
            added += 1
        if mask is not None and added:
            mask = functional.pad(mask, (0, added))
        size = self.embed_dim // self.num_heads
        q, k, v = (x.reshape(*x.shape[:2], self.num_heads, size).transpose(1, 2) for x in (q, k, v))
        return q, k, v, mask


@cache
def _layered_attention_class() -> type[nn.Module]:
    """A subclass of both, so that isinstance checks in the network's code still pass."""
    kinds: tuple[Any, ...] = (LayeredAttention, nn.MultiheadAttention)
    members = {"__module__": __name__, "__doc__": LayeredAttention.__doc__}
    return type(nn.MultiheadAttention.__name__, kinds, members)


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)


def linear_layer(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer with this weight, (out, in), and bias; parameters are shared."""
    layer = nn.Linear(1, 1, bias=False, device="meta")
    layer.out_features, layer.in_features = weight.shape
    layer.weight = _parameter(weight)
    layer.bias = None if bias is None else _parameter(bias)  # type: ignore[assignment]
    return layer


def _parameter(tensor: Tensor) -> nn.Parameter:
    if isinstance(tensor, nn.Parameter):
        return tensor
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)


class _LayeredWindows(nn.Module):
    """The forward of torchvision's shifted-window attention, with calls of linear layers."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, height, width, channels) to the same shape."""
        part: Any = self
        batch, height, width, channels = x.shape
        rows, columns = part.window_size
        x = functional.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        padded = x.shape[1:3]
        across, along = padded[0] // rows, padded[1] // columns
        # A window as large as the picture is not shifted.
        shift = [
            0 if window >= size else by
            for window, size, by in zip(part.window_size, padded, part.shift_size, strict=True)
        ]
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        x = x.view(batch, across, rows, along, columns, channels).transpose(2, 3)
        x = x.reshape(-1, rows * columns, channels)
        qkv = part.qkv(x).unflatten(-1, (3, part.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scores = _window_scores(part, qkv[0], qkv[1]) + part.get_relative_position_bias()
        if any(shift):
            mask = _window_mask(padded, part.window_size, shift, x)
            scores = scores.unflatten(0, (batch, -1)) + mask[None, :, None]
            scores = scores.flatten(0, 1)
        mixed = torch.softmax(scores, -1) @ qkv[2]
        x = part.proj(mixed.transpose(1, 2).flatten(2))
        x = x.view(batch, across, along, rows, columns, channels).transpose(2, 3)
        x = x.reshape(batch, *padded, channels)
        if any(shift):
            x = torch.roll(x, (shift[0], shift[1]), (1, 2))
        cropped: Tensor = x[:, :height, :width].contiguous()
        return cropped


def _window_scores(part: Any, q: Tensor, k: Tensor) -> Tensor:
    """Scaled dot products; for version 2, cosines times a factor per head."""
    if not hasattr(part, "logit_scale"):
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return scores
    cosines = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
    scale: Tensor = torch.clamp(part.logit_scale, max=math.log(100.0)).exp()
    return cosines * scale


def _window_mask(padded: torch.Size, window: list[int], shift: list[int], like: Tensor) -> Tensor:
    """-100 between positions that are not neighbours: (windows, positions, positions)."""
    regions = like.new_zeros(tuple(padded))
    number = 0
    for vertical in (slice(-window[0]), slice(-window[0], -shift[0]), slice(-shift[0], None)):
        for across in (slice(-window[1]), slice(-window[1], -shift[1]), slice(-shift[1], None)):
            regions[vertical, across] = number
            number += 1
    regions = regions.reshape(padded[0] // window[0], window[0], -1, window[1]).transpose(1, 2)
    regions = regions.reshape(-1, window[0] * window[1])
    return (regions[:, None] != regions[:, :, None]).to(like.dtype) * -100.0


@cache
def _layered_windows_class(original: Any) -> type[nn.Module]:
    """A subclass with the original's name and everything but its forward."""
    members = {"__module__": __name__, "__doc__": _LayeredWindows.__doc__}
    return type(original.__name__, (_LayeredWindows, original), members)


def _layered_windows(original: nn.Module) -> nn.Module:
    """A replacement that shares the original's parameters."""
    twin = copy.copy(original)
    twin._modules, twin._parameters = dict(original._modules), dict(original._parameters)
    kind: Any = type(original)  # which mypy does not know to be hashable
    twin.__class__ = _layered_windows_class(kind)
    qkv: Any = twin.qkv
    if hasattr(twin, "logit_scale") and qkv.bias is not None:
        # Version 2 has no key bias and zeroes that third at each pass.
        bias = qkv.bias.detach().clone()
        bias[len(bias) // 3 : 2 * len(bias) // 3] = 0
        twin.qkv = linear_layer(qkv.weight, bias)
    return twin


def replace_attention(module: nn.Module, batches: Sequence[Tensor]) -> bool:
    """Replace attention by equivalents that call their linear layers, in place.

    Parameters
    ----------
    module
        In evaluation mode.
    batches
        Normalized images, (N, channels, height, width), used to find out which attention is
        self-attention.

    Returns
    -------
    bool
        Whether any attention was replaced.
    """
    found = _attention(module)
    if not found:
        return False
    is_self = _self_attention(module, found, batches)
    twins: dict[int, nn.Module] = {}
    for name, part in found.items():
        if isinstance(part, nn.MultiheadAttention):
            if name not in is_self:  # it never runs
                continue
            twins[id(part)] = LayeredAttention(part, is_self_attention=is_self[name])
            twins[id(part)].__class__ = _layered_attention_class()
        else:
            twins[id(part)] = _layered_windows(part)
    for name, part in list(module.named_modules(remove_duplicate=False)):
        if id(part) in twins and name:
            module.set_submodule(name, twins[id(part)])
    _leave_fast_paths(module)
    return True


def _attention(module: nn.Module) -> dict[str, nn.Module]:
    """Attention whose forward is torch's or torchvision's own, by name."""
    return {
        name: part
        for name, part in module.named_modules()
        if getattr(type(part), "forward", None) is nn.MultiheadAttention.forward
        or (
            type(part).__module__ == "torchvision.models.swin_transformer"
            and type(part).__name__ in _WINDOW_ATTENTION
        )
    }


def _self_attention(
    module: nn.Module, names: Iterable[str], batches: Sequence[Tensor]
) -> dict[str, bool]:
    """Whether each attention that runs always has the same tensor as query, key and value."""
    is_self: dict[str, bool] = {}

    def look(name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = [*args[:3], *(kwargs[x] for x in ("query", "key", "value") if x in kwargs)]
        is_self[name] = is_self.get(name, True) and all(x is inputs[0] for x in inputs)

    with scratch_copy(module) as scratch:
        for name in names:
            part = scratch.get_submodule(name)
            part.register_forward_pre_hook(partial(look, name), with_kwargs=True)
        with eager(), torch.no_grad():
            for batch in batches:
                scratch(batch.clone())
    return is_self


def _leave_fast_paths(module: nn.Module) -> None:
    """Make torch's encoders always call their layers."""
    for part in module.modules():
        if isinstance(part, nn.TransformerEncoder):
            vars(part)["use_nested_tensor"] = 0
        elif isinstance(part, nn.TransformerEncoderLayer):
            vars(part)["activation_relu_or_gelu"] = 0
