"""Without a database the reading commands read the facts that travel with ptqdb, and say so."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from ptqdb.cli import main
from ptqdb.database import embedded_facts, query
from ptqdb.database.embedded_facts import embedded_facts_folder, open_embedded_facts
from ptqdb.database.exchange import export_study
from ptqdb.errors import DataError

SAID = "no --db given and no ptqdb.duckdb here: reading the embedded study\n"


class Result(NamedTuple):
    code: int | str | None
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(scope="module")
def data(study: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the synthetic study's facts."""
    folder = tmp_path_factory.mktemp("data")
    export_study(study, folder / "embedded" / "facts")
    return folder


@pytest.fixture
def cache(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a user of that data, not there yet; the work folder is empty."""
    monkeypatch.setattr(embedded_facts, "data_folder", lambda: data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PTQDB_DB", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache" / "ptqdb"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["ptqdb", *arguments])
        code: int | str | None = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        return Result(code, *capsys.readouterr())

    return call


@pytest.mark.slow
def test_every_reading_command_falls_back_and_says_so(cache: Path, run: Run) -> None:
    done = run("fit", "--view", "fakefreeze_param", "--format", "json")
    assert (done.code, done.err) == (0, SAID)
    assert [row["group"] for row in json.loads(done.out)] == ["ALL", "Plain", "Plain_BN", "Small"]
    done = run("sql", "select count(*) as networks from network", "--format", "csv")
    assert done == (0, "networks\n3\n", SAID)
    done = run("info", "--format", "json")
    assert [row["network"] for row in json.loads(done.out)] == ["Plain", "Plain_BN", "Small"]
    assert "fakefreeze_param" in run("views").out
    done = run("chart", "-o", "fit.json", "--view", "fakefreeze_param")
    assert (done.code, done.err) == (0, f"{SAID}wrote fit.json\n")
    assert [file.name for file in Path.cwd().iterdir()] == ["fit.json"]
    # One database for all of them, and it is only read.
    assert len(list(cache.iterdir())) == 1
    done = run("sql", "delete from network")
    assert (done.code, "read-only" in done.err) == (1, True)


def test_a_named_or_present_database_comes_first(
    cache: Path, run: Run, empty_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = ("sql", "select count(*) as networks from network", "--format", "csv")
    done = run(*count, "--db", "ptqdb.duckdb")
    assert (done.code, "ptqdb.duckdb does not exist" in done.err) == (1, True)
    monkeypatch.setenv("PTQDB_DB", "other.duckdb")
    assert "other.duckdb does not exist" in run(*count).err
    monkeypatch.delenv("PTQDB_DB")
    shutil.copy(empty_file, "ptqdb.duckdb")
    assert run(*count) == (0, "networks\n0\n", "")
    assert not cache.exists()


def test_without_facts_the_missing_database_is_the_error(
    cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nothing() -> Path:
        raise DataError("expected the folder data, found none")

    for data_folder in (lambda: tmp_path, nothing):
        monkeypatch.setattr(embedded_facts, "data_folder", data_folder)
        assert embedded_facts_folder() is None
        done = run("fit")
        assert (done.code, done.out) == (1, "")
        assert "ptqdb.duckdb does not exist: create it with `ptqdb collect`" in done.err
        assert "embedded" not in done.err
        with pytest.raises(DataError, match="ships without facts"), open_embedded_facts():
            pass
    assert not cache.exists()


def network_names() -> list[str]:
    with open_embedded_facts() as connection:
        return query(connection, "select name from network order by name")["name"].to_list()


@pytest.mark.slow
def test_the_cache_is_built_once_and_follows_the_facts(
    cache: Path,
    database: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = ["Plain", "Plain_BN", "Small"]
    assert network_names() == expected
    (file,) = cache.iterdir()
    built = file.stat().st_mtime_ns
    assert network_names() == expected
    assert file.stat().st_mtime_ns == built
    # A damaged cache is built anew.
    file.write_bytes(b"damaged")
    assert network_names() == expected
    # Other facts are another file, and the old one goes.
    export_study(database, tmp_path / "other" / "embedded" / "facts")
    monkeypatch.setattr(embedded_facts, "data_folder", lambda: tmp_path / "other")
    assert network_names() == []
    assert [other.name == file.name for other in cache.iterdir()] == [False]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert network_names() == ["Plain", "Plain_BN", "Small"]
    assert list(temporary.iterdir()) == []


def test_damaged_facts_are_said(
    cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts = tmp_path / "damaged" / "embedded" / "facts"
    facts.mkdir(parents=True)
    monkeypatch.setattr(embedded_facts, "data_folder", lambda: tmp_path / "damaged")
    done = run("fit")
    assert (done.code, "such as dataset.parquet" in done.err) == (1, True)
    assert list(cache.iterdir()) == []
