"""Databases for the tests: one without facts, and one with a small synthetic study."""

import gc
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import synthetic

from ptqdb.database import connect, materialize


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory, migrated, with macros and views and without facts."""
    connection = connect(Path(":memory:"), read_only=False)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def study() -> Iterator[duckdb.DuckDBPyConnection]:
    """The synthetic study in memory, materialized; tests only read it."""
    connection = connect(Path(":memory:"), read_only=False)
    synthetic.fill(connection)
    materialize(connection)
    yield connection
    connection.close()


def pytest_unconfigure() -> None:
    """Take Hypothesis's callback away, which holds modules past the end of the interpreter.

    DuckDB's bindings would print a page of warnings about their classes among them.
    """
    gc.callbacks[:] = [
        callback
        for callback in gc.callbacks
        if not str(getattr(callback, "__module__", "")).startswith("hypothesis.")
    ]
