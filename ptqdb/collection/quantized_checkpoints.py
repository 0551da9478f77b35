"""What users bring: checkpoints that somebody else's method has quantized, their own functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import duckdb

from ptqdb.errors import MismatchError, UsageError
from ptqdb.networks.checkpoints import TrainedNetwork, checkpoint_sha256
from ptqdb.networks.sources import NetworkSource
from ptqdb.quantization.formats import OWN_VALUES, Format
from ptqdb.quantization.schemes import OTHER, Scheme

_STORED = "select quantized, source_sha256 from scheme where name = ?"
_USERS = (
    "select network.name from network where exists (select 1 from evaluation as e "
    "join scheme as s using (scheme_id) where e.network_id = network.network_id and s.name = $1) "
    "or exists (select 1 from dequantized_tensor as d join scheme as s using (scheme_id) "
    "join tensor as t using (tensor_id) join layer as l using (layer_id) "
    "where l.network_id = network.network_id and s.name = $1)"
)


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


def refuse_other_schemes(
    connection: duckdb.DuckDBPyConnection, asked: Sequence[Format], replaced: Sequence[str]
) -> None:
    """Refuse functions and checkpoints under a name that stands for another one.

    Parameters
    ----------
    asked
        Every format of a network.
    replaced
        Networks that will be deleted first, with what the name stands for there.

    Raises
    ------
    UsageError
        A function and a checkpoint have one name.
    MismatchError
        The database has facts of another function, or of a file that has changed since.
    """
    schemes: dict[str, Scheme] = {}
    for each in asked:
        scheme = each.scheme
        if schemes.setdefault(scheme.name, scheme) != scheme:
            raise UsageError(
                f"--quantized: {scheme.name} is also the name of a function in --number-formats; "
                "take another one"
            )
        if scheme.granularity != OTHER:
            continue
        stored = connection.execute(_STORED, [scheme.name]).fetchone()
        if stored is None or stored == (",".join(scheme.quantized), scheme.source_sha256):
            continue
        users = {name for (name,) in connection.execute(_USERS, [scheme.name]).fetchall()}
        if users.difference(replaced):
            raise MismatchError(
                f"--number-formats: the database has {scheme.name} of another function or file; "
                "give it another name, another --db, or --replace to collect again all networks "
                "that have it"
            )
