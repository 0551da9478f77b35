"""Results of every type of DuckDB, in every format, as DuckDB's own shell shows them."""

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
from running import Run, runner

from ptqdb.database import Form, query

SHELL = Path(sys.executable).parent / "duckdb"
UUID = "0192c4f2-0000-7000-8000-000000000001"
# By name, the SQL of a value.
VALUES = {
    "hugeint": "170141183460469231731687303715884105727::hugeint",
    "least_hugeint": "(-170141183460469231731687303715884105728)::hugeint",
    "small_hugeint": "5::hugeint",
    "uhugeint": "340282366920938463463374607431768211455::uhugeint",
    "ubigint": "18446744073709551615::ubigint",
    "bignum": "'123456789012345678901234567890123456789012345'::bignum",
    "wide_decimal": "1234567890123456789012345678.1234567890::decimal(38, 10)",
    "whole_decimal": "12345678901234567890123456789012345678::decimal(38, 0)",
    "decimal": "0.25::decimal(9, 2)",
    "blob": r"'\xAA\x00b'::blob",
    "bit": "'0101'::bit",
    "interval": "interval '1 month 2 days 3 seconds'",
    "uuid": f"'{UUID}'::uuid",
    "time": "'12:34:56.789'::time",
    "timetz": "'12:34:56+02'::timetz",
    "date": "'2024-01-31'::date",
    "far_date": "'0044-03-15 (BC)'::date",
    "endless_date": "'infinity'::date",
    "timestamp": "'2024-01-31 12:34:56.5'::timestamp",
    "endless_timestamp": "'-infinity'::timestamp",
    "timestamp_s": "'2024-01-31 12:34:56'::timestamp_s",
    "timestamp_ns": "'2024-01-31 12:34:56.123456789'::timestamp_ns",
    "timestamptz": "'2024-01-31 12:34:56+02'::timestamptz",
    "enum": "'b'::enum('a', 'b')",
    "map": "map {'a': interval 1 day, 'b': null}",
    "map_of_lists": "map {[1]: 'x'}",
    "union": "union_value(number := 2)",
    "struct": "{'a': 1, 'i': interval 1 day, 'n': null}",
    "list": "[interval 1 day, interval 2 days]",
    "array": "[1, 2, 3]::int[3]",
    "structs": f"[{{'u': '{UUID}'::uuid, 'm': map {{1: [2, 3]}}}}]",
    "nan": "'nan'::double",
    "infinite": "'-infinity'::float",
    "list_of_nan": "['nan'::double]",
    "empty_list": "[]",
    "null": "null",
    "json": """'{"a": [1, null]}'::json""",
    "pipe": "'a|b'",
    "quotes": """'a,"b"'""",
}
SELECT = ", ".join(f"{value} as {name}" for name, value in VALUES.items())
# What ptqdb has another word for than the shell.
WORDS = {"NULL": "", "true": "yes", "false": "no", "NaN": "nan"}


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], empty_file: Path
) -> Run:
    call = runner(monkeypatch, capsys)
    monkeypatch.setenv("PTQDB_DB", str(empty_file))
    return call


@pytest.fixture(scope="module", autouse=True)
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        yield


def shell(sql: str, mode: str) -> str:
    """What DuckDB's own shell prints."""
    done = subprocess.run(
        [SHELL, "-no-init", f"-{mode}", "-c", sql], capture_output=True, text=True, check=True
    )
    return done.stdout


def cells(text: str) -> list[list[str]]:
    return [[WORDS.get(cell, cell) for cell in row] for row in csv.reader(io.StringIO(text))]


def test_csv_is_what_the_shell_prints(run: Run) -> None:
    done = run("sql", f"select {SELECT}", "--format", "csv")
    assert (done.code, done.err) == (0, "")
    assert cells(done.out) == cells(shell(f"select {SELECT}", "csv"))


def test_json_is_what_the_shell_prints(run: Run) -> None:
    (expected,) = json.loads(shell(f"select {SELECT}", "json"))
    for name in ("nan", "infinite"):  # JSON has no word for them
        expected[name] = None
    expected["list_of_nan"] = [None]
    for name in ("decimal", "small_hugeint", "ubigint"):  # the shell has only texts for them
        expected[name] = json.loads(expected[name])
    done = run("sql", f"select {SELECT}", "--format", "json")
    assert json.loads(done.out, parse_constant=pytest.fail) == [expected]


@pytest.fixture(scope="module")
def words() -> dict[str, str]:
    """The shell's words of each value."""
    names, row = csv.reader(io.StringIO(shell(f"select {SELECT}", "csv")))
    return dict(zip(names, row, strict=True))


@pytest.mark.parametrize("name", [name for name in VALUES if name not in ("small_hugeint", "pipe")])
@pytest.mark.parametrize("output_format", ["table", "markdown"])
def test_tables_have_the_words_of_the_shell(
    run: Run, words: dict[str, str], name: str, output_format: str
) -> None:
    done = run("sql", f"select {VALUES[name]} as x", "--format", output_format)
    *_, line = done.out.splitlines()
    if output_format == "markdown":
        line = line.strip("| ").replace("\\\\", "\\").replace("\\[", "[").replace("\\]", "]")
    assert line.strip() == WORDS.get(words[name], words[name])


def test_parquet_loses_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", out)
    run("sql", f"select {SELECT}", "--format", "parquet")
    assert isinstance(out.buffer, io.BytesIO)
    row = pl.read_parquet(io.BytesIO(out.buffer.getvalue()))
    assert row["hugeint"].to_list() == ["170141183460469231731687303715884105727"]
    assert row["small_hugeint"].to_list() == [5]
    assert row["wide_decimal"].to_list() == [Decimal("1234567890123456789012345678.1234567890")]
    assert row["blob"].to_list() == [b"\xaa\x00b"]
    assert row["interval"].to_list() == ["1 month 2 days 00:00:03"]
    assert row["array"].to_list() == [[1, 2, 3]]
    assert row["uhugeint"].to_list() == ["340282366920938463463374607431768211455"]
    assert math.isnan(row["nan"].item())


def test_columns_of_one_name_are_numbered(run: Run) -> None:
    sql = 'select 1 as a, 2 as a, 3 as a_1, 4 as a, \'x\' as """"'
    done = run("sql", sql, "--format", "csv")
    assert done.out == 'a,a_2,a_1,a_3,""""\n1,2,3,4,x\n'
    assert json.loads(run("sql", sql, "--format", "json").out) == [
        {"a": 1, "a_2": 2, "a_1": 3, "a_3": 4, '"': "x"}
    ]
    both = run("sql", "from (select 1 as a) as x join (select 1 as a) as y on x.a = y.a")
    assert both.out.split()[:2] == ["a", "a_1"]


def test_what_is_computed_with_stays_numbers(module_database: duckdb.DuckDBPyConnection) -> None:
    sql = (
        "select sum(range) as whole, 1.25 as exact, 10::uhugeint ** 0 * 3 as u, "
        "1e30::hugeint as wide, 340282366920938463463374607431768211455::uhugeint as widest, "
        "date '2024-01-31' as d, 12345678901234567890.5::decimal(38, 1) as long "
        "from range(5)"
    )
    frame = query(module_database, sql)
    assert frame["whole"].to_list() == [10]
    assert frame["exact"].to_list() == [1.25]
    assert frame["wide"].to_list() == [1e30]
    assert frame["widest"].to_list() == [2.0**128]
    assert frame["long"].to_list() == [12345678901234567890.5]
    assert frame["d"].dtype == pl.Date
    stored = query(module_database, sql, Form.STORED)
    assert stored["long"].to_list() == [Decimal("12345678901234567890.5")]


@pytest.mark.parametrize("output_format", ["table", "json", "csv", "markdown"])
def test_no_rows_of_any_type(run: Run, output_format: str) -> None:
    done = run("sql", f"select {SELECT} where false", "--format", output_format)
    assert (done.code, done.err) == (0, "")


def test_texts_that_are_no_texts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("sql", "select '\udcff'")
    assert (done.code, done.out) == (1, "")
    assert done.err == "ptqdb: expected a query in UTF-8, found bytes that are not\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"select '\xff'"), "utf-8"))
    done = run("sql", "-")
    assert (done.code, done.err) == (1, "ptqdb: stdin cannot be read: it is not UTF-8 text\n")
    done = run("sql", "select '" + "x" * 300 + "' -- long.sql")
    assert done.code in (0, 1)
    assert "Traceback" not in done.err


def test_json_that_python_cannot_hold(run: Run) -> None:
    deep, text = "(repeat('[', {0}) || repeat(']', {0}))::json as x", "[" * 100_000 + "]" * 100_000
    found = json.loads(run("sql", f"select {deep.format(100_000)}", "--format", "json").out)
    assert found == [{"x": text}]
    done = run("sql", f"select {deep.format(900)}", "--format", "json")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("ptqdb: expected values shallow enough for JSON")
    long = run("sql", "select repeat('1', 5000)::json as x", "--format", "json")
    assert json.loads(long.out) == [{"x": "1" * 5000}]
