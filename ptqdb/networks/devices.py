"""Where networks run: names of devices, and whether the machine has them."""

import re

from ptqdb.errors import UsageError


def check_device(device: str) -> None:
    """Refuse an invalid device name; PyTorch is not imported.

    Raises
    ------
    UsageError
        The message lists the valid ones.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device: expected cpu, cuda or cuda:N, found {device!r}")


def require_device(device: str) -> None:
    """Refuse an invalid or missing device.

    Raises
    ------
    UsageError
        The message lists the valid ones.
    """
    check_device(device)
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"--device: found no GPU for {device!r}; use cpu")
