"""What an import refuses whole: facts that contradict themselves, or those that are there."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import synthetic
from running import Run, runner

from ptqdb.database import connect, interruptible, query
from ptqdb.database.checks import check
from ptqdb.database.exchange import TABLE_NAMES, export_study, import_study
from ptqdb.errors import ContradictionError, DataError, MismatchError

EXCHANGE = "ptqdb.database.exchange"
NETWORK = synthetic.SyntheticNetwork(
    "Tiny",
    "Tiny",
    (synthetic.SyntheticLayer(40, 4, 3_000_000), synthetic.SyntheticLayer(20, 0, 1_000)),
    0.7,
)
SMALL = pl.col("number_format_id") == 2


@pytest.fixture(scope="module")
def facts(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small network in two formats, exported; tests only read it."""
    folder = tmp_path_factory.mktemp("facts")
    path = Path(shutil.copy(empty_file, folder / "tiny.duckdb"))
    with connect(path, read_only=False) as connection:
        synthetic.fill(connection, networks=(NETWORK,), formats=synthetic.FORMATS[:2])
        export_study(connection, folder / "facts")
    return folder / "facts"


@pytest.fixture(scope="module")
def imported(empty_file: Path, facts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that holds the facts, closed; tests copy it."""
    path = Path(shutil.copy(empty_file, tmp_path_factory.mktemp("imported") / "tiny.duckdb"))
    with connect(path, read_only=False) as connection:
        import_study(connection, facts)
    return path


@pytest.fixture
def spoiled(facts: Path, tmp_path: Path) -> Path:
    """A copy of the facts to spoil."""
    return Path(shutil.copytree(facts, tmp_path / "spoiled"))


@pytest.fixture
def held(imported: Path, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that holds the facts already."""
    path = Path(shutil.copy(imported, tmp_path / "held.duckdb"))
    with connect(path, read_only=False) as connection:
        yield connection


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def change(folder: Path, table: str, spoil: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = folder / f"{table}.parquet"
    spoil(pl.read_parquet(path)).write_parquet(path)


def setting(column: str, value: object, where: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Sets a column where a condition holds."""

    def spoil(frame: pl.DataFrame) -> pl.DataFrame:
        given = pl.lit(value, frame.schema[column])
        return frame.with_columns(pl.when(where).then(given).otherwise(column).alias(column))

    return spoil


def without(where: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.filter(~where)


def contents(connection: duckdb.DuckDBPyConnection) -> dict[str, pl.DataFrame]:
    return {table: query(connection, f"from {table} order by all") for table in TABLE_NAMES}


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    return all(one[table].equals(other[table]) for table in TABLE_NAMES)


def some_slow(cases: list[Any], quick_count: int) -> list[Any]:
    """All but the first of the cases, marked as slow."""
    slow = [pytest.param(*case, marks=pytest.mark.slow) for case in cases[quick_count:]]
    return [*cases[:quick_count], *slow]


# Facts that contradict themselves.

FIRST = pl.col("tensor_id") == 1
CONTRADICTIONS = [
    ("evaluation", setting("correct_top5", 1001, SMALL), "evaluation_counts"),
    ("evaluation", setting("correct_images", "0" * 1000, SMALL), "evaluation_bits"),
    ("tensor_histogram", setting("count", -1, FIRST), "histogram_bin"),
    ("code_histogram", without(FIRST & SMALL), "code_histogram_count"),
    ("tensor", setting("sum_x2", float("nan"), FIRST), "non_finite"),
    ("evaluation", setting("correct_both", -1, SMALL), "evaluation_bits"),
    ("evaluation", setting("kl_sum", float("nan"), SMALL), "non_finite"),
    ("evaluation", without(pl.col("scope") == "none"), "evaluation_images"),
    ("evaluation", without(SMALL.fill_null(False)), "facts_without_evaluation"),
    ("quantized_tensor", setting("scale", float("inf"), FIRST), "non_finite"),
    ("tensor", setting("element_count", -40, FIRST), "code_histogram_count"),
    ("tensor_histogram", without(FIRST), "tensor_histogram_count"),
    ("tensor_channel", setting("sum_x2", 0.0, FIRST), "channel_sums"),
    ("layer", setting("macs", -1_000, pl.col("position") == 1), "network_totals"),
    ("dataset", setting("image_count", 7, pl.lit(True)), "evaluation_images"),
    ("number_format", setting("bits", 7, pl.col("name") == "INT_8"), "format_name"),
]


@pytest.mark.parametrize(("table", "spoil", "found"), some_slow(CONTRADICTIONS, 5))
def test_facts_that_contradict_each_other_are_refused_whole(
    spoiled: Path,
    database: duckdb.DuckDBPyConnection,
    table: str,
    spoil: Callable[[pl.DataFrame], pl.DataFrame],
    found: str,
) -> None:
    change(spoiled, table, spoil)
    with pytest.raises(ContradictionError) as caught:
        import_study(database, spoiled)
    first, columns, *rows = str(caught.value).splitlines()
    assert first.startswith(
        f"{spoiled}: facts contradict each other, nothing was imported; {found}"
    )
    assert columns
    assert rows
    assert all(frame.is_empty() for frame in contents(database).values())


def test_a_few_rows_are_shown_as_a_table(
    spoiled: Path, database: duckdb.DuckDBPyConnection
) -> None:
    change(spoiled, "evaluation", setting("correct_top1", 1001, SMALL))
    with pytest.raises(ContradictionError) as caught:
        import_study(database, spoiled)
    _, columns, *rows = str(caught.value).splitlines()
    assert columns.split()[:4] == ["network", "number_format", "scheme_id", "scope"]
    assert [row.split()[:4] for row in rows] == [
        ["Tiny", "INT_8", "1", "all"],
        ["Tiny", "INT_8", "1", "weight"],
    ]
    assert rows[0].index("INT_8") == columns.index("number_format")


def test_a_sum_that_overflows_is_a_line(spoiled: Path, database: duckdb.DuckDBPyConnection) -> None:
    change(spoiled, "tensor_histogram", setting("count", 2**63 - 1, FIRST))
    with pytest.raises(DataError, match="the check tensor_histogram_count cannot be computed"):
        import_study(database, spoiled)
    assert all(frame.is_empty() for frame in contents(database).values())


def test_a_database_that_contradicts_itself_already_is_no_fault_of_an_import(
    facts: Path, held: duckdb.DuckDBPyConnection
) -> None:
    held.execute("update evaluation set correct_top5 = correct_top1 - 1 where number_format_id = 1")
    held.execute("delete from evaluation where scope = 'weight'")
    assert [r.name for r in check(held) if not r.has_passed] == ["evaluation_counts"]
    assert import_study(held, facts)["evaluation"] == 2


def test_what_is_wrong_only_with_what_is_there_is_a_fault_of_the_import(
    spoiled: Path, held: duckdb.DuckDBPyConnection
) -> None:
    """More right in both than the floating-point network, which is there already, has right."""
    held.execute("delete from evaluation where scope = 'weight'")
    change(spoiled, "evaluation", without(pl.col("scope").is_in(["none", "all"])))
    for bits in ("correct_images", "same_images"):
        change(spoiled, "evaluation", setting(bits, None, pl.lit(True)))
    change(
        spoiled,
        "evaluation",
        lambda frame: frame.with_columns(
            pl.lit(1000, pl.Int32).alias(name)
            for name in ("correct_top1", "correct_top5", "correct_both", "same_prediction")
        ),
    )
    before = contents(held)
    with pytest.raises(ContradictionError, match="evaluation_counts"):
        import_study(held, spoiled)
    assert same(contents(held), before)


# Facts of a cell that is there.

CONFLICTS = [
    ("evaluation", "correct_top1", 5, SMALL, "correct_top1 of Tiny, INT_8, {scheme}, all is 5"),
    ("tensor", "sum_x2", 9.0, FIRST, "sum_x2 of Tiny, layer0, weight is 9.0"),
    ("tensor_histogram", "count", 9, FIRST, "count of bin -2047 of Tiny, layer0, weight is 9"),
    ("quantized_tensor", "scale", 9.0, SMALL, "scale of Tiny, layer0, weight, INT_8, {scheme} is"),
    ("evaluation", "correct_top1", 5, pl.col("scope") == "none", "of Tiny, floating point, none"),
    ("evaluation", "kl_sum", 2.0, SMALL, "kl_sum of Tiny, INT_8, {scheme}, all is 2.0"),
    ("tensor_channel", "max_value", 9.0, FIRST, "max_value of Tiny, layer0, weight, channel 0"),
    ("tensor_channel", "channel", 9, pl.col("channel") == 3, "channel 3 of Tiny, layer0, weight"),
    ("code_histogram", "count", 9, SMALL & FIRST, "of Tiny, layer0, weight, INT_8, {scheme} is 9"),
    ("quantized_tensor_channel", "squared_error_sum", 9.0, SMALL, "INT_8, {scheme}, channel 0 is"),
    ("network", "preprocessing", "{}", pl.lit(True), "preprocessing of Tiny is {{}}"),
]


@pytest.mark.parametrize(("table", "column", "value", "where", "said"), some_slow(CONFLICTS, 4))
def test_other_facts_of_a_cell_are_refused_whole(
    spoiled: Path,
    held: duckdb.DuckDBPyConnection,
    table: str,
    column: str,
    value: object,
    where: pl.Expr,
    said: str,
) -> None:
    held.execute("update network set preprocessing = '{\"mean\": [0.5]}'")
    before = contents(held)
    change(spoiled, table, setting(column, value, where))
    with pytest.raises(MismatchError) as caught:
        import_study(held, spoiled)
    message = str(caught.value)
    assert message.startswith(f"{spoiled / table}.parquet: ")
    assert said.format(scheme=synthetic.SCHEME) in message
    assert message.endswith("import into another db, or give prefix to keep both")
    assert same(contents(held), before)


def test_what_two_machines_differ_in_is_the_same(
    spoiled: Path, held: duckdb.DuckDBPyConnection
) -> None:
    """The last digits of sums, what only says how it was computed, and how ties were decided."""
    before = contents(held)
    change(
        spoiled,
        "tensor",
        lambda frame: frame.with_columns(pl.col("sum_x", "sum_x2", "sum_x3") * (1 + 1e-9)),
    )
    change(
        spoiled,
        "quantized_tensor",
        lambda frame: frame.with_columns(pl.col("squared_error_sum", "sum_codes") * (1 + 1e-9)),
    )
    change(
        spoiled,
        "evaluation",
        lambda frame: frame.with_columns(
            pl.lit("bfloat16").alias("precision"),
            pl.col("correct_top5") + 3,
            pl.col("kl_sum") + 1e-4,
        ),
    )
    assert not any(import_study(held, spoiled).values())
    assert same(contents(held), before)


# Two studies with a network of one name.


@pytest.mark.slow
def test_a_prefix_keeps_both(spoiled: Path, facts: Path, held: duckdb.DuckDBPyConnection) -> None:
    change(spoiled, "network", setting("checkpoint_sha256", "else", pl.lit(True)))
    with pytest.raises(MismatchError, match="give prefix to keep both"):
        import_study(held, spoiled)
    assert import_study(held, spoiled, prefix="theirs_")["network"] == 1
    assert not any(import_study(held, spoiled, prefix="theirs_").values())
    assert not any(import_study(held, facts).values())
    named = query(held, "select name, architecture from network order by name").rows()
    assert named == [("Tiny", "Tiny"), ("theirs_Tiny", "Tiny")]
    assert all(result.has_passed for result in check(held))


# Ended in the middle.


@pytest.mark.parametrize("stage", ["insert into evaluation", "paired.correct_both", "commit"])
@pytest.mark.slow
def test_an_interrupted_import_leaves_nothing(
    facts: Path,
    database: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """Ctrl-C while rows are inserted, while they are checked, and when all is done but kept."""

    def interrupted(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
        if stage in sql:
            signal.raise_signal(signal.SIGINT)
        return interruptible(connection, sql)

    monkeypatch.setattr(f"{EXCHANGE}.statements.interruptible", interrupted)
    if stage == "commit":
        monkeypatch.setattr(f"{EXCHANGE}.importing.verify", lambda *_: interrupted(database, stage))
    with pytest.raises(KeyboardInterrupt):
        import_study(database, facts)
    assert all(frame.is_empty() for frame in contents(database).values())
    monkeypatch.undo()
    assert import_study(database, facts)["network"] == 1
    assert all(result.has_passed for result in check(database))


# On the command line.


@pytest.mark.parametrize("content", ["nothing", "another file", "a part"])
def test_a_folder_without_an_export_creates_no_database(
    run: Run, facts: Path, tmp_path: Path, content: str
) -> None:
    folder, db = tmp_path / "folder", tmp_path / "new.duckdb"
    folder.mkdir()
    if content == "another file":
        (folder / "notes.txt").write_text("")
    elif content == "a part":
        shutil.copy(facts / "layer.parquet", folder)
    result = run("import", folder, "--db", db)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert str(folder) in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.slow
def test_a_refused_import_leaves_no_new_database(run: Run, spoiled: Path, tmp_path: Path) -> None:
    change(spoiled, "evaluation", setting("correct_top1", 1001, SMALL))
    db = tmp_path / "new.duckdb"
    result = run("import", spoiled, "--db", db)
    assert result.code == 1
    assert result.err.count("\n") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["spoiled"]


def test_names_of_networks_get_a_prefix(
    run: Run, facts: Path, imported: Path, tmp_path: Path
) -> None:
    db = Path(shutil.copy(imported, tmp_path / "both.duckdb"))
    result = run("import", facts, "--db", db, "--prefix", "theirs_")
    assert (result.code, result.err[:17]) == (0, "added 1 networks,")
    assert run("import", facts, "--db", db, "--prefix", "\x1b[31m").code == 2
