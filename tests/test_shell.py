"""The DuckDB shell reads the same numbers."""

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import synthetic

from ptqdb.database import connect, materialize, query


def test_the_shell_reads_the_same_numbers(empty_file: Path, tmp_path: Path) -> None:
    shell = shutil.which("duckdb", path=Path(sys.executable).parent) or shutil.which("duckdb")
    assert shell is not None
    path = Path(shutil.copy(empty_file, tmp_path / "study.duckdb"))
    with connect(path, read_only=False) as connection:
        with_rows = synthetic.NETWORKS[:1]
        synthetic.fill(connection, networks=with_rows, formats=synthetic.FORMATS[:2])
        materialize(connection)

    def ask(sql: str) -> subprocess.CompletedProcess[str]:
        command = [shell, "-readonly", "-csv", str(path), sql]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with connect(path, read_only=True) as connection:
        for sql in (
            "select network, number_format, divergence, accuracy_loss from fakefreeze_flops_log",
            "select network, divergence from variant(bins := 21, rescale := 'l2')",
            "select kind, object, column_name, comment from data_dictionary",
        ):
            found = pl.read_csv(ask(sql).stdout.encode(), null_values="NULL")
            expected = query(connection, sql)
            assert len(found) == len(expected) > 0
            for column in expected.columns:
                if expected[column].dtype == pl.Float64:
                    assert found[column].to_list() == pytest.approx(expected[column].to_list())
                else:
                    assert found[column].to_list() == expected[column].to_list()
    refused = ask("from variant(rescale := 'foo')")
    assert refused.returncode != 0
    assert "rescale is one of fakefreeze, l2; found foo" in refused.stderr
