"""``ptqdb sql`` and ``ptqdb views``: what they print, and what they refuse."""

import csv
import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl
import pytest
import synthetic

from ptqdb.cli import main
from ptqdb.database import connect

FORMATS = ("table", "json", "csv", "markdown", "parquet")
HINT = "needs `ptqdb collect --scopes weight,bias`\n"


class Result(NamedTuple):
    code: int | str | None
    out: bytes
    err: str


Run = Callable[..., Result]


@pytest.fixture(scope="module")
def with_scopes(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in one format, evaluated with everything, weights and biases quantized."""
    return filled(empty_file, tmp_path_factory.mktemp("scopes"), ("all", "weight", "bias"))


@pytest.fixture(scope="module")
def without_scopes(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(empty_file, tmp_path_factory.mktemp("all"), ("all",))


def filled(empty_file: Path, folder: Path, scopes: tuple[str, ...]) -> Path:
    path = Path(shutil.copy(empty_file, folder / "study.duckdb"))
    with connect(path, read_only=False) as connection:
        networks, formats = synthetic.NETWORKS[1:2], synthetic.FORMATS[:1]
        synthetic.fill(connection, networks=networks, formats=formats, scopes=scopes)
    return path


@pytest.fixture
def run(
    with_scopes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Run:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PTQDB_DB", str(with_scopes))

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["ptqdb", *map(str, arguments)])
        code: int | str | None = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        sys.stdout.flush()
        captured = capfdbinary.readouterr()
        return Result(code, captured.out, captured.err.decode())

    return call


def rows_of(output: bytes, output_format: str) -> list[tuple[object, ...]]:
    """Read back what was printed, every cell as text."""
    if output_format == "json":
        frame = pl.DataFrame(json.loads(output), infer_schema_length=None)
    elif output_format == "csv":
        frame = pl.read_csv(io.BytesIO(output))
    elif output_format == "parquet":
        frame = pl.read_parquet(io.BytesIO(output))
    else:
        lines = [line.replace("|", " ").split() for line in output.decode().splitlines()]
        return [tuple(line) for line in [lines[0], *lines[2:]]]
    cells = [tuple(str(cell) for cell in row) for row in frame.rows()]
    return [tuple(frame.columns), *cells]


# ptqdb sql.


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("source", ["argument", "file", "stdin"])
def test_a_query_from_anywhere_in_every_format(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: str, output_format: str
) -> None:
    text = "select name, 0.5 as half, 3 as three from network"
    argument = {"argument": text, "file": "query.sql", "stdin": "-"}[source]
    Path("query.sql").write_text(text, encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    done = run("sql", argument, "--format", output_format)
    assert (done.code, done.err) == (0, "")
    expected = [("name", "half", "three"), ("Plain_BN", "0.5", "3")]
    assert rows_of(done.out, output_format) == expected


def test_of_several_statements_the_last_is_printed(run: Run) -> None:
    Path("two.sql").write_text(
        "-- A table of this session, and what is in it; not ; here.\n"
        "create temp table chosen as select name from network;\n"
        "select 'a;b' as unseen;\n"
        "select count(*) as networks from chosen;\n"
    )
    assert run("sql", "two.sql", "--format", "csv") == (0, b"networks\n1\n", "")
    assert run("sql", "select 1 as a; use main", "--format", "json").out == b"[]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select *\nfrom nowhere", "does not exist!|LINE 2: from nowhere\n             ^^^^^^^"),
        ("selec 1", "syntax error|LINE 1: selec 1\n        ^^^^^"),
        ("-- one\nselect 1;\n\nselec 2", "syntax error|LINE 4: selec 2\n        ^^^^^"),
        (
            "-- one\nselect 1;\n\nselect a",
            'column "a"|LINE 4: select a\n               ^',
        ),
        ("select b; select 1", 'column "b"|LINE 1: select b;\n               ^'),
        ("\n" * 9 + "select\n'x'::int", "Could not convert|LINE 11: 'x'::int\n            ^"),
        ("select [1],\n'x'::int", "Could not convert|LINE 2: 'x'::int\n           ^"),
        ("select error('boom') from network; select 1", "boom"),
        ("delete from evaluation; select 1", "read-only"),
        ("-- nothing", "expected a query, found none"),
        ("", "expected a query, found none"),
    ],
)
def test_a_failed_query_shows_where(run: Run, with_scopes: Path, text: str, said: str) -> None:
    before = with_scopes.read_bytes()
    Path("query.sql").write_text(text, encoding="utf-8")
    done = run("sql", "query.sql")
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith("ptqdb: ")
    for part in said.split("|"):
        assert part in done.err
    assert "Traceback" not in done.err
    assert with_scopes.read_bytes() == before


def test_files_that_cannot_be_read(run: Run) -> None:
    done = run("sql", "nowhere.sql")
    assert done.code == 2
    assert (
        done.err
        == "ptqdb: there is no file nowhere.sql: give an existing one, or the query itself\n"
    )
    Path("latin.sql").write_bytes("select 'ä'".encode("latin-1"))
    done = run("sql", "latin.sql")
    assert (done.code, done.err) == (1, "ptqdb: latin.sql cannot be read: it is not UTF-8 text\n")
    Path("folder.sql").mkdir()
    done = run("sql", "folder.sql")
    assert (done.code, done.err) == (1, "ptqdb: folder.sql cannot be read: Is a directory\n")


def test_intervals_are_text(run: Run) -> None:
    done = run("sql", 'select interval 36 hours as a, [interval 1 day] as "b c"', "--format=json")
    assert json.loads(done.out) == [{"a": "36:00:00", "b c": ["1 day"]}]


def test_help_says_what_several_statements_do(run: Run) -> None:
    shown = " ".join(run("sql", "--help").out.decode().replace("│", " ").split())
    assert "prints the result of the last one" in shown
    assert "- for stdin" in shown


# ptqdb views.


@pytest.mark.slow
def test_the_sql_of_every_view_creates_it(run: Run, empty_file: Path, tmp_path: Path) -> None:
    text = run("views", "--sql").out.decode()
    with connect(Path(shutil.copy(empty_file, tmp_path / "a.duckdb")), read_only=False) as database:
        names = database.execute("select view_name from duckdb_views() where not internal")
        expected = {name for (name,) in names.fetchall()}
        assert {line.split()[2] for line in text.splitlines() if "CREATE VIEW" in line} == expected
        assert len(expected) >= 145
        database.execute(text.replace("CREATE VIEW", "create or replace view"))


@pytest.mark.parametrize("output_format", FORMATS)
def test_views_of_a_glob_in_every_format(run: Run, output_format: str) -> None:
    done = run("views", "*crowd?ng", "--format", output_format)
    assert (done.code, done.err) == (0, "")
    assert b"pot_crowding" in done.out
    assert b"format_frontier" not in done.out
    assert b"CREATE VIEW" not in done.out
    done = run("views", "pot_crowding", "--sql", "--format", output_format)
    assert b"CREATE VIEW" in done.out
    assert done.out.startswith(b"CREATE VIEW") is (output_format == "table")


def test_a_view_that_does_not_exist(run: Run) -> None:
    done = run("views", "pot_crowdin")
    assert (done.code, "choose pot_crowding" in done.err) == (2, True)


def test_empty_views_say_why(run: Run, without_scopes: Path) -> None:
    there = ("--db", without_scopes)
    assert run("views", *there).err == f"empty: the 6 views *_sensitivity: {HINT}"
    one = "l2_flops_sensitivity"
    assert run("views", one, *there).err == f"empty: {one}: {HINT}"
    assert run("views", "*_segmented", *there).err == ""
    # And so it is: empty there, and there alone.
    for name, count in ((one, 0), ("l2_flops_segmented", 1), ("l2_flops", 1)):
        query = f"select count(*) as n from {name}"
        assert json.loads(run("sql", query, *there, "--format", "json").out) == [{"n": count}]


def test_views_with_all_evaluations_have_nothing_to_say(run: Run) -> None:
    assert run("views").err == ""
    done = run("sql", "select count(*) as n from l2_flops_sensitivity", "--format", "csv")
    assert done.out == b"n\n1\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_duckdb_is_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    def library(*_: object) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except KeyboardInterrupt as error:
            raise RuntimeError("Query interrupted") from error

    monkeypatch.setattr("ptqdb.cli.sql.print_frame", library)
    done = run("sql", "select 1")
    assert (done.code, done.out) == (code, b"")
    assert done.err == "Interrupted.\n"


# What a query cannot reach.


@pytest.mark.parametrize(
    "text",
    [
        "copy (select 1) to 'out.csv'",
        "select content from read_text('secret.txt')",
        "from 'secret.txt'",
        "attach 'other.duckdb' as other",
        "create persistent secret s (type http, bearer_token 'x')",
        "install httpfs",
        "load 'secret.txt'",
        "set enable_external_access = true",
        "pragma enable_profiling = 'json'; set profiling_output = 'out.json'; select 1",
        "export database 'folder'",
        "select * from frame",
    ],
)
def test_a_query_reaches_nothing_but_its_database(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "secret.txt").write_text("secret\n")
    before = {path.name for path in tmp_path.iterdir()}
    found = run("sql", text)
    assert found.code == 1
    assert "Traceback" not in found.err
    said = ("disabled by configuration" in found.err, "has been locked" in found.err)
    assert ("--allow-files" in found.err) == any(said)
    assert b"secret" not in found.out
    assert {path.name for path in tmp_path.iterdir()} == before


def test_files_are_there_when_they_are_asked_for(run: Run, tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n")
    found = run("sql", "select a + b as c from 'numbers.csv'", "--allow-files", "--format", "csv")
    assert (found.code, found.out) == (0, b"c\n3\n")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("select null as a", b'a\n""\n'),
        ("select unnest([1, null]) as a", b'a\n1\n""\n'),
        ("select unnest(['x\n\ny', null, '']) as a", b'a\n"x\n\ny"\n""\n""\n'),
        ("select null as a, '' as b, 1 as c", b'a,b,c\n,"",1\n'),
    ],
)
def test_no_row_of_csv_is_an_empty_line(
    run: Run, tmp_path: Path, text: str, printed: bytes
) -> None:
    """Readers, DuckDB's own shell among them, leave such a line out, or stop there."""
    assert run("sql", text, "--format", "csv").out == printed
    (tmp_path / "out.csv").write_bytes(printed)
    rows = list(csv.reader(io.StringIO(printed.decode(), newline="")))
    with duckdb.connect() as connection:
        found = connection.sql(f"from read_csv('{tmp_path / 'out.csv'}', header = true)")
        assert found.aggregate("count(*)").fetchall() == [(len(rows) - 1,)]
