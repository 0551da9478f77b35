"""VGG-16 and VGG-19 with batch norm, for 32 x 32 images."""

from torch import Tensor, nn

from ptqdb.networks.reference.widths import scale_width

STAGE_CHANNELS = (64, 128, 256, 512, 512)
STAGE_DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """Five stages of 3 x 3 convolutions, head 4096-4096 (Simonyan and Zisserman, 2015).

    Parameters
    ----------
    depth
        16 or 19: the number of convolutions and linear layers.
    width
        Factor on every hidden channel count.
    """

    def __init__(self, depth: int, width: float = 1.0, class_count: int = 10):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage_channels, stage_depth in zip(STAGE_CHANNELS, STAGE_DEPTHS[depth], strict=True):
            for _ in range(stage_depth):
                out_channels = scale_width(stage_channels, width)
                layers += [
                    nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(inplace=True),
                ]
                channels = out_channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        hidden = scale_width(4096, width)
        self.classifier = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, class_count),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, class_count)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits
