"""Writes the pages of docs/ that are generated: ``uv run python docs/build.py``."""

import io
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from ptqdb.cli.output import OutputFormat, print_frame
from ptqdb.database import query, variant_names
from ptqdb.embedded_facts import open_embedded_facts

DOCS = Path(__file__).parent


def main() -> None:
    """Write every generated page; the embedded study's facts are the database."""
    with open_embedded_facts() as connection:
        (DOCS / "sql.md").write_text(sql_page(connection), encoding="utf-8")
    sys.stdout.write(f"{DOCS / 'sql.md'}\n")


def sql_page(connection: duckdb.DuckDBPyConnection) -> str:
    """The page about tables, views, macros and queries, from the database's own dictionary."""
    template = (DOCS / "templates" / "sql.md").read_text(encoding="utf-8")
    dictionary = query(connection, "from data_dictionary")
    named = variant_names(connection)
    views = dictionary.filter(pl.col("kind") == "view")
    parts = {
        "variant": _parameters(connection, "variant"),
        "named_views": str(len(named)),
        "variant_columns": _columns(views, max(named, key=lambda name: name.endswith("segmented"))),
        "variant_names": _names(name for name in named if not name.endswith("_segmented")),
        "views": _objects(views.filter(~pl.col("object").is_in(named))),
        "tables": _objects(dictionary.filter(pl.col("kind") == "table")),
        "macros": _macros(dictionary.filter(pl.col("kind").str.ends_with("macro"))),
        "queries": "\n\n".join(answered(connection, path) for path in query_files()),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def query_files() -> list[Path]:
    """The queries worth asking, in the order of the page."""
    return sorted((DOCS / "queries").glob("*.sql"))


def answered(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """A query of the page: the question as its title, the SQL, and its answer as a table."""
    comment, sql = _split_comment(path.read_text(encoding="utf-8"))
    question, _, rest = comment.partition("\n")
    text = f"{rest}\n\n" if rest else ""
    answer = _markdown(query(connection, sql))
    return f"### {question}\n\n{text}```sql\n{sql}```\n\n{answer}"


def _split_comment(content: str) -> tuple[str, str]:
    """The comment at the top, without its dashes, and the rest."""
    lines = content.splitlines(keepends=True)
    count = next(place for place, line in enumerate(lines) if not line.startswith("--"))
    comment = "".join(line.removeprefix("--").removeprefix(" ") for line in lines[:count])
    return comment.rstrip("\n"), "".join(lines[count:])


def _markdown(frame: pl.DataFrame) -> str:
    with redirect_stdout(io.StringIO()) as text:
        print_frame(frame, OutputFormat.MARKDOWN)
    return text.getvalue().rstrip("\n")


def _objects(dictionary: pl.DataFrame) -> str:
    names = dictionary["object"].unique(maintain_order=True)
    return "\n\n".join(
        f"### {name}\n\n{_comment(dictionary, name)}\n\n{_columns(dictionary, name)}"
        for name in names
    )


def _comment(dictionary: pl.DataFrame, name: str) -> str:
    rows = dictionary.filter(pl.col("object") == name, pl.col("column_index") == 0)
    return _line(rows["comment"].item())


def _columns(dictionary: pl.DataFrame, name: str) -> str:
    members = dictionary.filter(pl.col("object") == name, pl.col("column_index") > 0)
    return _table(
        ("column", "type", "meaning"),
        (
            (f"`{row['column_name']}`", row["type"].lower(), row["comment"])
            for row in members.iter_rows(named=True)
        ),
    )


def _macros(dictionary: pl.DataFrame) -> str:
    return _table(
        ("macro", "meaning"),
        (
            (f"`{row['object']}{row['type']}`", row["comment"])
            for row in dictionary.iter_rows(named=True)
        ),
    )


def _parameters(connection: duckdb.DuckDBPyConnection, macro: str) -> str:
    """The words that a macro's parameters take, by the macros that list them."""
    names = query(
        connection,
        "select unnest(parameters) as name from duckdb_functions() "
        f"where function_name = '{macro}' and not internal",
    )["name"]
    macros = "select function_name as name from duckdb_functions() where not internal"
    known = set(query(connection, macros)["name"])
    rows = []
    for name in names:
        if f"{name}_words" in known:
            words = query(connection, f"select unnest({name}_words()) as word")["word"]
            rows.append((f"`{name}`", ", ".join(f"`{word}`" for word in words)))
    return _table(("parameter of `variant`", "words"), rows)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_line, line)) + " |" for line in lines)


def _line(text: str | None) -> str:
    """One line; a bar would end the cell."""
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
