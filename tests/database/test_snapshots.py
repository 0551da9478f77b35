"""Reading while a collection writes, and waiting for the file."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

import collecting
import pytest
from limited import REASON, largest_file
from running import Run, runner

import ptqdb
from ptqdb.collection.plan import Cell
from ptqdb.collection.sweep import collect
from ptqdb.database import Snapshot, SnapshotPublisher, connect, query
from ptqdb.database.snapshots import snapshot_path
from ptqdb.quantization.formats import match_formats

# Publishes a snapshot with one dataset, and then writes another.
HOLDER = """
import sys
from pathlib import Path
from ptqdb.database import SnapshotPublisher, connect
path = Path(sys.argv[1])
insert = "insert into dataset values ({0}, 'a', 'test', 10, 10, '{0}')"
connection = connect(path, read_only=False)
with SnapshotPublisher(path, print) as publisher, connection:
    connection.execute(insert.format(1))
    publisher.publish(connection)
    connection.execute(insert.format(2))
    print("open", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(path: Path) -> Iterator["Popen[str]"]:
    """A process that writes the file until it is told to end."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            end(process)


def end(process: "Popen[str]") -> None:
    """Let the holder close its file."""
    assert process.stdin is not None
    if not process.stdin.closed:
        process.stdin.close()
    assert process.wait(60) == 0


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""
    return runner(monkeypatch, capsys)


def test_readers_get_the_snapshot_and_say_so(path: Path, run: Run, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with holder(path) as process:
        with ptqdb.open(path) as study:
            assert study.sql("select dataset_id from dataset").rows() == [(1,)]
            assert study.snapshot_time is not None
            assert abs(study.snapshot_time - before) < timedelta(minutes=10)
        said = f"{path} is being written (PID {process.pid}): reading the snapshot of "
        counted = ("sql", "select count(*) as n from dataset", "--format", "csv")
        done = run(*counted, "--db", path)
        assert (done.code, done.out, done.err.startswith(said)) == (0, "n\n1\n", True)
        for command in (("info",), ("views", "pot_crowding"), ("check", "orphan")):
            assert run(*command, "--db", path).err.startswith(said)
        assert run("export", tmp_path / "facts", "--db", path).err.startswith(said)
        # to publish and to read took nothing from the writer's lock
        done = run("import", tmp_path / "facts", "--db", path, "--wait", "0.3")
        assert done.code == 1
        other = f"another process (PID {process.pid})"
        busy = f"{path} is open for writing in {other}: wait for it to end"
        assert done.err == f"{busy}; waiting up to 0.3 s\nptqdb: {busy}\n"
    with ptqdb.open(path) as study:
        assert study.snapshot_time is None
        assert study.sql("select count(*) as n from dataset").item() == 2
    assert not snapshot_path(path).exists()


def test_a_writer_waits_and_goes_on_when_the_file_is_free(path: Path) -> None:
    told: list[str] = []
    with holder(path) as process:

        def remarked(text: str) -> None:
            told.append(text)
            end(process)

        with connect(path, read_only=False, wait_s=60, remarked=remarked) as connection:
            assert query(connection, "from dataset").height == 2
    assert len(told) == 1
    assert told[0].endswith("waiting up to 60 s")


def test_a_snapshot_that_a_killed_process_left_is_not_read(path: Path) -> None:
    with holder(path) as process:
        process.kill()
        process.wait()
        assert snapshot_path(path).exists()
        process.returncode = 0
    with ptqdb.open(path) as study:
        assert study.snapshot_time is None
        assert study.sql("select count(*) as n from dataset").item() == 2
    assert snapshot_path(path).exists()
    connect(path, read_only=False).close()
    assert not snapshot_path(path).exists()


def test_a_snapshot_of_the_next_writer_stays(path: Path) -> None:
    told: list[str] = []
    connection = connect(path, read_only=False)
    with SnapshotPublisher(path, told.append) as publisher:
        with connection:
            path.chmod(0o640)
            publisher.publish(connection)
            assert snapshot_path(path).stat().st_mode & 0o777 == 0o640
        theirs = Path(shutil.copy(path, path.with_name("theirs")))
        theirs.replace(snapshot_path(path))
    assert snapshot_path(path).exists()
    assert told == []


def test_a_snapshot_that_cannot_be_written_is_a_remark(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    connection = connect(path, read_only=False)
    with SnapshotPublisher(path, told.append) as publisher, connection:
        with largest_file(path.stat().st_size // 2):
            publisher.publish(connection)
            publisher.publish(connection)
        assert len(told) == 1
        assert f"study.duckdb.snapshot cannot be written: {REASON}; " in told[0]
        publisher.publish(connection)
        assert snapshot_path(path).exists()
        # the last room of a disk is for what is collected
        usage = shutil.disk_usage(path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=50_000_000))
        publisher.publish(connection)
        assert not snapshot_path(path).exists()
        assert query(connection, "from dataset").is_empty()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


class Looking(collecting.Silence):
    """A reporter that reads the study after each cell, as another process would."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.seen: list[tuple[int, int, int]] = []

    def filled(self, cell: Cell) -> None:
        with ptqdb.open(self.path) as study:
            assert study.snapshot is not None
            found = study.sql("select count(*) as n from evaluation where scope = 'all'").item()
            self.seen.append(
                (study.snapshot.networks_done, study.snapshot.networks_announced, found)
            )


def test_a_collection_publishes_after_each_network(path: Path, tmp_path: Path) -> None:
    networks = [collecting.source(tmp_path, name) for name in ("AlexNet", "AlexNet_BN")]
    wanted = collecting.request(
        tmp_path, networks=networks, number_formats=match_formats("INT_2,INT_8"), scopes=("all",)
    )
    reporter = Looking(path)
    collect(wanted, path, reporter)
    assert reporter.seen == [(0, 2, 0), (0, 2, 0), (1, 2, 2), (1, 2, 2)]
    assert reporter.remarks == []
    assert not snapshot_path(path).exists()


def test_a_snapshot_of_another_day_has_its_date() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert str(Snapshot(Path("a.duckdb"), time, 7, 1, 2)) == (
        f"a.duckdb is being written (PID 7): reading the snapshot of {time.astimezone():%F %T}, "
        "1 of 2 networks"
    )
