"""Networks that are prepared for quantization, and their parts; each prepared one is checked."""

import torch
from torch import Tensor, nn

from ptqdb.networks.copies import scratch_copy
from ptqdb.quantization.agreement import relative_distance
from ptqdb.quantization.network import QuantizedNetwork, prepare

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def lived_in(module: nn.Module) -> nn.Module:
    """Statistics of batch norms that are far from those of a fresh one."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.3, generator=generator)
    return module.eval()


def prepared(module: nn.Module) -> QuantizedNetwork:
    """The prepared network, once its logits are seen to be those of the given one."""
    network = prepare(lived_in(module), IMAGES)
    images = IMAGES.to(memory_format=network.memory_format)
    for batch in torch.split(images, 4 if network.is_batched else 1):
        with torch.no_grad(), scratch_copy(module) as one, scratch_copy(network.module) as two:
            expected, found = one(batch.contiguous().clone()), two(batch.clone())
        assert relative_distance([found], [expected]) < 1e-5
    return network


class Parts(nn.Module):
    """What most networks below are made of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def classify(self, y: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(y).mean((2, 3)))
        return out


class Bare(nn.Module):
    """Without a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def classify(self, y: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(y).mean((2, 3)))
        return out
