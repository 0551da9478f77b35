"""Updates the macros and views of a database to those in sql/."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import duckdb
import polars as pl

from ptqdb.database.variants import VARIANT_MACROS, VARIANTS, literal, named_call, read_csv
from ptqdb.database.writing import insert, transaction
from ptqdb.errors import DataError
from ptqdb.resources import sql_folder

_DEFINITION = re.compile(
    r"(?P<header>(?:^--[^\n]*\n)*)"
    r"^create or replace (?P<kind>macro|view) (?P<name>\w+)"
    r"(?:\s*\([^)]*\)\s*as(?P<is_table>\s+table\b)?)?",
    re.MULTILINE,
)
_VIEW_NAME = re.compile(r"[a-z_]\w*")


@dataclass(frozen=True)
class _Definition:
    """A macro or view; a macro's comment is above it, a view's comment is in its SQL."""

    name: str
    kind: str
    comment: str | None


@dataclass(frozen=True)
class _Source:
    """SQL that creates macros or views, and SQL that comments their columns."""

    creation: str
    comments: str
    definitions: tuple[_Definition, ...]

    @property
    def whole(self) -> str:
        """Both texts."""
        return f"{self.creation}\n{self.comments}" if self.comments else self.creation

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of both texts."""
        return hashlib.sha256(self.whole.encode()).hexdigest()


def are_definitions_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the database has the macros and views in sql/."""
    return _are_current(connection, _wanted(_sources()), _loaded(connection))


def _are_current(
    connection: duckdb.DuckDBPyConnection,
    wanted: Mapping[tuple[str, str], str],
    loaded: Mapping[tuple[str, str], str],
) -> bool:
    """Whether the loaded definitions are the wanted ones, and no view was dropped since."""
    if wanted != loaded:
        return False
    rows = connection.execute("select view_name from duckdb_views() where not internal").fetchall()
    views = {name for name, kind in wanted if kind == "view"}
    return views <= {name for (name,) in rows}


def load_definitions(connection: duckdb.DuckDBPyConnection, *, is_commented: bool = True) -> None:
    """Update macros and views to those in sql/; keep those that a user added.

    Parameters
    ----------
    is_commented
        Whether to comment the columns of the named views, which takes as long as everything else;
        unnecessary for a private database.
    """
    sources = _sources()
    wanted, loaded = _wanted(sources), _loaded(connection)
    if _are_current(connection, wanted, loaded):
        return
    with transaction(connection):
        for name, kind in loaded.keys() - wanted.keys():
            known = kind.replace("table macro", "macro table")
            connection.execute(f"drop {known} if exists {name}")
        for source in sources:
            connection.execute(source.whole if is_commented else source.creation)
            for made in source.definitions:
                if made.comment is not None:
                    kind = "macro table" if made.kind == "table macro" else "macro"
                    comment = literal(made.comment)
                    connection.execute(f"comment on {kind} {made.name} is {comment}")
            if any(made.name == VARIANT_MACROS[-1] for made in source.definitions):
                _shadow_variants(connection)
        _unshadow_variants(connection)
        connection.execute("delete from definition")
        rows = [(*key, sha256) for key, sha256 in sorted(wanted.items())]
        insert(
            connection, "definition", pl.DataFrame(rows, ["name", "kind", "sha256"], orient="row")
        )


def _shadow_variants(connection: duckdb.DuckDBPyConnection) -> None:
    """Shadow the macros of the named views by empty tables with the same columns.

    Creating a view binds its whole query to determine its columns: two seconds for the formula of
    all named views. A view stores its text and looks up the macro when it is queried; a temporary
    macro of the same name has precedence until it is dropped.
    """
    for name in VARIANT_MACROS:
        connection.execute(f"create temporary table {name}_columns as from {name}() limit 0")
    for name in VARIANT_MACROS:
        rows = connection.execute(
            "select parameters from duckdb_functions() where function_name = ?", [name]
        ).fetchall()
        parameters = ", ".join(f"{parameter} := null" for parameter in rows[0][0])
        connection.execute(
            f"create temporary macro {name}({parameters}) as table from {name}_columns"
        )


def _unshadow_variants(connection: duckdb.DuckDBPyConnection) -> None:
    for name in VARIANT_MACROS:
        connection.execute(f"drop macro table if exists temp.{name}")
        connection.execute(f"drop table if exists temp.{name}_columns")


def _wanted(sources: tuple[_Source, ...]) -> dict[tuple[str, str], str]:
    """SHA-256 of the text of every macro and view, by name and kind.

    A macro and a view may share a name: the view is then the macro with its defaults.
    """
    return {
        (made.name, made.kind): source.sha256 for source in sources for made in source.definitions
    }


def _loaded(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], str]:
    rows = connection.execute("select name, kind, sha256 from definition").fetchall()
    return {(name, kind): sha256 for name, kind, sha256 in rows}


def _sources() -> tuple[_Source, ...]:
    """All SQL that creates macros or views, in the order of load_order.csv."""
    texts: list[tuple[str, str]] = []
    for row in read_csv("load_order.csv"):
        if row["file"] == VARIANTS:
            texts += _variant_views()
        else:
            texts.append(((sql_folder() / row["file"]).read_text(encoding="utf-8"), ""))
    return tuple(_source(*both) for both in texts)


@lru_cache(maxsize=512)
def _source(creation: str, comments: str) -> _Source:
    return _Source(creation, comments, _definitions(creation))


def _definitions(sql: str) -> tuple[_Definition, ...]:
    found = []
    for match in _DEFINITION.finditer(sql):
        header = " ".join(line[2:].strip() for line in match["header"].splitlines())
        is_view = match["kind"] == "view"
        kind = "view" if is_view else "table macro" if match["is_table"] else "macro"
        found.append(_Definition(match["name"], kind, None if is_view else header))
    return tuple(found)


def _variant_views() -> list[tuple[str, str]]:
    """Return the SQL of the named views, each one call of the macro, and of their comments."""
    columns = read_csv("variant_columns.csv")
    return [_variant_view(row, columns) for row in read_csv(VARIANTS)]


def _variant_view(row: Mapping[str, str], columns: list[dict[str, str]]) -> tuple[str, str]:
    name = row["name"]
    if not _VIEW_NAME.fullmatch(name):
        raise DataError(f"variants.csv: expected a lowercase view name, found {name!r}")
    is_segmented = row["segmented"] == "true"
    comments = [
        f"comment on column {name}.{column['name']} is {literal(column['description'])};"
        for column in columns
        if is_segmented or column["views"] == "all"
    ]
    meaning = f"Grain: one network in one number format. {row['description']}."
    creation = f"create or replace view {name} as\nselect * from {named_call(row)};"
    return creation, "\n".join([f"comment on view {name} is {literal(meaning)};", *comments])
