"""What a network's source has to tell of itself, and what most of them answer."""

from typing import Protocol

from torch import nn

from ptqdb.datasets.preprocessing import Preprocessing


class Builder(Protocol):
    """What makes the float network, with weights of its own or fresh ones."""

    @property
    def name(self) -> str:
        """What the network is called if nobody calls it otherwise."""

    def build(self, class_count: int | None = None) -> nn.Module:
        """The network, with so many outputs or with as many as it has by itself."""

    def preprocessing(self) -> Preprocessing | None:
        """What is known of it before anything is loaded."""

    def published_as(self, checkpoint_sha256: str) -> str | None:
        """The name of the published weights whose file has that hash."""

    def key(self, key: str) -> str | None:
        """What a checkpoint's key is called in the network; None where it is left out."""


class Unpublished:
    """The answers of a builder that nothing is published of."""

    def preprocessing(self) -> Preprocessing | None:
        """Unknown."""
        return None

    def published_as(self, checkpoint_sha256: str) -> str | None:
        """Unknown."""
        return None

    def key(self, key: str) -> str | None:
        """As it is."""
        return key
