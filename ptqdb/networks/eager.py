"""Runs compiled networks in eager mode."""

import sys
from contextlib import AbstractContextManager, nullcontext

import torch


def eager() -> AbstractContextManager[object]:
    """Run everything compiled by ``torch.compile`` in eager mode inside the block.

    Compiled code would ignore that a layer is quantized.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and it loads slowly
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance
