"""Output channels in the weight of a convolution or linear layer."""

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd


def by_output_channel(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return the weight's elements by output channel: (out_channels, elements per channel).

    The weight of a transposed convolution is (in_channels, out_channels / groups, ...): each group
    of input channels has its own output channels.
    """
    if isinstance(layer, _ConvTransposeNd):
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        weight = grouped.transpose(1, 2).flatten(0, 1)
    return weight.flatten(1)


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
