"""AlexNet for 32 x 32 images, with and without batch norm."""

from torch import Tensor, nn

from ptqdb.networks.reference.widths import scale_width


class AlexNet(nn.Module):
    """Five 3 x 3 convolutions and two hidden layers (Krizhevsky et al., 2012, for CIFAR).

    Parameters
    ----------
    width
        Factor on every hidden channel count; 1 gives 32-64-128-256-256 and 1024-512.
    batch_norm
        Whether each convolution is followed by batch norm.
    """

    def __init__(self, width: float = 1.0, class_count: int = 10, *, batch_norm: bool = False):
        super().__init__()
        channels = [3, *(scale_width(count, width) for count in (32, 64, 128, 256, 256))]
        layers: list[nn.Module] = []
        for index in range(5):
            layers.append(
                nn.Conv2d(channels[index], channels[index + 1], 3, padding=1, bias=not batch_norm)
            )
            if batch_norm:
                layers.append(nn.BatchNorm2d(channels[index + 1]))
            layers.append(nn.ReLU(inplace=True))
            if index < 2:
                layers.append(nn.MaxPool2d(2))
        layers.append(nn.MaxPool2d(3, stride=2))
        self.features = nn.Sequential(*layers)
        hidden = [scale_width(1024, width), scale_width(512, width)]
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(channels[5] * 3 * 3, hidden[0]),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(inplace=True),
            nn.Linear(hidden[1], class_count),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, class_count)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits
