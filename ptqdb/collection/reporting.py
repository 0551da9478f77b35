"""Who is told how a collection goes on."""

from typing import Protocol

from ptqdb.collection.plan import Cell


class Reporter(Protocol):
    """Receives the progress of a collection."""

    def planned(self, cell_count: int, present_count: int) -> None:
        """Receive the numbers of cells to fill and of existing cells."""

    def weighed(self, network: str, cell_count: int, work: float | None) -> None:
        """Receive a network's number of cells and the work per cell; None if unknown.

        All networks have the same unit of work. Called once per network, before the first network
        is prepared.
        """

    def preparing(self, network: str) -> None:
        """A network is being loaded and calibrated."""

    def prepared(self, network: str, cell_count: int) -> None:
        """A network is prepared; its layers and so its number of cells are known."""

    def filled(self, cell: Cell) -> None:
        """A cell is committed, with its evaluation or its failure."""

    def remarked(self, text: str) -> None:
        """Receive a remark for the user."""


class Silent:
    """A reporter that does nothing."""

    def planned(self, cell_count: int, present_count: int) -> None:
        """Do nothing."""

    def weighed(self, network: str, cell_count: int, work: float | None) -> None:
        """Do nothing."""

    def preparing(self, network: str) -> None:
        """Do nothing."""

    def prepared(self, network: str, cell_count: int) -> None:
        """Do nothing."""

    def filled(self, cell: Cell) -> None:
        """Do nothing."""

    def remarked(self, text: str) -> None:
        """Do nothing."""
