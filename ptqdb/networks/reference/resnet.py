"""ResNet-18, -50 and -152 for 32 x 32 images."""

from torch import Tensor, nn

from ptqdb.networks.reference.widths import scale_width

STAGE_CHANNELS = (64, 128, 256, 512)
STAGE_DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
SHALLOWEST_BOTTLENECK = 50
EXPANSION = 4
"""Output channels of a bottleneck relative to its 3 x 3 convolution."""


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> list[nn.Module]:
    """Convolution with same padding at stride 1, and its batch norm."""
    padding = kernel_size // 2
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class Block(nn.Module):
    """Convolutions with a shortcut, and the ReLU of their sum.

    Parameters
    ----------
    channels
        Of the 3 x 3 convolutions. A bottleneck has four times as many outputs.
    stride
        Of the first 3 x 3 convolution and of the shortcut.
    is_bottleneck
        1 x 1, 3 x 3 and 1 x 1 convolutions instead of two of 3 x 3.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, is_bottleneck: bool):
        super().__init__()
        self.out_channels = channels * EXPANSION if is_bottleneck else channels
        if is_bottleneck:
            layers = [
                *convolution(in_channels, channels, 1),
                nn.ReLU(inplace=True),
                *convolution(channels, channels, 3, stride),
                nn.ReLU(inplace=True),
                *convolution(channels, self.out_channels, 1),
            ]
        else:
            layers = [
                *convolution(in_channels, channels, 3, stride),
                nn.ReLU(inplace=True),
                *convolution(channels, channels, 3),
            ]
        self.residual = nn.Sequential(*layers)
        changes_shape = stride != 1 or in_channels != self.out_channels
        self.shortcut = nn.Sequential(
            *(convolution(in_channels, self.out_channels, 1, stride) if changes_shape else ())
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        outputs: Tensor = self.activation(self.residual(images) + self.shortcut(images))
        return outputs


class ResNet(nn.Module):
    """A 3 x 3 convolution, four stages of residual blocks, one linear layer (He et al., 2016).

    There is no pooling before the stages; the last three stages halve the resolution. The 3 x 3
    convolution of a bottleneck has the stride.

    Parameters
    ----------
    depth
        18, 50 or 152: the number of convolutions and linear layers, not counting shortcuts.
    width
        Factor on every hidden channel count.
    """

    def __init__(self, depth: int, width: float = 1.0, class_count: int = 10):
        super().__init__()
        channels = scale_width(STAGE_CHANNELS[0], width)
        layers: list[nn.Module] = [*convolution(3, channels, 3), nn.ReLU(inplace=True)]
        for stage, block_count in enumerate(STAGE_DEPTHS[depth]):
            for number in range(block_count):
                block = Block(
                    channels,
                    scale_width(STAGE_CHANNELS[stage], width),
                    stride=2 if stage > 0 and number == 0 else 1,
                    is_bottleneck=depth >= SHALLOWEST_BOTTLENECK,
                )
                layers.append(block)
                channels = block.out_channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, class_count)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, class_count)."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits
