"""Specs of networks, checked before the slow import of PyTorch."""

from pathlib import Path

from ptqdb.errors import UsageError
from ptqdb.networks.reference import REFERENCE_NETWORKS, reference_network
from ptqdb.support.paths import is_file, shorten

CALLABLES = "package.module:callable or path/file.py:callable"
WAYS = f"a reference network's name, torchvision:NAME, timm:NAME, {CALLABLES}"
RANDOM = "random"
"""Name of fresh random weights, drawn with a seed."""
ZOOS = ("torchvision", "timm")


def check_spec(spec: str, *, has_checkpoint: bool, weights: str | None) -> None:
    """Raise if a spec names nothing, or has no weights.

    Parameters
    ----------
    spec
        As the user gave it.
    has_checkpoint
        Whether a checkpoint is given with it.
    weights
        The name of weights, or None.

    Raises
    ------
    UsageError
        The message says what is missing.
    """
    zoo, separator, _ = spec.partition(":")
    if separator and zoo in ZOOS:
        if not has_checkpoint and weights is None:
            raise UsageError(
                f"{spec} has no weights yet; give --weights DEFAULT, which downloads them, "
                "--checkpoint FILE, or --weights random"
            )
        return
    if weights not in (None, RANDOM):
        raise UsageError(
            f"--weights: no file {weights!r}, and only torchvision:NAME and timm:NAME have "
            f"weights by name; for {spec} give --checkpoint FILE or --weights random"
        )
    if separator:
        check_callable(spec)
    elif spec not in REFERENCE_NETWORKS:
        _refuse_reference(spec)
    elif not has_checkpoint and weights is None:
        raise UsageError(f"{spec} has no weights yet; give --checkpoint FILE or --weights random")


def ways(option: str) -> str:
    """What an option takes that may name a user's own code."""
    return WAYS if option == "--network" else CALLABLES


def check_callable(spec: str, option: str = "--network") -> None:
    """Raise if a spec of a user's own code lacks the callable, or its file is missing.

    Raises
    ------
    UsageError
        The message says what is missing.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise UsageError(f"{option}: expected {ways(option)}, found {spec!r}")
    if names_file(where) and not is_file(Path(where)):
        raise UsageError(f"{option}: no file {shorten(Path(where))} for {shorten(Path(spec))!r}")


def names_file(where: str) -> bool:
    """Whether the part of a spec before the callable is a file, not a module."""
    return where.endswith(".py") or "/" in where or "\\" in where


def _refuse_reference(spec: str) -> None:
    try:
        reference_network(spec)
    except UsageError as error:
        if spec.endswith(".py"):
            raise UsageError(f"--network: add the callable, as in {spec}:callable") from error
        raise UsageError(f"{error}, or give {WAYS.partition(', ')[2]}") from error
