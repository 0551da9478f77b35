"""How much noise in each layer's output moves the decision of the float network."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.errors import DataError
from ptqdb.measurement.batches import Batches
from ptqdb.measurement.facts import SensitivityFacts
from ptqdb.measurement.first_images import image_order
from ptqdb.measurement.own_code import is_lack_of_memory, is_of_network, one_line
from ptqdb.networks.copies import scratch_copy
from ptqdb.networks.eager import eager
from ptqdb.quantization.network import QuantizedNetwork
from ptqdb.quantization.precision import matrix_precision

SENSITIVITY_IMAGES = 64
"""Number of images, at most all."""


def layer_sensitivities(
    network: QuantizedNetwork,
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    device: torch.device,
) -> dict[str, SensitivityFacts]:
    """Return the sensitivity of each layer of a float network, by name; see `SensitivityFacts`.

    One forward and one backward pass for each of the first `SENSITIVITY_IMAGES` images in the
    order of ``first_images``, one at a time. Labels are not used. An image without a finite margin
    does not count, as where a class is masked, nor one without finite gradients.

    Raises
    ------
    DataError
        The network cannot be differentiated, has a single class, or no image counts.
    MemoryError, RuntimeError
        The machine lacks the memory.
    """
    order = image_order(len(images))[:SENSITIVITY_IMAGES]
    fed = preprocessing.mean, preprocessing.std
    batches = Batches(
        images, *fed, device, size=1, memory_format=network.memory_format, order=order
    )
    network.use_float()
    sums = {name: _Sums() for name in network.layers}
    image_count, margin_square_sum = 0, 0.0
    try:
        with _Outputs(network) as outputs, matrix_precision("float32"):
            for image in batches:
                margin, of_image = outputs.of_image(image)
                if not math.isfinite(margin + sum(each.total for each in of_image.values())):
                    continue
                image_count, margin_square_sum = image_count + 1, margin_square_sum + margin**2
                for name, each in of_image.items():
                    sums[name].add(each)
    except Exception as error:
        if isinstance(error, DataError) or is_lack_of_memory(error) or not is_of_network(error):
            raise
        raise DataError(f"it cannot be differentiated: {one_line(error)}") from error
    if not image_count:
        raise DataError("no image has a finite margin and finite gradients")
    return {
        name: SensitivityFacts(
            image_count=image_count,
            margin_square_sum=margin_square_sum,
            element_count=each.element_count,
            gradient_square_sum=each.gradient_square_sum,
            output_square_sum=each.output_square_sum,
        )
        for name, each in sums.items()
    }


class _Sums:
    """Sums over the elements of a layer's outputs."""

    def __init__(self) -> None:
        self.element_count = 0
        self.gradient_square_sum = self.output_square_sum = 0.0

    @property
    def total(self) -> float:
        return self.gradient_square_sum + self.output_square_sum

    def add(self, other: "_Sums") -> None:
        self.element_count += other.element_count
        self.gradient_square_sum += other.gradient_square_sum
        self.output_square_sum += other.output_square_sum


class _Outputs:
    """Runs a scratch copy of a network and keeps the outputs of its layers for a backward pass."""

    def __init__(self, network: QuantizedNetwork):
        self._network = network
        self._scratch = scratch_copy(network.module)
        self._found: list[tuple[str, Tensor]] = []

    def __enter__(self) -> "_Outputs":
        for layer in self._network.layers.values():
            layer.revise = self._keep
        self._module = self._scratch.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self._network.layers.values():
            layer.revise = None
        self._scratch.__exit__(None, None, None)

    def _keep(self, name: str, output: Tensor) -> Tensor:
        if not output.requires_grad:  # parameters of a prepared network need not require gradients
            output = output.detach().requires_grad_()
        self._found.append((name, output))
        return output.clone()  # what follows may work in place

    def of_image(self, image: Tensor) -> tuple[float, Mapping[str, _Sums]]:
        """The margin of one image, and the sums of each layer that ran."""
        self._found.clear()
        with eager(), torch.enable_grad():
            logits = self._module(image.clone()).float()
            margin = _margin(logits)
            if not margin.requires_grad:
                raise DataError("it cannot be differentiated: its outputs have no gradients")
            outputs = [output for _, output in self._found]
            gradients = torch.autograd.grad(margin, outputs, allow_unused=True)
        found: dict[str, _Sums] = {}
        for (name, output), gradient in zip(self._found, gradients, strict=True):
            each = found.setdefault(name, _Sums())
            each.element_count += output.numel()
            each.output_square_sum += _square_sum(output)
            if gradient is not None:  # None: the margin does not depend on it
                each.gradient_square_sum += _square_sum(gradient)
        self._found.clear()
        return float(margin.detach()), found


def _margin(logits: Tensor) -> Tensor:
    """The largest logit of one image minus the second largest."""
    if logits.shape[1] < 2:
        raise DataError("it has a single class, and so no margin")
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return (first - second)[0]


def _square_sum(values: Tensor) -> float:
    return float(values.detach().double().square().sum())
