"""Runs a network on labelled images and counts correct predictions."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.defaults import LAYER_SCOPE
from ptqdb.measurement.batches import network_batches
from ptqdb.measurement.facts import EvaluationFacts, FailedEvaluation
from ptqdb.measurement.first_images import Looks, image_order, is_enough
from ptqdb.measurement.own_code import is_lack_of_memory, is_of_network, one_line
from ptqdb.networks.copies import scratch_copy
from ptqdb.networks.eager import eager
from ptqdb.quantization.codes import CodedLayer
from ptqdb.quantization.formats import Format
from ptqdb.quantization.network import QuantizedNetwork
from ptqdb.quantization.precision import choose_precision, matrix_precision
from ptqdb.support.interruption import keep_interrupts

Facts = TypeVar("Facts")


def compute_logits(
    module: nn.Module, batches: Iterable[Tensor], stops: Callable[[Tensor], bool] | None = None
) -> Tensor:
    """Run a scratch copy and return the float32 logits of every image, (images, classes).

    Parameters
    ----------
    stops
        Receives the logits of each batch; True ends the run after it.
    """
    outputs = []
    with scratch_copy(module) as scratch, eager(), torch.no_grad():
        for batch in batches:
            outputs.append(scratch(batch).float())
            if stops is not None and stops(outputs[-1]):
                break
    return torch.cat(outputs)


def evaluation_facts(
    logits: Tensor,
    float_logits: Tensor,
    labels: Tensor,
    precision: str,
    float_right: Tensor | None = None,
) -> EvaluationFacts:
    """Return counts and summed losses of a network, compared with the float network.

    An image without usable logits (see `are_usable`) has no prediction: it counts as wrong and is
    excluded from the sums, as is any infinite term.

    Parameters
    ----------
    logits, float_logits
        (images, classes); -infinity marks a masked class.
    labels
        int64, (images,).
    float_right
        Which images count as correct in floating point: bool, (images,); None: those that are, by
        `float_logits`.
    """
    usable, float_usable = are_usable(logits), are_usable(float_logits)
    both_usable = usable & float_usable
    right = _are_right(logits, labels)
    if float_right is None:
        float_right = _are_right(float_logits, labels)
    same = both_usable & (logits.argmax(1) == float_logits.argmax(1))
    log_q = torch.log_softmax(logits[usable].double(), 1)
    cross_entropies = finite(-log_q.gather(1, labels[usable, None]).flatten())
    log_p = torch.log_softmax(float_logits[both_usable].double(), 1)
    divergences = finite(kl_divergences(log_p, log_q[float_usable[usable]]))
    return EvaluationFacts(
        precision=precision,
        image_count=len(labels),
        correct_top1=int(right.sum()),
        correct_top5=int((usable & (_rank_of(labels, logits) < 5)).sum()),
        correct_both=int((right & float_right).sum()),
        same_prediction=int(same.sum()),
        non_finite_count=int((~usable).sum()),
        cross_entropy_count=len(cross_entropies),
        cross_entropy_sum=float(cross_entropies.sum()),
        kl_count=len(divergences),
        kl_sum=float(divergences.sum()),
        correct_images=bit_text(right),
        same_images=bit_text(same),
    )


def bit_text(mask: Tensor) -> str:
    """Return a mask as text, one 0 or 1 per image."""
    return (mask.to("cpu", torch.uint8) + ord("0")).numpy().tobytes().decode("ascii")


def are_usable(logits: Tensor) -> Tensor:
    """Return whether each row has a softmax: no NaN, no +infinity, at least one finite logit."""
    broken = logits.isnan() | logits.isposinf()
    return ~broken.any(1) & logits.isfinite().any(1)


def _are_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each image has a prediction and it is correct: bool, (images,)."""
    return are_usable(logits) & (_rank_of(labels, logits) == 0)


def _rank_of(labels: Tensor, logits: Tensor) -> Tensor:
    """The number of classes ranked before each label: int64, (images,); 0 for the prediction.

    Among equal logits the class with the lower index comes first, as in argmax.
    """
    of_label = logits.gather(1, labels[:, None])
    is_before = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return ((logits > of_label) | ((logits == of_label) & is_before)).sum(1)


def kl_divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p, q) of each row, in nats; infinite where q is 0 and p is not.

    Where p is 0 the term is 0, for any q.
    """
    differences = (log_p - log_q).masked_fill_(log_p.isneginf(), 0.0)
    return (log_p.exp() * differences).sum(1)


def finite(values: Tensor) -> Tensor:
    """Return the finite values."""
    return values[values.isfinite()]


class _Sufficiency:
    """Ends an evaluation once the loss is known well enough.

    Parameters
    ----------
    labels
        int64, (images,), in the order of evaluation.
    float_right
        Whether the float network classifies each image correctly: bool, (images,).
    until
        See ``ptqdb.measurement.first_images.is_enough``.
    """

    def __init__(self, labels: Tensor, float_right: Tensor, until: float):
        self._labels, self._float_right, self._until = labels, float_right, until
        self._image_count, self._looks = 0, Looks()
        self._right = torch.zeros_like(float_right)

    def is_enough_with(self, logits: Tensor) -> bool:
        """Receive the logits of the next images; return whether they are enough."""
        start, end = self._image_count, self._image_count + len(logits)
        self._right[start:end] = _are_right(logits, self._labels[start:end])
        self._image_count = end
        if not self._looks.is_due(end):
            return False
        right, float_right = self._right[:end], self._float_right[:end]
        both = int((right & float_right).sum())
        return is_enough(end, int(right.sum()), int(float_right.sum()), both, self._until)


class Outputs:
    """A network on images, in codes, and its float outputs for comparison.

    It takes the images in the order of ``ptqdb.measurement.first_images``.

    Parameters
    ----------
    network
        The measured network, the source of the codes.
    images
        One float pass over them runs immediately.
    precision
        ``auto`` or ``float32``; see ``ptqdb.quantization.precision``.
    first
        Use only so many images, the first ones in that order; None: all.

    Attributes
    ----------
    order
        Index of each image in use: int64, (images,).
    float_logits
        float32, (images, classes).

    Raises
    ------
    DataError
        The images have the wrong number of channels for the network.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        images: ImageSet,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        precision: str = "auto",
        first: int | None = None,
    ):
        self._network, self._device, self._precision = network, device, precision
        self.order = image_order(len(images))[:first]
        self._batches = network_batches(network, images, preprocessing, device, self.order)
        with matrix_precision("float32"):
            self.float_logits = compute_logits(network.module, self._batches)

    def in_codes(
        self,
        coded: Mapping[str, CodedLayer],
        known: Format,
        scope: str,
        facts: Callable[[Tensor, str], Facts],
        stops: Callable[[Tensor], bool] | None = None,
    ) -> Facts | FailedEvaluation:
        """Run the network in a format; return the reason if the network's own code fails.

        Low precision is used only where everything is in codes: only then are products exact.

        Parameters
        ----------
        coded
            All layers; with the scope ``layer``, only the quantized one.
        facts
            Receives the logits and the precision; returns the facts.
        stops
            As in `compute_logits`.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C was pressed.
        MemoryError, RuntimeError
            Out of memory, or the device failed earlier: not a failure of the format.
        """
        torch.zeros((), device=self._device).item()  # a failed GPU rejects any operation
        precision = choose_precision(
            known.number_format, self._device, self._precision, scope, known.scheme
        )
        of_layers = "all" if scope == LAYER_SCOPE else scope
        self._network.use_codes(coded, of_layers, in_integers=precision == "int8")
        try:
            with keep_interrupts(), matrix_precision(precision):
                logits = compute_logits(self._network.module, self._batches, stops)
            return facts(logits, precision)
        except BaseException as error:  # a network's own code may raise anything
            if is_lack_of_memory(error) or not is_of_network(error):
                raise
            return FailedEvaluation(self._network.last_started, one_line(error))
        finally:
            self._network.use_float()


class NetworkEvaluation:
    """A network on labelled images, with the float outputs that evaluations are compared to.

    All evaluations take the images in one order: see ``ptqdb.measurement.first_images``.

    Parameters
    ----------
    network, images, preprocessing, device, precision
        As in `Outputs`.

    Raises
    ------
    DataError
        The images have no labels, or the wrong number of channels for the network.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        images: ImageSet,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        precision: str = "auto",
    ):
        labels = images.known_labels()
        self._device = device
        self._outputs = Outputs(network, images, preprocessing, device=device, precision=precision)
        self._labels = labels[self._outputs.order].to(device)
        self._float_right = _are_right(self._outputs.float_logits, self._labels)

    def compare_with(self, float_correct_images: str) -> None:
        """Count images as correct in floating point if an earlier evaluation found them so.

        Another machine may classify single images differently, but all cells of a network are
        compared with the same float network.

        Parameters
        ----------
        float_correct_images
            Of the float network on these images; see `EvaluationFacts`.
        """
        bits = [bit == "1" for bit in float_correct_images]
        self._float_right = torch.tensor(bits, device=self._device)

    def of_float(self) -> EvaluationFacts:
        """The facts of the float network."""
        logits = self._outputs.float_logits
        return evaluation_facts(logits, logits, self._labels, "float32")

    def of_codes(
        self,
        coded: Mapping[str, CodedLayer],
        known: Format,
        scope: str,
        until: float | None = None,
    ) -> EvaluationFacts | FailedEvaluation:
        """Evaluate the network in a format; return the reason if the network's own code fails.

        Parameters
        ----------
        coded, known, scope
            As in `Outputs.in_codes`.
        until
            Standard error of the loss at which to stop, see `is_enough`; None: all images.

        Raises
        ------
        KeyboardInterrupt, MemoryError, RuntimeError
            As in `Outputs.in_codes`.
        """

        def facts(logits: Tensor, precision: str) -> EvaluationFacts:
            first = slice(len(logits))
            return evaluation_facts(
                logits,
                self._outputs.float_logits[first],
                self._labels[first],
                precision,
                self._float_right[first],
            )

        return self._outputs.in_codes(coded, known, scope, facts, self._stops(until))

    def _stops(self, until: float | None) -> Callable[[Tensor], bool] | None:
        if until is None:
            return None
        return _Sufficiency(self._labels, self._float_right, until).is_enough_with
