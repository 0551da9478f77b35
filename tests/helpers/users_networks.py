"""Networks as people write them, each in another style."""

import math
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class Functional(nn.Module):
    """Every operation a function, the weights those of modules or bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.kernel = nn.Parameter(torch.randn(8, 8, 3, 3) / 8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1(x))
        x = functional.relu(functional.conv2d(x, self.kernel, padding=1))
        x = functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)
        return functional.linear(x, self.fc.weight, self.fc.bias)


class Nested(nn.Module):
    """Layers in dictionaries and lists, picked by name; a norm by name, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "stem": nn.ModuleList([nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)]),
                "body": nn.ModuleDict({"a": nn.Conv2d(8, 8, 1), "b": nn.Conv2d(8, 8, 1)}),
            }
        )
        self.heads = nn.ModuleDict({"class": nn.Linear(8, 10), "unused": nn.Linear(8, 3)})

    def forward(self, x: Tensor) -> Tensor:
        for part in self.layers["stem"].children():
            x = part(x)
        x = sum((layer(x) for layer in self.layers["body"].children()), torch.zeros(())).relu()
        out: Tensor = self.heads["class"](x.mean((2, 3)))
        return out


class Shared(nn.Module):
    """One block at every depth, with a norm of its own each; a head tied to an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.block = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
        self.classes = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.classes.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm in self.norms:
            x = torch.relu(norm(self.block(x)) + x)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Pyramid(nn.Module):
    """One kernel at two scales, each with statistics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.far = nn.Conv2d(3, 8, 3, padding=2, dilation=2, bias=False)
        self.far.weight = self.near.weight
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)])
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        scales = (self.near, self.far)
        y = torch.stack([norm(conv(x)) for norm, conv in zip(self.norms, scales, strict=True)])
        out: Tensor = self.head(y.relu().mean((0, 3, 4)))
        return out


class SamePadding(nn.Conv2d):
    """TensorFlow's padding: it depends on the size of what comes."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, step in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(size / step) - 1) * step + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        out: Tensor = self._conv_forward(functional.pad(x, pads), self.weight, self.bias)
        return out


class LowRank(nn.Linear):
    """A frozen layer and a low-rank update beside it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down = nn.Linear(inputs, 2, bias=False)
        self.up = nn.Linear(2, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) + self.up(self.down(x))
        return out


class Subclasses(nn.Module):
    """Layers of its own classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SamePadding(3, 8, 3, stride=2)
        self.fc = LowRank(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(torch.relu(self.conv(x)).mean((2, 3)))
        return out


class Einsum(nn.Module):
    """Attention by einsum over patches, positions made at the first pass."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.qkv = nn.Parameter(torch.randn(3, 2, 16, 8) / 4)
        self.out, self.head = nn.Linear(16, 16), nn.Linear(16, 10)
        self.positions: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.positions is None or self.positions.shape != x.shape[1:]:
            place = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
            self.positions = torch.sin(place / torch.arange(1, 17))
        x = x + self.positions
        q, k, v = torch.einsum("bnd,phde->pbhne", x, self.qkv)
        scores = torch.einsum("bhne,bhme->bhnm", q, k) / math.sqrt(8)
        mixed = torch.einsum("bhnm,bhme->bnhe", scores.softmax(-1), v)
        out: Tensor = self.head((x + self.out(mixed.flatten(2))).mean(1))
        return out


class EarlyExit(nn.Module):
    """Leaves for the first head when that is sure of every image at hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.heads = nn.ModuleList([nn.Linear(8, 10), nn.Linear(8, 10)])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        early: Tensor = self.heads[0](x.mean((2, 3)))
        if bool(early.softmax(1).amax(1).min() > 0.145):
            return early
        out: Tensor = self.heads[1](torch.relu(self.second(x)).mean((2, 3)))
        return out


class Experts(nn.Module):
    """Sends each image to one of its experts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.gate = nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Linear(8, 10) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x)).mean((2, 3))
        chosen = (self.gate(x) - self.gate.bias).argmax(1)
        out = x.new_zeros(len(x), 10)
        for number, expert in enumerate(self.experts):
            if (chosen == number).any():
                out[chosen == number] = expert(x[chosen == number])
        return out


class Counter(nn.Module):
    """Keeps statistics of what passes, as monitors do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)
        self.seen: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.average: Tensor = nn.Buffer(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x)).mean((2, 3))
        self.seen += len(x)
        self.average.mul_(0.9).add_(y.mean(0), alpha=0.1)
        out: Tensor = self.head(y)
        return out


class Casts(nn.Module):
    """Changes types on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.to(self.conv.weight.dtype)).half().relu().float()
        out: Tensor = self.head(x.double().mean((2, 3)).to(next(self.parameters()).dtype))
        return out


class Properties(nn.Module):
    """Reaches its layers by properties; a weight that is a property of its own."""

    class Positive(nn.Linear):
        """Multiplies with absolute values."""

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, self.positive, self.bias)

        @property
        def positive(self) -> Tensor:
            return self.weight.abs()

    def __init__(self) -> None:
        super().__init__()
        self._stages = nn.ModuleList([nn.Conv2d(3, 8, 3), self.Positive(8, 10)])

    @property
    def stem(self) -> nn.Module:
        return self._stages[0]

    @property
    def head(self) -> nn.Module:
        return self._stages[-1]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.stem(x).relu().mean((2, 3)))
        return out


class CalledOtherwise(nn.Module):
    """Overrides ``__call__``, of itself and of its layers; ``eval`` returns nothing."""

    class Layer(nn.Conv2d):
        def __call__(self, x: Tensor, *rest: Any) -> Tensor:
            return self.forward(x).relu()

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = self.Layer(3, 8, 3), nn.Linear(8, 10)

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x).log_softmax(1)

    def eval(self) -> None:  # type: ignore[override]
        super().eval()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.conv(x).mean((2, 3)))
        return out


class Recurrent(nn.Module):
    """Reads the rows of a picture one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(48, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 1, 3).reshape(x.size(0), x.size(2), -1)
        states, _ = self.rows(rows)
        out: Tensor = self.head(states[:, -1])
        return out


class Frames(nn.Module):
    """Rows as frames of a clip, by three-dimensional convolutions and back."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = nn.Conv3d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm3d(8)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.clip(torch.unflatten(x, 2, (4, 4)))).relu().mean(2)
        x = self.up(x, output_size=[4, 28])
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class View(nn.Module):
    """The LeNet of every course."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1, self.fc2 = nn.Linear(16, 12), nn.Linear(12, 10)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = x.view(-1, 16)
        out: Tensor = self.fc2(self.drop(functional.relu(self.fc1(x))))
        return out


NETWORKS: list[type[nn.Module]] = [
    *(Functional, Nested, Shared, Pyramid, Subclasses, Einsum, EarlyExit, Experts, Counter),
    *(Casts, Properties, CalledOtherwise, Recurrent, Frames, View),
]
