"""Networks whose convolutions and linear layers can switch between floats and codes."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ptqdb.errors import DataError, UnsupportedLayerError
from ptqdb.networks.copies import (
    full_copy,
    has_computed_weights,
    scratch_copy,
    settle_computed_weights,
    sharing_copy,
)
from ptqdb.networks.eager import eager
from ptqdb.networks.given import float_network
from ptqdb.networks.keys import refuse_infinite
from ptqdb.quantization.agreement import PASSES_OF_RANDOM_NETWORKS, GivenNetwork
from ptqdb.quantization.attention import replace_attention
from ptqdb.quantization.codes import CodedLayer
from ptqdb.quantization.folding import Fold, Folding, batch_norms, find_folds
from ptqdb.quantization.input_codes import InputRange, channel_dimension
from ptqdb.quantization.layers import QUANTIZED_KINDS, QuantizedLayer, quantizable_layers
from ptqdb.quantization.tracing import Trace, watch

PROOF_IMAGES = 8
"""Maximum number of images for the comparison of a prepared network with the given one."""

Item = TypeVar("Item")

NOT_LINEAR = "its output does not scale with its weight"
OTHER_OUTPUTS = "the network's outputs change when this layer computes in codes"


@dataclass(frozen=True)
class TrainedTensors:
    """Weight and bias of a layer as trained, float32, before batch norm was folded into them."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class QuantizedNetwork:
    """A copy of a float network, proven to return the same outputs, with its quantized layers.

    Attributes
    ----------
    module
        Maps images to logits; computes in floats by default.
    layers
        By qualified name, in the order of execution.
    folding
        Which batch norms were folded.
    trained
        The tensors as trained of the layers that a batch norm was folded into, by layer. They
        keep the weights of the given network in memory.
    left
        Layers that run but stay in float, by name, with the reason.
    memory_format
        Memory format of the images.
    is_batched
        Whether an image has the same outputs alone and in a batch. If not, images are processed one
        at a time.
    draws
        Whether a forward pass draws random numbers, although all passes gave the same outputs.
    """

    module: nn.Module
    layers: Mapping[str, QuantizedLayer]
    folding: Folding = field(default_factory=Folding)
    trained: Mapping[str, TrainedTensors] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    memory_format: torch.memory_format = torch.contiguous_format
    is_batched: bool = True
    draws: bool = False

    @property
    def first_readers(self) -> dict[str, str]:
        """For each layer, by name, the first layer that reads the same input; often itself."""
        return {
            name: name if layer.first_reader is None else layer.first_reader.name
            for name, layer in self.layers.items()
        }

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks for the user on how the network was prepared."""
        said = [self.folding.statement]
        if not self.is_batched:
            said.append("an image's outputs depend on its batch: measured one image at a time")
        if self.draws:
            said.append(
                "the network draws random numbers in evaluation; its outputs were the same in "
                f"{PASSES_OF_RANDOM_NETWORKS} passes"
            )
        return tuple(filter(None, said))

    @property
    def last_started(self) -> str | None:
        """The layer that started last since the last `use_…`, if any."""
        last = max(self.layers.values(), key=lambda layer: layer.start_number)
        return last.name if last.start_number else None

    def keep(self, names: Collection[str]) -> "QuantizedNetwork":
        """Return a network with some of the layers, in the given order; others stay in float."""
        for name, layer in self.layers.items():
            if name not in names:
                layer.detach()
        return replace(self, layers={name: self.layers[name] for name in names})

    def release(self) -> None:
        """Restore each layer's ``forward``, which frees the memory at once."""
        for layer in self.layers.values():
            layer.detach()

    def use_float(self) -> None:
        """Compute in floats."""
        for layer in self.layers.values():
            layer.use_float()

    def use_codes(
        self, coded: Mapping[str, CodedLayer], scope: str = "all", *, in_integers: bool = False
    ) -> None:
        """Compute with the codes of the scope; see ``QuantizedLayer.use_codes``.

        Parameters
        ----------
        coded
            By layer; other layers compute in floats.
        """
        self.use_float()
        for name, codes in coded.items():
            self.layers[name].use_codes(codes, scope, in_integers=in_integers)

    def observe(self, observer: Callable[[str, Tensor], None], batches: Iterable[Tensor]) -> None:
        """Run a float pass and call the observer with each layer's name and input."""
        self.use_float()
        for layer in self.layers.values():
            layer.observe = observer
        try:
            with scratch_copy(self.module) as scratch, eager(), torch.no_grad():
                for batch in batches:
                    scratch(batch)
        finally:
            for layer in self.layers.values():
                layer.observe = None


@dataclass(frozen=True)
class _Changes:
    """The changes to a copy of the given network before it is measured."""

    folds: tuple[Fold, ...] = ()
    layers: tuple[str, ...] = ()
    is_channels_last: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.is_channels_last else torch.contiguous_format

    def apply(self, module: nn.Module) -> dict[str, QuantizedLayer]:
        """Change the module in place; return its quantized layers, attached."""
        layers = {name: QuantizedLayer(module.get_submodule(name), name) for name in self.layers}
        for fold in self.folds:
            fold.apply(module)
        if self.is_channels_last:
            for weight_owner in _convolutions(module):
                weight = weight_owner.weight
                assert isinstance(weight, Tensor)
                last = weight.detach().to(memory_format=torch.channels_last)
                weight_owner.weight = nn.Parameter(last, requires_grad=False)
        for layer in layers.values():
            layer.attach()
        return layers


def prepare(module: nn.Module, images: Tensor) -> QuantizedNetwork:
    """Fold batch norms and prepare layers of a copy; verify that its outputs are the same.

    The copy is compared with the network on the images. If they differ, changes are dropped until
    they agree: first channels-last memory, then folded norms, then quantized layers.

    Parameters
    ----------
    module
        Any float network; it is not modified.
    images
        Normalized, (N, channels, height, width), for the order of execution and the comparison. One
        suffices; more make the comparison stricter.

    Raises
    ------
    DataError
        A weight is not finite, the outputs are random, or the network is already quantized or a
        TorchScript module; the message says where.
    UnsupportedLayerError
        No layer can be quantized.
    """
    module = float_network(sharing_copy(module))
    module.eval()  # a subclass may return None
    for each, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise DataError(f"expected weights, found none in {each}: the layer is lazy")
    refuse_infinite(module, type(module).__name__)
    name = type(module).__name__
    if isinstance(module, QUANTIZED_KINDS):
        module = nn.Sequential(module)  # gives the layer a name
    given = GivenNetwork(module, images)
    base = _base(given)
    traces = _traces(base, given)
    _refuse_foreign(traces[0])
    layers, left = _linear_layers(base, traces)
    wanted = _Changes(find_folds(base, traces), layers, bool(_convolutions(base)))
    changes = _agreeing(base, given, wanted)
    left |= {each: OTHER_OUTPUTS for each in wanted.layers if each not in changes.layers}
    if not changes.layers:
        raise UnsupportedLayerError(
            "expected a convolution or linear layer that runs as a module, found none in "
            f"{name}: there is nothing to quantize" + _reasons(left)
        )
    folded = tuple(fold.norm for fold in changes.folds)
    unfolded = tuple(name for name in batch_norms(base) if name not in folded)
    if not _holds(base, given, changes, in_scaled_units=False):
        given.refuse(base)
    trained = _trained_tensors(base, changes)
    quantized = changes.apply(base)
    for each in trained:
        quantized[each].is_folded = True
    if not any(trace.depends_on_values for trace in traces):
        _link_readers(quantized, traces[0])
    return QuantizedNetwork(
        base,
        quantized,
        Folding(folded, unfolded),
        trained,
        left,
        changes.memory_format,
        given.is_batched,
        given.draws,
    )


def _trained_tensors(base: nn.Module, changes: _Changes) -> dict[str, TrainedTensors]:
    """The tensors of the layers that a batch norm will be folded into."""
    folded = {fold.layer for fold in changes.folds}
    layers = {
        name: QuantizedLayer(base.get_submodule(name), name)
        for name in changes.layers
        if name in folded
    }
    return {name: TrainedTensors(layer.weight, layer.bias) for name, layer in layers.items()}


def _refuse_foreign(trace: Trace) -> None:
    if trace.foreign:
        raise DataError(
            "expected all weights among the network's parameters, found one of shape "
            f"{tuple(trace.foreign[0].shape)} from elsewhere: a plain list, a closure "
            "or a global variable; register its module, for example in an nn.ModuleList"
        )


def _reasons(left: Mapping[str, str]) -> str:
    first = next(iter(left.items()), None)
    return "" if first is None else f" ({first[0]}: {first[1]})"


def _base(given: GivenNetwork) -> nn.Module:
    """A copy with plain parameters and, if it agrees, attention that calls its layers."""
    base = sharing_copy(given.module)
    if has_computed_weights(base):
        settled = full_copy(base)
        settle_computed_weights(settled)
        base = settled if _agrees(settled, given) else base
    layered = sharing_copy(base)
    if replace_attention(layered, given.batches()) and _agrees(layered, given):
        base = layered
    return base


def _agrees(module: nn.Module, given: GivenNetwork) -> bool:
    with scratch_copy(module) as scratch:
        return given.agrees(scratch, partial(_exact, module))


def _exact(module: nn.Module) -> nn.Module:
    return full_copy(module).double()


def _traces(base: nn.Module, given: GivenNetwork) -> list[Trace]:
    """Traces of two images together, if batches are possible, and of one alone."""
    names = [*quantizable_layers(base), *batch_norms(base)]
    one = given.images[:1]
    batches = [torch.cat([one, given.images[-1:]]), one] if given.is_batched else [one]
    return [watch(base, batch, names) for batch in batches]


def _linear_layers(
    base: nn.Module, traces: Sequence[Trace]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The layers that can compute in codes, in the order of execution, and those that cannot.

    Omits layers that did not run, unless values of an image could make them run.
    """
    found = quantizable_layers(base)
    ordered = [name for name in traces[0].calls if name in found]
    if any(trace.depends_on_values for trace in traces):
        ordered += [name for name in found if name not in ordered]
    left = {}
    for name in ordered:
        call = next(iter(traces[0].calls.get(name, ())), None)
        if call is None:
            continue
        if call.input is None or call.output is None:
            left[name] = "its input or output is not a single tensor"
        elif any((name, inner) in traces[0].nested for inner in found):
            left[name] = "another layer runs inside it"
        elif not found[name].computes_in_scaled_units(call.input):
            left[name] = NOT_LINEAR
    return tuple(name for name in ordered if name not in left), left


def _convolutions(module: nn.Module) -> list[nn.Module]:
    """Convolutions whose weights can be in channels-last memory."""
    return [
        layer.layer
        for layer in quantizable_layers(module).values()
        if layer.weight.ndim == 4 and not isinstance(layer.layer, nn.Linear)
    ]


def _agreeing(base: nn.Module, given: GivenNetwork, wanted: _Changes) -> _Changes:
    """The most changes under which the network still returns the same outputs.

    Raises
    ------
    DataError
        The outputs differ even without any change.
    """
    holds = partial(_holds, base, given)
    for changes in (wanted, replace(wanted, is_channels_last=False)):
        if holds(changes):
            return changes
    kept = _Changes()
    if not holds(kept):
        given.refuse(base)
    folds = _grown(wanted.folds, lambda some: holds(replace(kept, folds=some)))
    kept = replace(kept, folds=folds)
    layers = _grown(wanted.layers, lambda some: holds(replace(kept, layers=some)))
    kept = replace(kept, layers=layers)
    last = replace(kept, is_channels_last=wanted.is_channels_last)
    return last if holds(last) else kept


def _holds(
    base: nn.Module, given: GivenNetwork, changes: _Changes, *, in_scaled_units: bool = True
) -> bool:
    """Whether the network agrees with the changes, its layers in scaled units."""

    def changed(module: nn.Module) -> nn.Module:
        for layer in changes.apply(module).values():
            if in_scaled_units:
                layer.use_scaled_units()
        return module

    with scratch_copy(base) as scratch:
        return given.agrees(
            changed(scratch),
            lambda: changed(_exact(base)),
            changes.memory_format,
            may_overflow=in_scaled_units,
        )


def _grown(items: tuple[Item, ...], holds: Callable[[tuple[Item, ...]], bool]) -> tuple[Item, ...]:
    """A large subset of items that holds, found by bisecting the groups that do not."""
    kept: tuple[Item, ...] = ()
    groups = [items]
    while groups:
        group = groups.pop(0)
        if group and holds(kept + group):
            kept += group
        elif len(group) > 1:
            middle = len(group) // 2
            groups[:0] = [group[:middle], group[middle:]]
    return kept


def _link_readers(layers: Mapping[str, QuantizedLayer], trace: Trace) -> None:
    """Link layers that read the same tensor; a layer that runs several times reads several.

    Layers that find the channels in another dimension may quantize it in another way.
    """
    first: dict[tuple[object, int], str] = {}
    for name, layer in layers.items():
        calls = trace.calls[name]
        if len(calls) > 1 or calls[0].input_key is None:
            continue
        key = (calls[0].input_key, channel_dimension(layer.layer))
        reader = first.setdefault(key, name)
        if reader != name:
            layer.first_reader = layers[reader]
            layers[reader].is_read_on = True


def input_ranges(network: QuantizedNetwork, batches: Iterable[Tensor]) -> dict[str, InputRange]:
    """Return the range of each layer's input over the calibration images.

    Ordered by the first run of each layer. Layers that never run are omitted.

    Raises
    ------
    DataError
        An input is not finite; the message names the layer.
    """
    ranges: dict[str, InputRange] = {}

    def widen(name: str, inputs: Tensor) -> None:
        if inputs.numel():
            found = InputRange(*torch.aminmax(inputs.float()))
            ranges[name] = found.joined(ranges.get(name))

    network.observe(widen, batches)
    for name, found in ranges.items():
        if not bool(torch.isfinite(found.max_abs)):
            raise DataError(f"expected finite activations, found others entering layer {name}")
    return ranges
