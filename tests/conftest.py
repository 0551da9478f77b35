"""Databases for the tests: one without facts, and one with a small synthetic study."""

import gc
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import duckdb
import pytest
import synthetic

from ptqdb.database import connect, materialize

if TYPE_CHECKING:
    from running import Run
    from small_networks import Database

# The tests' processes share the cores: threads of theirs would wait for each other. Set before
# anything imports torch; the processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that tests start would compile every module anew, each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's cache folder, so that the embedded facts are imported once: four seconds."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without facts, to copy: creating all the views takes a second or two."""
    path = tmp_path_factory.mktemp("empty") / "empty.duckdb"
    connect(path, read_only=False).close()
    return path


@pytest.fixture
def db(empty_file: Path, tmp_path: Path) -> "Database":
    """A database to collect small networks into."""
    from small_networks import Database  # it imports torch

    return Database(empty_file, tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Run":
    """Runs ptqdb as a command, in this process."""
    from running import runner

    return runner(monkeypatch, capsys)


@pytest.fixture
def path(empty_file: Path, tmp_path: Path) -> Path:
    """A database file without facts, closed."""
    return Path(shutil.copy(empty_file, tmp_path / "study.duckdb"))


@pytest.fixture
def database(empty_file: Path, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database, migrated, with macros and views and without facts."""
    connection = connect(
        Path(shutil.copy(empty_file, tmp_path / "database.duckdb")), read_only=False
    )
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def module_database(
    empty_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database without facts that the tests of one module share."""
    path = tmp_path_factory.mktemp("module") / "module.duckdb"
    connection = connect(Path(shutil.copy(empty_file, path)), read_only=False)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def study(
    empty_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The synthetic study, materialized; tests only read it."""
    path = tmp_path_factory.mktemp("study") / "study.duckdb"
    connection = connect(Path(shutil.copy(empty_file, path)), read_only=False)
    synthetic.fill(connection, scopes=("all", "weight", "layer"))
    materialize(connection)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def tiny(module_database: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The pencil's network, not materialized; tests undo what they change."""
    synthetic.write_tiny(module_database)
    return module_database


@pytest.fixture(scope="module")
def formulas(empty_file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database without facts; tests only read it."""
    connection = connect(empty_file, read_only=True)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """The script that writes the generated pages."""
    spec = importlib.util.spec_from_file_location(
        "docs_build", Path(__file__).parent.parent / "docs" / "build.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_collection_finish() -> None:
    """Look at the libraries' objects no more, and at young ones less often: a fifth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_unconfigure() -> None:
    """Take Hypothesis's callback away, which holds modules past the end of the interpreter.

    DuckDB's bindings would print a page of warnings about their classes among them.
    """
    gc.unfreeze()
    gc.callbacks[:] = [
        callback
        for callback in gc.callbacks
        if not str(getattr(callback, "__module__", "")).startswith("hypothesis.")
    ]
