"""Inserts the missing rows of a staged study into a database, with new ids."""

from dataclasses import dataclass
from pathlib import Path

from ptqdb.database.exchange.conflicts import REMEDY, require_agreement
from ptqdb.database.exchange.statements import Statements, same, words
from ptqdb.database.exchange.tables import CELL, CELL_TABLES, TABLES, Table
from ptqdb.database.writing import next_id
from ptqdb.errors import MismatchError

# Rows of these tables require a row of that one; all others depend on the network only.
_ROOTS = {"number_format_code": "number_format"}
_EVALUATED = {"failed_cell": "evaluation", "failed_layer_cell": "layer_evaluation"}
# A cell that failed in one study may be evaluated in the other.
_DROP_FAILURES_EVALUATED = (
    """
    delete from failed_cell where exists (
        from evaluation as e
        where e.network_id = failed_cell.network_id
            and e.number_format_id = failed_cell.number_format_id
            and e.scheme_id = failed_cell.scheme_id
            and e.scope = failed_cell.scope
    )
    """,
    """
    delete from failed_layer_cell where exists (
        from layer_evaluation as e
        where e.layer_id = failed_layer_cell.layer_id
            and e.number_format_id = failed_layer_cell.number_format_id
            and e.scheme_id = failed_layer_cell.scheme_id
    )
    """,
)


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    Attributes
    ----------
    added
        Number of rows added to each table.
    network_ids
        The networks of the folder, under the database's ids.
    """

    added: dict[str, int]
    network_ids: tuple[int, ...]


def merge(statements: Statements, folder: Path) -> Merged:
    """Insert the rows of the staged tables that the database lacks.

    Ids are only valid within one database. ``ids_TABLE`` translates those of the file: rows that
    exist under the same key get the existing id; the rest keep theirs if all are free, so a round
    trip leaves a study unchanged.

    Raises
    ------
    MismatchError
        The database has something else under the same name, or other facts of the same cell.
    DataError
        A row violates a constraint; the message names the file.
    """
    try:
        old_rows: dict[str, int] = {}
        added = {}
        for table in TABLES:
            added[table.name] = _Merge(statements, table, folder, old_rows).add()
        for statement in _DROP_FAILURES_EVALUATED:
            statements.run(statement)
        rows = statements.rows("select database from ids_network order by all")
        return Merged(added, tuple(number for (number,) in rows))
    finally:
        for table in TABLES:
            statements.drop("view", f"translated_{table.name}")
            statements.drop("table", f"ids_{table.name}")
        for name in CELL_TABLES:
            statements.drop("table", f"new_{name}")


@dataclass(frozen=True)
class _Merge:
    """One table of a merge; the tables before it are merged.

    Attributes
    ----------
    old_rows
        Number of existing rows of each table with ids.
    """

    statements: Statements
    table: Table
    folder: Path
    old_rows: dict[str, int]

    @property
    def path(self) -> Path:
        return self.folder / f"{self.table.name}.parquet"

    def add(self) -> int:
        """Insert the missing rows; return their number."""
        name = self.table.name
        self._translate()
        if self.table.row_id is not None:
            self._number()
        elif name in CELL_TABLES:
            # Before inserting the cells: their histograms are new for the same cells.
            self.statements.run(
                f"create or replace temp table new_{name} as select {', '.join(CELL)} "
                f"from translated_{name} as f anti join {name} as d using ({', '.join(CELL)})"
            )
        if self.old_rows[name if self.table.row_id else _ROOTS.get(name, "network")]:
            require_agreement(self.statements, self.table, self.path)
            if self.table.bits:
                self._delete_shorter_rows()
        return self.statements.count(
            f"insert into {name} by name select f.* from {self._new_rows()}", self.path
        )

    def _translate(self) -> None:
        """Translate the references of the rows to the database's ids."""
        translated, joins = [], []
        for place, reference in enumerate(self.table.references):
            column = reference.columns[0]
            if len(reference.columns) == 1:
                joins.append(
                    f"left join ids_{reference.table} as i{place} on f.{column} = i{place}.file"
                )
                translated.append(f"i{place}.database as {column}")
        replaced = f" replace ({', '.join(translated)})" if translated else ""
        self.statements.run(
            f"create or replace temp view translated_{self.table.name} as "
            f"select f.*{replaced} from staged_{self.table.name} as f {' '.join(joins)}"
        )

    def _number(self) -> None:
        """Find the ids of existing rows, and number the others."""
        table, row_id = self.table.name, self.table.row_id
        self.statements.run(
            f"create or replace temp table ids_{table} as "
            f"select f.{row_id} as file, d.{row_id} as database, d.{row_id} is null as is_new, "
            f"row_number() over (partition by is_new order by f.{row_id}) as place "
            f"from translated_{table} as f left join {table} as d on {same(self.table.key)}"
        )
        old, taken = self.statements.rows(
            f"select count(*) filter (where not i.is_new), "
            f"count(*) filter (where i.is_new and d.{row_id} is not null) "
            f"from ids_{table} as i left join {table} as d on i.file = d.{row_id}"
        )[0]
        self.old_rows[table] = old
        if self.table.owner is not None and self.old_rows[self.table.owner]:
            self._refuse_new_parts(self.table.owner)
        first = next_id(self.statements.connection, table)
        number = f"{first - 1} + place" if taken else "file"
        self.statements.run(f"update ids_{table} set database = {number} where is_new", self.path)

    def _refuse_new_parts(self, parent: str) -> None:
        """Raise for a layer or tensor that a network of the database does not have."""
        table, part = self.table.name, self.table.key[1]
        foreign = self.statements.rows(
            f"select f.{part} from staged_{table} as f join ids_{table} as i "
            f"on f.{table}_id = i.file and i.is_new join ids_{parent} as p "
            f"on f.{parent}_id = p.file and not p.is_new order by i.file limit 1"
        )
        if foreign:
            raise MismatchError(
                f"{self.path}: {part} {words(foreign[0])} is not among the {table}s of its "
                f"{parent} in the database; {REMEDY}"
            )

    def _delete_shorter_rows(self) -> None:
        """Delete the rows that the file has with more images, or first tells which ones it has."""
        table = self.table
        unknown = " or ".join(f"d.{one} is null and f.{one} is not null" for one in table.bits)
        self.statements.run(
            f"delete from {table.name} as d using translated_{table.name} as f "
            f"where {same(table.key)} and (f.image_count > d.image_count "
            f"or f.image_count = d.image_count and ({unknown}))",
            self.path,
        )

    def _new_rows(self) -> str:
        """The translated rows ``f`` that the database lacks, as SQL after ``from``."""
        table, translated = self.table, f"translated_{self.table.name} as f"
        if table.row_id is not None:
            row_id = table.row_id
            return (
                f"(select t.* replace (i.database as {row_id}) from translated_{table.name} as t "
                f"join ids_{table.name} as i on t.{row_id} = i.file where i.is_new "
                f"order by i.database) as f"
            )
        if table.owner in CELL_TABLES:
            return f"{translated} semi join new_{table.owner} as n using ({', '.join(CELL)})"
        if table.owner is not None:
            column = f"{table.owner}_id"
            return (
                f"{translated} semi join (from ids_{table.owner} where is_new) as n "
                f"on f.{column} = n.database"
            )
        if table.name == "quantized_tensor_channel":
            cell = ", ".join(CELL)
            measured = f"(select distinct {cell} from {table.name}) as d"
            return f"{translated} anti join {measured} using ({cell})"
        lacking = f"{translated} anti join {table.name} as d on {same(table.key)}"
        evaluated = _EVALUATED.get(table.name)
        if evaluated is not None:
            return f"{lacking} anti join {evaluated} as d on {same(table.key)}"
        return lacking
