"""Runs the checks of sql/checks on imported rows, before the commit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqdb.database.checks import meaning
from ptqdb.database.exchange.statements import Statements, words
from ptqdb.errors import ContradictionError, DataError, PtqdbError
from ptqdb.resources import sql_folder
from ptqdb.support.text import visible

INCOMPLETE = ("missing_announced_cell",)
"""Checks for missing rows: interrupted studies and those of older versions are accepted."""
PROVED = ("duplicate_key",)
"""Checks of what the merge itself guarantees."""
_SHOWN_ROWS = 3
_OWNERS = {
    "network_id": "network",
    "layer_id": "layer join network using (network_id)",
    "tensor_id": "tensor join layer using (layer_id) join network using (network_id)",
}
"""The column that links a row to its network: the first of these in the table."""


def verify(statements: Statements, folder: Path, network_ids: tuple[int, ...]) -> list[str]:
    """Raise if facts contradict each other; return one line for each incomplete kind of facts.

    Only rows of the imported networks are checked, and only new wrong rows count: existing
    contradictions in the database are not the import's fault. Another connection still sees the
    rows from before the import.

    Parameters
    ----------
    network_ids
        The networks with added rows. The transaction is still open.

    Raises
    ------
    ContradictionError
        A check found wrong rows; the message has the check and some rows.
    """
    remarks = []
    before = Statements(statements.connection.cursor())
    conditions = _conditions(statements, network_ids)
    try:
        with _narrowed(statements, conditions), _narrowed(before, conditions):
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
                        f"`ptqdb check {check.name}` shows where"
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
    """The first wrong rows that did not exist before the import."""
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
    # Omit columns without values.
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


def _conditions(statements: Statements, network_ids: tuple[int, ...]) -> dict[str, str]:
    """By table, the condition for the rows to check: an id range that covers the networks.

    Rows of other networks in the range are compared with themselves.
    """
    numbers = ", ".join(map(str, network_ids)) or "null"
    if not statements.count(
        f"select count(*) from network where (network_id in ({numbers})) is distinct from true"
    ):
        return {}
    conditions: dict[str, str] = {}
    for column, joined in _OWNERS.items():
        low, high = statements.rows(
            f"select coalesce(min({column}), 1), coalesce(max({column}), 0) from {joined} "
            f"where network_id in ({numbers})"
        )[0]
        tables = statements.rows(
            "select c.table_name from duckdb_columns() as c join duckdb_tables() as t "
            "using (database_oid, table_oid) where c.database_name = current_database() "
            f"and c.column_name = '{column}'"
        )
        for (table,) in tables:
            conditions.setdefault(table, f"{column} between {low} and {high}")
    return conditions


@contextmanager
def _narrowed(statements: Statements, conditions: dict[str, str]) -> Iterator[None]:
    """Shadow tables by temporary views with the rows that meet a condition.

    A temporary view has precedence over a table of the same name, in the checks and in the macros
    and views that they use. Inserts are not possible meanwhile.
    """
    database = str(statements.rows("select current_database()")[0][0]).replace('"', '""')
    try:
        for table, condition in conditions.items():
            statements.run(
                f"create or replace temp view {table} as "
                f'from "{database}".main.{table} where {condition}'
            )
        yield
    finally:
        for table in conditions:
            statements.drop("view", table)
