"""Residual networks for 32 x 32 images, written from a description of what others trained.

Three stages of 16, 32 and 64 channels, a shortcut without parameters (every other pixel, zeros
for the new channels, a quarter of them before and after), the mean over the picture, one linear
layer.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            each = self.added // 2  # a quarter of the new channels' count
            shortcut = pad(shortcut, (0, 0, 0, 0, each, each))
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + shortcut)


class ResidualNetwork(nn.Module):
    """So many blocks in each stage."""

    def __init__(self, block_count: int, class_count: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, block_count)
        self.layer2 = self._stage(16, 32, block_count)
        self.layer3 = self._stage(32, 64, block_count)
        self.linear = nn.Linear(64, class_count)

    @staticmethod
    def _stage(inputs: int, outputs: int, block_count: int) -> nn.Sequential:
        first = Block(inputs, outputs, 1 if inputs == outputs else 2)
        return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(block_count - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.linear(x.mean((2, 3)))
        return out


def resnet20() -> nn.Module:
    return ResidualNetwork(3)


def resnet32() -> nn.Module:
    return ResidualNetwork(5)


def hundred_classes() -> nn.Module:
    return ResidualNetwork(3, 100)
