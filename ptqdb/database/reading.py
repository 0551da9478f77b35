"""Reads views and queries as Polars frames, and lists the views."""

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

import duckdb
import polars as pl

from ptqdb.database.file_errors import database_error, file_errors, is_damage
from ptqdb.database.frames import Form, to_frame
from ptqdb.database.user_text import require_call, require_condition
from ptqdb.database.variants import called_view
from ptqdb.errors import PtqdbError, QueryError, UsageError
from ptqdb.support.closest import closest_first

_MOST_NAMES = 6


def view_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of all views, sorted."""
    return list_views(connection)["view"].to_list()


def variant_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the views that curves can be fitted to, sorted."""
    rows = read_rows(
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
    rows = read_rows(
        connection,
        "select view_name, comment, sql from duckdb_views() where not internal order by view_name",
    )
    chosen = [row for row in rows if fnmatch.fnmatchcase(row[0], pattern)]
    if not chosen:
        raise _unknown_view(pattern, [name for name, _, _ in rows])
    return pl.DataFrame(chosen, ["view", "description", "sql"], orient="row")


def measures_sensitivity(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether any network was evaluated with only its weights and with only its biases quantized.

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
        A view's name; ``NAME@SCHEME``, such as ``l2_flops@*``; or a call such as
        ``variant(measure := 'js', share := 'param')``.
    where
        A SQL condition on its columns.

    Raises
    ------
    UsageError
        No such view, or the call has an unknown parameter or word.
    QueryError
        The condition fails.
    """
    base = view.partition("@")[0]
    if "(" not in base and base not in (names := view_names(connection)):
        raise _unknown_view(base, names)
    view = called_view(view)
    name = view.partition("(")[0].strip()
    if "(" in view:
        rows = read_rows(
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
    """Distinguish misuse (an invalid word or call) from a failed query."""
    wrong_word = re.search(r"variant: .*", str(error))
    if wrong_word:
        return UsageError(wrong_word[0])
    if is_call and isinstance(error, duckdb.BinderException | duckdb.ParserException):
        return UsageError(str(error))
    return QueryError(str(error))


def query(
    connection: duckdb.DuckDBPyConnection, sql: str, form: Form = Form.COMPUTED
) -> pl.DataFrame:
    """Run the statements of a text; return the rows of the last one, if it has any.

    Parameters
    ----------
    form
        The purpose of the rows.

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
        # If a text starts with empty lines, DuckDB releases count lines differently.
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
    """Distinguish a damaged file from a mistake in a query, which may name other files."""
    if isinstance(error, duckdb.Error) and is_damage(error):
        raise database_error(connection, error) from error


def _require_utf8(sql: str) -> None:
    """Raise for text that cannot be encoded, such as bytes of a command line that are not UTF-8."""
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise QueryError("expected a query in UTF-8, found bytes that are not") from error


def _located(
    connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, error: Exception
) -> str:
    """Return the message with the position, which relations omit or take from another text.

    Running the statement again is harmless: it is a query, or it fails because a name does not
    exist.
    """
    is_query = statement.type == duckdb.StatementType.SELECT and "\nLINE " in str(error)
    if is_query or isinstance(error, duckdb.BinderException | duckdb.CatalogException):
        try:
            connection.execute(statement.query.strip())
        except duckdb.Error as located:
            return str(located)
    return str(error)


def _moved(message: str, line_count: int) -> str:
    """Count the line of the position from the start of the text, not of the statement."""

    def move(found: re.Match[str]) -> str:
        label = f"LINE {int(found['line']) + line_count}:"
        shift = " " * (len(label) - len(f"LINE {found['line']}:"))
        return f"{label}{found['text']}\n{shift}{found['mark']}"

    return re.sub(r"LINE (?P<line>\d+):(?P<text>.*)\n(?P<mark> *\^)", move, message)


def _frame(
    connection: duckdb.DuckDBPyConnection, sql: str, form: Form = Form.COMPUTED
) -> pl.DataFrame:
    """Read the rows of a statement, if it has any."""
    connection.complete()
    relation = connection.sql(sql)
    return pl.DataFrame() if relation is None else to_frame(relation, form)


def read_number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Return the single number that a query returns."""
    return int(read_rows(connection, sql)[0][0])


def read_rows(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Return the rows of an internal query.

    Raises
    ------
    DatabaseError
        The file is damaged or cannot be read.
    """
    with file_errors(connection):
        return connection.execute(sql, parameters).fetchall()


def read_every_block(connection: duckdb.DuckDBPyConnection) -> None:
    """Read every value once, so that DuckDB compares each block with its checksum.

    Raises
    ------
    DatabaseError
        A block is damaged or cannot be read.
    """
    tables = read_rows(
        connection,
        "select table_name from duckdb_tables() "
        "where database_name = current_database() order by table_name",
    )
    for (table,) in tables:
        read_rows(connection, f'select bit_xor(hash(every)) from "{table}" as every')
