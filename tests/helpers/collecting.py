"""Tiny networks and images to collect, and how two databases are compared."""

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import duckdb
import torch

from ptqdb.collection.plan import Cell, CollectionRequest, NetworkTask
from ptqdb.collection.reporting import Silent
from ptqdb.collection.sweep import collect
from ptqdb.datasets.images import ImageSet
from ptqdb.networks.checkpoints import NetworkDescription, save_checkpoint
from ptqdb.networks.reference import reference_network
from ptqdb.networks.sources import NetworkSource, described_source
from ptqdb.quantization.formats import match_formats

NETWORKS = ("AlexNet", "AlexNet_BN", "Inception_BN")
WIDTH = 0.03125
FORMATS = "INT_2,INT_8,INT_13,POT_4,FLOAT_4_E2,FLOAT_8_E4"


class Silence(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.remarks: list[str] = []

    def filled(self, cell: Cell) -> None:
        self.cells.append(cell)

    def remarked(self, text: str) -> None:
        self.remarks.append(text)


class Voice(Silence):
    """A reporter that says when a network is about to be measured: the run is recorded by then."""

    def __init__(self, mouth: Connection) -> None:
        super().__init__()
        self.mouth = mouth

    def preparing(self, network: str) -> None:
        if not self.mouth.closed:  # nobody listens any longer
            self.mouth.send(network)
            self.mouth.close()


def images(count: int, split: str = "test", seed: int = 0) -> ImageSet:
    """Random pictures of ten classes."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return ImageSet("toy", split, pixels, labels, tuple("abcdefghij"))


def checkpoint(folder: Path, name: str, seed: int = 0) -> Path:
    """A narrow network with random weights."""
    torch.manual_seed(seed)
    description = NetworkDescription(name, WIDTH, 10, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    path = folder / f"{name}.safetensors"
    save_checkpoint(path, description, dict(reference_network(name).build(WIDTH).state_dict()))
    return path


def source(folder: Path, name: str, seed: int = 0) -> NetworkSource:
    """The narrow network, found."""
    return described_source(checkpoint(folder, name, seed))


def request(folder: Path, **changes: Any) -> CollectionRequest:
    """Three networks in six formats on twenty images.

    ``networks``, ``images`` and ``calibration`` change the tasks, others the request itself.
    """
    folder.mkdir(exist_ok=True)
    networks = changes.pop("networks", None) or [source(folder, name) for name in NETWORKS]
    shown = changes.pop("images", images(20))
    calibration = changes.pop("calibration", images(8, "train", seed=1))
    arguments: dict[str, Any] = {
        "tasks": tuple(NetworkTask(network, shown, calibration) for network in networks),
        "number_formats": match_formats(FORMATS),
        "scopes": ("all", "weight"),
    }
    return CollectionRequest(**(arguments | changes))


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every table that holds facts or what was derived from them, sorted."""
    with duckdb.connect(path, read_only=True) as connection:
        tables = connection.execute(
            "select table_name from duckdb_tables() where not internal order by table_name"
        ).fetchall()
        return {
            table: connection.execute(f"select * from {table} order by all").fetchall()
            for (table,) in tables
            if table not in ("collection_run", "migration", "definition")
        }


# Its processes are copies of one that has imported everything, which takes seconds.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["ptqdb.collection.sweep"])


def started(folder: Path, database: Path) -> ForkServerProcess:
    """A process that collects the three networks; it has recorded its run."""
    ear, mouth = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=_collect, args=(folder, database, mouth))
    process.start()
    mouth.close()
    assert ear.recv() in NETWORKS
    return process


def _collect(folder: Path, database: Path, mouth: Connection) -> None:
    torch.set_num_threads(1)
    collect(request(folder), database, Voice(mouth))
