"""Runs a network on a few unlabelled images and compares it with the float network."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.measurement.evaluation import (
    Outputs,
    are_usable,
    bit_text,
    finite,
    kl_divergences,
)
from ptqdb.measurement.facts import FailedEvaluation, ProbeFacts
from ptqdb.quantization.codes import CodedLayer
from ptqdb.quantization.formats import Format
from ptqdb.quantization.network import QuantizedNetwork


def probe_facts(logits: Tensor, float_logits: Tensor, precision: str) -> ProbeFacts:
    """Return the comparison of a network with the float network; see `ProbeFacts`.

    Parameters
    ----------
    logits, float_logits
        (images, classes); -infinity marks a masked class. An image whose float logits are not
        usable adds nothing to any sum.

    Examples
    --------
    Two classes, the float network certain to 3/4 and 9/10; quantized, the first image flips.

    >>> p = torch.tensor([[0.75, 0.25], [0.1, 0.9]])
    >>> facts = probe_facts(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), p.log(), "float32")
    >>> sums = facts.float_probability_sum, facts.chosen_probability_sum
    >>> facts.same_images, [round(each, 6) for each in sums]
    ('01', [1.65, 1.15])
    """
    usable, float_usable = are_usable(logits), are_usable(float_logits)
    both = usable & float_usable
    log_p = torch.log_softmax(float_logits[float_usable].double(), 1)
    of_both = both[float_usable]
    chosen = log_p[of_both].gather(1, logits[both].argmax(1, keepdim=True)).exp()
    log_q = torch.log_softmax(logits[both].double(), 1)
    divergences = finite(kl_divergences(log_p[of_both], log_q))
    errors, variances = _logit_errors(logits[both].double(), float_logits[both].double())
    same = both & (logits.argmax(1) == float_logits.argmax(1))
    return ProbeFacts(
        precision=precision,
        image_count=len(logits),
        same_prediction=int(same.sum()),
        non_finite_count=int((~usable).sum()),
        float_probability_sum=float(log_p.exp().amax(1).sum()),
        chosen_probability_sum=float(chosen.sum()),
        kl_sum=float(divergences.sum()),
        kl_count=len(divergences),
        logit_squared_error_sum=float(errors.sum()),
        float_logit_variance_sum=float(variances.sum()),
        logit_count=len(errors),
        same_images=bit_text(same),
    )


def _logit_errors(logits: Tensor, float_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Variances over the classes of the differences and of the float logits: (images,) each.

    Without the images where a class is masked in only one network.
    """
    masked = logits.isneginf()
    alike = (masked == float_logits.isneginf()).all(1)
    shown = ~masked[alike]
    float_rows = float_logits[alike]
    return _variances(logits[alike] - float_rows, shown), _variances(float_rows, shown)


def _variances(values: Tensor, shown: Tensor) -> Tensor:
    """The population variance of each row, over the entries that are shown: (rows,)."""
    count = shown.sum(1, keepdim=True)
    mean = values.where(shown, 0.0).sum(1, keepdim=True) / count
    return (values - mean).where(shown, 0.0).square().sum(1) / count[:, 0]


class NetworkProbe:
    """A network on the first few images of a set, with the float outputs to compare with.

    Parameters
    ----------
    network, images, preprocessing, device, precision
        As in ``ptqdb.measurement.evaluation.Outputs``; labels are not used.
    image_count
        Number of images, the first ones in the order of ``first_images``; at most all.

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
        image_count: int,
        *,
        device: torch.device,
        precision: str = "auto",
    ):
        self._outputs = Outputs(
            network, images, preprocessing, device=device, precision=precision, first=image_count
        )

    def of_codes(
        self, coded: Mapping[str, CodedLayer], known: Format
    ) -> ProbeFacts | FailedEvaluation:
        """Run the network in a format; return the reason if the network's own code fails.

        Raises
        ------
        KeyboardInterrupt, MemoryError, RuntimeError
            As in `Outputs.in_codes`.
        """

        def facts(logits: Tensor, precision: str) -> ProbeFacts:
            return probe_facts(logits, self._outputs.float_logits, precision)

        return self._outputs.in_codes(coded, known, "all", facts)
