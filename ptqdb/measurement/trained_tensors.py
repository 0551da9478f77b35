"""The facts of a layer's tensors as trained, where a batch norm was folded into it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptqdb.measurement.coded_tensors import coded_tensor_facts
from ptqdb.measurement.facts import QuantizedTensorFacts, TensorFacts
from ptqdb.measurement.tensors import tensor_facts
from ptqdb.quantization.codes import code_parameters, code_weight
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.network import TrainedTensors
from ptqdb.quantization.number_formats import NumberFormat, bias_format
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX

TRAINED_ROLES = ("trained_weight", "trained_bias")


@dataclass(frozen=True)
class TrainedFacts:
    """The facts of one tensor as trained: in floating point, and in each format.

    They are those of any weight or bias, without those of output channels, which no view of
    tensors as trained uses.
    """

    tensor: TensorFacts
    coded: Mapping[NumberFormat, QuantizedTensorFacts]


def trained_facts(
    tensors: TrainedTensors,
    input_range: InputRange | None,
    number_formats: Sequence[NumberFormat],
    *,
    with_softmax: bool = True,
) -> dict[str, TrainedFacts]:
    """Return the facts of a layer's weight and bias as trained, by role, under the study's scheme.

    Nothing is computed with such codes: the network that runs has the folded tensors.

    Parameters
    ----------
    input_range
        Of the layer's input, which the scale of a bias depends on; None without
        calibration images: only the weight is measured in formats.
    with_softmax
        Whether to compute the softmax divergences.
    """
    coded: dict[str, dict[NumberFormat, QuantizedTensorFacts]] = {
        role: {} for role in TRAINED_ROLES
    }
    for known in dict.fromkeys(number_formats):
        found = _facts_in(tensors, input_range, known, with_softmax=with_softmax)
        for role, facts in found.items():
            coded[role][known] = facts
    floats = zip(TRAINED_ROLES, (tensors.weight, tensors.bias), strict=True)
    return {
        role: TrainedFacts(tensor_facts(values), coded[role])
        for role, values in floats
        if values is not None
    }


def _facts_in(
    tensors: TrainedTensors,
    input_range: InputRange | None,
    known: NumberFormat,
    *,
    with_softmax: bool,
) -> dict[str, QuantizedTensorFacts]:
    """The facts in one format, by role; the codes are not kept."""
    scheme = PER_TENSOR_SYMMETRIC_MAX
    if input_range is None:
        weight, bias = code_weight(tensors.weight, known, scheme), None
    else:
        coded = code_parameters(tensors.weight, tensors.bias, input_range, known, scheme)
        weight, bias = coded.weight, coded.bias
    of_weight, of_bias = TRAINED_ROLES
    facts = {
        of_weight: coded_tensor_facts(
            tensors.weight, weight, known, is_weight=True, with_softmax=with_softmax
        )
    }
    if tensors.bias is not None and bias is not None:
        facts[of_bias] = coded_tensor_facts(
            tensors.bias,
            bias,
            bias_format(known.family),
            is_weight=False,
            with_softmax=with_softmax,
        )
    return facts
