"""The DuckDB shell reads the same numbers as Python, from the same file."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import synthetic

from ptqdb.database import connect, materialize, view_names
from ptqdb.database.variants import VARIANTS, read_csv

Rows = list[dict[str, Any]]
CALLS = (
    "from variant(bins := 21, rescale := 'l2')",
    "from variant(measure := 'nsr', scope := 'weight', aggregate := 'max')",
    "from segmented_variant(share := 'layer', correction := 'coverage')",
)


@pytest.fixture(scope="module")
def shell() -> str:
    found = shutil.which("duckdb", path=Path(sys.executable).parent) or shutil.which("duckdb")
    assert found is not None, "the shell comes with the development tools, as duckdb-cli"
    return found


@pytest.fixture(scope="module")
def study_file(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks in three formats and all scopes, one cell missing; no inputs are measured."""
    folder = tmp_path_factory.mktemp("shell")
    path = Path(shutil.copy(empty_file, folder / "study.duckdb"))
    with connect(path, read_only=False) as connection:
        synthetic.fill(
            connection,
            networks=synthetic.NETWORKS[1:],
            formats=(*synthetic.FORMATS[:2], synthetic.FORMATS[3]),
            scopes=("all", "weight", "bias", "layer"),
        )
        materialize(connection)
        connection.execute(
            "delete from evaluation where network_id = 2 and number_format_id = 2 and scope = 'all'"
        )
        connection.execute(
            "delete from evaluation where network_id = 2 and number_format_id = 3 and scope = 'all'"
        )
        connection.execute("insert into failed_cell values (2, 3, 1, 'all', 'a', 'ValueError: b')")
    return path


def results(text: str) -> list[Rows]:
    """The JSON arrays that stand one after the other."""
    decoder, place, found = json.JSONDecoder(), 0, []
    while place < len(text):
        rows, place = decoder.raw_decode(text, place)
        found.append(rows)
        place += len(text[place:]) - len(text[place:].lstrip())
    return found


def is_same(found: object, expected: object) -> bool:
    """Equal within 1e-9; NULL is NULL, and NaN is NaN."""
    if not isinstance(expected, float):
        return type(found) is type(expected) and found == expected
    if not isinstance(found, float):
        return False
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12) or (
        math.isnan(found) and math.isnan(expected)
    )


@pytest.mark.slow
def test_the_shell_reads_the_same_numbers_in_every_view(shell: str, study_file: Path) -> None:
    with connect(study_file, read_only=True) as connection:
        names = view_names(connection)
        assert {"layer_divergence", "tensor_shape", "pot_crowding", "format_frontier"} < set(names)
        assert len(names) >= 145
        statements = [*(f"from {name}" for name in names), *CALLS]
        # Planning a view takes what it takes; both at once, and one thread each.
        connection.execute("set threads = 1")
        command = [shell, "-readonly", "-json", "-cmd", "set threads = 1", str(study_file)]
        process = subprocess.Popen(
            [*command, ";".join(statements)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        expected: list[Rows] = []
        for statement in statements:
            cursor = connection.execute(statement)
            columns = [column[0] for column in cursor.description or ()]
            expected.append([dict(zip(columns, row, strict=True)) for row in cursor.fetchall()])
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    shown = results(out)
    assert len(shown) == len(statements)
    named = read_csv(VARIANTS)
    of_inputs = {f"from {row['name']}" for row in named if row["tensors"] != "parameters"}
    for statement, found, rows in zip(statements, shown, expected, strict=True):
        assert bool(rows) != (statement in of_inputs), statement
        assert [list(row) for row in found] == [list(row) for row in rows], statement
        wrong = [
            (column, one[column], other[column])
            for one, other in zip(found, rows, strict=True)
            for column in other
            if not is_same(one[column], other[column])
        ]
        assert wrong == [], statement


def test_the_comparison_tells_what_differs() -> None:
    same = [(None, None), (1, 1), (1.0, 1.0 + 1e-12), (math.nan, math.nan), ("a", "a")]
    assert all(is_same(*pair) for pair in same)
    other = [(None, 0.0), (0.0, None), (1.0, 1.0 + 1e-6), (math.nan, 1.0), (1, True), ("1", 1)]
    assert not any(is_same(*pair) for pair in other)
    assert results('[{"a":NaN}]\n[]\n[{"b":1}]\n')[1:] == [[], [{"b": 1}]]


def test_the_shell_names_the_valid_words_too(shell: str, study_file: Path) -> None:
    command = [shell, "-readonly", str(study_file), "from variant(rescale := 'foo')"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "rescale is one of fakefreeze, l2; found foo" in refused.stderr
