"""A network whose convolutions and linear layers can be switched between floats and codes."""

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
from ptqdb.quantization.layers import QUANTIZED_KINDS, QuantizedLayer, quantizable_layers
from ptqdb.quantization.tracing import Trace, watch

PROOF_IMAGES = 8
"""On how many images, at most, a prepared network is compared with the given one."""

Item = TypeVar("Item")

NOT_LINEAR = "its own forward does not scale with its weight"
OTHER_OUTPUTS = "the network puts out something else when this layer computes in codes"


@dataclass(frozen=True)
class QuantizedNetwork:
    """A copy of a float network that was proven to put out the same, with its quantized layers.

    Attributes
    ----------
    module
        Takes images and gives logits, with floats until told otherwise.
    layers
        By qualified name, in the order of execution.
    folding
        What happened to the batch norms.
    left
        Layers that run and stay in float all the same, by name, with the reason.
    memory_format
        What images are fed in.
    is_batched
        Whether an image has the same outputs alone and among others. If not, images are fed one
        at a time.
    draws
        Whether a pass draws random numbers, although the outputs were the same in every pass.
    """

    module: nn.Module
    layers: Mapping[str, QuantizedLayer]
    folding: Folding = field(default_factory=Folding)
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
        """What a user should know of how the network was prepared."""
        said = [self.folding.statement]
        if not self.is_batched:
            said.append("an image has other outputs among other images: measured one at a time")
        if self.draws:
            said.append(
                "the network draws random numbers in evaluation; its outputs were the same in "
                f"{PASSES_OF_RANDOM_NETWORKS} passes"
            )
        return tuple(filter(None, said))

    @property
    def last_started(self) -> str | None:
        """The layer that started last since the network was told how to compute, if any did."""
        last = max(self.layers.values(), key=lambda layer: layer.start_number)
        return last.name if last.start_number else None

    def keep(self, names: Collection[str]) -> "QuantizedNetwork":
        """Return the network with some of its layers, in the order given; the others are float."""
        for name, layer in self.layers.items():
            if name not in names:
                layer.detach()
        return replace(self, layers={name: self.layers[name] for name in names})

    def release(self) -> None:
        """Give all layers back their own ``forward``, so that the memory is free at once."""
        for layer in self.layers.values():
            layer.detach()

    def use_float(self) -> None:
        """Compute with floats."""
        for layer in self.layers.values():
            layer.use_float()

    def use_codes(self, coded: Mapping[str, CodedLayer], scope: str = "all") -> None:
        """Compute with the codes of the scope; see ``QuantizedLayer.use_codes``.

        Parameters
        ----------
        coded
            By layer; those that are left out compute with floats.
        """
        self.use_float()
        for name, codes in coded.items():
            self.layers[name].use_codes(codes, scope)

    def observe(self, observer: Callable[[str, Tensor], None], batches: Iterable[Tensor]) -> None:
        """Run a float pass and show each layer's name and input to the observer."""
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
    """What is done to a copy of the given network before it is measured."""

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
    """Fold batch norms and quantize layers of a copy; prove that it puts out the same.

    The copy is compared with the network on the images. Where they differ, less is done: no
    channels-last memory, then fewer norms folded, then fewer layers quantized, until they agree.

    Parameters
    ----------
    module
        Any float network; it is not modified.
    images
        Normalized, (N, channels, height, width): they show the order of execution, and are what
        both are compared on. One is enough, more prove more.

    Raises
    ------
    DataError
        A weight is not finite, the outputs are random, or the network is quantized already or a
        TorchScript module; the message says where.
    UnsupportedLayerError
        No layer can be quantized.
    """
    module = float_network(sharing_copy(module))
    module.eval()  # of which a class of its own may return nothing
    for each, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise DataError(f"expected weights, found none yet in {each}: the layer is lazy")
    refuse_infinite(module, type(module).__name__)
    name = type(module).__name__
    if isinstance(module, QUANTIZED_KINDS):
        module = nn.Sequential(module)  # so that the layer has a name
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
    quantized = changes.apply(base)
    if not any(trace.depends_on_values for trace in traces):
        _link_readers(quantized, traces[0])
    return QuantizedNetwork(
        base,
        quantized,
        Folding(folded, unfolded),
        left,
        changes.memory_format,
        given.is_batched,
        given.draws,
    )


def _refuse_foreign(trace: Trace) -> None:
    if trace.foreign:
        raise DataError(
            "expected all weights among the network's parameters, found one of shape "
            f"{tuple(trace.foreign[0].shape)} that comes from elsewhere: a plain list, a closure "
            "or a global variable; register its module, in an nn.ModuleList for example"
        )


def _reasons(left: Mapping[str, str]) -> str:
    first = next(iter(left.items()), None)
    return "" if first is None else f" ({first[0]}: {first[1]})"


def _base(given: GivenNetwork) -> nn.Module:
    """A copy with plain parameters and attention that calls its layers, as far as it agrees."""
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
    """What happens to two images together, where that may be, and to one alone."""
    names = [*quantizable_layers(base), *batch_norms(base)]
    one = given.images[:1]
    batches = [torch.cat([one, given.images[-1:]]), one] if given.is_batched else [one]
    return [watch(base, batch, names) for batch in batches]


def _linear_layers(
    base: nn.Module, traces: Sequence[Trace]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Layers that may compute in codes, in the order of execution; and those that may not.

    Without those that did not run, where no value of an image can make them run.
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
            left[name] = "it takes or gives no single tensor"
        elif any((name, inner) in traces[0].nested for inner in found):
            left[name] = "another layer runs inside of it"
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
    """The most of the changes under which the network still puts out the same.

    Raises
    ------
    DataError
        Not even without any change does it.
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
    """Whether the network puts out the same with the changes, its layers in other units."""

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
    """Most of the items that hold together, found by halving the groups that do not."""
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
    """Link layers that read one tensor; one that runs several times reads several."""
    first: dict[tuple[int, int, int], str] = {}
    for name, layer in layers.items():
        calls = trace.calls[name]
        if len(calls) > 1 or calls[0].input_key is None:
            continue
        reader = first.setdefault(calls[0].input_key, name)
        if reader != name:
            layer.first_reader = layers[reader]
            layers[reader].is_read_on = True


def input_ranges(network: QuantizedNetwork, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The largest absolute input of each layer over the calibration images: float32, shape ().

    In the order in which the layers first run. Layers that never run have none.

    Raises
    ------
    DataError
        An input is not finite; the message names the layer.
    """
    ranges: dict[str, Tensor] = {}

    def widen(name: str, inputs: Tensor) -> None:
        if not inputs.numel():
            return
        low, high = torch.aminmax(inputs.float())
        max_abs = torch.maximum(-low, high)
        ranges[name] = torch.maximum(ranges[name], max_abs) if name in ranges else max_abs

    network.observe(widen, batches)
    for name, max_abs in ranges.items():
        if not bool(torch.isfinite(max_abs)):
            raise DataError(f"expected finite activations, found others entering layer {name}")
    return ranges
