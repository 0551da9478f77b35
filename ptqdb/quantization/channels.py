"""Output channels in the weight of a convolution or linear layer."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd


def by_output_channel(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return the weight's elements by output channel: (out_channels, elements per channel)."""
    return _output_first(layer, weight).flatten(1)


def _output_first(layer: nn.Module | None, weight: Tensor) -> Tensor:
    """The weight as (out_channels, input channels per group, ...).

    The weight of a transposed convolution is (in_channels, out_channels / groups, ...): each group
    of input channels has its own output channels.
    """
    if not isinstance(layer, _ConvTransposeNd):
        return weight
    grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
    return grouped.transpose(1, 2).flatten(0, 1)


def by_fan_in(layer: nn.Module | None, weight: Tensor) -> Tensor:
    """Return the fan-in of each output channel: (out_channels, fan-in), input channels fastest.

    The order of positions in the kernel, then channels, is that in which a convolution in
    channels-last memory sums its products, and for such a weight a view.

    Examples
    --------
    >>> import torch
    >>> by_fan_in(None, torch.arange(6).reshape(1, 2, 3)).tolist()
    [[0, 3, 1, 4, 2, 5]]
    """
    return _output_first(layer, weight).movedim(1, -1).flatten(1)


def from_fan_in(layer: nn.Module | None, rows: Tensor, weight: Tensor) -> Tensor:
    """Return rows of `by_fan_in` in the shape and memory format of the weight."""
    ordered = _output_first(layer, weight)
    found = rows.view(ordered.shape[0], *ordered.shape[2:], ordered.shape[1]).movedim(-1, 1)
    if isinstance(layer, _ConvTransposeNd):
        grouped = found.reshape(layer.groups, -1, *found.shape[1:]).transpose(1, 2)
        found = grouped.reshape(weight.shape)
    return found if found.stride() == weight.stride() else torch.empty_like(weight).copy_(found)


def along_output_channels(layer: nn.Module, values: Tensor) -> Tensor:
    """Reshape one value per output channel, (out_channels,), to broadcast over the weight."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    ones = [1] * (weight.ndim - 2)
    if not isinstance(layer, _ConvTransposeNd):
        return values.reshape(-1, 1, *ones)
    rows = values.reshape(layer.groups, -1)
    return rows.repeat_interleave(weight.shape[0] // layer.groups, 0).reshape(
        weight.shape[0], -1, *ones
    )
