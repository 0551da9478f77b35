"""Opens the database: migrates it, loads sql/ into it, writes facts and reads views."""

import csv
import difflib
import fnmatch
import graphlib
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import polars as pl

from ptqdb.errors import DatabaseError, DataError, PtqdbError, QueryError, UsageError
from ptqdb.resources import sql_folder

# Storage v1.5.0 is what the newest DuckDB shell can open. Small blocks: every table and index
# takes at least one, which at the default size makes an empty database 5 MiB. A wrong file must
# not send DuckDB to the network for an extension that reads it.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": "v1.5.0",
    "default_block_size": "16384",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_MAGIC_OFFSET, _MAGIC = 8, b"DUCK"
_HEADER_BYTES = 3 * 4096

_DEFINITION = re.compile(
    r"(?P<header>(?:^--[^\n]*\n)*)"
    r"^create or replace (?P<kind>macro|view) (?P<name>\w+)"
    r"(?:\s*\([^)]*\)\s*as(?P<is_table>\s+table\b)?)?",
    re.MULTILINE,
)
_COMMENTS_AND_STRINGS = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
_VIEW_NAME = re.compile(r"[a-z_]\w*")
_VARIANT_PARAMETERS = ("rescale", "combine", "share", "mac_weight", "correction")


@dataclass(frozen=True)
class _Definition:
    """A macro or view; the comment of a macro is the one above it, a view's is in its file."""

    name: str
    kind: str
    comment: str | None


@dataclass(frozen=True)
class _Source:
    """A SQL text that creates macros or views."""

    sql: str
    definitions: tuple[_Definition, ...]

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @cached_property
    def code(self) -> str:
        """The text without comments and strings."""
        return _COMMENTS_AND_STRINGS.sub("", self.sql)

    def uses(self, other: "_Source") -> bool:
        """Whether the text names a macro (as a call) or a view that the other one creates."""
        return any(
            re.search(rf"\b{made.name}\b" + ("" if made.kind == "view" else r"\s*\("), self.code)
            for made in other.definitions
        )


def connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open a database; a writer creates it, migrates it and loads the macros and views.

    Nothing is written to a file that is not a database of this or an older ptqdb.

    Parameters
    ----------
    path
        The file; a reader needs one that exists and is of this ptqdb. A writer's ``:memory:``
        is a database without a file.
    read_only
        Whether the connection only reads. Any number of processes may read at a time; while
        one writes, no other can open the file.

    Raises
    ------
    DatabaseError
        The file is missing, a folder, no database of ptqdb, of another version, damaged, open
        in another process, or may not be written.
    """
    _require_file(path, must_exist=read_only)
    if path.exists():
        reader = _open(path, read_only=True)
        try:
            _require_known_schema(reader, path)
            if read_only:
                _require_current(reader, path)
                return reader
        except BaseException:
            reader.close()
            raise
        reader.close()
    elif read_only:
        raise DatabaseError(f"{path} does not exist: create it with `ptqdb collect`")
    writer = _open(path, read_only=False)
    try:
        _migrate(writer)
        _load_definitions(writer)
    except BaseException:
        writer.close()
        raise
    return writer


def _require_file(path: Path, *, must_exist: bool) -> None:
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder: name a database file, such as study.duckdb")
    if path.exists():
        try:
            with path.open("rb") as file:
                head = file.read(_MAGIC_OFFSET + len(_MAGIC))
        except OSError as error:
            raise DatabaseError(f"{path} cannot be read: {error.strerror}") from error
        if head[_MAGIC_OFFSET:] != _MAGIC:
            raise DatabaseError(f"{path} is not a DuckDB file: name a database of ptqdb")
    elif must_exist:
        raise DatabaseError(f"{path} does not exist: create it with `ptqdb collect`")
    elif not path.parent.is_dir():
        raise DatabaseError(f"the folder {path.parent} does not exist: create it first")


def _open(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(path, read_only=read_only, config=_CONFIG)
    except duckdb.Error as error:
        raise _opening_error(path, error) from error


def _opening_error(path: Path, error: duckdb.Error) -> DatabaseError:
    """Say in one line why DuckDB did not open the file."""
    message = str(error)
    if "Conflicting lock" in message:
        holder = re.search(r"PID (\d+)", message)
        process = f"another process (PID {holder[1]})" if holder else "another process"
        return DatabaseError(f"{path} is open in {process}: wait for it to end")
    if "different configuration" in message:
        return DatabaseError(
            f"{path} is already open in this process, in another mode: close that connection"
        )
    for reason in ("Permission denied", "Read-only file system", "No space left"):
        if reason in message:
            return DatabaseError(f"{path} cannot be written: {reason.lower()}")
    if not path.exists():
        return DatabaseError(f"{path} cannot be created: {_first_line(error)}")
    return _damage(path, error)


def _damage(path: Path, error: duckdb.Error) -> DatabaseError:
    return DatabaseError(
        f"{path} is damaged, or of a newer DuckDB: restore a copy or collect again "
        f"({_first_line(error)})"
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _migrations() -> dict[int, Path]:
    """Return the files of the migrations by their number, in order."""
    return {
        int(file.name[:4]): file for file in sorted((sql_folder() / "migrations").glob("*.sql"))
    }


def _schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the last migration; 0 where the file holds no tables at all."""
    tables = connection.execute("select table_name from duckdb_tables()").fetchall()
    if not tables:
        return 0
    if ("migration",) not in tables:
        raise DatabaseError("a DuckDB file without ptqdb's tables: name a database of ptqdb")
    return _number(connection, "select coalesce(max(version), 0) from migration")


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Return the one number that a query gives."""
    return int(connection.execute(sql).fetchall()[0][0])


def _require_known_schema(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        version = _schema_version(connection)
        block_bytes = _number(
            connection, "select block_size * total_blocks from pragma_database_size()"
        )
    except duckdb.Error as error:
        raise _damage(path, error) from error
    except DatabaseError as error:
        raise DatabaseError(f"{path} is {error}") from error
    if version > max(_migrations()):
        raise DatabaseError(
            f"{path} has schema version {version}, this ptqdb knows {max(_migrations())}: "
            "upgrade ptqdb"
        )
    expected_bytes = _HEADER_BYTES + block_bytes
    if path.stat().st_size < expected_bytes:
        raise DatabaseError(
            f"{path} is truncated: expected {expected_bytes} bytes, found {path.stat().st_size}; "
            "restore a copy or collect again"
        )


def _require_current(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    version = _schema_version(connection)
    if version < max(_migrations()):
        found = f"schema version {version}, this ptqdb needs {max(_migrations())}"
    elif _loaded(connection) != _wanted(_sources()):
        found = "the views of another version of ptqdb"
    else:
        return
    raise DatabaseError(f"{path} has {found}: bring it up to date with `ptqdb collect`")


def _migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Apply the missing migrations, each with its record in one transaction."""
    version = _schema_version(connection)
    for number, file in _migrations().items():
        if number > version:
            with transaction(connection):
                connection.execute(file.read_text(encoding="utf-8"))
                connection.execute(
                    "insert into migration values (?, ?, ?)",
                    [number, file.stem, datetime.now(UTC).replace(tzinfo=None)],
                )


def _sources() -> list[_Source]:
    """Return every text that creates macros or views."""
    texts = [
        file.read_text(encoding="utf-8")
        for folder in ("macros", "views")
        for file in sorted((sql_folder() / folder).glob("*.sql"))
    ]
    return [_Source(text, _definitions(text)) for text in texts + _variant_views()]


def _ordered(sources: list[_Source]) -> list[_Source]:
    """Sort the texts so that each comes after those that it uses."""
    graph = {
        place: [other for other, made in enumerate(sources) if other != place and source.uses(made)]
        for place, source in enumerate(sources)
    }
    return [sources[place] for place in graphlib.TopologicalSorter(graph).static_order()]


def _definitions(sql: str) -> tuple[_Definition, ...]:
    found = []
    for match in _DEFINITION.finditer(sql):
        header = " ".join(line[2:].strip() for line in match["header"].splitlines())
        is_view = match["kind"] == "view"
        kind = "view" if is_view else "table macro" if match["is_table"] else "macro"
        found.append(_Definition(match["name"], kind, None if is_view else header))
    return tuple(found)


def _variant_views() -> list[str]:
    """Spell the named views: each one call of the macro, with its comments."""
    columns = _read_csv("variant_columns.csv")
    return [_variant_view(row, columns) for row in _read_csv("variants.csv")]


def _variant_view(row: Mapping[str, str], columns: list[dict[str, str]]) -> str:
    name = row["name"]
    if not _VIEW_NAME.fullmatch(name):
        raise DataError(f"variants.csv: expected a lowercase view name, found {name!r}")
    macro = "segmented_variant" if row["segmented"] == "true" else "variant"
    words = ", ".join(f"{word} := {_literal(row[word])}" for word in _VARIANT_PARAMETERS)
    comments = [
        f"comment on column {name}.{column['name']} is {_literal(column['description'])};"
        for column in columns
    ]
    meaning = f"Grain: one network in one number format. {row['description']}."
    return "\n".join(
        [
            f"create or replace view {name} as",
            f"select * from {macro}({words});",
            f"comment on view {name} is {_literal(meaning)};",
            *comments,
        ]
    )


def _read_csv(name: str) -> list[dict[str, str]]:
    with (sql_folder() / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _wanted(sources: list[_Source]) -> dict[str, tuple[str, str]]:
    """Kind and SHA-256 of the text of every macro and view, by name."""
    return {
        made.name: (made.kind, source.sha256) for source in sources for made in source.definitions
    }


def _loaded(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, str]]:
    rows = connection.execute("select name, kind, sha256 from definition").fetchall()
    return {name: (kind, sha256) for name, kind, sha256 in rows}


def _load_definitions(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring macros and views to what sql/ says; those that a user added stay."""
    sources = _sources()
    wanted, loaded = _wanted(sources), _loaded(connection)
    if wanted == loaded:
        return
    with transaction(connection):
        for name, (kind, _) in loaded.items():
            if wanted.get(name, ("", ""))[0] != kind:
                connection.execute(f"drop {kind.replace('table macro', 'macro table')} {name}")
        for source in _ordered(sources):
            connection.execute(source.sql)
            for made in source.definitions:
                if made.comment is not None:
                    kind = "macro table" if made.kind == "table macro" else "macro"
                    comment = _literal(made.comment)
                    connection.execute(f"comment on {kind} {made.name} is {comment}")
        connection.execute("delete from definition")
        rows = [(name, kind, sha256) for name, (kind, sha256) in sorted(wanted.items())]
        insert(
            connection, "definition", pl.DataFrame(rows, ["name", "kind", "sha256"], orient="row")
        )


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block writes, or, on any exception, none of it."""
    connection.execute("begin")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        # DuckDB may have ended the transaction itself.
        with suppress(duckdb.TransactionException):
            connection.execute("rollback")
        raise


def insert(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    """Append the frame's rows to a table; columns are matched by name, missing ones are NULL.

    Raises
    ------
    DataError
        The rows break a constraint, or a column does not exist or cannot be converted.
    DatabaseError
        The file cannot be written.
    """
    # The Arrow stream itself: DuckDB reads a frame through pyarrow, which ptqdb does without.
    # Of a column of type Null it cannot read the stream; NULL strings become any type's NULL.
    typed = frame.cast({column.name: pl.String for column in frame if column.dtype == pl.Null})
    # A caller's fetchone may have left rows behind, and with those DuckDB registers nothing.
    connection.complete()
    connection.register("_inserted", typed.__arrow_c_stream__())
    try:
        connection.execute(f"insert into {table} by name select * from _inserted")
    except (duckdb.IOException, duckdb.FatalException) as error:
        raise DatabaseError(f"cannot write to the database: {_first_line(error)}") from error
    except duckdb.Error as error:
        raise DataError(f"cannot insert into {table}: {_first_line(error)}") from error
    finally:
        with suppress(duckdb.Error):
            connection.unregister("_inserted")


def next_id(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """Return the first unused id of a table: one more than the largest, 1 where it is empty."""
    column = "run_id" if table == "collection_run" else f"{table}_id"
    return _number(connection, f"select coalesce(max({column}), 0) + 1 from {table}")


def materialize(connection: duckdb.DuckDBPyConnection) -> int:
    """Compute what is missing in the derived tables; return the number of rows added."""
    added = 0
    for file in sorted((sql_folder() / "materialized").glob("*.sql")):
        added += interruptible(connection, file.read_text(encoding="utf-8"))[0][0]
    return added


def interruptible(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement that Ctrl-C can end, and return its rows.

    DuckDB does not see the signal while it runs, so that it runs in a thread of its own.

    Raises
    ------
    KeyboardInterrupt
        The statement was interrupted; nothing of it was written.
    """
    rows: list[tuple[Any, ...]] = []
    failures: list[BaseException] = []
    # Not Thread.join: a KeyboardInterrupt within it marks a running thread as ended.
    is_done = threading.Event()

    def work() -> None:
        try:
            rows.extend(connection.execute(sql).fetchall())
        except BaseException as error:
            failures.append(error)
        finally:
            is_done.set()

    threading.Thread(target=work).start()
    try:
        while not is_done.wait(0.05):
            pass
    except KeyboardInterrupt:
        # An interrupt before DuckDB has started would be lost, hence the repetition.
        while not is_done.wait(0.05):
            connection.interrupt()
        raise
    if failures:
        raise failures[0]
    return rows


def view_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of all views, sorted."""
    return list_views(connection)["view"].to_list()


def variant_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the views that curves can be fitted over, sorted."""
    rows = connection.execute(
        "select table_name from duckdb_columns() where not internal "
        "and column_name in ('network', 'number_format', 'divergence', 'accuracy_loss') "
        "group by table_name having count(*) = 4 order by table_name"
    ).fetchall()
    return [name for (name,) in rows]


def list_views(connection: duckdb.DuckDBPyConnection, pattern: str = "*") -> pl.DataFrame:
    """List the views whose name matches a glob, as columns ``view, description, sql``.

    Raises
    ------
    UsageError
        No name matches.
    """
    rows = connection.execute(
        "select view_name, comment, sql from duckdb_views() where not internal order by view_name"
    ).fetchall()
    chosen = [row for row in rows if fnmatch.fnmatchcase(row[0], pattern)]
    if not chosen:
        raise _unknown_view(pattern, [name for name, _, _ in rows])
    return pl.DataFrame(chosen, ["view", "description", "sql"], orient="row")


def _unknown_view(view: str, names: list[str]) -> UsageError:
    closest = difflib.get_close_matches(view, names, n=3, cutoff=0.4) or names
    return UsageError(f"there is no view {view!r}: choose {', '.join(closest)}")


def read_view(
    connection: duckdb.DuckDBPyConnection, view: str, where: str | None = None
) -> pl.DataFrame:
    """Read the rows of a view, in its order.

    Parameters
    ----------
    view
        A view's name, or a call such as ``variant(measure := 'js', share := 'param')``.
    where
        A SQL condition on its columns.

    Raises
    ------
    UsageError
        There is no such view, or the call has a parameter or a word that does not exist.
    QueryError
        The condition fails.
    """
    name = view.partition("(")[0].strip()
    if "(" in view:
        rows = connection.execute(
            "select function_name from duckdb_functions() "
            "where not internal and function_type = 'table_macro' order by function_name"
        ).fetchall()
        names = [found for (found,) in rows]
    else:
        names = view_names(connection)
    if name not in names:
        raise _unknown_view(name, names)
    condition = "" if where is None else f" where {where}"
    try:
        return _frame(connection, f"select * from {view}{condition}")
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        raise _view_error(error, is_call="(" in view and where is None) from error


def _view_error(error: Exception, *, is_call: bool) -> PtqdbError:
    """Tell misuse (a word that the macros refuse, an invalid call) from a failed query."""
    wrong_word = re.search(r"variant: .*", str(error))
    if wrong_word:
        return UsageError(wrong_word[0])
    if is_call and isinstance(error, duckdb.BinderException | duckdb.ParserException):
        return UsageError(str(error))
    return QueryError(str(error))


def query(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    """Read the rows of a query; none for a statement without rows.

    Raises
    ------
    QueryError
        The query fails; the message is DuckDB's own, with the position.
    """
    try:
        return _frame(connection, sql)
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        raise QueryError(_located(connection, sql, error)) from error


def _located(connection: duckdb.DuckDBPyConnection, sql: str, error: Exception) -> str:
    """Return the message with the position, which a relation leaves out and a statement names."""
    is_unbound = isinstance(error, duckdb.BinderException | duckdb.CatalogException)
    if is_unbound and len(connection.extract_statements(sql)) == 1:
        try:
            # A statement that names what does not exist does nothing, however often it runs.
            connection.execute(sql)
        except duckdb.Error as located:
            return str(located)
    return str(error)


def _frame(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    """Read rows with plain numbers: DECIMAL and HUGEINT as integers where whole, else floats."""
    connection.complete()
    relation = connection.sql(sql)
    if relation is None:
        return pl.DataFrame()
    # Polars keeps the class of what it reads forever: DuckDB's own would outlive the module,
    # and the interpreter would end with a page of warnings about leaked types.
    stream = SimpleNamespace(__arrow_c_stream__=relation.__arrow_c_stream__)
    frame = pl.DataFrame(stream)
    return frame.with_columns(
        _plain(column) for column in frame if isinstance(column.dtype, pl.Decimal)
    )


def _plain(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Decimal(scale=0):
        with suppress(pl.exceptions.InvalidOperationError):
            return column.cast(pl.Int64)
    return column.cast(pl.Float64)
