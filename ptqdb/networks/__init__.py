"""The reference networks by name: how each is built, and which are kin."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ptqdb.closest import closest_first
from ptqdb.errors import UsageError
from ptqdb.networks.alexnet import AlexNet
from ptqdb.networks.inception import InceptionBN
from ptqdb.networks.mobilenet import MobileNetV2
from ptqdb.networks.resnet import ResNet
from ptqdb.networks.vgg import VGG

REFERENCE_IMAGE_SIZE = 32
"""Edge in pixels of the images that the reference networks are made for."""


@dataclass(frozen=True)
class ReferenceNetwork:
    """A network that ptqdb knows how to build.

    Attributes
    ----------
    architecture
        Shared by near twins (AlexNet with and without batch norm): networks of one
        architecture are left out together in validation.
    """

    name: str
    architecture: str
    factory: Callable[..., nn.Module]

    def build(self, width: float = 1.0, class_count: int = 10) -> nn.Module:
        """The network with fresh weights, in training mode."""
        return self.factory(width=width, class_count=class_count)

    def element_count(self, width: float, class_count: int) -> int:
        """How many numbers the network holds, without any memory for them."""
        with torch.device("meta"):
            network = self.build(width, class_count)
        return sum(tensor.numel() for tensor in network.state_dict().values())


REFERENCE_NETWORKS = {
    network.name: network
    for network in (
        ReferenceNetwork("AlexNet", "AlexNet", AlexNet),
        ReferenceNetwork("AlexNet_BN", "AlexNet", partial(AlexNet, batch_norm=True)),
        ReferenceNetwork("VGG_16", "VGG_16", partial(VGG, 16)),
        ReferenceNetwork("VGG_19", "VGG_19", partial(VGG, 19)),
        ReferenceNetwork("Inception_BN", "Inception_BN", InceptionBN),
        ReferenceNetwork("MobileNetV2", "MobileNetV2", MobileNetV2),
        ReferenceNetwork("ResNet_18", "ResNet_18", partial(ResNet, 18)),
        ReferenceNetwork("ResNet_50", "ResNet_50", partial(ResNet, 50)),
        ReferenceNetwork("ResNet_152", "ResNet_152", partial(ResNet, 152)),
    )
}


def reference_network(name: str) -> ReferenceNetwork:
    """The reference network of that name.

    Raises
    ------
    UsageError
        No reference network has that name; the message lists them, the closest first.
    """
    if name in REFERENCE_NETWORKS:
        return REFERENCE_NETWORKS[name]
    valid = closest_first(name, REFERENCE_NETWORKS)
    raise UsageError(f"no reference network is named {name!r}; choose from {', '.join(valid)}")
