"""A study as a notebook sees it: collect, open, ask, fit curves over its views, draw them.

Nothing here prints or keeps anything between calls; what takes long to import is imported by the
function that needs it.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ptqdb.database import connect, connect_reader, list_views, query, read_view
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.defaults import (
    COMPARED_CURVES,
    COVERAGE,
    FIT_CURVE,
    FIT_VIEW,
    PREDICTION_CURVE,
    PREDICTION_VIEW,
)
from ptqdb.fitting.view_fit import GroupFit, fit_view_frame

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb
    import polars as pl

    from ptqdb.collection.sweep import CollectionOutcome, Reporter
    from ptqdb.database import Snapshot
    from ptqdb.database.checks import CheckResult
    from ptqdb.datasets.images import ImageSet
    from ptqdb.fitting.compare import Leaderboard
    from ptqdb.fitting.leaderboard import CompareReporter
    from ptqdb.fitting.validation import ValidationRow
    from ptqdb.networks.sources import NetworkSource
    from ptqdb.networks.trainings import TrainedReference


class Study:
    """A database opened to be read; also a context manager that closes it.

    Attributes
    ----------
    path
        The file; None for the study that travels with ptqdb.
    connection
        The DuckDB connection, for whatever this class does not offer.
    snapshot
        What is read in the place of a file that a collection is writing: its last published
        snapshot. None: the file itself.
    """

    def __init__(
        self,
        path: Path | None,
        connection: "duckdb.DuckDBPyConnection",
        stack: ExitStack,
        snapshot: "Snapshot | None" = None,
    ):
        self.path, self.connection, self._stack = path, connection, stack
        self.snapshot = snapshot

    @property
    def snapshot_time(self) -> "datetime | None":
        """Of when the snapshot is that is read, in UTC; None where the file itself is read."""
        return None if self.snapshot is None else self.snapshot.time

    def views(self, pattern: str = "*") -> "pl.DataFrame":
        """The views whose name matches a glob: columns ``view, description, sql``.

        Raises
        ------
        UsageError
            No name matches.
        """
        return list_views(self.connection, pattern)

    def view(self, name: str = FIT_VIEW, where: str | None = None) -> "pl.DataFrame":
        """The rows of a view, or of a call such as ``variant(measure := 'nsr')``.

        Parameters
        ----------
        where
            A SQL condition on the view's columns.

        Raises
        ------
        UsageError
            There is no such view.
        QueryError
            The condition fails.
        """
        return read_view(self.connection, name, where)

    def sql(self, text: str) -> "pl.DataFrame":
        """The rows of a query.

        Raises
        ------
        QueryError
            The query fails; the message is DuckDB's own, with the position.
        """
        return query(self.connection, text)

    def close(self) -> None:
        """Close the file; other processes may write it again."""
        self._stack.close()

    def __enter__(self) -> "Study":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({str(self.path) if self.path else 'the embedded study'})"


def open_study(path: Path | str | None = None) -> Study:
    """Open a database to read it.

    While ``ptqdb collect`` writes the file, its last published snapshot is read:
    ``Study.snapshot_time`` says so.

    Parameters
    ----------
    path
        A file that ``ptqdb collect`` wrote; None opens the study that travels with ptqdb.

    Raises
    ------
    DatabaseError
        The file is missing, damaged, no database of ptqdb, or open for writing elsewhere
        without a snapshot.
    """
    stack = ExitStack()
    if path is None:
        return Study(None, stack.enter_context(open_embedded_facts()), stack)
    connection, snapshot = connect_reader(Path(path))
    return Study(Path(path), stack.enter_context(connection), stack, snapshot)


def fit(
    study: Study,
    view: str = FIT_VIEW,
    *,
    curve: str = FIT_CURVE,
    by: str = "network",
    where: str | None = None,
    leave_out: str = "network",
) -> list[GroupFit]:
    """Fit a curve of accuracy loss over divergence: the pool ``ALL`` first, then each group.

    Parameters
    ----------
    view
        A view's name, or a call such as ``variant(share := 'param')``.
    curve
        A curve's name.
    by
        The column whose values are the groups.
    where
        A SQL condition on the view's columns.
    leave_out
        The column whose values are left out one at a time for the held-out figures: ``network``
        or ``architecture``.

    Raises
    ------
    UsageError
        No such view, curve or column; the message names the valid ones.
    """
    frame = study.view(view, where)
    return fit_view_frame(frame, view=view, curve=curve, by=by, leave_out_by=leave_out)


def validate(
    study: Study,
    view: str = PREDICTION_VIEW,
    *,
    curve: str = PREDICTION_CURVE,
    where: str | None = None,
    leave_out: str = "network",
    coverage: float = COVERAGE,
) -> "list[ValidationRow]":
    """Leave out each network in turn, predict it from the others, and compare.

    Parameters
    ----------
    view, curve, where
        As in `fit`.
    leave_out
        ``network`` or ``architecture``.
    coverage
        What the prediction intervals promise.

    Raises
    ------
    UsageError
        No such view or curve.
    DataError
        Fewer than three networks, or too few points.
    """
    from ptqdb.fitting.validation import validate_view_frame

    return validate_view_frame(
        study.view(view, where), curve=curve, leave_out=leave_out, coverage=coverage
    )


def compare(
    path: Path | str,
    views: str = "*",
    curves: Sequence[str] = COMPARED_CURVES,
    *,
    leave_out: str = "network",
    job_count: int = 1,
    reporter: "CompareReporter | None" = None,
) -> "Leaderboard":
    """Fit views with curves and rank them by their predictions of networks they did not see.

    Parameters
    ----------
    path
        A file that ``ptqdb collect`` wrote; what is found stays in its tables ``fit`` and
        ``fit_fold``, and what is unchanged is not fitted again.
    views
        A name or glob, or a call of ``variant``; the baselines are always among them.
    leave_out
        ``network`` or ``architecture``.
    job_count
        Processes; with more than one, a script needs the guard ``if __name__ == "__main__"``.
    reporter
        Is told how it goes on; nobody is when None.

    Raises
    ------
    UsageError
        No such view or curve.
    DatabaseError
        The file cannot be read, or not be written where something is to be kept.
    """
    from ptqdb.fitting.compare import compare as run_comparison

    return run_comparison(
        partial(connect, Path(path)),
        views,
        curves,
        leave_out=leave_out,
        job_count=job_count,
        reporter=reporter,
    )


def chart(
    study: Study,
    view: str | Sequence[str] = (),
    *,
    kind: str = "fit",
    curve: str | Sequence[str] = (),
    network: str | None = None,
    layers: Sequence[str] = (),
    x_scale: str = "",
    theme: str = "light",
) -> Any:
    """Draw a picture of the study; `ptqdb.charts.save_chart` writes it to a file.

    Parameters
    ----------
    view, curve
        A name or several, as many as the kind draws. None: the kind's own.
    kind
        ``fit``, ``networks``, ``variants``, ``distribution``, ``layers``, ``frontier``,
        ``leaderboard``, ``crowding`` or ``residuals``.
    network
        Draw this one alone. ``layers`` draws one: without a name the first.
    layers
        Of ``distribution``: ``LAYER`` of the network, or ``NETWORK:LAYER``. None: the most
        pointed and the flattest.
    x_scale
        ``auto`` (where it is left out), ``linear``, ``log`` or ``symlog``.
    theme
        ``light`` or ``dark``.

    Returns
    -------
    An Altair chart.

    Raises
    ------
    UsageError
        No such kind, view, curve, network or layer; the message names the valid ones. Or
        something is asked for that the kind does not use.
    DataError
        There is nothing to draw.
    """
    from ptqdb.charts.pictures import Request, draw

    request = Request(
        views=(view,) if isinstance(view, str) else tuple(view),
        curves=(curve,) if isinstance(curve, str) else tuple(curve),
        network=network,
        layers=tuple(layers),
        x_scale=x_scale,
        theme=theme,
    )
    return draw(study, kind, request)


def train(
    names: str | Sequence[str],
    images: "ImageSet",
    folder: Path | str,
    *,
    test_images: "ImageSet | None" = None,
    width: float = 1.0,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    replace: bool = False,
) -> "list[TrainedReference]":
    """Train reference networks; finished checkpoints stay, a stopped training resumes.

    Parameters
    ----------
    names
        One or several reference networks.
    images, test_images
        To train on; to judge on. As `ptqdb.images` gives them, 3 channels of 32 x 32 pixels.
    folder
        Receives ``NAME.safetensors`` and ``NAME.log.parquet`` of each.
    width
        Factor on every hidden channel count.
    epochs, batch_size, learning_rate
        Where None, each network's own.
    replace
        Whether what is there already is trained anew.

    Raises
    ------
    UsageError
        No such network or device, or a number beyond its bounds.
    MismatchError
        The folder holds weights of the same name that other settings or images gave.
    DataError
        The images cannot be trained on, or the folder cannot be written.
    """
    from ptqdb.collection.requests import require_device
    from ptqdb.networks.training import Training
    from ptqdb.networks.training_settings import settings_of
    from ptqdb.networks.trainings import train as run_trainings
    from ptqdb.networks.trainings import untold

    require_device(device)
    settings = settings_of(
        [names] if isinstance(names, str) else names,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    trainings = [
        Training(name, images, Path(folder), chosen, width=width, device=device)
        for name, chosen in settings.items()
    ]
    return list(run_trainings(trainings, untold, test_images=test_images, anew=replace))


def check(path: Path | str, pattern: str = "*") -> "list[CheckResult]":
    """Run the checks of a database: which rows contradict each other or are missing.

    Parameters
    ----------
    path
        A file that ``ptqdb collect`` wrote.
    pattern
        A check's name or glob.

    Raises
    ------
    UsageError
        No such check.
    DatabaseError
        The file cannot be read.
    """
    from ptqdb.database.checks import check as run_checks

    with connect(Path(path), read_only=True) as connection:
        return run_checks(connection, pattern)


def export(study: Study, folder: Path | str) -> None:
    """Write a study's facts as one Parquet file per table; `import_study` reads them.

    Raises
    ------
    UsageError
        The folder is a file.
    DataError
        The folder cannot be written.
    """
    from ptqdb.database.exchange import export_study

    export_study(study.connection, Path(folder))


def collect(
    networks: "NetworkSource | Sequence[NetworkSource]",
    images: "ImageSet",
    calibration: "ImageSet",
    db: Path | str,
    *,
    number_formats: str = "*",
    scopes: Sequence[str] = (),
    device: str = "cpu",
    precision: str = "auto",
    replace: bool = False,
    wait_s: float = 0.0,
    reporter: "Reporter | None" = None,
) -> "CollectionOutcome":
    """Quantize networks in every format and store what was measured.

    What is there already stays; a stopped collection goes on where it was.

    Parameters
    ----------
    networks
        As `ptqdb.network` gives them.
    images, calibration
        To evaluate on; to take the ranges of the inputs from. As `ptqdb.images` gives them.
    db
        The file; it is created where it is missing.
    number_formats
        Comma-separated names or globs.
    scopes
        What to quantize alone, beside everything together: any of weight, bias, input, and
        layer, which evaluates the network once per layer and format.
    device, precision
        ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` or ``float32``.
    replace
        Whether facts that are there already are collected anew.
    wait_s
        For how many seconds to wait for another process to close the file.
    reporter
        Is told how it goes on; nobody is when None.

    Returns
    -------
    How many cells were filled and were there, and which networks failed, with the reason.

    Raises
    ------
    UsageError
        An unknown format, scope or device, or two networks of one name.
    MismatchError
        The database holds one of the networks with other arguments; nothing was written.
    DatabaseError
        The file cannot be opened for writing.
    """
    from ptqdb.collection.plan import NetworkTask
    from ptqdb.collection.requests import request_of
    from ptqdb.collection.sweep import Silent
    from ptqdb.collection.sweep import collect as run_collection
    from ptqdb.networks.sources import NetworkSource

    sources = [networks] if isinstance(networks, NetworkSource) else networks
    request = request_of(
        [NetworkTask(source, images, calibration) for source in sources],
        number_formats=number_formats,
        scopes=scopes,
        device=device,
        precision=precision,
        anew=replace,
    )
    return run_collection(request, Path(db), reporter or Silent(), wait_s=wait_s)
