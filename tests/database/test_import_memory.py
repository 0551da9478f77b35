"""An import and an export take little memory, however many networks a study has."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from ptqdb.resources import data_folder

pytestmark = pytest.mark.slow

COPIES = 8
LARGEST_RESIDENT_BYTES = 2**30
IDS = {"network": "network_id", "layer": "layer_id", "tensor": "tensor_id"}


def repeated(folder: Path) -> Path:
    """The embedded study's networks, eight times under other names: forty."""
    facts = data_folder() / "embedded" / "facts"
    folder.mkdir()
    with duckdb.connect(config={"memory_limit": "500MB"}) as connection:
        counts = {
            column: connection.execute(f"select max({column}) from '{facts}/{table}.parquet'")
            .fetchall()[0][0]
            for table, column in IDS.items()
        }  # fmt: skip
        for file in sorted(facts.glob("*.parquet")):
            columns = [
                name for name, *_ in connection.execute(f"describe from '{file}'").fetchall()
            ]
            copies = []
            for copy in range(COPIES if set(columns) & set(IDS.values()) else 1):
                changes = [
                    f"({column} + {copy * count})::integer as {column}"
                    for column, count in counts.items()
                    if column in columns
                ]
                if file.stem == "network":
                    changes += [f"name || '_{copy}' as name"]
                replaced = f" replace ({', '.join(changes)})" if changes else ""
                copies.append(f"(select *{replaced} from '{file}')")
            connection.execute(
                f"copy ({' union all '.join(copies)}) to '{folder / file.name}' (format parquet)"
            )
    return folder


def most_resident_bytes(*arguments: object) -> int:
    """Run a command of ptqdb in a process of its own; how much memory it had at most."""
    # By way of a small process: what the system counts for a child begins with its parent's.
    launcher = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", launcher, sys.executable, "-m", "ptqdb"]
    done = subprocess.run(
        [*command, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return int(done.stdout) * 1024


def test_forty_networks_take_less_than_a_gibibyte(tmp_path: Path) -> None:
    """Before statements read the files themselves: 2 GiB, and 9.8 GB for 200 networks."""
    folder, db = repeated(tmp_path / "facts"), tmp_path / "study.duckdb"
    assert most_resident_bytes("import", folder, "--db", db) < LARGEST_RESIDENT_BYTES
    assert most_resident_bytes("export", tmp_path / "out", "--db", db) < LARGEST_RESIDENT_BYTES
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("select count(*) from network").fetchall() == [(5 * COPIES,)]
