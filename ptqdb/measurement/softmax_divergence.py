"""Jensen-Shannon divergence of paired softmaxes, elementwise in float64."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ptqdb.measurement.chunks import group_chunks, group_pieces, map_in_threads


def softmax_group_count(values: Tensor) -> int:
    """Return the number of softmax groups; the softmax runs over dimension 1, or 0 of a vector."""
    return values.numel() // group_pieces(values).shape[-1]


def softmax_divergences(values: Tensor, codes: Tensor, factors: Sequence[float]) -> list[float]:
    """The Jensen-Shannon divergence of paired softmaxes, in bits, summed over groups.

    The softmax of the values is paired with that of the codes times each factor, over dimension 1,
    or 0 of a vector.

    Works in chunks of whole groups: nothing of the size of the tensor is allocated, and terms of
    the values alone are computed once for all factors.
    """

    def of_chunk(chunk: tuple[Tensor, ...]) -> list[float]:
        exact, exact_codes = (part.double() for part in chunk)
        log_p = torch.log_softmax(exact, -1)
        p = log_p.exp()
        return [float(_nats(log_p, p, exact_codes * factor)) for factor in factors]

    sums = list(map_in_threads(of_chunk, group_chunks(values, codes)))
    total = torch.tensor(sums, dtype=torch.float64).sum(0) / (2 * math.log(2))
    found: list[float] = total.tolist()
    return found


def _nats(log_p: Tensor, p: Tensor, dequantized: Tensor) -> Tensor:
    """Twice the divergence of a chunk, in nats: float64, shape ()."""
    log_q = torch.log_softmax(dequantized, -1)
    q = log_q.exp()
    # where both are 0, log_m is -inf: without a bound, 0 times the difference would be NaN
    log_m = (p + q).mul_(0.5).log_().clamp_(min=torch.finfo(p.dtype).min)
    of_p = torch.sub(log_p, log_m).mul_(p)
    divergence = of_p.add_(log_q.sub_(log_m).mul_(q)).sum(-1)
    return divergence.clamp_(min=0).sum()
