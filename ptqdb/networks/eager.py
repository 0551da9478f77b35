"""Runs networks as plain Python, whatever their authors compiled."""

import sys
from contextlib import AbstractContextManager, nullcontext

import torch


def eager() -> AbstractContextManager[object]:
    """Let everything that ``torch.compile`` compiled run uncompiled inside the block.

    Compiled code would not see that a layer computes in codes.
    """
    if "torch._dynamo" not in sys.modules:  # nobody has compiled anything, and it loads slowly
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance
