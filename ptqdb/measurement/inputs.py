"""Quantization statistics of one layer's input in every format at once, batch by batch."""

from collections.abc import Sequence

from torch import Tensor

from ptqdb.measurement.coded_inputs import CodedInputs
from ptqdb.measurement.dequantized_tensors import DequantizedInput, unquantized_input_facts
from ptqdb.measurement.facts import AnyTensorFacts
from ptqdb.measurement.tensors import TensorMeasurement
from ptqdb.quantization.coding import code_input
from ptqdb.quantization.formats import Format
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.layers import QuantizedLayer


class InputFacts:
    """Accumulates the quantization statistics of a layer's input.

    Parameters
    ----------
    layer
        The first layer that reads the input.
    found
        Its range over the calibration images.
    """

    def __init__(self, layer: QuantizedLayer, found: InputRange, formats: Sequence[Format]):
        wanted = list(dict.fromkeys(formats))
        of_study = [each.number_format for each in wanted if each.scheme.is_of_study]
        self._coded = CodedInputs(found.max_abs, of_study) if of_study else None
        self._dequantized: dict[Format, DequantizedInput] = {}
        for each in wanted:
            if not each.scheme.is_of_study:
                codes = code_input(layer, found, each)
                if codes is not None:
                    self._dequantized[each] = DequantizedInput(codes)

    def add(self, inputs: Tensor) -> None:
        """Quantize more inputs, float32, in every format."""
        if self._coded is not None:
            self._coded.add(inputs)
        for each in self._dequantized.values():
            each.add(inputs)

    def facts(self, known: Format, of_floats: TensorMeasurement) -> AnyTensorFacts:
        """The facts in a format so far, without a histogram.

        Parameters
        ----------
        of_floats
            The float input, which is the quantized one where a scheme keeps inputs in floats.
        """
        if known.scheme.is_of_study and self._coded is not None:
            return self._coded.facts(known.number_format)
        if known in self._dequantized:
            return self._dequantized[known].facts()
        return unquantized_input_facts(of_floats.facts())
