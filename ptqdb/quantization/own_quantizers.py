"""A user's own quantizer: a function from a tensor to the dequantized tensor."""

import functools
import hashlib
import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqdb.errors import UsageError
from ptqdb.quantization.schemes import OTHER, Scheme

LARGEST_BITS = 64


@dataclass(frozen=True)
class OwnQuantizer:
    """A user's function, with what is known of it.

    Attributes
    ----------
    function
        Takes a float32 tensor and returns the dequantized tensor of the same shape. If it needs a
        second argument, or one is called ``role``, it is called with the role, ``weight`` or
        ``input``, and quantizes inputs, too: otherwise weights alone.
    takes_role
        Whether it takes the role.
    bits_per_weight
        The function's attribute of that name; None if it has none.
    """

    scheme: Scheme
    function: Callable[..., Any]
    takes_role: bool
    bits_per_weight: float | None


def is_own_quantizer(name: str) -> bool:
    """Whether a name is that of a function in a file or module.

    >>> is_own_quantizer("file.py:mine"), is_own_quantizer("mxfp4")
    (True, False)
    """
    return ":" in name and not name.endswith(":")


def load_own_quantizer(spec: str) -> OwnQuantizer:
    """Import a user's function.

    Parameters
    ----------
    spec
        ``path/file.py:function`` or ``package.module:function``.

    Raises
    ------
    UsageError
        No such file or function, or one that does not take one or two arguments.
    DataError
        Importing the file fails; the message gives file and line.
    """
    from ptqdb.networks.factories import find_callable  # imports PyTorch

    function = find_callable(spec, "--number-formats")
    takes_role = _takes_role(spec, function)
    scheme = Scheme(
        spec.rpartition(":")[2],
        granularity=OTHER,
        symmetry=OTHER,
        range_rule=OTHER,
        quantized=("weight", "input") if takes_role else ("weight",),
        input_granularity=OTHER if takes_role else "float",
        input_symmetry=OTHER if takes_role else "symmetric",
        scale_format=OTHER,
        source_sha256=_digest(function),
    )
    return OwnQuantizer(scheme, function, takes_role, _bits_per_weight(spec, function))


def _takes_role(spec: str, function: Any) -> bool:
    if not callable(function):
        raise UsageError(
            f"--number-formats: expected {spec} to be a function of a tensor, found a "
            f"{type(function).__name__}"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-ins have none
        return False
    second = list(signature.parameters)[1:2]
    of_tensor, of_both = ("tensor",), ("tensor", "role")
    wanted = (of_both, of_tensor) if second == ["role"] else (of_tensor, of_both)
    for arguments in wanted:
        with suppress(TypeError):
            signature.bind(*arguments)
            return arguments == of_both
    raise UsageError(
        f"--number-formats: expected {spec} to take a tensor, or a tensor and its role, found "
        f"{signature}"
    )


def _bits_per_weight(spec: str, function: Any) -> float | None:
    bits = getattr(function, "bits_per_weight", None)
    if bits is None:
        return None
    if not isinstance(bits, int | float) or not 0 < bits <= LARGEST_BITS:
        raise UsageError(
            f"--number-formats: expected bits_per_weight of {spec} between 0 and {LARGEST_BITS}, "
            f"found {bits!r}"
        )
    return float(bits)


def _digest(function: Callable[..., Any]) -> str:
    """SHA-256 of the file that defines the function, or the class of a callable object."""
    inner: Any = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    file = None
    for each in (inner, type(inner)):
        with suppress(TypeError):  # what is built in has no file
            file = file or inspect.getsourcefile(each)
    return hashlib.sha256(Path(file).read_bytes() if file else b"").hexdigest()
