"""The reference networks by name: how each is built, and its family."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ptqdb.errors import UsageError
from ptqdb.support.closest import closest_first

if TYPE_CHECKING:
    from torch import nn

REFERENCE_IMAGE_SIZE = 32
"""Edge in pixels of the images that the reference networks take."""


@dataclass(frozen=True)
class ReferenceNetwork:
    """A network that ptqdb can build.

    Attributes
    ----------
    architecture
        Shared by variants (AlexNet with and without batch norm): networks of one architecture are
        left out together in validation.
    module, class_name, arguments
        Location of its class in this package, and its arguments.
    """

    name: str
    architecture: str
    module: str
    class_name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def build(self, width: float = 1.0, class_count: int = 10) -> "nn.Module":
        """Return the network with fresh weights, in training mode."""
        kind = getattr(import_module(f"ptqdb.networks.reference.{self.module}"), self.class_name)
        built: nn.Module = kind(**self.arguments, width=width, class_count=class_count)
        return built

    def element_count(self, width: float, class_count: int) -> int:
        """Return the number of elements of the network, without allocating them."""
        import torch

        with torch.device("meta"):
            network = self.build(width, class_count)
        return sum(tensor.numel() for tensor in network.state_dict().values())


REFERENCE_NETWORKS = {
    network.name: network
    for network in (
        ReferenceNetwork("AlexNet", "AlexNet", "alexnet", "AlexNet"),
        ReferenceNetwork("AlexNet_BN", "AlexNet", "alexnet", "AlexNet", {"batch_norm": True}),
        ReferenceNetwork("VGG_16", "VGG_16", "vgg", "VGG", {"depth": 16}),
        ReferenceNetwork("VGG_19", "VGG_19", "vgg", "VGG", {"depth": 19}),
        ReferenceNetwork("Inception_BN", "Inception_BN", "inception", "InceptionBN"),
        ReferenceNetwork("MobileNetV2", "MobileNetV2", "mobilenet", "MobileNetV2"),
        ReferenceNetwork("ResNet_18", "ResNet_18", "resnet", "ResNet", {"depth": 18}),
        ReferenceNetwork("ResNet_50", "ResNet_50", "resnet", "ResNet", {"depth": 50}),
        ReferenceNetwork("ResNet_152", "ResNet_152", "resnet", "ResNet", {"depth": 152}),
    )
}
"""By name. PyTorch is only imported to build one, so a wrong name is reported early."""


def reference_network(name: str) -> ReferenceNetwork:
    """Return the reference network of that name.

    Raises
    ------
    UsageError
        No reference network has that name; the message lists them, the closest first.
    """
    if name in REFERENCE_NETWORKS:
        return REFERENCE_NETWORKS[name]
    valid = closest_first(name, REFERENCE_NETWORKS)
    raise UsageError(f"no reference network is named {name!r}; choose from {', '.join(valid)}")
