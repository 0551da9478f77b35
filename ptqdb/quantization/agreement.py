"""Compares the outputs of a prepared network with those of the given network."""

import random
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.networks.copies import full_copy, scratch_copy, tensors_in
from ptqdb.networks.eager import eager

CLOSE = 1e-5
"""Relative distance of two outputs that needs no further check."""

DOUBTFUL = 0.1
"""Rounding never moves outputs this far, not even 8-bit rounding in an autocast network."""

CLOSE_IN_FLOAT64 = 1e-9
"""As `CLOSE`, for float64, where rounding errors are 2^29 times smaller."""

ROUNDING_FACTOR = 16
"""Rounding may move outputs this factor farther than a change of the images' last bits."""

PASSES_OF_RANDOM_NETWORKS = 32
"""A network that draws random numbers may return equal outputs twice by chance."""

FAILURES = (Exception, SystemExit)
"""Errors that a network's own code may raise; Ctrl-C is not a failure."""


_Outputs = dict[str, list[Tensor]]


class GivenNetwork:
    """The given network and its outputs on a few images.

    Parameters
    ----------
    module
        In evaluation mode. It is never run itself, only scratch copies of it.
    images
        Normalized, (N, channels, height, width).

    Attributes
    ----------
    is_batched
        Whether an image has the same outputs alone and in a batch. If not, images are compared and
        measured one at a time.
    draws
        Whether a forward pass draws random numbers, although all passes gave the same outputs.

    Raises
    ------
    DataError
        The network fails on the images, or two passes give different outputs; the message names the
        first module whose output differs.
    """

    def __init__(self, module: nn.Module, images: Tensor):
        self.module, self.images = module, images.contiguous()
        self.is_batched = True
        try:
            self.expected = self._run_given()
            self.is_batched = self._agrees_alone()
        except DataError:
            raise
        except FAILURES:  # it may accept only single images
            self.is_batched = False
        if not self.is_batched:
            self.expected = self._run_given()

    def batches(self, images: Tensor | None = None) -> Sequence[Tensor]:
        """Return the images as batches: all together, or one at a time."""
        images = self.images if images is None else images
        return [images] if self.is_batched else torch.split(images, 1)

    def agrees(
        self,
        module: nn.Module,
        exact: Callable[[], nn.Module],
        memory_format: torch.memory_format = torch.contiguous_format,
        *,
        may_overflow: bool = False,
    ) -> bool:
        """Whether a prepared network returns the same outputs.

        Allows for float32 rounding: in doubt, both are compared in float64. If the network cannot
        run in float64, the tolerance is the effect of a change in the last bits of the images.

        Parameters
        ----------
        module
            The prepared network. It is run: pass a copy.
        exact
            Returns the same network in float64.
        memory_format
            Memory format of the images.
        may_overflow
            Whether to ignore outputs that are not finite: in scaled units, different sums overflow.
        """
        try:
            found = _run(module, [x.to(memory_format=memory_format) for x in self.batches()])
        except FAILURES:
            return False
        distance = relative_distance(found, self.expected, may_overflow=may_overflow)
        if distance <= CLOSE or distance > DOUBTFUL:
            return distance <= CLOSE
        if self._expected_in_float64 is None:
            return distance <= ROUNDING_FACTOR * self._moved_by_rounding
        try:
            batches = [x.double().to(memory_format=memory_format) for x in self.batches()]
            found = _run(exact(), batches)
        except FAILURES:
            return False
        return relative_distance(found, self._expected_in_float64) <= CLOSE_IN_FLOAT64

    def refuse(self, module: nn.Module) -> None:
        """Raise: not even a plain copy of the network returns the same outputs.

        Raises
        ------
        DataError
            Always; the message names the first module whose output differs.
        """
        raise DataError(
            "expected a copy of the network to return the same outputs as the network, found "
            f"others{self._first_difference(module)}; keep its state in "
            "parameters and buffers, not in global variables or closures"
        )

    def _run(self, batches: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The outputs of a scratch copy; by default on the images."""
        with scratch_copy(self.module) as scratch:
            return _run(scratch, self.batches() if batches is None else batches)

    def _run_given(self) -> list[Tensor]:
        """Run two passes, or more if random numbers are drawn; return the outputs of the first.

        One copy runs them all, so state kept from one pass that changes the next is detected.
        """
        before = _random_states()
        with scratch_copy(self.module) as scratch:
            first = _run(scratch, self.batches())
            self.draws = _random_states() != before
            further = PASSES_OF_RANDOM_NETWORKS if self.draws else 1
            passes = (_run(scratch, self.batches()) for _ in range(further))
            differs = any(relative_distance(found, first) > CLOSE for found in passes)
        if differs:
            raise DataError(
                "expected the same outputs in two passes over the same images, found others"
                f"{self._first_change()}: the network draws random numbers or keeps state between "
                "passes; switch dropout and noise off in evaluation mode, as "
                "functional.dropout(x, p, training=self.training) does"
            )
        return first

    def _is_close(self, found: list[Tensor], expected: list[Tensor]) -> bool:
        """Whether two passes of the given network agree up to rounding."""
        distance = relative_distance(found, expected)
        if distance <= CLOSE or distance > DOUBTFUL:
            return distance <= CLOSE
        return distance <= ROUNDING_FACTOR * self._moved_by_rounding

    def _agrees_alone(self) -> bool:
        """Whether images have the same outputs one at a time and two at a time."""
        singles = torch.split(self.images[:2], 1)
        pair = self.images[:2] if len(singles) == 2 else torch.cat([self.images] * 2)
        try:
            alone, together = self._run(singles), self._run([pair])
        except FAILURES:
            return False
        wanted = [tensor[: len(singles)] for tensor in self.expected]
        same = (alone, [tensor[: len(singles)] for tensor in together])
        return all(self._is_close(found, wanted) for found in same)

    @cached_property
    def _moved_by_rounding(self) -> float:
        """Relative change of the outputs when the last bits of the images change."""
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, self.images.shape, generator=generator) * 2 - 1
        moved = self.images * (1 + signs.to(self.images) * 2.0**-22)
        expected, found = self._run(), self._run(self.batches(moved))
        return relative_distance(found, expected)

    @cached_property
    def _expected_in_float64(self) -> list[Tensor] | None:
        """The outputs in float64; None if the network cannot run in float64."""
        try:
            exact = full_copy(self.module).double()
            return _run(exact, [batch.double() for batch in self.batches()])
        except FAILURES:
            return None

    def _first_difference(self, other: nn.Module) -> str:
        """The first module whose output differs between another network and the given one."""
        with scratch_copy(self.module) as one, scratch_copy(other) as two:
            outputs, found = (_outputs_by_module(each, self.batches()) for each in (one, two))
        return self._parting(outputs, found)

    def _first_change(self) -> str:
        """The first module whose output differs between two passes of the same copy."""
        with scratch_copy(self.module) as scratch:
            outputs = _outputs_by_module(scratch, self.batches())
            for _ in range(PASSES_OF_RANDOM_NETWORKS):
                parting = self._parting(outputs, _outputs_by_module(scratch, self.batches()))
                if parting:
                    return parting
        return ""

    def _parting(self, one: _Outputs, other: _Outputs) -> str:
        for name, expected in one.items():
            if name not in other or relative_distance(other[name], expected) > CLOSE:
                kind = type(self.module.get_submodule(name)).__name__
                return f", first from {name} ({kind})" if name else ""
        return ""


def _random_states() -> tuple[object, ...]:
    """The states of the global random number generators."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().tolist(), random.getstate(), kind, list(keys), rest


def _run(module: nn.Module, batches: Sequence[Tensor]) -> list[Tensor]:
    """Return each output tensor of the network, concatenated over the batches.

    Raises
    ------
    DataError
        The number of output tensors differs between batches.
    """
    with eager(), torch.no_grad():
        outputs = [list(tensors_in(module(batch.clone()))) for batch in batches]
    if len({len(tensors) for tensors in outputs}) > 1:
        raise DataError("expected the same number of outputs for each batch, found others")
    return [torch.cat(list(map(torch.atleast_1d, parts))) for parts in zip(*outputs, strict=True)]


def relative_distance(
    found: Sequence[Tensor], expected: Sequence[Tensor], *, may_overflow: bool = False
) -> float:
    """Return the largest absolute difference relative to the tensor's largest absolute value.

    The maximum over all tensors. Infinity if shapes, or the positions of non-finite values, differ.

    Parameters
    ----------
    may_overflow
        Whether to ignore positions where the expected value is not finite.
    """
    if len(found) != len(expected):
        return float("inf")
    pairs = zip(found, expected, strict=True)
    return max((_relative_distance(*pair, may_overflow) for pair in pairs), default=0.0)


def _relative_distance(found: Tensor, expected: Tensor, may_overflow: bool) -> float:
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.double(), expected.double()
    is_finite = expected.isfinite()
    if may_overflow:
        found = torch.where(is_finite, found, expected)
    same_others = torch.equal(found[~is_finite].nan_to_num(), expected[~is_finite].nan_to_num())
    if not (torch.equal(found.isfinite(), is_finite) and same_others):
        return float("inf")
    if not bool(is_finite.any()):
        return 0.0
    largest = float(expected[is_finite].abs().max())
    distance = float((found - expected)[is_finite].abs().max())
    return distance / largest if largest else float(distance > 0)


def _outputs_by_module(module: nn.Module, batches: Sequence[Tensor]) -> _Outputs:
    """The tensors that each module returns at its first call, in order."""
    outputs: _Outputs = {}

    def look(name: str, _: nn.Module, inputs: object, output: object) -> None:
        outputs.setdefault(name, [tensor.clone() for tensor in tensors_in(output)])

    handles = [
        part.register_forward_hook(partial(look, name)) for name, part in module.named_modules()
    ]
    with eager(), torch.no_grad():
        for batch in batches:
            module(batch.clone())
    for handle in handles:
        handle.remove()
    return outputs
