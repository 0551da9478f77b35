"""Measures one network: its float facts, and the effect of each format on its tensors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.errors import DataError, UsageError
from ptqdb.measurement.batches import Batches, network_batches
from ptqdb.measurement.coded_tensors import coded_tensor_facts
from ptqdb.measurement.dequantized_tensors import dequantized_facts, float_groups
from ptqdb.measurement.facts import (
    AnyTensorFacts,
    Array,
    ChannelFacts,
    LayerFacts,
    NetworkFacts,
    TensorFacts,
    TensorKey,
)
from ptqdb.measurement.given_weights import given_weights
from ptqdb.measurement.inputs import InputFacts
from ptqdb.measurement.macs import Work, count_work, layer_macs
from ptqdb.measurement.tensors import (
    TensorMeasurement,
    channel_facts,
    channel_squared_errors,
    tensor_facts,
)
from ptqdb.measurement.trained_tensors import TRAINED_ROLES, TrainedFacts, trained_facts
from ptqdb.measurement.unquantized import (
    is_mostly_float,
    unquantized_parts,
    unquantized_statement,
)
from ptqdb.networks.checkpoints import TrainedNetwork
from ptqdb.quantization.channels import by_output_channel
from ptqdb.quantization.codes import CodedLayer, CodedTensor
from ptqdb.quantization.coding import code_layer, code_layer_weight
from ptqdb.quantization.formats import Format
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.layers import QuantizedLayer
from ptqdb.quantization.network import (
    PROOF_IMAGES,
    QuantizedNetwork,
    TrainedTensors,
    input_ranges,
    prepare,
)
from ptqdb.quantization.number_formats import bias_format
from ptqdb.quantization.schemes import Scheme


def example_images(
    preprocessing: Preprocessing,
    calibration: ImageSet | None,
    image_size: int | None,
    device: torch.device,
) -> Tensor:
    """Return images to verify a network and count its work: (N, channels, height, width).

    The first calibration images, normalized; otherwise squares of seeded noise, since zeros would
    hide multiplications.

    Parameters
    ----------
    image_size
        Edge of the square in pixels, if the preprocessing has no crop or resize.

    Raises
    ------
    DataError
        The calibration images have another number of channels than the preprocessing.
    UsageError
        The size of the network's images is unknown, or ``image_size`` contradicts it.
    """
    if calibration is None:
        geometry = preprocessing.geometry
        edge = _agreed(image_size, geometry.crop or geometry.resize, "the preprocessing's")
        generator = torch.Generator().manual_seed(0)
        shape = (PROOF_IMAGES, preprocessing.channel_count, edge, edge)
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        shown = ImageSet("noise", "all", pixels, labels=None, class_names=())
    else:
        shown = calibration.head(min(PROOF_IMAGES, len(calibration)))
        for edge in shown.images.shape[2:]:
            _agreed(image_size, edge, "the calibration images'")
    return Batches(shown, preprocessing.mean, preprocessing.std, device).head(PROOF_IMAGES)


def _agreed(image_size: int | None, known: int | None, whose: str) -> int:
    """The edge of the images, from either source."""
    if known is not None and image_size not in (None, known):
        raise UsageError(
            f"image_size: expected {whose}, {known} pixels, found {image_size}; leave it out"
        )
    edge = image_size if known is None else known
    if edge is None:
        raise UsageError(
            "image_size: expected the edge in pixels of the network's images, since there are no "
            "calibration images and its preprocessing has no crop or resize, found none; give it"
        )
    if edge < 1:
        raise UsageError(f"image_size: expected at least 1 pixel, found {edge}")
    return edge


class NetworkMeasurement:
    """A float network, calibrated for a set of formats by two float passes over images.

    Nothing is evaluated. Without calibration images only the weights are measured, not inputs and
    biases: the scale of a bias is that of the input times that of the weight.

    Parameters
    ----------
    calibration
        Calibration images, which set the scales of the inputs; labels are optional. None: no
        images.
    formats
        The formats to measure, number formats under a scheme.
    image_size
        The edge in pixels of the network's images, if otherwise unknown; see ``example_images``.
    with_inputs
        Whether to measure the quantization of the inputs, in a second float pass. Without it the
        images only set scales.
    with_softmax
        Whether to compute the softmax divergences of weights and biases.
    with_trained
        Whether to measure weights and biases as trained, too, where a batch norm was folded into
        them. They are measured in every format at once, layer by layer, while the given network
        is in memory.
    quantized
        The same network with dequantized weights of somebody else's method, each under a format of
        its own.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        calibration: ImageSet | None,
        formats: Sequence[Format],
        *,
        device: torch.device,
        image_size: int | None = None,
        with_inputs: bool = True,
        with_softmax: bool = True,
        with_trained: bool = True,
        quantized: Mapping[Format, TrainedNetwork] = MappingProxyType({}),
    ):
        self._device, self._with_softmax = device, with_softmax
        fed = trained.preprocessing
        # keep no more of the float network: its weights would double the memory
        self._name, self._architecture = trained.name, trained.architecture
        self._checkpoint_sha256, self._preprocessing = trained.checkpoint_sha256, fed
        self._param_count = sum(each.numel() for each in trained.module.parameters())
        examples = example_images(fed, calibration, image_size, device)
        network = prepare(trained.module.to(device), examples)
        work = count_work(network.module, examples[:1])
        batches = None
        self._ranges: dict[str, InputRange] = {}
        if calibration is not None:
            batches = network_batches(network, calibration, fed, device)
            self._ranges = input_ranges(network, batches)
            work = _whole_work(network, work, set(self._ranges), batches)
        run = self._ranges if batches is not None else work.run.intersection(network.layers)
        kept = network.keep([name for name in network.layers if name in run])
        self.network = replace(kept, trained={})
        self._given = {
            known: given_weights(self.network, each.module.to(device), examples, known.scheme)
            for known, each in quantized.items()
        }
        self._macs = layer_macs(work, list(self.network.layers))
        self.unquantized = unquantized_parts(self.network, work)
        self._first_readers = self.network.first_readers
        self._inputs: dict[str, TensorMeasurement] = {}
        self._input_facts: dict[str, InputFacts] = {}
        if batches is not None and any(_needs_histogram(each.scheme) for each in formats):
            self._measure_histograms(batches)
        if batches is not None and with_inputs:
            self._measure_inputs(formats, batches)
        self._trained: dict[TensorKey, TrainedFacts] = {}
        if with_trained:
            for name in self.network.layers:
                self._measure_trained(name, network.trained.get(name), formats)

    def _measure_histograms(self, batches: Batches) -> None:
        """A float pass for the range rules of inputs that need more than the range."""
        found = {
            name: TensorMeasurement(float(each.max_abs), self._device)
            for name, each in self._ranges.items()
        }
        self.network.observe(lambda name, inputs: found[name].add(inputs.float()), batches)
        self._ranges = {
            name: replace(each, counts=found[name].histogram) for name, each in self._ranges.items()
        }

    def _measure_inputs(self, formats: Sequence[Format], batches: Batches) -> None:
        """Second float pass: the facts of the inputs, and the sums of their codes in every format.

        A tensor read by several layers is measured once, under the name of the first.
        """
        ranges = {name: self._ranges[name] for name in set(self._first_readers.values())}
        self._inputs = {
            name: TensorMeasurement(float(each.max_abs), self._device)
            for name, each in ranges.items()
        }
        self._input_facts = {
            name: InputFacts(self.network.layers[name], each, formats)
            for name, each in ranges.items()
        }

        def measure(name: str, inputs: Tensor) -> None:
            if self._first_readers[name] == name:
                self._inputs[name].add(inputs.float())
                self._input_facts[name].add(inputs.float())

        self.network.observe(measure, batches)

    def _measure_trained(
        self, name: str, tensors: TrainedTensors | None, formats: Sequence[Format]
    ) -> None:
        if tensors is None:
            return
        of_study = [each.number_format for each in formats if each.scheme.is_of_study]
        found = trained_facts(
            tensors, self._ranges.get(name), of_study, with_softmax=self._with_softmax
        )
        self._trained |= {(name, role): facts for role, facts in found.items()}

    def float_facts(self) -> NetworkFacts:
        """The facts of the float network: layers and tensors, including measured inputs."""
        layers: list[LayerFacts] = []
        tensors: dict[TensorKey, TensorFacts] = {}
        channels: dict[TensorKey, ChannelFacts] = {}
        for position, (name, layer) in enumerate(self.network.layers.items()):
            uncounted = _uncounted_params(layer, list(self.network.layers.values())[:position])
            layers.append(
                LayerFacts(
                    position,
                    name,
                    layer.kind,
                    layer.param_count,
                    self._macs[name],
                    uncounted,
                    layer.is_folded,
                )
            )
            tensors |= self._float_tensors(name, layer)
            channels[name, "weight"] = channel_facts(by_output_channel(layer.layer, layer.weight))
        return NetworkFacts(
            name=self._name,
            architecture=self._architecture,
            checkpoint_sha256=self._checkpoint_sha256,
            preprocessing=self._preprocessing.to_json(),
            params=self._param_count,
            macs=sum(layer.macs for layer in layers),
            unfolded_batch_norm_count=len(self.network.folding.unfolded),
            layers=tuple(layers),
            unquantized=self.unquantized,
            tensors=tensors,
            channels=channels,
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks for the user: how the network was prepared, and what stays in float.

        If most of it stays in float, that remark comes first.
        """
        params = sum(layer.param_count for layer in self.network.layers.values())
        left = unquantized_statement(self.unquantized, params, sum(self._macs.values()))
        remarks = [left, *self.network.remarks]
        if not is_mostly_float(self.unquantized, params):
            remarks.reverse()
        return tuple(filter(None, remarks))

    def _float_tensors(self, name: str, layer: QuantizedLayer) -> dict[TensorKey, TensorFacts]:
        facts = {(name, "weight"): tensor_facts(layer.weight)}
        if layer.bias is not None:
            facts[name, "bias"] = tensor_facts(layer.bias)
        if self._inputs:
            facts[name, "input"] = self._inputs[self._first_readers[name]].facts()
        for role in TRAINED_ROLES:
            if (name, role) in self._trained:
                facts[name, role] = self._trained[name, role].tensor
        return facts

    def code(self, known: Format) -> dict[str, CodedLayer]:
        """Return the codes of every layer in a format.

        Raises
        ------
        DataError
            There are no calibration images to set the scales of inputs and biases.
        """
        if not self._ranges:
            raise DataError(
                f"expected calibration images for {self._name}, to set the scales of inputs "
                "and biases, found none; give some, or measure its weights only"
            )
        if known in self._given:
            return self._given[known]
        return {
            name: code_layer(layer, self._ranges[name], known)
            for name, layer in self.network.layers.items()
        }

    def quantized_facts(
        self, coded: Mapping[str, CodedLayer], known: Format
    ) -> dict[TensorKey, AnyTensorFacts]:
        """The facts in a format of every measured tensor of the network."""
        facts: dict[TensorKey, AnyTensorFacts] = {}
        for name in self.network.layers:
            facts |= self._layer_facts(name, coded[name], known)
        return facts | self._trained_in(known)

    def _trained_in(self, known: Format) -> dict[TensorKey, AnyTensorFacts]:
        """The facts in a format of the tensors as trained: of biases with images alone.

        Only under the study's scheme.
        """
        if not known.scheme.is_of_study:
            return {}
        return {
            key: facts.coded[known.number_format]
            for key, facts in self._trained.items()
            if facts.coded
        }

    def facts_without_codes(self, known: Format) -> dict[TensorKey, AnyTensorFacts]:
        """As `quantized_facts`, one layer at a time, without keeping the codes.

        Without calibration images, weights only: the scale of a bias needs them, too.
        """
        facts: dict[TensorKey, AnyTensorFacts] = {}
        for name, layer in self.network.layers.items():
            # no variable for the codes: it would keep them alive with those of the next layer
            if self._ranges:
                facts |= self._layer_facts(
                    name, code_layer(layer, self._ranges[name], known), known
                )
            else:
                facts[name, "weight"] = self._weight_facts(
                    layer, code_layer_weight(layer, known), known
                )
        return facts | self._trained_in(known)

    def _weight_facts(
        self, layer: QuantizedLayer, coded: CodedTensor, known: Format
    ) -> AnyTensorFacts:
        """The facts of a layer's weight in a format, including its output channels."""
        if coded.groups is not None:
            dequantized = coded.dequantized(layer.layer)
            return dequantized_facts(
                layer.weight,
                dequantized,
                coded.groups,
                with_softmax=self._with_softmax,
                channel_squared_errors=_channel_errors(layer, dequantized, 1.0),
            )
        facts = coded_tensor_facts(
            layer.weight,
            coded,
            known.number_format,
            is_weight=True,
            with_softmax=self._with_softmax,
        )
        errors = _channel_errors(layer, coded.codes, float(coded.scale))
        return replace(facts, channel_squared_errors=errors)

    def _layer_facts(
        self, name: str, coded: CodedLayer, known: Format
    ) -> dict[TensorKey, AnyTensorFacts]:
        layer = self.network.layers[name]
        facts = {(name, "weight"): self._weight_facts(layer, coded.weight, known)}
        if layer.bias is not None:
            facts[name, "bias"] = self._bias_facts(layer.bias, coded.bias, known)
        first_reader = self._first_readers[name]
        if self._input_facts:
            facts[name, "input"] = self._input_facts[first_reader].facts(
                known, self._inputs[first_reader]
            )
        return facts

    def _bias_facts(self, bias: Tensor, coded: CodedTensor | None, known: Format) -> AnyTensorFacts:
        with_softmax = self._with_softmax
        if known.scheme.is_of_study and coded is not None:
            of_bias = bias_format(known.number_format.family)
            return coded_tensor_facts(
                bias, coded, of_bias, is_weight=False, with_softmax=with_softmax
            )
        if coded is None or coded.groups is None:
            return dequantized_facts(bias, bias, float_groups(bias), with_softmax=with_softmax)
        values = coded.dequantized()
        return dequantized_facts(bias, values, coded.groups, with_softmax=with_softmax)


def _uncounted_params(layer: QuantizedLayer, earlier: Sequence[QuantizedLayer]) -> int:
    """Number of params of a layer that are shared with an earlier one or created by folding."""
    known = {each for other in earlier for each in other.given.values()} | {None}
    sizes = {"weight": layer.weight.numel(), "bias": layer.param_count - layer.weight.numel()}
    return sum(sizes[role] for role, given in layer.given.items() if given in known)


def _whole_work(
    network: QuantizedNetwork, work: Work, ran: set[str], batches: Iterable[Tensor]
) -> Work:
    """The work of one image; for layers that it does not run, that of the first image that does.

    Parameters
    ----------
    work
        Of the first image.
    ran
        Layers that run for any image.
    """
    missing = {name for name in ran if not work.of_module(name)}
    for image in (each for batch in batches for each in torch.split(batch, 1)):
        if not missing:
            break
        of_image = count_work(network.module, image)
        if any(of_image.of_module(name) for name in missing):
            work = work.merged(of_image)
            missing = {name for name in missing if not work.of_module(name)}
    return work


def _channel_errors(layer: QuantizedLayer, codes: Tensor, scale: float) -> Array:
    weight, rows = (by_output_channel(layer.layer, part) for part in (layer.weight, codes))
    return channel_squared_errors(weight, rows, scale)


def _needs_histogram(scheme: Scheme) -> bool:
    """Whether the scale of the inputs depends on more than their range."""
    return scheme.input_granularity == "tensor" and scheme.range_rule in ("percentile", "mse")
