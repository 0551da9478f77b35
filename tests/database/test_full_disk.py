"""Full disks: one line with the path and the reason, no partial file, and what was there stays."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import collecting
import duckdb
import polars as pl
import pytest
import synthetic
import torch
from limited import REASON, largest_file, small_disk
from running import Run, runner

from ptqdb.collection.sweep import collect
from ptqdb.database import checkpoint, connect, insert, query, transaction
from ptqdb.database.exchange import export_study
from ptqdb.database.exchange.tables import TABLES
from ptqdb.errors import DatabaseError, DataError
from ptqdb.networks.checkpoints import NetworkDescription, save_checkpoint
from ptqdb.quantization.formats import match_formats
from ptqdb.support.paths import write_beside


def save_text(path: Path) -> None:
    path.write_text("x" * 100_000)


def save_parquet(path: Path) -> None:
    pl.DataFrame({"a": range(100_000)}).write_parquet(path, compression="uncompressed")


def save_torch(path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, path)


def save_tensors(path: Path) -> None:
    description = NetworkDescription("AlexNet", 1.0, 10, (0.5,), (0.5,))
    save_checkpoint(path, description, {"a": torch.zeros(100_000)})


@pytest.mark.parametrize("save", [save_text, save_parquet, save_torch, save_tensors])
def test_an_output_is_whole_or_what_it_was(tmp_path: Path, save: Callable[[Path], None]) -> None:
    path = tmp_path / "out.dat"
    with (
        largest_file(50_000),
        pytest.raises(DataError, match=rf"expected to write .*out\.dat, found: {REASON}; ") as told,
        write_beside(path) as partial,
    ):
        save(partial)
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []
    path.write_text("before")
    path.chmod(0o640)
    with largest_file(50_000), pytest.raises(DataError), write_beside(path) as partial:
        save(partial)
    assert path.read_text() == "before"
    with write_beside(path) as partial:
        save(partial)
    assert path.stat().st_size > 50_000
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_and_interruptions_leave_nothing_either(tmp_path: Path) -> None:
    def write_half(error: BaseException) -> None:
        with write_beside(tmp_path / "out.txt") as partial:
            partial.write_text("half")
            raise error

    for error in (ValueError("of its own"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            write_half(error)
    assert list(tmp_path.iterdir()) == []


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    with write_beside(link) as partial:
        partial.write_text("new")
    assert (link.is_symlink(), target.read_text()) == (True, "new")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with write_beside(fifo) as partial:
        assert partial == fifo
    with (
        pytest.raises(DataError, match="No space left on device"),
        write_beside(Path("/dev/full")) as partial,
    ):
        partial.write_text("x")
    with pytest.raises(DataError, match="Is a directory"), write_beside(tmp_path):
        pass
    with (
        pytest.raises(DataError, match="No such file or directory"),
        write_beside(tmp_path / "nowhere" / "out.txt"),
    ):
        pass


# Databases.


ROWS = pl.DataFrame({"tensor_id": range(200_000), "bin": 1, "count": range(200_000)})


def write_rows(connection: duckdb.DuckDBPyConnection) -> None:
    with transaction(connection):
        insert(connection, "tensor_histogram", ROWS)
    checkpoint(connection)


def test_what_was_committed_is_readable_and_writing_goes_on(path: Path) -> None:
    with connect(path, read_only=False) as connection:
        insert(connection, "dataset", synthetic.dataset(1))
        with (
            largest_file(path.stat().st_size + 50_000),
            pytest.raises(DatabaseError, match=rf"study\.duckdb.* cannot be written: {REASON}"),
        ):
            write_rows(connection)
    with connect(path, read_only=True) as connection:
        assert query(connection, "select count(*) from dataset").item() == 1
    with connect(path, read_only=False) as connection:
        connection.execute("delete from tensor_histogram")
        write_rows(connection)
        assert query(connection, "select count(*) from tensor_histogram").item() == len(ROWS)


def test_every_way_to_write_says_so(path: Path) -> None:
    """A statement, a commit and a checkpoint fail in exceptions of three kinds."""

    def write(connection: duckdb.DuckDBPyConnection) -> None:
        with transaction(connection):
            connection.execute("insert into dataset values (1, 'a', 'test', 10, 10, 'x')")

    def write_much(connection: duckdb.DuckDBPyConnection) -> None:
        with transaction(connection):
            connection.execute("create table t as select random() as x from range(1_000_000)")

    for act, room in ((write, -path.stat().st_size + 100), (write_much, 1000), (checkpoint, 1000)):
        with connect(path, read_only=False) as connection:
            if act is checkpoint:
                connection.execute("create table t as select random() as x from range(10_000)")
            with (
                largest_file(path.stat().st_size + room),
                pytest.raises(DatabaseError, match=rf"study\.duckdb.* cannot be written: {REASON}"),
            ):
                act(connection)
        with connect(path, read_only=True) as connection:
            assert query(connection, "from dataset").is_empty()


def test_a_database_that_cannot_be_created_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new.duckdb"
    for size in (2_000, 20_000, 200_000):
        with (
            largest_file(size),
            pytest.raises(DatabaseError, match=rf"cannot be (written|created).*{REASON}") as told,
        ):
            connect(path, read_only=False)
        assert "\n" not in str(told.value)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_collection_goes_on_when_there_is_room(tmp_path: Path, path: Path) -> None:
    network = collecting.source(tmp_path, "AlexNet")
    wanted = collecting.request(
        tmp_path, networks=[network], number_formats=match_formats("INT_*"), scopes=("all",)
    )
    reporter = collecting.Silence()
    # the first checkpoint, or the first cell
    for room in (1_000, 60_000):
        with (
            largest_file(path.stat().st_size + room),
            pytest.raises(DatabaseError, match=rf"study\.duckdb.* cannot be written: {REASON}"),
        ):
            collect(wanted, path, reporter)
        with duckdb.connect(path, read_only=True) as connection:
            found = connection.execute("select count(*) from evaluation").fetchall()
        assert found[0][0] < 16
    assert collect(wanted, path, reporter).failures == []
    with connect(path, read_only=True) as connection:
        assert query(connection, "select count(*) from evaluation").item() == 16
        outcomes = query(connection, "select outcome from collection_run order by run_id")
    assert outcomes["outcome"].to_list()[-1] == "done"
    assert set(outcomes["outcome"][:-1]) <= {"interrupted", "failed"}


def test_an_export_that_fails_leaves_no_file(path: Path, tmp_path: Path) -> None:
    with connect(path, read_only=False) as connection:
        synthetic.fill(connection, networks=synthetic.NETWORKS[2:], formats=synthetic.FORMATS[:1])
        folder = tmp_path / "facts"
        with (
            largest_file(1_500),
            pytest.raises(DataError, match=rf"facts cannot be written: {REASON}; make"),
        ):
            export_study(connection, folder)
        assert not folder.exists()
        export_study(connection, folder)
    written = [table for table in TABLES if not (table.is_optional and table.omits_empty)]
    assert len(list(folder.iterdir())) == len(written)


# What is printed.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""
    return runner(monkeypatch, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("--help",),
        ("views",),
        ("views", "pot_crowding", "--sql"),
        ("sql", "select 1", "--format", "csv"),
        ("sql", "select 1", "--format", "json"),
        ("sql", "select 1", "--format", "parquet"),
        ("info",),
    ],
)
def test_a_full_stdout_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, path: Path, arguments: tuple[str, ...]
) -> None:
    db = () if arguments[0].startswith("--") else ("--db", path)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        done = run(*arguments, *db)
    last = done.err.splitlines()[-1]
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert last.startswith("ptqdb: expected to write to stdout, found: No space left on device")


def test_a_full_or_closed_stdout_of_a_shell(path: Path) -> None:
    command = f"'{sys.executable}' -m ptqdb sql 'select 1' --db '{path}'"
    for target, reason in (("> /dev/full", "No space left on device"), (">&-", "found it closed")):
        done = subprocess.run(
            f"{command} {target}", shell=True, capture_output=True, text=True, check=False
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert reason in done.stderr


def test_messages_that_nobody_can_read_end_nothing(path: Path) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m ptqdb check --quick --db '{path}' 2> /dev/full",
        shell=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


# A real file system.


@pytest.mark.slow
@pytest.mark.parametrize("size_kib", [60, 850, 1100, 1700])
def test_a_small_file_system(tmp_path: Path, size_kib: int) -> None:
    """From a disk that cannot even hold the tables to one that holds some cells."""
    command = [sys.executable, "-m", "ptqdb", "collect", "--network", "AlexNet", "--images", "20"]
    command += ["--calibration", "8", "--number-formats", "INT_2,INT_8,FLOAT_8_*"]
    with small_disk(tmp_path, size_kib) as disk:
        db = disk / "study.duckdb"
        done = subprocess.run([*command, "--db", db], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        last = done.stderr.splitlines()[-1]
        assert "study.duckdb" in last
        assert "cannot be written: No space left on device" in last
        if db.exists():
            with connect(db, read_only=True) as connection:
                query(connection, "select count(*) from evaluation")
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        done = subprocess.run([*command, "--db", db], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in disk.iterdir()) == ["study.duckdb"]
