"""Counts each layer's multiply-accumulates for one image."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ptqdb.errors import UnsupportedLayerError


def count_macs(module: nn.Module, example: Tensor) -> dict[str, int]:
    """MACs of every leaf with a weight of two or more dimensions, by qualified name.

    Half the floating-point operations that ``torch.utils.flop_counter`` counts while the module
    runs; a layer that runs twice counts twice.

    Parameters
    ----------
    example
        One image as the network takes it, (1, channels, height, width).

    Raises
    ------
    UnsupportedLayerError
        A layer has such a weight and counts no operation: the counter does not know it, or it
        never runs. The message names it.
    """
    counter = FlopCounterMode(display=False)
    totals: dict[str, int] = {}
    started: dict[str, int] = {}

    def before(name: str, *_: Any) -> None:
        started[name] = counter.get_total_flops()

    def after(name: str, *_: Any) -> None:
        totals[name] += counter.get_total_flops() - started[name]

    handles = []
    for name, layer in module.named_modules():
        own = layer.parameters(recurse=False)
        if any(parameter.ndim >= 2 for parameter in own):
            totals[name] = 0
            handles.append(layer.register_forward_pre_hook(partial(before, name)))
            handles.append(layer.register_forward_hook(partial(after, name)))
    try:
        with torch.inference_mode(), counter:
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    uncounted = [name for name, flops in totals.items() if flops == 0]
    if uncounted:
        kinds = ", ".join(
            f"{name} ({type(module.get_submodule(name)).__name__})" for name in uncounted
        )
        raise UnsupportedLayerError(
            f"expected multiplications in every layer with weights, counted none in {kinds}: "
            "the operation is unknown to the counter, or the layer never runs"
        )
    return {name: flops // 2 for name, flops in totals.items()}
