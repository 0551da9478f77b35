"""Writes the pages of docs/ that are generated: ``uv run python docs/build.py [PAGE …]``."""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl
from deployed import (
    channel_rows,
    deployed_network_rows,
    deployed_tier_rows,
    format_rows,
    lite_rows,
    tiers_of,
)
from jinja2 import StrictUndefined, Template
from predictions import (
    PUBLISHED_COLUMNS,
    TRANSFER_VIEWS,
    WIDE,
    Comparison,
    as_it_stands_rows,
    curve_rows,
    from_embedded_rows,
    interval_rows,
    measure_rows,
    published_fits,
    published_interval_rows,
    published_rows,
    tier_rows,
    validation_rows,
)
from results import (
    DEGREES,
    PER_NETWORK_VIEWS,
    Study,
    bias_rows,
    collected_rows,
    finding_rows,
    network_rows,
    new_rows,
    study_rows,
    transfer_rows,
)

from ptqdb.cli.output import OutputFormat, print_frame
from ptqdb.database import connect, query, uses_probe, variant_names
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.database.exchange import import_study
from ptqdb.database.schema import known_version, read_columns
from ptqdb.networks.reference import REFERENCE_NETWORKS
from ptqdb.quantization.formats import PRESETS
from ptqdb.resources import sql_folder
from ptqdb.support.text import markdown_table

DOCS = Path(__file__).parent
FOLDERS = {
    "sql.md": DOCS / "reference",
    "results.md": DOCS / "explanation",
    "prediction.md": DOCS / "explanation",
    "published.md": DOCS / "explanation",
    "deployed.md": DOCS / "explanation",
}
FULL_STUDY = DOCS.parent / "data" / "cifar10"
EMBEDDED_STUDY = DOCS.parent / "data" / "embedded" / "facts"
LOGS = FULL_STUDY / "weights"


def main() -> None:
    """Write the pages that are named, or every generated page.

    All rest on the embedded study's facts; ``results.md`` on those of the full study too.
    ``tables.csv``, asked for by name, is written into sql/ after a new migration.
    """
    if sys.argv[1:] == ["tables.csv"]:
        write_tables()
        return
    pages = {"sql.md": sql_page, "results.md": results_page, "deployed.md": deployed_page}
    folder = os.environ.get("PTQDB_TEST_DATA")
    asked = sys.argv[1:] or [*pages, "prediction.md", *(["published.md"] if folder else [])]
    if "prediction.md" in asked:
        comparison = Comparison.of(open_embedded_facts, len(os.sched_getaffinity(0)))
    with open_embedded_facts() as connection:
        for name in asked:
            if name in pages:
                _write(name, pages[name](connection))
            elif name == "prediction.md":
                _write(name, prediction_page(connection, comparison))
            elif name == "published.md" and folder is not None:
                _write(name, published_page(Path(folder) / "published"))
            else:
                raise SystemExit(
                    f"expected one of {', '.join(pages)}, prediction.md, or published.md where "
                    f"PTQDB_TEST_DATA is set, found {name}"
                )


def write_tables() -> None:
    """Write sql/tables.csv, which a file is held against: every column of every table."""
    rows = [(*key, kind) for key, kind in sorted(read_columns(known_version()).items())]
    frame = pl.DataFrame(rows, ["table", "column", "type"], orient="row")
    frame.write_csv(sql_folder() / "tables.csv")


def _write(name: str, text: str) -> None:
    path = FOLDERS[name] / name
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{path}\n")


def _filled(name: str, parts: dict[str, str]) -> str:
    """A template with its parts in place."""
    text = (DOCS / "templates" / name).read_text(encoding="utf-8")
    return Template(text, undefined=StrictUndefined, keep_trailing_newline=True).render(parts)


def prediction_page(connection: duckdb.DuckDBPyConnection, comparison: Comparison) -> str:
    """The page about predictions, with what validation and comparison give."""
    choices = [board.choice for board in (comparison.network, comparison.architecture)]
    chosen = [choice.held_out_r_squared if choice else float("nan") for choice in choices]
    nsr = max(
        one.held_out_r_squared or 0.0
        for one in comparison.network.entries
        if one.view == "baseline_nsr"
    )
    by = ("coverage", "width", "score")
    figures = ("R²", "worst network", "median error", "lossless", "lossless bias", *by[::2])
    with TemporaryDirectory() as folder, full_study(Path(folder), WIDE) as both:
        import_study(both, EMBEDDED_STUDY)
        of_both = {
            "measures": _table(("view", *figures, "R², by architecture"), measure_rows(both)),
            "curves": _table(("curve", *figures), curve_rows(both)),
            "transfer": _table(
                ("network", *(f"`{view}`" for view in TRANSFER_VIEWS)), from_embedded_rows(both)
            ),
        }
    parts = of_both | {
        "intervals": _table(
            ("view", *by, *(f"{word}, by architecture" for word in by)), interval_rows(connection)
        ),
        "tiers": _table(("known", "view", "curve", *figures), tier_rows(connection)),
        "as_it_stands": _table(
            ("network", "R²", "median error", "bias", "coverage"), as_it_stands_rows(connection)
        ),
        "validation": _table(
            ("", "points", *by, "RMSE", "median error", "rank", "lossless rank"),
            validation_rows(connection),
        ),
        "leaderboard": _table(
            ("view", "curve", "held-out R²", "held-out RMSE", "median error",
             "held-out R², by architecture", "R²", "ceiling"),
            comparison.rows(),
        ),
        "fit_count": str(sum(not uses_probe(one.view) for one in comparison.network.entries)),
        "chosen_network": f"{chosen[0]:.4f}",
        "chosen_architecture": f"{chosen[1]:.4f}",
        "versus": "more than" if chosen[0] > nsr else "less than",
    }  # fmt: skip
    return _filled("prediction.md", parts)


def deployed_page(embedded: duckdb.DuckDBPyConnection) -> str:
    """The page about formats that people ship, in both shipped studies."""
    del embedded  # both studies are imported together
    with TemporaryDirectory() as folder, full_study(Path(folder), WIDE) as both:
        import_study(both, EMBEDDED_STUDY)
        tiers = tiers_of(both)
        found = tiers["weights"]
        figures = ("points", "R²", "median error", "bias", "inside")
        by = [f"{word}, {tier}" for tier in tiers for word in ("R²", "median error", "inside")]
        parts = {
            "network_count": str(len(found.networks)),
            "format_count": str(len(PRESETS)),
            "tiers": _table(("known", "view", "formats", *figures), deployed_tier_rows(tiers)),
            "networks": _table(("network", *by), deployed_network_rows(tiers)),
            "formats": _table(("format", *found.networks), format_rows(found)),
            "channels": _table(
                ("format", "accuracy", "float accuracy", "loss and standard error", "images"),
                channel_rows(both, f"{WIDE}MobileNetV2"),
            ),
            "lite": _table(
                ("format", "bits per weight", "divergence", "predicted loss", "interval"),
                lite_rows(),
            ),
        }
    return _filled("deployed.md", parts)


def published_page(folder: Path) -> str:
    """The page about the published sweeps."""
    fits = published_fits(folder)
    names = PUBLISHED_COLUMNS.values()
    by = ("coverage", "width", "score")
    parts = {
        "r_squared": _table(
            ("sweep", "network", "printed", "`rational2`", "ceiling"), published_rows(fits)
        ),
        "compared": str(sum(fit.reaches for fit in fits)),
        "printed": str(len(fits)),
        "intervals": _table(
            ("sweep", *(f"{word}, {name}" for name in names for word in by)),
            published_interval_rows(folder),
        ),
    }
    return _filled("published.md", parts)


def results_page(embedded: duckdb.DuckDBPyConnection) -> str:
    """The page about the studies' results, beside what the original study printed."""
    with TemporaryDirectory() as folder, full_study(Path(folder)) as connection:
        full, small = Study(connection), Study(embedded)
        studies = ("original", "full", "embedded")
        columns = (f"{name}, degree {degree}" for name in studies for degree in DEGREES)
        network_columns = ("network", *(f"`{view}`" for view in PER_NETWORK_VIEWS))
        bias_columns = (
            "original",
            *(
                f"{name}, {tensors}"
                for name in ("full", "embedded")
                for tensors in ("as they run", "as trained")
            ),
        )
        new_columns = ("view", "R², degree 2", "R², isotonic", "held out by network",
                       "by architecture")  # fmt: skip
        parts = {
            "collected": _table(
                ("network", "layers", "params", "MACs", "accuracy", "others, %", "epochs, time",
                 "facts"),
                collected_rows(full, LOGS),
            ),
            "caution": _caution(len(full.networks)),
            "study": _table(("view", *columns), study_rows((full, small))),
            "networks_full": _table(network_columns, network_rows(full)),
            "networks_embedded": _table(network_columns, network_rows(small)),
            "findings": _table(
                ("finding", "full", "its figures", "embedded", "its figures"),
                finding_rows((full, small)),
            ),
            "bias": _table(
                ("share", *(f"{one}, {ratio}" for one in bias_columns
                            for ratio in ("0.5 : 0.5", "1 : 1"))),
                bias_rows((full, small)),
            ),
            "transfer": _table(
                ("network", "view", "R²", "RMSE", "median error", "bias", "coverage"),
                transfer_rows(full, small),
            ),
            "new_full": _table(new_columns, new_rows(full)),
            "new_embedded": _table(new_columns, new_rows(small)),
        }  # fmt: skip
    return _filled("results.md", parts)


def _caution(count: int) -> str:
    """What so few networks cannot tell; empty where all are collected."""
    if count == len(REFERENCE_NETWORKS):
        return ""
    return (
        f"**So far {count} of {len(REFERENCE_NETWORKS)} networks are collected.** The pooled "
        "figures of the full study cover these alone. Weights by MACs or depth compare networks "
        "with each other, so they say little yet."
    )


@contextmanager
def full_study(folder: Path, prefix: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """The full study's facts in a database of their own, within the folder.

    Parameters
    ----------
    prefix
        Before the name of each network.
    """
    with connect(folder / "cifar10.duckdb", read_only=False) as connection:
        import_study(connection, FULL_STUDY, prefix=prefix)
        yield connection


def sql_page(connection: duckdb.DuckDBPyConnection) -> str:
    """The page about tables, views, macros and queries, from the database's own dictionary."""
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
    return _filled("sql.md", parts)


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
    return markdown_table(columns, (list(map(_line, row)) for row in rows))


def _line(text: str | None) -> str:
    """One line; a bar would end the cell."""
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
