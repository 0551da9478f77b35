"""Opening databases, and every way that it is refused."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
import synthetic

from ptqdb.database import (
    connect,
    insert,
    query,
)
from ptqdb.errors import DatabaseError, DataError
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
    assert path.stat().st_size < 1_000_000


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


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file, "is not a DuckDB file"),
        (hollow_file, "is not a DuckDB file"),
        (sqlite_file, "is not a DuckDB file"),
        (foreign_duckdb, "is a DuckDB file without ptqdb's tables"),
        (newer_schema, f"has schema version 99, this ptqdb knows {LATEST}: upgrade ptqdb"),
        (truncated, "is damaged"),
        (damaged, "is damaged"),
        (folder, "is a folder"),
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
    with pytest.raises(DatabaseError, match=reason) as caught:
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
        (True, False, r"is open in another process \(PID {}\), and .* even to read: wait for"),
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


# What older versions wrote.


OLD_EVALUATION = (
    "insert into evaluation values "
    "(1, null, null, 'none', 'float32', 10, 7, 9, 7, 10, 2.5, 'nan'), "
    "(1, 1, 1, 'all', 'float32', 10, 6, 8, 5, 8, 3.5, 0.25), "
    "(1, 2, 1, 'all', 'float32', 10, 10, 1, 7, 7, 'nan', 'nan')"
)


def test_an_older_file_gets_the_counts_of_its_sums(tmp_path: Path) -> None:
    """What has NaN for a sum took class 0 for the prediction: it is to be evaluated again."""
    path = tmp_path / "older.duckdb"
    with duckdb.connect(path) as connection:
        for file in sorted((sql_folder() / "migrations").glob("000[1-7]*.sql")):
            connection.execute(file.read_text("utf-8"))
            version = int(file.stem[:4])
            connection.execute(f"insert into migration values ({version}, '{file.stem}', now())")
        connection.execute(OLD_EVALUATION)
        connection.execute("insert into quantized_tensor_channel values (1, 1, 1, 0, 0.1)")
    with connect(path, read_only=False) as connection:
        rows = connection.execute(
            "select scope, correct_top1, non_finite_count, cross_entropy_sum, "
            "cross_entropy_count, kl_sum, kl_count from evaluation order by all"
        ).fetchall()
        assert rows == [("all", 6, 0, 3.5, 10, 0.25, 10), ("none", 7, 0, 2.5, 10, 0.0, 0)]
        quantized = query(connection, "from evaluation where scope = 'all'")
        with pytest.raises(DataError, match="Duplicate key"):
            insert(connection, "evaluation", quantized)
        assert query(connection, "from quantized_tensor_channel").rows() == [
            (1, 1, 1, 0, pytest.approx(0.1, rel=1e-7))
        ]
        insert(connection, "quantized_tensor_channel", CHANNEL)
        found = query(connection, "select min(squared_error_sum) from quantized_tensor_channel")
        assert found.item() == 1e-48


CHANNEL = pl.DataFrame(
    {
        "tensor_id": [2],
        "number_format_id": [1],
        "scheme_id": [1],
        "channel": [0],
        "squared_error_sum": [1e-48],
    }
)
