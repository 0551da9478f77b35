"""Opening databases, and every way that it is refused."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import collecting
import duckdb
import pytest
import synthetic

from ptqdb.collection.sweep import collect
from ptqdb.database import (
    checkpoint,
    connect,
    insert,
    query,
    read_every_block,
    read_rows,
)
from ptqdb.database.checks import check
from ptqdb.database.files import log_path
from ptqdb.database.schema import applied_version, known_version, read_columns
from ptqdb.database.variants import read_csv
from ptqdb.errors import DatabaseError, DataError
from ptqdb.quantization.formats import match_formats
from ptqdb.resources import sql_folder

LATEST = len(list((sql_folder() / "migrations").iterdir()))


def test_a_reader_sees_what_a_writer_wrote(path: Path) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    with connect(path, read_only=False) as writer:
        insert(writer, "dataset", synthetic.dataset(1))
    with connect(path, read_only=True) as reader:
        assert query(reader, "select dataset_id from dataset").rows() == [(1,)]
        migrations = query(reader, "select * from migration")
        files = sorted(file.stem for file in (sql_folder() / "migrations").iterdir())
        assert migrations["name"].to_list() == files
        assert migrations["version"].to_list() == list(range(1, LATEST + 1))
        assert all(abs(x - before) < timedelta(minutes=30) for x in migrations["applied_at"])
        with pytest.raises(DataError, match="read-only"):
            insert(reader, "dataset", synthetic.dataset(2))


def test_an_empty_database_is_small(path: Path) -> None:
    # Two hundred objects in blocks of 16 KiB; at the default block size it is 5 MiB.
    assert path.stat().st_size < 1_200_000


def test_opening_again_changes_nothing(path: Path) -> None:
    content = path.read_bytes()
    connect(path, read_only=False).close()
    connect(path, read_only=True).close()
    assert path.read_bytes() == content


def text_file(path: Path, whole: Path) -> None:
    path.write_text("network,divergence\n" * 1000)


def hollow_file(path: Path, whole: Path) -> None:
    path.write_bytes(b"")


def sqlite_file(path: Path, whole: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table migration (version)")
    connection.commit()
    connection.close()


def foreign_duckdb(path: Path, whole: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("create table prices (price double)")


def newer_schema(path: Path, whole: Path) -> None:
    shutil.copy(whole, path)
    with duckdb.connect(path) as connection:
        connection.execute("insert into migration values (99, 'later', now()::timestamp)")


def truncated(path: Path, whole: Path) -> None:
    shutil.copy(whole, path)
    path.write_bytes(path.read_bytes()[:-20_000])


def damaged(path: Path, whole: Path) -> None:
    shutil.copy(whole, path)
    content = bytearray(path.read_bytes())
    content[3 * 4096 :: 500] = bytes(len(content[3 * 4096 :: 500]))
    path.write_bytes(content)


def folder(path: Path, whole: Path) -> None:
    path.mkdir()


def fifo(path: Path, whole: Path) -> None:
    os.mkfifo(path)


def changed(sql: str) -> Callable[[Path, Path], None]:
    """A database of ptqdb in which somebody ran SQL."""

    def make(path: Path, whole: Path) -> None:
        shutil.copy(whole, path)
        with duckdb.connect(path) as connection:
            connection.execute(sql)

    return make


def foreign(sql: str) -> Callable[[Path, Path], None]:
    """Somebody else's database."""

    def make(path: Path, whole: Path) -> None:
        with duckdb.connect(path) as connection:
            connection.execute(sql)

    return make


WITHOUT_RECORD = "has a table migration without the record of ptqdb's tables"


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file, "is not a DuckDB file"),
        (hollow_file, "is not a DuckDB file"),
        (sqlite_file, "is not a DuckDB file"),
        (foreign_duckdb, "is a DuckDB file without ptqdb's tables"),
        (newer_schema, f"has schema version 99, but this ptqdb knows {LATEST}: upgrade ptqdb"),
        (truncated, "is damaged"),
        (damaged, "is damaged"),
        (folder, "is a folder"),
        (fifo, "is a FIFO"),
        (foreign("create view v as select 1"), "without ptqdb's tables, found the view v"),
        (foreign("create macro m() as 1"), "without ptqdb's tables, found the macro m"),
        (foreign("create schema s"), "without ptqdb's tables, found the schema s"),
        (foreign("create sequence s"), "without ptqdb's tables, found the sequence s"),
        (foreign("create type t as enum ('a')"), "without ptqdb's tables, found the type t"),
        (foreign("create table migration (name varchar)"), WITHOUT_RECORD),
        (
            foreign("create table migration as select 1 as version"),
            "lacks the table code_histogram",
        ),
        (changed("drop table evaluation"), "lacks the table evaluation: restore a copy"),
        (changed("alter table layer drop column macs"), "lacks the column macs of layer"),
        (changed("drop table definition"), "lacks the table definition"),
        (changed("delete from migration"), WITHOUT_RECORD),
        (changed("update migration set version = 0"), WITHOUT_RECORD),
        (changed("drop table migration"), "without ptqdb's tables, found the macro"),
        (
            changed("alter table tensor_channel alter column channel type varchar"),
            "has tensor_channel.channel as VARCHAR, not INTEGER",
        ),
    ],
)
def test_a_wrong_file_is_refused_and_left_as_it_is(
    empty_file: Path,
    tmp_path: Path,
    make: Callable[[Path, Path], None],
    reason: str,
    read_only: bool,
) -> None:
    path = tmp_path / "wrong.duckdb"
    make(path, empty_file)
    content = path.read_bytes() if path.is_file() else None
    with pytest.raises(DatabaseError, match=re.escape(reason)) as caught:
        connect(path, read_only=read_only)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == content
    assert list(tmp_path.iterdir()) == [path]


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="does not exist: create it with `ptqdb collect`"):
        connect(tmp_path / "none.duckdb", read_only=True)
    with pytest.raises(DatabaseError, match=r"the folder .*nowhere does not exist"):
        connect(tmp_path / "nowhere" / "x.duckdb", read_only=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that root cannot write")
def test_an_unwritable_folder() -> None:
    with pytest.raises(DatabaseError, match=r"/proc/x\.duckdb cannot be (created|written)"):
        connect(Path("/proc/x.duckdb"), read_only=False)


@pytest.mark.parametrize(
    ("holder_only_reads", "read_only", "said"),
    [
        (False, True, r"is open for writing in another process \(PID {}\): wait for it to end"),
        (False, False, r"is open for writing in another process \(PID {}\): wait for it to end"),
        (True, False, r"is open in another process \(PID {}\), and .* even for reading: wait for"),
    ],
)
def test_a_locked_file_names_the_process(
    path: Path, holder_only_reads: bool, read_only: bool, said: str
) -> None:
    holding = (
        f"import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only={holder_only_reads}); "
        "print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", holding, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(DatabaseError, match=said.format(holder.pid)):
            connect(path, read_only=read_only)
        holder.communicate("\n")


def test_open_in_this_process_in_another_mode(path: Path) -> None:
    with (
        connect(path, read_only=True),
        pytest.raises(DatabaseError, match="already open in this process"),
    ):
        connect(path, read_only=False)


def test_a_device_and_a_name_that_is_too_long(tmp_path: Path) -> None:
    link = tmp_path / "link.duckdb"
    link.symlink_to("/dev/zero")
    for read_only in (True, False):
        with pytest.raises(DatabaseError, match=r"link\.duckdb is a device"):
            connect(link, read_only=read_only)
        with pytest.raises(DatabaseError, match="cannot be looked up: File name too long"):
            connect(tmp_path / ("x" * 300), read_only=read_only)


def test_reading_in_the_process_that_writes_leaves_its_lock(path: Path) -> None:
    """To close a file that one has locked ends the lock."""
    code = "import duckdb, sys; duckdb.connect(sys.argv[1], read_only=True)"
    with connect(path, read_only=False):
        with pytest.raises(DatabaseError, match="already open in this process"):
            connect(path, read_only=True)
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
        )
    assert "Conflicting lock" in done.stderr


@pytest.mark.slow
def test_a_view_that_was_dropped_comes_back(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("drop view network_overview")
    with pytest.raises(DatabaseError, match="update it with `ptqdb collect`"):
        connect(path, read_only=True)
    connect(path, read_only=False).close()
    with connect(path, read_only=True) as connection:
        assert query(connection, "from network_overview").is_empty()


def test_an_empty_duckdb_file_may_be_taken(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "new.duckdb") as connection:
        assert applied_version(connection, tmp_path) == 0
        connection.execute("create view v as select 1")
        with pytest.raises(DatabaseError, match="the view v"):
            applied_version(connection, tmp_path)


def test_the_list_of_columns_is_that_of_the_migrations() -> None:
    """Written by ``uv run python docs/build.py tables.csv``."""
    listed = {(row["table"], row["column"]): row["type"] for row in read_csv("tables.csv")}
    assert listed == read_columns(known_version())


# The log beside the file.


WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from ptqdb.database import checkpoint, connect
connection = connect(Path(sys.argv[1]), read_only=False)
checkpoint(connection)
connection.execute("insert into dataset values (1, 'a', 'test', 10, 10, 'x')")
os._exit(0)
"""


@pytest.fixture(scope="module")
def killed(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose writer was killed: what it committed is in the log alone."""
    path = Path(shutil.copy(empty_file, tmp_path_factory.mktemp("killed") / "killed.duckdb"))
    subprocess.run([sys.executable, "-c", WRITE_AND_DIE, path], check=True)
    assert log_path(path).stat().st_size > 100
    return path


def test_the_log_of_a_killed_writer_is_read(killed: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.duckdb"
    for length in (None, 3):  # whole, and cut while its first entry was written
        shutil.copy(killed, path)
        log_path(path).write_bytes(log_path(killed).read_bytes()[:length])
        with connect(path, read_only=True) as connection:
            assert query(connection, "from dataset").height == (length is None)


def test_a_log_that_duckdb_passes_over_is_refused(killed: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.duckdb"
    shutil.copy(killed, path)
    with duckdb.connect(path) as connection:
        connection.execute(
            "insert into collection_run values (1, '0', '{}', 'cpu', 0, '2026-01-01', null, "
            "[{network: 'A', number_format: 'INT_8', scheme: 's', scope: 'all'}], 'running', [])"
        )
    whole = log_path(killed).read_bytes()
    for content in (b"\0" * 500, b"text\n" * 100, b"\x64\x01" + whole[2:]):
        log_path(path).write_bytes(content)
        for read_only in (True, False):
            with pytest.raises(DatabaseError, match=r"study\.duckdb\.wal is damaged") as told:
                connect(path, read_only=read_only)
            assert ": 1 of the 1 cells of the last run are missing; " in str(told.value)
        assert log_path(path).read_bytes() == content
    for content in (whole[:200] + b"\xff" * 20 + whole[220:], foreign_log(tmp_path, path)):
        log_path(path).write_bytes(content)
        with pytest.raises(DatabaseError, match=r"study\.duckdb\.wal is damaged or belongs to ano"):
            connect(path, read_only=True)
    log_path(path).unlink()
    connect(path, read_only=False).close()


def foreign_log(folder: Path, path: Path) -> bytes:
    """The log of another database."""
    other = folder / "other.duckdb"
    code = "import duckdb, os, sys; connection = duckdb.connect(sys.argv[1]); "
    code += "connection.execute('create table t (a int)'); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, other], check=True)
    return log_path(other).read_bytes()


# Damaged blocks.


@pytest.fixture(scope="module")
def with_damage(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of which one block with the scales of its tensors is damaged."""
    path = Path(shutil.copy(empty_file, tmp_path_factory.mktemp("damage") / "damaged.duckdb"))
    with connect(path, read_only=False) as connection:
        synthetic.fill(connection, networks=synthetic.NETWORKS[2:], formats=synthetic.FORMATS[:1])
        checkpoint(connection)
        blocks = connection.execute(
            "select block_id from pragma_storage_info('tensor_histogram') where block_id >= 0"
        ).fetchall()
    content = bytearray(path.read_bytes())
    content[3 * 4096 + 16384 * blocks[0][0] + 100] ^= 1
    path.write_bytes(content)
    return path


def test_a_damaged_block_is_found_by_whoever_reads_it(with_damage: Path) -> None:
    with connect(with_damage, read_only=True) as connection:
        for reading in (
            lambda: query(connection, "select sum(count) from tensor_histogram"),
            lambda: read_rows(connection, "select sum(count) from tensor_histogram"),
            lambda: read_every_block(connection),
            lambda: check(connection, "evaluation_counts"),
        ):
            with pytest.raises(DatabaseError, match=r"damaged\.duckdb is damaged") as told:
                reading()
            assert "\n" not in str(told.value)
        assert check(connection, "evaluation_counts", quick=True)[0].has_passed


def test_a_collection_finds_damage_before_it_writes(with_damage: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(with_damage, tmp_path / "study.duckdb"))
    network = collecting.source(tmp_path, "AlexNet")
    wanted = collecting.request(tmp_path, networks=[network], number_formats=match_formats("INT_2"))
    with pytest.raises(DatabaseError, match=r"study\.duckdb is damaged"):
        collect(wanted, path, collecting.Silence())
    assert path.read_bytes() == with_damage.read_bytes()


# What older versions wrote.
