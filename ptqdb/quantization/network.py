"""A network whose convolutions and linear layers can be switched between floats and codes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ptqdb.errors import DataError, UnsupportedLayerError
from ptqdb.quantization.attention import replace_attention
from ptqdb.quantization.folding import FoldedNetwork, fold_batch_norm
from ptqdb.quantization.layers import (
    QUANTIZED_KINDS,
    CodedLayer,
    QuantizedLayer,
    use_float_layers,
    use_quantized_layers,
)

NOT_LINEAR = "its own forward does not scale with its weight"


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
    left
        Layers that run and stay in float all the same, by name, with the reason.
    """

    module: nn.Module
    layers: Mapping[str, QuantizedLayer]
    folding: FoldedNetwork
    left: Mapping[str, str]

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


@dataclass(frozen=True)
class _Uses:
    """What the layers read in a pass over the example, in the order of their first use.

    Attributes
    ----------
    tensors
        By layer, what it read each time: identity and version, which counts what wrote into it
        in place. The tensors themselves are kept, so that an identity means one tensor.
    """

    tensors: Mapping[str, list[tuple[int, int]]]
    first_inputs: Mapping[str, Tensor]


def _uses(network: QuantizedNetwork, example: Tensor) -> _Uses:
    alive: list[Tensor] = []
    tensors: dict[str, list[tuple[int, int]]] = {}
    first_inputs: dict[str, Tensor] = {}

    def look(name: str, inputs: Tensor) -> None:
        alive.append(inputs)
        tensors.setdefault(name, []).append((id(inputs), inputs._version))
        if not network.layers[name].has_torch_forward:
            first_inputs.setdefault(name, inputs.clone())

    network.observe(look, [example], needs_versions=True)
    return _Uses(tensors, first_inputs)


def _in_order(network: QuantizedNetwork, example: Tensor) -> QuantizedNetwork:
    """Keep the layers that can compute in codes, in the order of execution; link readers.

    The others are put back as they were: those that did not run, for nothing would be quantized
    by them, and those whose outputs are no sums of products.
    """
    uses = _uses(network, example)
    left = {
        name: NOT_LINEAR
        for name, inputs in uses.first_inputs.items()
        if not network.layers[name].computes_in_scaled_units(inputs)
    }
    silent = {name for name in network.layers if name not in uses.tensors}
    use_float_layers(network.module, silent | left.keys())
    layers = {name: network.layers[name] for name in uses.tensors if name not in left}
    _link_readers(layers, uses)
    return QuantizedNetwork(network.module, layers, network.folding, left)


def _link_readers(layers: Mapping[str, QuantizedLayer], uses: _Uses) -> None:
    """Link layers that read one tensor; one that runs several times reads several."""
    first: dict[tuple[int, int], str] = {}
    for name, layer in layers.items():
        if len(uses.tensors[name]) > 1:
            continue
        reader = first.setdefault(uses.tensors[name][0], name)
        if reader != name:
            layer.first_reader = layers[reader]
            layers[reader].is_read_on = True


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
    UnsupportedLayerError
        No layer can be quantized.
    """
    for name, tensor in module.state_dict().items():
        if is_lazy(tensor):
            raise DataError(f"expected weights, found none yet in {name}: the layer is lazy")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"expected finite weights, found NaN or infinity in {name}")
    if isinstance(module, QUANTIZED_KINDS):
        module = nn.Sequential(module)  # a single layer is given a place to be replaced in
    folding = fold_batch_norm(module, example)
    for parameter in folding.module.parameters():
        parameter.requires_grad_(False)
    replace_attention(folding.module, example)
    layers = use_quantized_layers(folding.module)
    network = _in_order(QuantizedNetwork(folding.module, layers, folding, {}), example)
    if not network.layers:
        raise UnsupportedLayerError(
            "expected a convolution or linear layer that runs as a module, found none in "
            f"{type(module).__name__}: there is nothing to quantize"
        )
    return network


def input_ranges(network: QuantizedNetwork, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The largest absolute input of each layer over the calibration images: float32, shape ().

    Raises
    ------
    DataError
        An input is not finite, or a layer never ran; the message names the layer.
    """
    ranges: dict[str, Tensor] = {}

    def widen(name: str, inputs: Tensor) -> None:
        if not inputs.numel():
            return
        low, high = torch.aminmax(inputs)
        max_abs = torch.maximum(-low, high)
        ranges[name] = torch.maximum(ranges[name], max_abs) if name in ranges else max_abs

    network.observe(widen, batches)
    for name, max_abs in ranges.items():
        if not bool(torch.isfinite(max_abs)):
            raise DataError(f"expected finite activations, found others entering layer {name}")
    silent = [name for name in network.layers if name not in ranges]
    if silent:
        raise DataError(
            f"expected every layer to run on the calibration images, found none in {silent[0]}: "
            "the network takes another way for each image"
        )
    return ranges
