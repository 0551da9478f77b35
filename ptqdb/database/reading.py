"""Reads views and queries as Polars frames, and lists the views that there are."""

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

import duckdb
import polars as pl

from ptqdb.database.file_errors import database_error, file_errors, is_damage
from ptqdb.database.frames import Form, frame_of
from ptqdb.database.user_text import require_call, require_condition
from ptqdb.errors import PtqdbError, QueryError, UsageError
from ptqdb.support.closest import closest_first

_MOST_NAMES = 6


def view_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of all views, sorted."""
    return list_views(connection)["view"].to_list()


def variant_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the views that curves can be fitted over, sorted."""
    rows = rows_of(
        connection,
        "select table_name from duckdb_columns() where not internal "
        "and column_name in ('network', 'number_format', 'divergence', 'accuracy_loss') "
        "group by table_name having count(*) = 4 order by table_name",
    )
    return [name for (name,) in rows]


def list_views(connection: duckdb.DuckDBPyConnection, pattern: str = "*") -> pl.DataFrame:
    """List the views whose name matches a glob, as columns ``view, description, sql``.

    Raises
    ------
    UsageError
        No name matches.
    """
    rows = rows_of(
        connection,
        "select view_name, comment, sql from duckdb_views() where not internal order by view_name",
    )
    chosen = [row for row in rows if fnmatch.fnmatchcase(row[0], pattern)]
    if not chosen:
        raise _unknown_view(pattern, [name for name, _, _ in rows])
    return pl.DataFrame(chosen, ["view", "description", "sql"], orient="row")


def measures_sensitivity(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether any network was evaluated with its weights alone and with its biases alone.

    Without such evaluations the views of the correction ``sensitivity`` have no rows.
    """
    return read_number(connection, "select count(*) from tensor_sensitivity()") > 0


def _unknown_view(view: str, names: list[str]) -> UsageError:
    closest = closest_first(view, names)
    more = "" if len(names) <= _MOST_NAMES else f", ... (`ptqdb views` lists all {len(names)})"
    return UsageError(f"there is no view {view!r}: choose {', '.join(closest[:_MOST_NAMES])}{more}")


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
        rows = rows_of(
            connection,
            "select function_name from duckdb_functions() "
            "where not internal and function_type = 'table_macro' order by function_name",
        )
        names = [found for (found,) in rows]
    else:
        names = view_names(connection)
    if name not in names:
        raise _unknown_view(name, names)
    _require_utf8(f"{view} {where}")
    if "(" in view:
        require_call(view)
    condition = ""
    if where is not None:
        require_condition(where)
        condition = f" where (\n{where}\n)"
    try:
        return _frame(connection, f"select * from {view}{condition}")
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        _raise_damage(connection, error)
        raise _view_error(error, is_call="(" in view and where is None) from error


def _view_error(error: Exception, *, is_call: bool) -> PtqdbError:
    """Tell misuse (a word that the macros refuse, an invalid call) from a failed query."""
    wrong_word = re.search(r"variant: .*", str(error))
    if wrong_word:
        return UsageError(wrong_word[0])
    if is_call and isinstance(error, duckdb.BinderException | duckdb.ParserException):
        return UsageError(str(error))
    return QueryError(str(error))


def query(
    connection: duckdb.DuckDBPyConnection, sql: str, form: Form = Form.COMPUTED
) -> pl.DataFrame:
    """Run the statements of a text; read the rows of the last, none for one without rows.

    Parameters
    ----------
    form
        What the rows are for.

    Raises
    ------
    QueryError
        There is no statement, or one fails; the message is DuckDB's own, with the position.
    """
    _require_utf8(sql)
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    if not statements:
        raise QueryError("expected a query, found none")
    place = 0
    for number, statement in enumerate(statements, start=1):
        # Where a text begins with empty lines, releases of DuckDB differ in the line they count.
        text = statement.query.strip()
        place = sql.find(text, place)
        try:
            if number == len(statements):
                return _frame(connection, text, form)
            connection.execute(text)
        except (duckdb.Error, pl.exceptions.PolarsError) as error:
            _raise_damage(connection, error)
            message = _located(connection, statement, error)
            raise QueryError(_moved(message, sql.count("\n", 0, place))) from error
    raise AssertionError("unreachable")


def _raise_damage(connection: duckdb.DuckDBPyConnection, error: Exception) -> None:
    """Tell a damaged file from a mistake in a query, which may name other files."""
    if isinstance(error, duckdb.Error) and is_damage(error):
        raise database_error(connection, error) from error


def _require_utf8(sql: str) -> None:
    """Refuse what no encoding has a word for, as bytes of a command line that are no UTF-8."""
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise QueryError("expected a query in UTF-8, found bytes that are not") from error


def _located(
    connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, error: Exception
) -> str:
    """Return the message with the position, which a relation leaves out or takes from its own text.

    A statement that names what does not exist does nothing, however often it runs; a query does
    nothing in any case.
    """
    is_query = statement.type == duckdb.StatementType.SELECT and "\nLINE " in str(error)
    if is_query or isinstance(error, duckdb.BinderException | duckdb.CatalogException):
        try:
            connection.execute(statement.query.strip())
        except duckdb.Error as located:
            return str(located)
    return str(error)


def _moved(message: str, line_count: int) -> str:
    """Count the line of the position from the beginning of the text, not of the statement."""

    def move(found: re.Match[str]) -> str:
        label = f"LINE {int(found['line']) + line_count}:"
        shift = " " * (len(label) - len(f"LINE {found['line']}:"))
        return f"{label}{found['text']}\n{shift}{found['mark']}"

    return re.sub(r"LINE (?P<line>\d+):(?P<text>.*)\n(?P<mark> *\^)", move, message)


def _frame(
    connection: duckdb.DuckDBPyConnection, sql: str, form: Form = Form.COMPUTED
) -> pl.DataFrame:
    """Read the rows of a statement; none for one without rows."""
    connection.complete()
    relation = connection.sql(sql)
    return pl.DataFrame() if relation is None else frame_of(relation, form)


def read_number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Return the one number that a query gives."""
    return int(rows_of(connection, sql)[0][0])


def rows_of(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """The rows of a query of ptqdb's own.

    Raises
    ------
    DatabaseError
        The file is damaged or cannot be read.
    """
    with file_errors(connection):
        return connection.execute(sql, parameters).fetchall()


def read_every_block(connection: duckdb.DuckDBPyConnection) -> None:
    """Read every value of every table once: DuckDB compares each block with its checksum.

    Raises
    ------
    DatabaseError
        A block is damaged or cannot be read.
    """
    tables = rows_of(
        connection,
        "select table_name from duckdb_tables() "
        "where database_name = current_database() order by table_name",
    )
    for (table,) in tables:
        rows_of(connection, f'select bit_xor(hash(every)) from "{table}" as every')
