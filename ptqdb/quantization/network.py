"""A network whose convolutions and linear layers can be switched between floats and codes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.quantization.folding import FoldedNetwork, fold_batch_norm
from ptqdb.quantization.layers import CodedLayer, QuantizedLayer, use_quantized_layers


@dataclass(frozen=True)
class QuantizedNetwork:
    """The folded copy of a float network, its quantized layers in the order of execution.

    Attributes
    ----------
    module
        Takes images and gives logits, with floats until told otherwise.
    layers
        By qualified name.
    folding
        What happened to the batch norms.
    """

    module: nn.Module
    layers: Mapping[str, QuantizedLayer]
    folding: FoldedNetwork

    @property
    def first_readers(self) -> dict[str, str]:
        """For each layer, by name, the first layer that reads the same input; often itself."""
        return {
            name: name if layer.first_reader is None else layer.first_reader.name
            for name, layer in self.layers.items()
        }

    def use_float(self) -> None:
        """Compute with floats."""
        for layer in self.layers.values():
            layer.use_float()

    def use_codes(self, coded: Mapping[str, CodedLayer], scope: str = "all") -> None:
        """Compute with the codes of the scope; see ``QuantizedLayer.use_codes``."""
        for name, layer in self.layers.items():
            layer.use_codes(coded[name], scope)

    def observe(
        self,
        observer: Callable[[str, Tensor], None],
        batches: Iterable[Tensor],
        *,
        needs_versions: bool = False,
    ) -> None:
        """Run a float pass and show each layer's name and input to the observer.

        Parameters
        ----------
        needs_versions
            Whether the observer asks tensors how often they were written to, which those of
            inference mode do not know.
        """
        self.use_float()
        for layer in self.layers.values():
            layer.observe = observer
        try:
            with torch.no_grad() if needs_versions else torch.inference_mode():
                for batch in batches:
                    self.module(batch)
        finally:
            for layer in self.layers.values():
                layer.observe = None


def _link_readers(network: QuantizedNetwork, example: Tensor) -> QuantizedNetwork:
    """Put the layers in the order of execution and link those that read one tensor.

    Tensors are kept alive meanwhile, so that an identity means one tensor; the version counts
    what wrote into it in place.
    """
    first: dict[tuple[int, int], str] = {}
    alive: list[Tensor] = []
    order: dict[str, None] = {}

    def link(name: str, inputs: Tensor) -> None:
        alive.append(inputs)
        repeated = name in order
        order[name] = None
        reader = first.setdefault((id(inputs), inputs._version), name)
        layer = network.layers[name]
        if repeated:
            layer.first_reader = None
        elif reader != name:
            layer.first_reader = network.layers[reader]
            network.layers[reader].is_read_on = True

    network.observe(link, [example], needs_versions=True)
    ordered = {name: network.layers[name] for name in order}
    return QuantizedNetwork(network.module, ordered, network.folding)


def prepare(module: nn.Module, example: Tensor) -> QuantizedNetwork:
    """Fold, and put quantized layers into a copy; the float network is not modified.

    Parameters
    ----------
    example
        One normalized image, (1, channels, height, width): it shows the order of execution.

    Raises
    ------
    DataError
        A weight is not finite; the message names it.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"expected finite weights, found NaN or infinity in {name}")
    folding = fold_batch_norm(module)
    for parameter in folding.module.parameters():
        parameter.requires_grad_(False)
    layers = use_quantized_layers(folding.module)
    return _link_readers(QuantizedNetwork(folding.module, layers, folding), example)


def input_ranges(network: QuantizedNetwork, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The largest absolute input of each layer over the calibration images: float32, shape ().

    Raises
    ------
    DataError
        An input is not finite; the message names the layer.
    """
    ranges: dict[str, Tensor] = {}

    def widen(name: str, inputs: Tensor) -> None:
        low, high = torch.aminmax(inputs)
        max_abs = torch.maximum(-low, high)
        ranges[name] = torch.maximum(ranges[name], max_abs) if name in ranges else max_abs

    network.observe(widen, batches)
    for name, max_abs in ranges.items():
        if not bool(torch.isfinite(max_abs)):
            raise DataError(f"expected finite activations, found others entering layer {name}")
    return ranges
