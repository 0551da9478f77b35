"""Exports a study as a folder of Parquet, and merges such a folder into a database."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import polars as pl

from ptqdb.database import checkpoint, forget_fits, insert, materialize, next_id, query, transaction
from ptqdb.errors import DataError, MismatchError, UsageError
from ptqdb.paths import is_there, make_folder, without_magic, written_beside
from ptqdb.text import is_harmless

COMPRESSION_LEVEL = 9
ROW_GROUP_SIZE = 262_144


@dataclass(frozen=True)
class _Reference:
    """Columns whose values are those of a table's columns, or NULL."""

    columns: tuple[str, ...]
    table: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class _Table:
    """A base table as a merge sees it.

    Attributes
    ----------
    key
        What tells its rows apart, ids of other tables translated.
    row_id
        Column of the ids that a database gives; None for tables without.
    agreeing
        Columns in which a row that is there already has to be the same; the others are
        measured, and may differ in the last digits from one device to another.
    may_be_missing
        Whether a folder that an older ptqdb exported has no such file: it had no such rows.
    newer
        Columns that such a folder lacks, and what they are there, computed from its others.
    widened
        Columns that such a folder holds in a narrower type.
    free_texts
        Columns that hold more than names, such as the words of an error.
    """

    name: str
    key: tuple[str, ...]
    references: tuple[_Reference, ...] = ()
    row_id: str | None = None
    agreeing: tuple[str, ...] = ()
    may_be_missing: bool = False
    newer: Mapping[str, pl.Expr] = field(default_factory=dict)
    widened: tuple[str, ...] = ()
    free_texts: tuple[str, ...] = ()


def _by_id(column: str, table: str, target: str | None = None) -> _Reference:
    return _Reference((column,), table, (target or column,))


_NETWORK = _by_id("network_id", "network")
_TENSOR = _by_id("tensor_id", "tensor")
_FORMAT = _by_id("number_format_id", "number_format")
_SCHEME = _by_id("scheme_id", "scheme")
_CELL = ("tensor_id", "number_format_id", "scheme_id")
_LAYER = _by_id("layer_id", "layer")
_LAYER_CELL = ("layer_id", "number_format_id", "scheme_id")
_EVALUATION = ("network_id", "number_format_id", "scheme_id", "scope")
# One of two studies may have evaluated what failed in the other.
_DROP_FAILURES_EVALUATED = "; ".join(
    f"delete from {failed} where exists (from {evaluated} as e where "
    + " and ".join(f"e.{column} = {failed}.{column}" for column in key)
    + ")"
    for failed, evaluated, key in (
        ("failed_cell", "evaluation", _EVALUATION),
        ("failed_layer_cell", "layer_evaluation", _LAYER_CELL),
    )
)

# In this order each table comes after those that it refers to.
_TABLES = (
    _Table(
        "dataset",
        ("content_sha256",),
        row_id="dataset_id",
        agreeing=("name", "split", "class_count", "image_count"),
    ),
    _Table(
        "number_format",
        ("name",),
        row_id="number_format_id",
        agreeing=("family", "bits", "ebits", "mbits", "max_code", "code_count", "in_study_grid"),
    ),
    _Table("number_format_code", ("number_format_id", "code_index"), (_FORMAT,)),
    _Table(
        "scheme",
        ("name",),
        row_id="scheme_id",
        agreeing=("granularity", "symmetry", "range_rule", "quantized", "calibration"),
    ),
    _Table(
        "network",
        ("name",),
        (
            _by_id("dataset_id", "dataset"),
            _by_id("calibration_dataset_id", "dataset", "dataset_id"),
        ),
        row_id="network_id",
        agreeing=(
            "architecture",
            "checkpoint_sha256",
            "dataset_id",
            "calibration_dataset_id",
            "quantized_layer_count",
            "params",
            "macs",
            "unfolded_batch_norm_count",
        ),
        newer={"preprocessing": pl.lit(None)},
    ),
    _Table(
        "unquantized_part",
        ("network_id", "name"),
        (_NETWORK,),
        may_be_missing=True,
    ),
    _Table(
        "layer",
        ("network_id", "position"),
        (_NETWORK,),
        row_id="layer_id",
        agreeing=("name", "kind", "params", "macs"),
        newer={"uncounted_params": pl.lit(0)},
    ),
    _Table(
        "tensor",
        ("layer_id", "role"),
        (_LAYER,),
        row_id="tensor_id",
        agreeing=("element_count",),
    ),
    _Table("tensor_channel", ("tensor_id", "channel"), (_TENSOR,)),
    _Table("tensor_histogram", ("tensor_id", "bin"), (_TENSOR,)),
    _Table("quantized_tensor", _CELL, (_TENSOR, _FORMAT, _SCHEME)),
    _Table(
        "code_histogram",
        (*_CELL, "code"),
        # The reference to the cell comes first: it needs the ids as they are in the file.
        (_Reference(_CELL, "quantized_tensor", _CELL), _TENSOR, _FORMAT, _SCHEME),
    ),
    _Table(
        "quantized_tensor_channel",
        (*_CELL, "channel"),
        (_Reference(_CELL, "quantized_tensor", _CELL), _TENSOR, _FORMAT, _SCHEME),
        may_be_missing=True,
        widened=("squared_error_sum",),
    ),
    _Table(
        "evaluation",
        _EVALUATION,
        (_NETWORK, _FORMAT, _SCHEME),
        newer={
            "non_finite_count": pl.lit(0),
            "cross_entropy_count": pl.col("image_count"),
            "kl_count": pl.col("image_count"),
        },
    ),
    _Table(
        "failed_cell",
        _EVALUATION,
        (_NETWORK, _FORMAT, _SCHEME),
        may_be_missing=True,
        free_texts=("reason",),
    ),
    _Table(
        "layer_evaluation",
        _LAYER_CELL,
        (_LAYER, _FORMAT, _SCHEME),
        may_be_missing=True,
    ),
    _Table(
        "failed_layer_cell",
        _LAYER_CELL,
        (_LAYER, _FORMAT, _SCHEME),
        may_be_missing=True,
        free_texts=("reason",),
    ),
    _Table("collection_run", ("run_id",), row_id="run_id", free_texts=("arguments", "failures")),
)
# A part of a network is new only where the network is.
_PARENTS = {"layer": "network", "tensor": "layer"}
TABLE_NAMES = tuple(table.name for table in _TABLES)


def export_study(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write the facts as one Parquet file per base table, ``TABLE.parquet``.

    Columns, types and ids are the table's, rows are sorted by all columns from the first on
    and compressed with zstd, so that the same facts are the same bytes. What is derived from
    the facts is left out. Files of these names are replaced once all are written.

    Raises
    ------
    UsageError
        The folder is a file.
    DataError
        The folder cannot be written.
    """
    is_new = not is_there(folder)
    if not is_new and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder to export to")
    make_folder(folder)
    try:
        with ExitStack() as files:
            for table in TABLE_NAMES:
                partial = files.enter_context(written_beside(folder / f"{table}.parquet"))
                query(connection, f"select * from {table} order by all").write_parquet(
                    without_magic(partial),
                    compression="zstd",
                    compression_level=COMPRESSION_LEVEL,
                    row_group_size=ROW_GROUP_SIZE,
                )
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def import_study(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    remarked: Callable[[str], None] | None = None,
) -> dict[str, int]:
    """Merge an exported study into a database, whole or not at all; return rows added by table.

    Ids are translated: datasets are matched by content hash, formats and schemes by name,
    networks by name. A network that is there already, with the same checkpoint and datasets,
    gets only the cells that it lacks; what is there stays. Importing again adds nothing. The
    derived tables are computed once the facts are in.

    Parameters
    ----------
    remarked
        Receives a line for each derived table that cannot be computed; None raises an error
        instead, when the facts are in.

    Raises
    ------
    DataError
        A file is missing, is no Parquet, lacks a column, has another one or another type, a
        key twice, or refers to what is not there; the message names file and column. Or a
        derived table cannot be computed, and nobody receives remarks.
    MismatchError
        The database holds something else under the same name, such as a network with another
        checkpoint; the message names file and column.
    """
    if not (is_there(folder) and folder.is_dir()):
        raise DataError(f"{folder} is no folder: name one that `ptqdb export` wrote")
    frames = {table.name: _read(connection, table, folder) for table in _TABLES}
    for table in _TABLES:
        _require_unique(table, frames[table.name], folder)
        for reference in table.references:
            _require_present(table, reference, frames, folder)
    added = {}
    with transaction(connection):
        forget_fits(connection)
        merge = _Merge(connection, folder)
        for table in _TABLES:
            added[table.name] = merge.add(table, frames[table.name])
        connection.execute(_DROP_FAILURES_EVALUATED)
    materialize(connection, remarked)
    checkpoint(connection)
    return added


def _read(connection: duckdb.DuckDBPyConnection, table: _Table, folder: Path) -> pl.DataFrame:
    """Read a table's file; refuse one whose columns are not the table's."""
    path = folder / f"{table.name}.parquet"
    empty = query(connection, f"select * from {table.name} limit 0")
    if table.may_be_missing and not path.exists():
        return empty
    if not path.is_file():
        raise DataError(f"{path} is missing: export the study again")
    try:
        frame = pl.read_parquet(without_magic(path), glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {_line(error)}") from error
    expected = empty.schema
    frame = frame.with_columns(
        value.cast(expected[column]).alias(column)
        for column, value in table.newer.items()
        if column not in frame.columns and set(value.meta.root_names()) <= set(frame.columns)
    ).with_columns(
        pl.col(column).cast(expected[column])
        for column in table.widened
        if frame.schema.get(column) == pl.Float32
    )
    for column, dtype in expected.items():
        if column not in frame.columns:
            raise DataError(f"{path}: expected the column {column} ({dtype}), found none")
        if frame.schema[column] != dtype:
            raise DataError(
                f"{path}: expected the column {column} as {dtype}, found {frame.schema[column]}"
            )
    unknown = [column for column in frame.columns if column not in expected]
    if unknown:
        raise DataError(
            f"{path}: found the column {unknown[0]}, expected none but {', '.join(expected)}"
        )
    _refuse_control_characters(table, frame, path)
    return frame.select(expected.names())


def _refuse_control_characters(table: _Table, frame: pl.DataFrame, path: Path) -> None:
    for name in frame.columns:
        harmful = [text for text in _texts(frame[name]) if not is_harmless(text)]
        if harmful and name not in table.free_texts:
            raise DataError(
                f"{path}: expected the column {name} without control characters, found "
                f"{harmful[0]!r}; export the study again from one without"
            )


def _texts(column: pl.Series) -> Iterator[str]:
    """The texts of a column, also of those in lists and structs."""
    if isinstance(column.dtype, pl.List):
        yield from _texts(column.explode())
    elif isinstance(column.dtype, pl.Struct):
        for field in column.dtype.fields:
            yield from _texts(column.struct.field(field.name))
    elif column.dtype == pl.String:
        yield from column.drop_nulls().unique()


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _require_unique(table: _Table, frame: pl.DataFrame, folder: Path) -> None:
    keys = [table.key] if table.row_id is None else [(table.row_id,), table.key]
    for key in keys:
        twice = frame.select(key).filter(pl.struct(key).is_duplicated()).head(1)
        if not twice.is_empty():
            raise DataError(
                f"{folder / table.name}.parquet: expected each {', '.join(key)} once, "
                f"found {_words(twice.row(0))} again"
            )


def _require_present(
    table: _Table, reference: _Reference, frames: dict[str, pl.DataFrame], folder: Path
) -> None:
    """Refuse a row that refers to what the folder does not hold."""
    used = frames[table.name].select(reference.columns).drop_nulls().unique(maintain_order=True)
    absent = used.join(
        frames[reference.table],
        left_on=reference.columns,
        right_on=reference.targets,
        how="anti",
        maintain_order="left",
    )
    if not absent.is_empty():
        raise DataError(
            f"{folder / table.name}.parquet: {', '.join(reference.columns)} "
            f"{_words(absent.row(0))} is not in {reference.table}.parquet"
        )


def _words(values: tuple[object, ...]) -> str:
    return ", ".join("NULL" if value is None else str(value) for value in values)


class _Merge:
    """The tables merged so far: how their ids were translated, and which rows were new."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self.connection = connection
        self.folder = folder
        self.ids: dict[str, pl.DataFrame] = {}
        self.new: dict[str, pl.DataFrame] = {}

    def add(self, table: _Table, frame: pl.DataFrame) -> int:
        """Insert the rows that are not there yet; return how many."""
        new = self._new_rows(table, self._translated(table, frame))
        self.new[table.name] = new
        if not new.is_empty():
            try:
                insert(self.connection, table.name, new)
            except DataError as error:
                raise DataError(f"{self.folder / table.name}.parquet: {error}") from error
        return len(new)

    def _stored(self, table: _Table) -> pl.DataFrame:
        return query(self.connection, f"select * from {table.name}")

    def _translated(self, table: _Table, frame: pl.DataFrame) -> pl.DataFrame:
        """Give the rows the database's ids of what they refer to."""
        columns = [
            pl.col(reference.columns[0]).replace(ids["file"], ids["database"])
            for reference in table.references
            if (ids := self.ids.get(reference.table)) is not None
        ]
        return frame.with_columns(columns)

    def _new_rows(self, table: _Table, frame: pl.DataFrame) -> pl.DataFrame:
        if table.name in ("tensor_channel", "tensor_histogram"):
            return frame.join(self.new["tensor"], on="tensor_id", how="semi", maintain_order="left")
        if table.name == "unquantized_part":
            new_networks = self.new["network"]
            return frame.join(new_networks, on="network_id", how="semi", maintain_order="left")
        if table.name == "code_histogram":
            new_cells = self.new["quantized_tensor"]
            return frame.join(new_cells, on=_CELL, how="semi", maintain_order="left")
        known = self._stored(table)
        if table.name == "collection_run":
            return self._numbered(table, _unknown_runs(frame, known), known)
        if table.row_id is None:
            return frame.join(
                known, on=table.key, how="anti", nulls_equal=True, maintain_order="left"
            )
        return self._new_identities(table, frame, known)

    def _new_identities(
        self, table: _Table, frame: pl.DataFrame, known: pl.DataFrame
    ) -> pl.DataFrame:
        """Match rows with those of the database; number the others, and keep the translation."""
        assert table.row_id is not None
        columns = (table.row_id, *table.agreeing)
        stored = known.select(*table.key, pl.col(columns).name.suffix("@stored"))
        matched = frame.join(stored, on=table.key, how="left", maintain_order="left")
        is_known = pl.col(f"{table.row_id}@stored").is_not_null()
        present = matched.filter(is_known)
        self._refuse_differences(table, present)
        absent = matched.filter(~is_known).select(frame.columns).sort(table.row_id)
        self._refuse_new_parts(table, absent)
        new = self._numbered(table, absent, known)
        of_present = present.select(file=table.row_id, database=pl.col(f"{table.row_id}@stored"))
        of_new = pl.DataFrame({"file": absent[table.row_id], "database": new[table.row_id]})
        self.ids[table.name] = pl.concat([of_present, of_new])
        return new

    def _numbered(self, table: _Table, new: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """Keep the ids where all are free, so that a study survives a round trip as it is."""
        assert table.row_id is not None
        ids = new[table.row_id]
        if not ids.is_in(known[table.row_id].implode()).any():
            return new
        first = next_id(self.connection, table.name)
        numbers = (pl.int_range(pl.len()) + first).cast(ids.dtype)
        return new.with_columns(numbers.alias(table.row_id))

    def _refuse_differences(self, table: _Table, present: pl.DataFrame) -> None:
        for column in table.agreeing:
            stored = pl.col(f"{column}@stored")
            differing = present.filter(pl.col(column).ne_missing(stored))
            if not differing.is_empty():
                row = differing.row(0, named=True)
                name = _words(tuple(row[key] for key in table.key))
                found, expected = row[column], row[f"{column}@stored"]
                raise MismatchError(
                    f"{self.folder / table.name}.parquet: {column} of {name} is {found}, in the "
                    f"database {expected}; import into another --db"
                )

    def _refuse_new_parts(self, table: _Table, absent: pl.DataFrame) -> None:
        """Refuse a layer or tensor that a network of the database does not have."""
        parent = _PARENTS.get(table.name)
        if parent is None:
            return
        column = f"{parent}_id"
        foreign = absent.join(self.new[parent], on=column, how="anti", maintain_order="left")
        if not foreign.is_empty():
            row = foreign.row(0, named=True)
            part = row[table.key[1]]
            raise MismatchError(
                f"{self.folder / table.name}.parquet: {table.key[1]} {part} is none of the "
                f"{table.name}s that the database holds of its {parent}; import into another --db"
            )


def _unknown_runs(runs: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Return the runs that differ from every known one in more than the id."""
    seen = {str(row) for row in known.drop("run_id").to_dicts()}
    is_new = [str(row) not in seen for row in runs.drop("run_id").to_dicts()]
    return runs.filter(pl.Series(is_new, dtype=pl.Boolean)).sort("run_id")
