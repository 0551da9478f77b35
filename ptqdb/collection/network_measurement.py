"""Measures one network: its float facts once, and what each format does to its tensors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ptqdb.checkpoints import TrainedNetwork
from ptqdb.collection.evaluation import Batches, evaluation_facts, logits_of
from ptqdb.collection.facts import (
    ChannelFacts,
    EvaluationFacts,
    LayerFacts,
    NetworkFacts,
    QuantizedTensorFacts,
    TensorFacts,
    TensorKey,
)
from ptqdb.collection.macs import count_work, layer_macs
from ptqdb.collection.measurement import (
    CodedMeasurement,
    TensorMeasurement,
    channel_facts,
    coded_tensor_facts,
    pieces,
    tensor_facts,
)
from ptqdb.collection.unquantized import unquantized_parts, unquantized_statement
from ptqdb.datasets import ImageSet
from ptqdb.number_formats import NumberFormat, bias_format
from ptqdb.quantization.channels import by_output_channel
from ptqdb.quantization.layers import CodedLayer, QuantizedLayer
from ptqdb.quantization.network import input_ranges, prepare
from ptqdb.quantization.precision import matrix_precision, precision_of
from ptqdb.quantization.schemes import Scheme, scale_of


class NetworkMeasurement:
    """A network on its images, calibrated for a set of formats with two float passes.

    Parameters
    ----------
    images, calibration
        Labelled images to evaluate on; images whose activations set the scales of the inputs.
    number_formats
        The formats that will be asked for.
    precision
        ``auto`` or ``float32``; see ``ptqdb.quantization.precision``.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        images: ImageSet,
        calibration: ImageSet,
        number_formats: Sequence[NumberFormat],
        scheme: Scheme,
        *,
        device: torch.device,
        precision: str = "auto",
    ):
        mean, std = trained.preprocessing.mean, trained.preprocessing.std
        self._trained, self._scheme = trained, scheme
        self._device, self._precision = device, precision
        self._batches = Batches(images, mean, std, device)
        self._calibration = Batches(calibration, mean, std, device)
        module = trained.module.to(device).to(memory_format=torch.channels_last)
        self.network = prepare(module, self._batches.example())
        work = count_work(self.network.module, self._batches.example())
        self._macs = layer_macs(work, list(self.network.layers))
        self.unquantized = unquantized_parts(self.network, work)
        self._ranges = input_ranges(self.network, self._calibration)
        self._measure_inputs(number_formats)
        with matrix_precision("float32"):
            self._float_logits = logits_of(self.network.module, self._batches)

    def _measure_inputs(self, number_formats: Sequence[NumberFormat]) -> None:
        """The second float pass: the inputs' own facts and their codes' sums in every format.

        A tensor that several layers read is measured once, under the name of the first.
        """
        self._first_readers = self.network.first_readers
        ranges = {name: self._ranges[name] for name in set(self._first_readers.values())}
        self._inputs = {
            name: TensorMeasurement(float(max_abs), self._device)
            for name, max_abs in ranges.items()
        }
        self._coded_inputs = {
            name: {
                number_format: CodedMeasurement(
                    float(scale_of(max_abs, number_format)), number_format, self._device
                )
                for number_format in number_formats
            }
            for name, max_abs in ranges.items()
        }

        def measure(name: str, inputs: Tensor) -> None:
            if self._first_readers[name] != name:
                return
            self._inputs[name].add(inputs)
            for piece in pieces(inputs):
                occupied = piece[piece != 0]  # zeros, half of what ReLU puts out, add nothing
                if not len(occupied):
                    continue
                exact, max_abs = occupied.double(), float(occupied.abs().amax())
                for measurement in self._coded_inputs[name].values():
                    measurement.add(occupied, exact, max_abs)

        self.network.observe(measure, self._calibration)

    def float_facts(self) -> NetworkFacts:
        """The float network: layers, tensors, and its own evaluation."""
        layers: list[LayerFacts] = []
        tensors: dict[TensorKey, TensorFacts] = {}
        channels: dict[TensorKey, ChannelFacts] = {}
        for position, (name, layer) in enumerate(self.network.layers.items()):
            layers.append(
                LayerFacts(position, name, layer.kind, layer.param_count, self._macs[name])
            )
            tensors |= self._float_tensors(name, layer)
            channels[name, "weight"] = channel_facts(by_output_channel(layer.layer, layer.weight))
        module = self._trained.module
        params = sum(parameter.numel() for parameter in module.parameters())
        of_parts = sum(layer.params for layer in layers)
        of_parts += sum(part.params for part in self.unquantized)
        return NetworkFacts(
            name=self._trained.name,
            architecture=self._trained.architecture,
            checkpoint_sha256=self._trained.checkpoint_sha256,
            preprocessing=self._trained.preprocessing.to_json(),
            params=max(params, of_parts),
            macs=sum(layer.macs for layer in layers),
            unfolded_batch_norm_count=len(self.network.folding.unfolded),
            layers=tuple(layers),
            unquantized=self.unquantized,
            tensors=tensors,
            channels=channels,
            evaluation=self._evaluation(self._float_logits, "float32"),
        )

    @property
    def unquantized_statement(self) -> str:
        """One line on what stays in float; empty where nothing does."""
        params = sum(layer.param_count for layer in self.network.layers.values())
        return unquantized_statement(self.unquantized, params, sum(self._macs.values()))

    def _float_tensors(self, name: str, layer: QuantizedLayer) -> dict[TensorKey, TensorFacts]:
        facts = {(name, "weight"): tensor_facts(layer.weight)}
        if layer.bias is not None:
            facts[name, "bias"] = tensor_facts(layer.bias)
        return facts | {(name, "input"): self._inputs[self._first_readers[name]].facts()}

    def code(self, number_format: NumberFormat) -> dict[str, CodedLayer]:
        """The codes of every layer in a format."""
        return {
            name: layer.code(self._ranges[name], number_format, self._scheme)
            for name, layer in self.network.layers.items()
        }

    def quantized_facts(
        self, coded: Mapping[str, CodedLayer], number_format: NumberFormat
    ) -> dict[TensorKey, QuantizedTensorFacts]:
        """What a format does to every tensor of the network."""
        facts = {}
        for name, layer in self.network.layers.items():
            facts[name, "weight"] = coded_tensor_facts(
                layer.weight, coded[name].weight, number_format, is_weight=True
            )
            coded_bias = coded[name].bias
            if layer.bias is not None and coded_bias is not None:
                facts[name, "bias"] = coded_tensor_facts(
                    layer.bias, coded_bias, bias_format(number_format.family), is_weight=False
                )
            facts[name, "input"] = self._coded_inputs[self._first_readers[name]][
                number_format
            ].facts()
        return facts

    def evaluate(
        self, coded: Mapping[str, CodedLayer], number_format: NumberFormat, scope: str
    ) -> EvaluationFacts:
        """Run the network in a format over the images.

        Only with everything in codes are the products exact in a low precision.
        """
        asked = self._precision if scope == "all" else "float32"
        precision = precision_of(number_format, self._device, asked)
        self.network.use_codes(coded, scope)
        try:
            with matrix_precision(precision):
                logits = logits_of(self.network.module, self._batches)
        finally:
            self.network.use_float()
        return self._evaluation(logits, precision)

    def _evaluation(self, logits: Tensor, precision: str) -> EvaluationFacts:
        return evaluation_facts(logits, self._float_logits, self._batches.labels, precision)
