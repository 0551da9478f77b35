"""The main interface: `Study` opens a database and offers everything ptqdb does with it.

Nothing here prints. Slow imports are made inside the methods that need them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ptqdb.database import connect, connect_reader, list_views, query, read_view
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.defaults import (
    COMPARED_CURVES,
    COVERAGE,
    DEFAULT_PROBE_COUNT,
    FIT_CURVE,
    FIT_VIEW,
    PREDICTION_CURVE,
    PREDICTION_VIEW,
    PROBE_VIEW,
)
from ptqdb.errors import DatabaseError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb
    import polars as pl

    from ptqdb.collection.plan import CollectionRequest
    from ptqdb.collection.reporting import Reporter
    from ptqdb.collection.sweep import CollectionOutcome
    from ptqdb.database import Snapshot
    from ptqdb.database.checks import CheckResult
    from ptqdb.datasets.images import ImageSet
    from ptqdb.fitting.compare import Leaderboard, OpenDatabase
    from ptqdb.fitting.leaderboard import CompareReporter
    from ptqdb.fitting.predicted_losses import Predictions, Recommendation
    from ptqdb.fitting.store import BestPrediction
    from ptqdb.fitting.validation import ValidationRow
    from ptqdb.fitting.view_fit import GroupFit
    from ptqdb.networks.sources import NetworkSource
    from ptqdb.quantization.formats import Format


class Study:
    """A database with the operations on it; also a context manager that closes it.

    The file is opened for reading at first use. `collect`, `merge` and `compare` close it to
    write; the next use opens it again.

    Attributes
    ----------
    path
        The file; None for the study that ships with the package.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._stack = ExitStack()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._snapshot: Snapshot | None = None
        self._is_closed = False

    # --- reading ------------------------------------------------------------------------------

    @property
    def connection(self) -> "duckdb.DuckDBPyConnection":
        """The read-only DuckDB connection, for anything that this class does not offer.

        Raises
        ------
        DatabaseError
            The file is missing, damaged, not a ptqdb database, or open for writing elsewhere
            without a snapshot; or the study was closed.
        """
        if self._is_closed:
            raise DatabaseError(f"{self.path or 'the embedded study'} was closed: open it again")
        if self._connection is None:
            self._connection = self._opened()
        return self._connection

    def _opened(self) -> "duckdb.DuckDBPyConnection":
        if self.path is None:
            return self._stack.enter_context(open_embedded_facts())
        connection, self._snapshot = connect_reader(self.path)
        return self._stack.enter_context(connection)

    @property
    def snapshot(self) -> "Snapshot | None":
        """The snapshot read instead of a file that a collection is writing; None: the file."""
        self.connection  # noqa: B018  # opens the file if it is not open
        return self._snapshot

    @property
    def snapshot_time(self) -> "datetime | None":
        """When the snapshot in use was published, in UTC; None: the file itself is read."""
        return None if self.snapshot is None else self.snapshot.time

    def views(self, pattern: str = "*") -> "pl.DataFrame":
        """Return the views whose name matches a glob: columns ``view, description, sql``.

        Raises
        ------
        UsageError
            No name matches.
        """
        return list_views(self.connection, pattern)

    def view(self, name: str = FIT_VIEW, where: str | None = None) -> "pl.DataFrame":
        """Return the rows of a view, or of a call such as ``variant(measure := 'nsr')``.

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
        """Return the rows of a query.

        Raises
        ------
        QueryError
            The query fails; the message is DuckDB's own, with the position.
        """
        return query(self.connection, text)

    # --- fitting and predicting ---------------------------------------------------------------

    def fit(
        self,
        view: str = FIT_VIEW,
        *,
        curve: str | Sequence[str] = FIT_CURVE,
        by: str | None = "network",
        where: str | None = None,
        leave_out: str = "network",
    ) -> "list[GroupFit]":
        """Fit accuracy loss over divergence: to all points (``ALL``), then to each group.

        Parameters
        ----------
        view
            A view's name, or a call such as ``variant(share := 'param')``.
        curve
            A curve's name, or several: all fits of the first come first.
        by
            The column whose values are the groups; None: only ``ALL``.
        where
            A SQL condition on the view's columns.
        leave_out
            The column whose values are left out one at a time for the held-out figures:
            ``network`` or ``architecture``.

        Raises
        ------
        UsageError
            No such view, curve or column; the message lists the valid ones.
        """
        from ptqdb.fitting.view_fit import fit_view_frame

        frame = self.view(view, where)
        return [
            fit
            for name in ([curve] if isinstance(curve, str) else curve)
            for fit in fit_view_frame(frame, view=view, curve=name, by=by, leave_out_by=leave_out)
        ]

    def validate(
        self,
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
            The nominal coverage of the prediction intervals.

        Raises
        ------
        UsageError
            No such view or curve.
        DataError
            Fewer than three networks, or too few points.
        """
        from ptqdb.fitting.validation import validate_view_frame

        return validate_view_frame(
            self.view(view, where), curve=curve, leave_out=leave_out, coverage=coverage
        )

    def remarks(self, view: str, where: str | None = None) -> list[str]:
        """Return remarks on a view: networks without rows, and networks that count as one."""
        from ptqdb.fitting.view_fit import view_remarks

        return view_remarks(self.view(view, where), view)

    def best_prediction(self, leave_out: str = "network") -> "BestPrediction | None":
        """Return the view and curve known to predict unseen networks best.

        This is the best that `compare` stored, or else the default of `predict`.

        Parameters
        ----------
        leave_out
            ``network`` or ``architecture``.

        Returns
        -------
        None if nothing can be left out, as with a single network.
        """
        from ptqdb.fitting.store import best_prediction

        return best_prediction(self.connection, leave_out)

    def compare(
        self,
        views: str = "*",
        curves: Sequence[str] = COMPARED_CURVES,
        *,
        leave_out: str = "network",
        job_count: int = 1,
        reporter: "CompareReporter | None" = None,
        wait_s: float = 0.0,
        remarked: Callable[[str], None] | None = None,
    ) -> "Leaderboard":
        """Fit views with curves and rank them by their predictions of unseen networks.

        Results are stored in the tables ``fit`` and ``fit_fold``; unchanged fits are not
        repeated.

        Parameters
        ----------
        views
            A name or glob, or a call of ``variant``; the baselines are always included.
        leave_out
            ``network`` or ``architecture``.
        job_count
            Number of processes; with more than one, a script needs the guard
            ``if __name__ == "__main__"``.
        reporter
            Receives progress.
        wait_s
            Seconds to wait for another process to close the file.
        remarked
            Receives a line when the wait begins.

        Raises
        ------
        UsageError
            No such view or curve.
        DatabaseError
            The file cannot be read, or cannot be written although there are new results.
        """
        from ptqdb.fitting.compare import compare

        with self._released(wait_s, remarked) as open_database:
            return compare(
                open_database,
                views,
                curves,
                leave_out=leave_out,
                job_count=job_count,
                reporter=reporter,
            )

    def predict(
        self,
        network: "NetworkSource",
        calibration: "ImageSet | None" = None,
        *,
        probe: int = 0,
        view: str | None = None,
        curve: str = PREDICTION_CURVE,
        number_formats: "str | Sequence[Format]" = "*",
        leave_out: str = "network",
        coverage: float = COVERAGE,
        float_accuracy: float | None = None,
        image_size: int | None = None,
        device: str = "cpu",
        reporter: "Reporter | None" = None,
    ) -> "Predictions":
        """Predict a network's loss in every number format, without evaluating it quantized.

        The reference is this study: the curve is fitted to its evaluated networks. With `probe`,
        the quantized network runs on a few calibration images, and no label is needed.

        Parameters
        ----------
        network
            As returned by `ptqdb.network`.
        calibration
            Images, labelled or not, to calibrate the scales of the layers' inputs; None: only the
            weights are quantized, and only views of the weights can be used.
        probe
            Number of calibration images to run the quantized network on, at most all; 0: none.
            Without probes in the reference, soft agreement itself is the prediction.
        view
            A view, or a call of ``variant``. None: a view of the weights, which needs no images;
            with `probe`, ``probe_soft``.
        number_formats
            Comma-separated names, globs or pairs, as for `ptqdb.quantization.formats.match_formats`
            (``study``, ``deployed``, ``mxfp4``, ``INT_6@channel``), or the formats themselves.
        leave_out
            The unit whose spread the intervals include: ``network`` or ``architecture``.
        coverage
            The nominal coverage of the prediction intervals.
        float_accuracy
            The network's float accuracy, a fraction; needed only by curves that saturate at
            chance. None: the mean of the reference networks.
        image_size
            Edge of the network's images in pixels, if neither images nor preprocessing
            determine it.

        Raises
        ------
        UsageError
            No such view, curve or format, or a view that needs more data than given.
        DataError
            The network cannot be measured, or the reference is too small to fit the curve.
        """
        from ptqdb.fitting.prediction import predict

        if view is None:
            view = PROBE_VIEW if probe else PREDICTION_VIEW
        has_images = calibration is not None
        self.check_prediction_view(view, curve, has_images=has_images, probe=probe)
        from ptqdb.collection.unevaluated import measure_in_view

        measured = measure_in_view(
            network,
            calibration,
            _formats(number_formats),
            view,
            image_size=image_size,
            probe=probe,
            device=device,
            reporter=reporter,
        )
        return predict(
            self.connection,
            measured,
            view=view,
            curve=curve,
            leave_out=leave_out,
            coverage=coverage,
            float_accuracy=float_accuracy,
        )

    def check_prediction_view(
        self, view: str, curve: str, *, has_images: bool, probe: int = 0
    ) -> None:
        """Refuse an unknown view or curve, or a view that has no row for a new network.

        Does not import PyTorch.

        Raises
        ------
        UsageError
            The message suggests a view or curve.
        """
        from ptqdb.fitting.prediction import check_view

        check_view(self.connection, view, curve, has_images=has_images, probe=probe)

    def recommend(
        self,
        network: "NetworkSource",
        calibration: "ImageSet | None" = None,
        *,
        max_loss: float,
        expected: bool = False,
        **options: Any,
    ) -> "list[Recommendation]":
        """Recommend number formats within a loss, fewest bits first; see `predict`.

        Parameters
        ----------
        max_loss
            Largest acceptable loss, a fraction of the float accuracy.
        expected
            Compare `max_loss` with the predicted loss, not the upper bound of the interval.
        **options
            As in `predict`.
        """
        return self.predict(network, calibration, **options).recommend(max_loss, expected=expected)

    # --- showing ------------------------------------------------------------------------------

    def chart(
        self,
        view: str | Sequence[str] = (),
        *,
        kind: str = "fit",
        curve: str | Sequence[str] = (),
        network: str | None = None,
        layers: Sequence[str] = (),
        x_scale: str = "",
        theme: str = "light",
    ) -> Any:
        """Draw a chart of the study; `ptqdb.charts.save_chart` writes it to a file.

        Parameters
        ----------
        view, curve
            One name or several, as many as the kind draws. Empty: the defaults of the kind.
        kind
            ``fit``, ``networks``, ``variants``, ``distribution``, ``layers``, ``frontier``,
            ``leaderboard``, ``crowding`` or ``residuals``.
        network
            Draw only this network. ``layers`` draws a single one, by default the first.
        layers
            For ``distribution``: ``LAYER`` of the network, or ``NETWORK:LAYER``. Empty: the
            layers with the highest and the lowest kurtosis.
        x_scale
            ``auto`` (the default), ``linear``, ``log`` or ``symlog``.
        theme
            ``light`` or ``dark``.

        Returns
        -------
        An Altair chart.

        Raises
        ------
        UsageError
            No such kind, view, curve, network or layer; the message lists the valid ones. Or an
            argument that the kind does not use.
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
        return draw(self.connection, kind, request)

    def report(
        self,
        path: Path | str,
        *,
        views: Sequence[str] = (),
        curves: Sequence[str] = COMPARED_CURVES,
        job_count: int = 1,
        reporter: "CompareReporter | None" = None,
    ) -> None:
        """Write the whole study as one self-contained page.

        Parameters
        ----------
        path
            Ends in ``.html``; an existing file is replaced.
        views
            Further views to offer in the page: names, globs or calls of ``variant``.
        curves
            Names of the curves to offer in the page.
        job_count
            Number of processes.
        reporter
            Receives progress.

        Raises
        ------
        UsageError
            No such view or curve; the folder is missing, or the file name has another ending.
        DataError
            There is no evaluated network, or the file cannot be written.
        """
        from ptqdb.report import write_report

        write_report(
            self.connection,
            Path(path),
            views=views,
            curves=curves,
            file=self.path.name if self.path else None,
            job_count=job_count,
            reporter=reporter,
        )

    # --- facts --------------------------------------------------------------------------------

    def check(self, pattern: str = "*", *, quick: bool = False) -> "list[CheckResult]":
        """Run the checks for contradictory or missing rows.

        Parameters
        ----------
        pattern
            A check's name or glob.
        quick
            Skip reading every block of the file and the checks of the large tables.

        Raises
        ------
        UsageError
            No such check.
        """
        from ptqdb.database.checks import check

        return check(self.connection, pattern, quick=quick)

    def export(self, folder: Path | str) -> None:
        """Write the facts as one Parquet file per table, to be read by `merge`.

        Raises
        ------
        UsageError
            The folder is a file.
        DataError
            The folder cannot be written.
        """
        from ptqdb.database.exchange import export_study

        export_study(self.connection, Path(folder))

    def merge(
        self,
        folder: Path | str,
        *,
        prefix: str = "",
        wait_s: float = 0.0,
        remarked: Callable[[str], None] | None = None,
    ) -> dict[str, int]:
        """Add an exported study, all or nothing; a missing file is created.

        Parameters
        ----------
        folder
            As written by `export`.
        prefix
            Prefix for the names of the added networks.
        wait_s
            Seconds to wait for another process to close the file.
        remarked
            Receives remarks for the user, such as that facts are incomplete.

        Returns
        -------
        Number of added rows by table.

        Raises
        ------
        DataError, MismatchError
            As in `ptqdb.database.exchange.import_study`.
        DatabaseError
            The file cannot be written.
        """
        from ptqdb.database.exchange import create_if_imported, import_study

        path, folder = self._file("imported into"), Path(folder)
        with (
            self._released(),
            create_if_imported(path, folder),
            connect(path, read_only=False, wait_s=wait_s, remarked=remarked) as connection,
        ):
            return import_study(connection, folder, remarked, prefix=prefix)

    def collect(
        self,
        networks: "NetworkSource | Sequence[NetworkSource]",
        images: "ImageSet",
        calibration: "ImageSet",
        *,
        number_formats: "str | Sequence[Format]" = "*",
        quantized: "Mapping[str, str | Path] | None" = None,
        scopes: Sequence[str] = (),
        device: str = "cpu",
        precision: str = "auto",
        until: float | None = None,
        probe: int = DEFAULT_PROBE_COUNT,
        sensitivity: bool = False,
        replace: bool = False,
        wait_s: float = 0.0,
        reporter: "Reporter | None" = None,
    ) -> "CollectionOutcome":
        """Quantize networks in every format and store the measurements.

        A missing file is created; existing results are kept. Interrupted? Call it again; it
        resumes.

        Parameters
        ----------
        networks
            As returned by `ptqdb.network`.
        images, calibration
            Images for evaluation and for calibration, as returned by `ptqdb.images`.
        number_formats
            Comma-separated names, globs or pairs, as for `ptqdb.quantization.formats.match_formats`
            (``study``, ``deployed``, ``mxfp4``, ``INT_6@channel``), or the formats themselves.
        quantized
            Checkpoints of one network whose weights another method has quantized and dequantized,
            by the name that their format gets.
        scopes
            What to quantize alone, in addition to everything together: any of weight, bias, input,
            layer; layer evaluates the network once per layer and format.
        device, precision
            ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` or ``float32``.
        until
            Standard error of the loss, such as 0.005: the evaluation of a cell stops when it is at
            most this, or 5 % of the loss, and at least 500 images are evaluated; None: all images.
        probe
            Number of calibration images on which each format is also compared with the float
            network, without labels, for the views ``probe_*``; at most all. 0: none.
        sensitivity
            Whether to measure, with gradients on 64 calibration images, how much noise in each
            layer's output moves the float network's decision: for ``share := 'sensitivity'``.
        replace
            Whether to delete existing results and collect them again.
        wait_s
            Seconds to wait for another process to close the file.
        reporter
            Receives progress.

        Returns
        -------
        Numbers of filled and of existing cells, and the failed networks with the reason.

        Raises
        ------
        UsageError
            An unknown format, scope or device, checkpoints for several networks, an invalid
            standard error or number of images, or two networks with one name.
        MismatchError
            The database has one of the networks with other arguments; nothing was written.
        DatabaseError
            The file cannot be opened for writing.
        """
        from ptqdb.collection.declaration import check_quantized
        from ptqdb.collection.plan import NetworkTask
        from ptqdb.collection.quantized_checkpoints import QuantizedCheckpoint
        from ptqdb.collection.requests import build_request
        from ptqdb.networks.sources import NetworkSource

        sources = [networks] if isinstance(networks, NetworkSource) else networks
        given = {name: Path(path) for name, path in (quantized or {}).items()}
        if given and len(sources) != 1:
            raise UsageError(f"--quantized: expected exactly one network, found {len(sources)}")
        for name, path in given.items():
            check_quantized(name, path)
        checkpoints = tuple(QuantizedCheckpoint(*each) for each in given.items())
        request = build_request(
            [NetworkTask(source, images, calibration, checkpoints) for source in sources],
            number_formats=_formats(number_formats),
            scopes=scopes,
            device=device,
            precision=precision,
            until=until,
            probe=probe,
            sensitivity=sensitivity,
            anew=replace,
        )
        return self.fill(request, reporter, wait_s=wait_s)

    def fill(
        self,
        request: "CollectionRequest",
        reporter: "Reporter | None" = None,
        *,
        wait_s: float = 0.0,
    ) -> "CollectionOutcome":
        """Fill the missing cells of a request, such as one read from a study file; see `collect`.

        Raises
        ------
        MismatchError, DatabaseError
            As in `collect`.
        """
        from ptqdb.collection.reporting import Silent
        from ptqdb.collection.sweep import collect

        path = self._file("collected into")
        with self._released():
            return collect(request, path, reporter or Silent(), wait_s=wait_s)

    # --- opening and closing ------------------------------------------------------------------

    @contextmanager
    def _released(
        self, wait_s: float = 0.0, remarked: Callable[[str], None] | None = None
    ) -> "Iterator[OpenDatabase]":
        """Close the reading connection for a write; yield a function that opens the file."""
        self._stack.close()
        self._connection = self._snapshot = None
        if self.path is None:
            yield open_embedded_facts
        else:
            yield partial(connect, self.path, wait_s=wait_s, remarked=remarked)

    def _file(self, done: str) -> Path:
        if self.path is None:
            raise UsageError(f"the embedded study cannot be {done}: open a file of your own")
        return self.path

    def close(self) -> None:
        """Close the file; other processes may write it again."""
        self._stack.close()
        self._connection, self._is_closed = None, True

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


def open_study(path: Path | str | None = None, *, create: bool = False) -> Study:
    """Open a database to read it or to collect into it.

    While ``ptqdb collect`` writes the file, its last published snapshot is read instead; see
    ``Study.snapshot_time``.

    Parameters
    ----------
    path
        A file written by ``ptqdb collect``; None opens the study that ships with the package.
    create
        Whether the file may be missing: `Study.collect` and `Study.merge` create it.

    Raises
    ------
    DatabaseError
        The file is missing, damaged, not a ptqdb database, or open for writing elsewhere
        without a snapshot.
    """
    study = Study(None if path is None else Path(path))
    if not create:
        study.connection  # noqa: B018  # raises now, not at first use
    return study


def _formats(asked: "str | Sequence[Format]") -> "tuple[Format, ...]":
    from ptqdb.quantization.formats import match_formats

    return match_formats(asked) if isinstance(asked, str) else tuple(asked)
