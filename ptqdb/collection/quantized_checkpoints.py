"""Checkpoints whose weights somebody else's method has already quantized."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import duckdb

from ptqdb.errors import MismatchError
from ptqdb.networks.checkpoints import TrainedNetwork, checkpoint_sha256
from ptqdb.networks.sources import NetworkSource
from ptqdb.quantization.formats import OWN_VALUES, Format
from ptqdb.quantization.schemes import OTHER, Scheme


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """A checkpoint of a network's architecture with dequantized weights, such as of GPTQ or AWQ.

    Attributes
    ----------
    name
        What the method is called: the name of its scheme and format.
    path
        The file, as a checkpoint of the network.
    """

    name: str
    path: Path

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file.

        Raises
        ------
        DataError
            The file cannot be read.
        """
        return checkpoint_sha256(self.path)

    @property
    def format(self) -> Format:
        """Its format: float32 values of weights and biases; inputs stay in floats."""
        scheme = Scheme(
            self.name,
            granularity=OTHER,
            symmetry=OTHER,
            range_rule=OTHER,
            quantized=("weight", "bias"),
            input_granularity="float",
            scale_format=OTHER,
        )
        return Format(OWN_VALUES, scheme)

    def load(self, source: NetworkSource) -> TrainedNetwork:
        """Return the network with these weights.

        Raises
        ------
        DataError
            The file is no checkpoint of this network; the message lists the differences.
        """
        return replace(source, checkpoint=self.path, weights=None).load()


def refuse_other_checkpoints(
    connection: duckdb.DuckDBPyConnection, network: str, asked: Sequence[QuantizedCheckpoint]
) -> None:
    """Refuse checkpoints under names that the database has with other weights.

    Raises
    ------
    MismatchError
        The message names the checkpoint.
    """
    rows = connection.execute(
        "select s.name, q.checkpoint_sha256 from quantized_checkpoint as q "
        "join network as n using (network_id) join scheme as s using (scheme_id) "
        "where n.name = ?",
        [network],
    ).fetchall()
    stored = dict(rows)
    for each in asked:
        if stored.get(each.name, each.sha256) != each.sha256:
            raise MismatchError(
                f"--quantized: the database has {each.name} of {network} with other weights; give "
                "another name, another --db, or --replace to collect it again"
            )
