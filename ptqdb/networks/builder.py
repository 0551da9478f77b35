"""The interface of network builders, and its default answers."""

from typing import Protocol

from torch import nn

from ptqdb.datasets.preprocessing import Preprocessing


class Builder(Protocol):
    """Builds the float network, with its own or fresh weights."""

    @property
    def name(self) -> str:
        """Default name of the network."""

    def build(self, class_count: int | None = None) -> nn.Module:
        """Return the network, with `class_count` outputs or its default number."""

    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing, as far as known before loading."""

    def published_as(self, checkpoint_sha256: str) -> str | None:
        """The name of the published weights whose file has that hash."""

    def key(self, key: str) -> str | None:
        """Return the network's key for a checkpoint's key; None to skip it."""


class Unpublished:
    """Default answers of a builder without published weights."""

    def preprocessing(self) -> Preprocessing | None:
        """Unknown."""
        return None

    def published_as(self, checkpoint_sha256: str) -> str | None:
        """Unknown."""
        return None

    def key(self, key: str) -> str | None:
        """Return the key unchanged."""
        return key
