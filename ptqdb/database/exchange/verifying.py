"""Runs the checks of sql/checks over what an import brought, before it is committed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqdb.database.exchange.statements import Statements, words
from ptqdb.errors import ContradictionError, DataError, PtqdbError
from ptqdb.integrity import meaning
from ptqdb.resources import sql_folder
from ptqdb.text import visible

INCOMPLETE = ("missing_announced_cell", "missing_channels")
"""Checks of what is not there: an interrupted study and one of an older version are welcome."""
PROVED = ("duplicate_key",)
"""Checks of what a merge makes sure of on its own."""
_SHOWN_ROWS = 3
_OWNERS = {
    "network_id": "select network_id from checked_network",
    "layer_id": "select layer_id from {main}.layer where network_id in (from checked_network)",
    "tensor_id": "select tensor_id from {main}.tensor as t join {main}.layer as l "
    "using (layer_id) where l.network_id in (from checked_network)",
}
"""Which rows of a table belong to the networks that are checked, by the first such column."""


def verify(statements: Statements, folder: Path, network_ids: tuple[int, ...]) -> list[str]:
    """Refuse facts that contradict each other; return what is incomplete, one line each.

    Only rows of the imported networks are looked at, and only wrong ones that were not there
    before: a database that contradicts itself already is no fault of the import. What was there
    before is what another connection still sees.

    Parameters
    ----------
    network_ids
        The networks that rows were added of. Their transaction is still open.

    Raises
    ------
    ContradictionError
        A check found something; the message has the check and some rows.
    """
    remarks = []
    before = Statements(statements.connection.cursor())
    try:
        with _narrowed(statements, network_ids), _narrowed(before, network_ids):
            for file in sorted((sql_folder() / "checks").glob("*.sql")):
                if file.stem in PROVED:
                    continue
                check = _Check(file.stem, file.read_text(encoding="utf-8").rstrip().rstrip(";"))
                try:
                    found = _new_rows(statements, before, check.sql)
                except PtqdbError as error:
                    raise DataError(
                        f"{folder}: the check {check.name} cannot be computed, nothing was "
                        f"imported: {error}"
                    ) from error
                if found and check.name in INCOMPLETE:
                    remarks.append(
                        f"{folder} is incomplete: {meaning(check.sql)}; "
                        f"`ptqdb check {check.name}` says where"
                    )
                elif found:
                    raise ContradictionError(_message(statements, folder, check, found))
    finally:
        before.connection.close()
    return remarks


@dataclass(frozen=True)
class _Check:
    name: str
    sql: str


def _new_rows(statements: Statements, before: Statements, sql: str) -> list[tuple[Any, ...]]:
    """The first wrong rows that were not there before the import."""
    if not statements.rows(f"from (\n{sql}\n) limit 1"):
        return []
    known = {str(row) for row in before.rows(sql)}
    rows = statements.rows(f"from (\n{sql}\n) limit {len(known) + _SHOWN_ROWS + 1}")
    return [row for row in rows if str(row) not in known]


def _message(
    statements: Statements, folder: Path, check: _Check, rows: list[tuple[Any, ...]]
) -> str:
    columns = [name for name, *_ in statements.rows(f"describe {check.sql}")]
    shown = rows[:_SHOWN_ROWS]
    # Columns without any value say nothing.
    places = [
        place for place in range(len(columns)) if any(row[place] is not None for row in shown)
    ]
    lines = [[columns[place] for place in places]]
    lines += [[visible(words((row[place],))) for place in places] for row in shown]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    more = ["..."] if len(rows) > _SHOWN_ROWS else []
    return "\n".join(
        [
            f"{folder}: facts contradict each other, nothing was imported; "
            f"{check.name}: {meaning(check.sql)}",
            *table,
            *more,
        ]
    )


@contextmanager
def _narrowed(statements: Statements, network_ids: tuple[int, ...]) -> Iterator[None]:
    """Let temporary views stand in for the tables: their rows of some networks alone.

    A temporary view comes before a table of its name, in the checks and in the macros and views
    that they use. Nothing can be inserted meanwhile.
    """
    connection = statements.connection
    database = str(connection.execute("select current_database()").fetchall()[0][0])
    main = '"' + database.replace('"', '""') + '".main'
    columns = connection.execute(
        "select c.table_name, c.column_name from duckdb_columns() as c "
        "join duckdb_tables() as t using (table_oid) "
        "where c.database_name = current_database() and c.column_name in ?",
        [list(_OWNERS)],
    ).fetchall()
    owners = {
        table: column
        for column in reversed(list(_OWNERS))
        for table, found in columns
        if found == column
    }
    numbers = ", ".join(map(str, network_ids))
    try:
        statements.run(
            "create or replace temp table checked_network as "
            f"select unnest([{numbers}]::integer[]) as network_id"
        )
        for table, column in owners.items():
            statements.run(
                f"create or replace temp view {table} as from {main}.{table} "
                f"where {column} in ({_OWNERS[column].format(main=main)})"
            )
        yield
    finally:
        for table in owners:
            statements.drop("view", table)
        statements.drop("table", "checked_network")
