"""Checks user text that becomes part of a query: the call of a view, a condition on rows.

DuckDB's own parser decides whether the text is only that.
"""

import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import duckdb

from ptqdb.errors import QueryError, UsageError

CALL = "a view's name or one call such as variant(measure := 'js', share := 'param')"


def require_call(text: str) -> None:
    """Raise unless the text is one call of a table macro with literal arguments.

    Raises
    ------
    UsageError
        It is something else; the message has the text.
    """
    node = _parsed(f"select * from {text}\n")
    source = node.get("from_table", {}) if isinstance(node, dict) else {}
    arguments = source.get("function", {}).get("arguments", [])
    is_call = (
        source.get("type") == "TABLE_FUNCTION"
        and not source.get("alias")
        and all(each["expression"]["class"] == "CONSTANT" for each in arguments)
        and _is_plain(node)
    )
    if not is_call:
        reason = f": {node}" if isinstance(node, str) else ""
        raise UsageError(f"expected {CALL}, with only numbers and texts, found {text!r}{reason}")


def require_condition(text: str) -> None:
    """Raise unless the text is one expression on the columns of a row.

    Raises
    ------
    QueryError
        It is something else, or uses files or table functions; the message quotes it.
    """
    node = _parsed(f"select 1 from row where (\n{text}\n)")
    is_condition = (
        bool(text.strip())
        and isinstance(node, dict)
        and node.get("from_table", {}).get("type") == "BASE_TABLE"
        and _is_plain(node, "where_clause")
        and not any(map(_reads_files, _dicts(node["where_clause"])))
    )
    if not is_condition:
        reason = f": {node}" if isinstance(node, str) else ""
        raise QueryError(
            f"expected one condition on a view's columns, such as bits < 4, found {text!r}{reason}"
        )


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A separate connection, since the parse tree depends on a database's settings."""
    return duckdb.connect()


@lru_cache(maxsize=1024)
def _parsed(sql: str) -> dict[str, Any] | str:
    """The parse tree of a single query; otherwise a text that says why it is not one."""
    row = _parser().cursor().execute("select json_serialize_sql(?)", [sql]).fetchone()
    assert row is not None
    found = json.loads(row[0])
    if found["error"] and found["error_type"] == "not implemented":
        return "it contains statements other than a query"
    if found["error"]:
        return re.sub(r"^(\w)", lambda first: first[0].lower(), str(found["error_message"]))
    if len(found["statements"]) != 1:
        return f"{len(found['statements'])} statements"
    node: dict[str, Any] = found["statements"][0]["node"]
    return node if node["type"] == "SELECT_NODE" else "a combination of queries"


def _is_plain(node: Any, *allowed: str) -> bool:
    """Whether a query has no clauses after its table except the allowed ones."""
    clauses = ("where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")
    rest = [node[clause] for clause in clauses if clause not in allowed]
    return not any(rest) and not node["modifiers"] and not node["cte_map"]["map"]


def _reads_files(node: dict[str, Any]) -> bool:
    """Whether a part of the parse tree may read a file: a table function or a table name."""
    if node.get("type") == "BASE_TABLE":
        return not str(node.get("table_name", "")).isidentifier()
    return node.get("type") == "TABLE_FUNCTION"


def _dicts(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _dicts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _dicts(value)
