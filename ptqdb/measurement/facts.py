"""The measured facts, before they are converted to rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
TensorKey = tuple[str, str]
"""Layer name and role: weight, bias, input; trained_weight, trained_bias."""


@dataclass(frozen=True)
class TensorFacts:
    """Sums and histogram of a float tensor.

    Attributes
    ----------
    sum_x, sum_abs, sum_x2, sum_x3, sum_x4
        float64 sums over all elements.
    bins, counts
        int64, the non-empty bins in ascending order and their counts;
        ``bin = round(x * 2047 / max abs)``, ties toward zero.
    """

    element_count: int
    min_value: float
    max_value: float
    sum_x: float
    sum_abs: float
    sum_x2: float
    sum_x3: float
    sum_x4: float
    bins: Array
    counts: Array

    @property
    def max_abs(self) -> float:
        """The largest absolute value."""
        return max(abs(self.min_value), abs(self.max_value))


@dataclass(frozen=True)
class ChannelFacts:
    """Facts of a weight, one entry per output channel: float64, (out_channels,)."""

    min_value: Array
    max_value: Array
    sum_x2: Array


@dataclass(frozen=True)
class QuantizedTensorFacts:
    """A tensor in one format.

    Attributes
    ----------
    scale
        float; the value of one code unit.
    clipped_count
        Elements beyond the largest code.
    sum_codes, sum_codes2, sum_code_x
        Sums of the codes, of their squares, and of code times float value.
    squared_error_sum
        Sum of ``(code * scale - x)²``.
    codes, code_counts
        The codes that occur, ascending, and their counts; empty for inputs.
    softmax_js_fakefreeze, softmax_js_l2, softmax_group_count
        Paired softmax divergence, in bits, summed over the groups; None for inputs.
    channel_squared_errors
        For a weight, `squared_error_sum` by output channel: float64, (out_channels,); None for
        biases and inputs.
    """

    scale: float
    clipped_count: int
    sum_codes: float
    sum_codes2: float
    sum_code_x: float
    squared_error_sum: float
    codes: Array
    code_counts: Array
    softmax_js_fakefreeze: float | None = None
    softmax_js_l2: float | None = None
    softmax_group_count: int | None = None
    channel_squared_errors: Array | None = None


@dataclass(frozen=True)
class DequantizedTensorFacts:
    """A tensor in one format whose scheme is not the study's.

    Attributes
    ----------
    scale_count, min_scale, max_scale
        Number and range of its scales; 0 and None if it stays in floats or they are unknown.
    storage_bits
        Bits of its codes, scales and zero points; None if unknown, and for inputs.
    clipped_count
        Elements beyond the largest code; None if unknown.
    sum_y, sum_y2, sum_xy
        Sums of the dequantized values, of their squares, and of their products with the float
        values.
    squared_error_sum
        Sum of ``(y - x)²``.
    bins, counts
        int64: the occupied bins of the dequantized values and their counts, in the bins of the
        float tensor, which continue beyond its range, up to four times it; empty for inputs.
    softmax_js_fakefreeze, softmax_js_l2, softmax_group_count, channel_squared_errors
        As in `QuantizedTensorFacts`.
    """

    scale_count: int
    min_scale: float | None
    max_scale: float | None
    storage_bits: int | None
    clipped_count: int | None
    sum_y: float
    sum_y2: float
    sum_xy: float
    squared_error_sum: float
    bins: Array
    counts: Array
    softmax_js_fakefreeze: float | None = None
    softmax_js_l2: float | None = None
    softmax_group_count: int | None = None
    channel_squared_errors: Array | None = None


AnyTensorFacts = QuantizedTensorFacts | DequantizedTensorFacts


@dataclass(frozen=True)
class LayerFacts:
    """A quantized layer: its position in the order of execution, and its work for one image.

    Attributes
    ----------
    uncounted_params
        Params not counted in the network's params: those shared with an earlier layer, and those of
        a bias created by folding.
    is_folded
        Whether a batch norm was folded into it, so that its tensors as trained are others.
    """

    position: int
    name: str
    kind: str
    params: int
    macs: int
    uncounted_params: int = 0
    is_folded: bool = False


@dataclass(frozen=True)
class SensitivityFacts:
    """How the decision of a float network depends on a layer's output, summed over images.

    The margin is the largest logit minus the second largest.

    Attributes
    ----------
    image_count
        Number of images in the sums.
    margin_square_sum
        Sum of the squared margin: the same for every layer of a network.
    element_count
        Number of elements of the output.
    gradient_square_sum, output_square_sum
        Sums over the elements of the squared gradient of the margin with respect to the output,
        and of the squared output.
    """

    image_count: int
    margin_square_sum: float
    element_count: int
    gradient_square_sum: float
    output_square_sum: float


@dataclass(frozen=True)
class UnquantizedPart:
    """A part that a network computes in float in every format.

    Attributes
    ----------
    name
        Of the module, or of the parameter if its module has submodules.
    kind
        Class of the module, or ``Parameter``.
    macs
        For one image; None if the operation is not counted, such as a recurrent layer.
    """

    name: str
    kind: str
    params: int
    macs: int | None
    reason: str


@dataclass(frozen=True)
class EvaluationFacts:
    """Counts over the images, and sums of losses in nats.

    Attributes
    ----------
    image_count
        Number of images evaluated, the first ones in the order of
        ``ptqdb.measurement.first_images.image_order``.
    correct_both, same_prediction
        Images that this and the float network both classify correctly; with the same prediction.
    non_finite_count
        Images without a prediction: a logit is NaN or +infinity, or none is finite. They count as
        wrong and are excluded from the sums.
    cross_entropy_sum, cross_entropy_count
        Cross-entropy of this network's outputs with the labels, and the number of images: those
        with a prediction whose label is not masked.
    kl_sum, kl_count
        Kullback-Leibler divergence of this network's outputs from the float network's, and the
        number of images: those with a prediction in both, except where this network masks a class
        that the float network does not.
    correct_images, same_images
        The images counted in `correct_top1` and in `same_prediction`: one character per image, 1 or
        0, in the same order.
    """

    precision: str
    image_count: int
    correct_top1: int
    correct_top5: int
    correct_both: int
    same_prediction: int
    non_finite_count: int
    cross_entropy_sum: float
    cross_entropy_count: int
    kl_sum: float
    kl_count: int
    correct_images: str
    same_images: str


@dataclass(frozen=True)
class ProbeFacts:
    """A quantized network compared with the float network on a few images, without labels.

    Attributes
    ----------
    image_count
        Number of images, the first ones in the order of
        ``ptqdb.measurement.first_images.image_order``.
    same_prediction, same_images
        Images with the same prediction in both: their number, and one character per image, 1 or 0.
    non_finite_count
        Images without a prediction of the quantized network, as in `EvaluationFacts`.
    float_probability_sum
        Sum of the probabilities that the float network gives its own predictions.
    chosen_probability_sum
        Sum of the probabilities that the float network gives the quantized network's predictions;
        0 for an image without a prediction.
    kl_sum, kl_count
        As in `EvaluationFacts`.
    logit_squared_error_sum
        Sum over the images of the variance, over the classes, of the differences of the logits. The
        mean difference does not count: it shifts all logits alike, which changes no probability.
    float_logit_variance_sum
        Sum over the same images of the variance, over the classes, of the float logits.
    logit_count
        Number of these images: those with a prediction in both, except where a class is masked in
        only one. Classes that both mask do not count.
    """

    precision: str
    image_count: int
    same_prediction: int
    non_finite_count: int
    float_probability_sum: float
    chosen_probability_sum: float
    kl_sum: float
    kl_count: int
    logit_squared_error_sum: float
    float_logit_variance_sum: float
    logit_count: int
    same_images: str


@dataclass(frozen=True)
class FailedEvaluation:
    """Why a network cannot be evaluated in a format.

    Attributes
    ----------
    layer
        The last quantized layer that started before the error; None if unknown.
    reason
        Type and message of the error, in one line.
    """

    layer: str | None
    reason: str


@dataclass(frozen=True)
class NetworkFacts:
    """All facts of a float network, ready to be written in one transaction.

    Attributes
    ----------
    params
        Of the float network, each counted once.
    macs
        Of the quantized layers.
    preprocessing
        Preprocessing of its input, as JSON.
    tensors
        In the order of the layers; within a layer weight, bias, input, and those as trained if
        they are others. No inputs without calibration images.
    """

    name: str
    architecture: str
    checkpoint_sha256: str
    preprocessing: str
    params: int
    macs: int
    unfolded_batch_norm_count: int
    layers: tuple[LayerFacts, ...]
    unquantized: tuple[UnquantizedPart, ...]
    tensors: Mapping[TensorKey, TensorFacts]
    channels: Mapping[TensorKey, ChannelFacts]


NO_CODES = np.empty(0)
