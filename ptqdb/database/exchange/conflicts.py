"""Rejects facts that contradict those of the same cell in the database.

Image counts and facts determined by the checkpoint (params, histograms of weights) must be equal on
every machine. Sums of floats depend on the order of additions: those of weights may differ by
`OF_WEIGHTS` of their size, and computed values by `OF_RUNS`: inputs, the codes of biases (their
scale depends on the input) and the sums of losses. Histograms of inputs, of bias codes and of
dequantized elements are not compared by bin, since single elements may cross an edge. Two
evaluations of different numbers of images agree if they agree image by image, as far as the shorter
one goes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqdb.database.exchange.statements import Statements, same, words
from ptqdb.database.exchange.tables import CELL, OF_RUNS, OF_WEIGHTS, Table
from ptqdb.errors import MismatchError

_WEIGHTS = "weight', 'trained_weight"
REMEDY = "import into another --db, or give --prefix to keep both"
_SHARED = ("dataset", "number_format", "number_format_code", "scheme")
"""Tables whose rows belong to no network, so that renaming it would not help."""
_NAMES = {
    "network_id": "select name from network",
    "layer_id": "select concat_ws(', ', n.name, l.name) from layer as l "
    "join network as n using (network_id)",
    "tensor_id": "select concat_ws(', ', n.name, l.name, t.role) from tensor as t "
    "join layer as l using (layer_id) join network as n using (network_id)",
    "number_format_id": "select name from number_format",
    "scheme_id": "select name from scheme",
}
"""Queries for the name of the row with an id."""


@dataclass(frozen=True)
class _Rows:
    """Rows that are compared as a group: those of one tensor, or of one cell."""

    group: tuple[str, ...]
    column: str
    counted: str | None
    roles: str = _WEIGHTS

    @property
    def digest(self) -> str:
        """The term of each row in the group's digest, a sum independent of the order."""
        times = "" if self.counted is None else f" * {self.counted}"
        return f"hash({self.column})::hugeint{times}"


_ROWS = {
    "tensor_channel": _Rows(("tensor_id",), "channel", None),
    "tensor_histogram": _Rows(
        ("tensor_id",), "bin", "count", f"{_WEIGHTS}', 'bias', 'trained_bias"
    ),
    "code_histogram": _Rows(CELL, "code", "count"),
    "quantized_tensor_channel": _Rows(CELL, "channel", None),
}


def require_agreement(statements: Statements, table: Table, path: Path) -> None:
    """Compare the rows of a file with those in the database under the same key.

    Raises
    ------
    MismatchError
        They differ; the message names the file, the row and the column.
    """
    if table.name in _ROWS:
        _compare_groups(statements, table, path)
    if table.agreeing or table.measured:
        _compare_rows(statements, table, path)


def _compare_rows(statements: Statements, table: Table, path: Path) -> None:
    """Compare column by column; rows that refer to a tensor are joined with it as ``x``."""
    joined = f"translated_{table.name} as f join {table.name} as d on {same(table.key)}"
    part = str(OF_RUNS)
    if table.name == "tensor" or "tensor_id" in table.key:
        joined += " join tensor as x on x.tensor_id = d.tensor_id"
        part = f"case when x.role in ('{_WEIGHTS}') then {OF_WEIGHTS} else {OF_RUNS} end"
    differs = {column: f"f.{column} is distinct from d.{column}" for column in table.agreeing}
    differs |= {column: f"f.{column} != d.{column}" for column in table.agreeing_if_known}
    differs |= {
        one.column: f"f.{one.column} is distinct from d.{one.column} and (abs(f.{one.column} - "
        f"d.{one.column}) <= {part} * {one.size}) is distinct from true"
        for one in table.measured
    }
    if table.bits:
        alike = "f.image_count = d.image_count"
        agree = {column: f"agree_on_first(f.{column}, d.{column})" for column in table.bits}
        differs = {column: f"{alike} and {test}" for column, test in differs.items()}
        differs |= {column: f"not {test}" for column, test in agree.items()}
        unknown = " or ".join(f"{test} is null" for test in agree.values())
        differs["image_count"] = f"not ({alike}) and ({unknown})"
    whens = " ".join(f"when {test} then '{column}'" for column, test in differs.items())
    keys = ", ".join(f"d.{name}" for name in table.key)
    first = statements.rows(
        f"select case {whens} end as column_name from {joined} "
        f"where column_name is not null order by {keys} limit 1",
        path,
    )
    for (column,) in first:
        *key, file, database = statements.rows(
            f"select {keys}, f.{column}, d.{column} from {joined} where {differs[column]} "
            f"order by {keys} limit 1"
        )[0]
        name = _name(statements, dict(zip(table.key, key, strict=True)))
        if column in table.bits:
            place = next(
                i for i, bits in enumerate(zip(file, database, strict=False)) if len(set(bits)) > 1
            )
            column, file, database = f"bit {place} of {column}", file[place], database[place]
        raise _conflict(table, path, f"{column} of {name}", file, database)


def _compare_groups(statements: Statements, table: Table, path: Path) -> None:
    """Compare a digest of each group's rows: millions of rows need no memory."""
    rows = _ROWS[table.name]
    group = ", ".join(rows.group)
    digests = [
        f"(select {group}, count(*) as row_count, sum({rows.digest}) as digest "
        f"from {relation} semi join (select i.database as tensor_id from ids_tensor as i "
        f"join tensor as t on i.database = t.tensor_id where not i.is_new "
        f"and t.role in ('{rows.roles}')) as i using (tensor_id) group by all)"
        for relation in (f"translated_{table.name}", table.name)
    ]
    keys = ", ".join(f"d.{name}" for name in rows.group)
    differing = statements.rows(
        f"select {keys} from {digests[0]} as f join {digests[1]} as d on {same(rows.group)} "
        "where f.digest != d.digest or f.row_count != d.row_count "
        f"order by {keys} limit 1",
        path,
    )
    for values in differing:
        key = dict(zip(rows.group, values, strict=True))
        chosen = " and ".join(f"{column} = {value}" for column, value in key.items())
        column, counted = rows.column, rows.counted or rows.column
        place, file, database = statements.rows(
            f"select coalesce(f.{column}, d.{column}) as place, f.{counted}, d.{counted} "
            f"from (from translated_{table.name} where {chosen}) as f "
            f"full join (from {table.name} where {chosen}) as d on f.{column} = d.{column} "
            f"where f.{counted} is distinct from d.{counted} order by place limit 1"
        )[0]
        name = _name(statements, key)
        raise _conflict(table, path, f"{counted} of {column} {place} of {name}", file, database)


def _name(statements: Statements, key: dict[str, Any]) -> str:
    """The name of a row, with its ids replaced by names."""
    parts = []
    for column, value in key.items():
        if column in _NAMES:
            text = "floating point" if column == "number_format_id" else None
            if value is not None:
                text = statements.rows(f"{_NAMES[column]} where {column} = {value}")[0][0]
        else:
            text = f"{column} {value}" if isinstance(value, int) else str(value)
        if text is not None:
            parts.append(text)
    return ", ".join(parts)


def _conflict(table: Table, path: Path, what: str, file: object, database: object) -> MismatchError:
    return MismatchError(
        f"{path}: {what} is {words((file,))}, in the database {words((database,))}; "
        + ("import into another --db" if table.name in _SHARED else REMEDY)
    )
