"""Collect, stop, kill, resume, export, import, check and ask in any order, against a model."""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import collecting
import duckdb
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import ptqdb
from ptqdb.collection.plan import Cell
from ptqdb.collection.sweep import collect
from ptqdb.database import connect
from ptqdb.database.exchange import create_if_imported, export_study, import_study
from ptqdb.quantization.formats import match_formats

NETWORKS = ("AlexNet", "AlexNet_BN")
FORMATS = ("INT_2", "INT_8", "POT_4")
FLOAT = None
Key = tuple[str, str | None]
# Of one network in one format: every column that is no id of the database's own.
FACTS = (
    "select n.name, f.name, e.* exclude (network_id, number_format_id, scheme_id) "
    "from evaluation as e join network as n using (network_id) "
    "left join number_format as f using (number_format_id) order by all"
)


def asked(folder: Path, networks: tuple[str, ...], formats: tuple[str, ...]) -> Any:
    """A request for some of the networks in some of the formats."""
    folder.mkdir(exist_ok=True)
    return collecting.request(
        folder,
        networks=[collecting.source(folder, name) for name in networks],
        number_formats=match_formats(",".join(formats)),
        scopes=("all",),
    )


class Stopping(collecting.Silence):
    """A reporter that raises what Ctrl-C raises, at a cell."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def filled(self, cell: Cell) -> None:
        super().filled(cell)
        if len(self.cells) == self.at:
            raise KeyboardInterrupt


class Killing(Stopping):
    """A reporter whose process is killed at a cell, with no chance to put anything in order."""

    def filled(self, cell: Cell) -> None:
        self.cells.append(cell)
        if len(self.cells) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def collect_until_killed(
    folder: Path,
    path: Path,
    networks: tuple[str, ...],
    formats: tuple[str, ...],
    at: int,
) -> None:
    """In a process of its own."""
    torch.set_num_threads(1)
    collect(asked(folder, networks, formats), path, Killing(at))


some_networks = st.lists(st.sampled_from(NETWORKS), min_size=1, unique=True).map(tuple)
some_formats = st.lists(st.sampled_from(FORMATS), min_size=1, unique=True).map(tuple)


class StudyMachine(RuleBasedStateMachine):
    """A database file, and which cells have to be in it."""

    reference: dict[Key, tuple[Any, ...]]
    folder: Path

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="machine-"))
        self.path = self.place / "study.duckdb"
        self.known: set[Key] = set()
        self.announced: set[Key] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)

    def cells(self) -> dict[Key, tuple[Any, ...]]:
        if not self.path.exists():
            return {}
        with connect(self.path, read_only=True) as connection:
            return {(row[0], row[1]): row[2:] for row in connection.execute(FACTS).fetchall()}

    def wanted(self, networks: tuple[str, ...], formats: tuple[str, ...]) -> set[Key]:
        return {(name, one) for name in networks for one in (FLOAT, *formats)}

    def settle(self, wanted: set[Key]) -> None:
        """After a collection that did not end: nothing lost, nothing but what was asked for."""
        found = set(self.cells())
        assert self.known <= found <= self.known | wanted
        self.known = found
        self.announced |= wanted

    @rule(networks=some_networks, formats=some_formats)
    def collect(self, networks: tuple[str, ...], formats: tuple[str, ...]) -> None:
        outcome = collect(asked(self.folder, networks, formats), self.path, collecting.Silence())
        assert not outcome.failures
        self.known |= self.wanted(networks, formats)
        self.announced |= self.wanted(networks, formats)

    @rule(networks=some_networks, formats=some_formats, at=st.integers(1, 4))
    def stop(self, networks: tuple[str, ...], formats: tuple[str, ...], at: int) -> None:
        reporter = Stopping(at)
        try:
            collect(asked(self.folder, networks, formats), self.path, reporter)
        except KeyboardInterrupt:
            assert len(reporter.cells) == at
        self.settle(self.wanted(networks, formats))

    @rule(networks=some_networks, formats=some_formats, at=st.integers(1, 4))
    def kill(self, networks: tuple[str, ...], formats: tuple[str, ...], at: int) -> None:
        process = collecting.SERVER.Process(
            target=collect_until_killed, args=(self.folder, self.path, networks, formats, at)
        )
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        self.settle(self.wanted(networks, formats))

    @precondition(lambda self: self.known)
    @rule()
    def go_out_and_come_in(self) -> None:
        """An export, imported into a new file, is the same study; importing again adds nothing."""
        folder, copy = self.place / "facts", self.place / "copy.duckdb"
        shutil.rmtree(folder, ignore_errors=True)
        with connect(self.path, read_only=True) as connection:
            export_study(connection, folder)
        with create_if_imported(copy, folder), connect(copy, read_only=False) as connection:
            import_study(connection, folder, lambda remark: None)
            assert not any(import_study(connection, folder, lambda remark: None).values())
        before = self.cells()
        self.path.unlink()
        self.path = copy.rename(self.place / "study.duckdb")
        assert self.cells() == before

    @precondition(lambda self: self.known)
    @rule()
    def ask(self) -> None:
        """A view has a row for each cell whose network is evaluated in floating point too."""
        with ptqdb.open(self.path) as study:
            rows = study.view("fakefreeze_param").select("network", "number_format").rows()
        assert set(rows) == {key for key in self.known if key[1] is not FLOAT}

    @invariant()
    def holds_what_it_must(self) -> None:
        found = self.cells()
        assert set(found) == self.known
        assert all(found[key] == self.reference[key] for key in found)

    @invariant()
    def contradicts_itself_nowhere(self) -> None:
        if not self.path.exists():
            return
        failed = {one.name for one in ptqdb.open(self.path).check() if not one.has_passed}
        assert failed <= {"missing_announced_cell"}
        assert bool(failed) == bool(self.announced - self.known)


@pytest.mark.slow
def test_a_study_survives_whatever_happens(tmp_path: Path) -> None:
    folder, path = tmp_path / "networks", tmp_path / "reference.duckdb"
    collect(asked(folder, NETWORKS, FORMATS), path, collecting.Silence())
    with duckdb.connect(path, read_only=True) as connection:
        rows = connection.execute(FACTS).fetchall()
    StudyMachine.folder = folder
    StudyMachine.reference = {(row[0], row[1]): row[2:] for row in rows}
    chosen = settings(
        max_examples=4,
        stateful_step_count=6,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    machine = StudyMachine.TestCase
    machine.settings = chosen
    machine().runTest()
