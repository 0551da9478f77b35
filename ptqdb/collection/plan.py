"""Plans the cells that a collection fills: the requested cells minus the existing ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import duckdb

from ptqdb.collection.quantized_checkpoints import (
    QuantizedCheckpoint,
    refuse_other_checkpoints,
    refuse_other_schemes,
)
from ptqdb.datasets.images import ImageSet
from ptqdb.defaults import DEFAULT_PROBE_COUNT, LAYER_SCOPE
from ptqdb.errors import MismatchError, UsageError
from ptqdb.measurement.first_images import is_enough
from ptqdb.networks.sources import NetworkSource
from ptqdb.quantization.formats import Format, format_name


@dataclass(frozen=True)
class NetworkTask:
    """A network and its images.

    Attributes
    ----------
    source
        The network, not loaded yet.
    images, calibration
        Labelled images for evaluation; images for calibration, which need no labels.
    quantized
        Checkpoints with dequantized weights, each a format of this network.

    Raises
    ------
    DataError
        The images for evaluation have no labels.
    """

    source: NetworkSource
    images: ImageSet
    calibration: ImageSet
    quantized: tuple[QuantizedCheckpoint, ...] = ()

    def __post_init__(self) -> None:
        self.images.known_labels()

    @property
    def name(self) -> str:
        """The network's name in the database."""
        return self.source.name


@dataclass(frozen=True)
class CollectionRequest:
    """A request for a collection.

    Attributes
    ----------
    tasks
        One per network, with distinct names.
    scopes
        What is quantized: ``all``, and any of ``weight``, ``bias``, ``input`` alone, and
        ``layer``: each layer alone.
    precision
        ``auto`` or ``float32``.
    replace
        Whether to delete existing results and collect them again.
    until
        Standard error of the loss at which the evaluation of a cell stops; None: all images. See
        ``ptqdb.measurement.first_images.is_enough``.
    probe
        Number of calibration images to probe each format on, at most all; 0: no probe.
    sensitivity
        Whether to measure the sensitivity of each layer of the float network, too.

    Raises
    ------
    UsageError
        Two networks have one name.
    """

    tasks: tuple[NetworkTask, ...]
    number_formats: tuple[Format, ...]
    scopes: tuple[str, ...] = ("all",)
    device: str = "cpu"
    precision: str = "auto"
    replace: bool = False
    until: float | None = None
    probe: int = DEFAULT_PROBE_COUNT
    sensitivity: bool = False

    def __post_init__(self) -> None:
        first: dict[str, NetworkTask] = {}
        for task in self.tasks:
            other = first.setdefault(task.name, task)
            if other is not task:
                raise UsageError(
                    f"--network: {other.source.spec} and {task.source.spec} are both named "
                    f"{task.name}; collect one of them separately with --name"
                )

    def probe_count(self, task: NetworkTask) -> int:
        """Return the number of images to probe a network on; 0: no probe."""
        return min(self.probe, len(task.calibration))


@dataclass(frozen=True)
class Cell:
    """One evaluation of one network: the unit of writing, all or nothing.

    With the scope ``all``, the probe belongs to it.

    Attributes
    ----------
    layer
        With the scope ``layer``, the only quantized layer; None there means every layer of a
        network whose layers are not known yet.
    """

    network: str
    format: Format
    scope: str
    layer: str | None = None

    @property
    def label(self) -> str:
        """Its format and scope, for messages."""
        alone = self.scope if self.layer is None else f"layer {self.layer}"
        name = self.format.name
        return name if self.scope == "all" else f"{name} ({alone})"


@dataclass(frozen=True)
class NetworkPlan:
    """The cells of one network to fill, in order.

    Attributes
    ----------
    is_new
        Whether to write the network's float facts, too.
    evaluated
        Those of the cells that are evaluated and lack only their probe.
    failed
        Requested cells that are recorded as failing; they are not tried again.
    lacks_sensitivity
        Whether to measure the sensitivity of its layers.
    layer_count
        Number of quantized layers; an upper bound for a new network.
    work
        Work per image, as counted by ``ptqdb.measurement.macs.Work.amount``; None if unknown.
    """

    task: NetworkTask
    is_new: bool
    cells: tuple[Cell, ...]
    present_count: int
    failed: tuple[Cell, ...] = ()
    layer_count: int = 0
    work: float | None = None
    evaluated: frozenset[Cell] = frozenset()
    lacks_sensitivity: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether nothing requested is missing."""
        return not (self.is_new or self.cells or self.lacks_sensitivity)

    @property
    def changes_views(self) -> bool:
        """Whether what is missing will add rows to the views that curves are fitted over."""
        alone = all(cell.scope == LAYER_SCOPE for cell in self.cells)
        return self.is_new or self.lacks_sensitivity or not alone

    @property
    def cell_count(self) -> int:
        """Number of cells to fill; an upper bound while the layers are unknown."""
        unknown = sum(_is_of_every_layer(cell) for cell in self.cells)
        return len(self.cells) + unknown * (self.layer_count - 1)

    def with_layers(self, names: Sequence[str]) -> "NetworkPlan":
        """Return the plan with a cell per layer, once the network is prepared."""
        cells = tuple(each for cell in self.cells for each in _by_layer(cell, names))
        return replace(self, cells=cells, layer_count=len(names))


def _is_of_every_layer(cell: Cell) -> bool:
    return cell.scope == LAYER_SCOPE and cell.layer is None


def _by_layer(cell: Cell, names: Sequence[str]) -> Iterator[Cell]:
    if not _is_of_every_layer(cell):
        yield cell
    else:
        yield from (replace(cell, layer=name) for name in names)


def plan_network(
    connection: duckdb.DuckDBPyConnection, request: CollectionRequest, task: NetworkTask
) -> NetworkPlan:
    """Plan the missing cells of one network.

    Raises
    ------
    DataError
        The checkpoint cannot be read, or weights without a file cannot be obtained.
    MismatchError
        The database has the network with another checkpoint, other images or another
        precision; the message names the argument.
    """
    wanted = [
        Cell(task.name, known, scope)
        for known in request.number_formats
        for scope in request.scopes
    ]
    wanted += [Cell(task.name, each.format, "all") for each in task.quantized]
    replaced = [each.name for each in request.tasks] if request.replace else []
    refuse_other_schemes(connection, _asked(request, task), replaced)
    stored = None if request.replace else _stored_identity(connection, task.name)
    if stored is None:
        return NetworkPlan(task, True, tuple(wanted), 0, lacks_sensitivity=request.sensitivity)
    _refuse_differences(task, stored)
    refuse_other_checkpoints(connection, task.name, task.quantized)
    layers = _layers(connection, task.name)
    wanted = [each for cell in wanted for each in _by_layer(cell, layers)]
    present = _present_cells(connection, request, task)
    evaluated = present - _probed_cells(connection, request, task)
    evaluated = {cell for cell in evaluated if cell.scope == "all"} if request.probe else set()
    present -= evaluated
    known_to_fail = _failed_cells(connection, request, task)
    failed = tuple(cell for cell in wanted if cell in known_to_fail)
    missing = tuple(cell for cell in wanted if cell not in present | known_to_fail)
    return NetworkPlan(
        task,
        False,
        missing,
        len(wanted) - len(missing) - len(failed),
        failed,
        len(layers),
        evaluated=frozenset(evaluated.intersection(missing)),
        lacks_sensitivity=request.sensitivity and not _has_sensitivity(connection, task.name),
    )


@dataclass(frozen=True)
class _Images:
    """Stored images."""

    split: str
    image_count: int
    content_sha256: str


@dataclass(frozen=True)
class _Identity:
    """The identity of a stored network: weights, preprocessing and images."""

    checkpoint_sha256: str
    preprocessing: str | None
    images: _Images
    calibration: _Images


def _stored_identity(connection: duckdb.DuckDBPyConnection, name: str) -> _Identity | None:
    row = connection.execute(
        "select n.checkpoint_sha256, n.preprocessing, i.split, i.image_count, i.content_sha256, "
        "c.split, c.image_count, c.content_sha256 from network as n "
        "join dataset as i on i.dataset_id = n.dataset_id "
        "join dataset as c on c.dataset_id = n.calibration_dataset_id where n.name = ?",
        [name],
    ).fetchone()
    if row is None:
        return None
    return _Identity(row[0], row[1], _Images(*row[2:5]), _Images(*row[5:8]))


def _refuse_differences(task: NetworkTask, stored: _Identity) -> None:
    name = task.name
    remedy = "give the same, another --db, or --replace to collect it again"
    if task.source.checkpoint_sha256 != stored.checkpoint_sha256:
        raise MismatchError(f"the database has {name} from another checkpoint; {remedy}")
    asked = task.source.known_preprocessing().to_json()
    if stored.preprocessing not in (None, asked):
        raise MismatchError(
            f"--mean, --std, --resize, --crop: the database has {name} with the preprocessing "
            f"{stored.preprocessing}, found {asked}; {remedy}"
        )
    for argument, found, expected in (
        ("--images", task.images, stored.images),
        ("--calibration", task.calibration, stored.calibration),
    ):
        if found.content_sha256 == expected.content_sha256:
            continue
        same_count = len(found) == expected.image_count
        raise MismatchError(
            f"{argument}: the database has {name} on {expected.image_count} images, found "
            f"{'as many others' if same_count else len(found)} requested; {remedy}"
        )


def _present_cells(
    connection: duckdb.DuckDBPyConnection, request: CollectionRequest, task: NetworkTask
) -> set[Cell]:
    """The stored cells of a network, without those evaluated on too few images."""
    name = task.name
    rows = connection.execute(
        "select f.name, s.name, e.scope, l.name, e.precision, e.image_count, e.correct_top1, "
        "e.float_correct_top1, e.correct_both from compared_evaluation() as e "
        "join network as n using (network_id) join number_format as f using (number_format_id) "
        "join scheme as s using (scheme_id) left join layer as l using (layer_id) "
        "where n.name = ?",
        [task.name],
    ).fetchall()
    asked = _by_names(request, task)
    for *names, scope, _, precision, _, _, _, _ in rows:
        other = request.precision == "float32" and precision != "float32"
        if other and tuple(names) in asked and scope in request.scopes:
            raise MismatchError(
                f"--precision: the database has {name} in {format_name(*names)} computed in "
                f"{precision}, found float32 requested; give --precision auto, another --db, or "
                "--replace to collect it again"
            )
    return {
        Cell(name, asked[number_format, scheme], scope, layer)
        for number_format, scheme, scope, layer, _, *counts in rows
        if (number_format, scheme) in asked
        and _has_enough_images(request.until, len(task.images), *counts)
    }


def _probed_cells(
    connection: duckdb.DuckDBPyConnection, request: CollectionRequest, task: NetworkTask
) -> set[Cell]:
    """The cells of a network with a probe on as many images as requested."""
    rows = connection.execute(
        "select f.name, s.name from probe join network as n using (network_id) "
        "join number_format as f using (number_format_id) join scheme as s using (scheme_id) "
        "where n.name = ? and probe.image_count >= ?",
        [task.name, request.probe_count(task)],
    ).fetchall()
    asked = _by_names(request, task)
    return {Cell(task.name, asked[names], "all") for names in rows if names in asked}


def _by_names(request: CollectionRequest, task: NetworkTask) -> dict[tuple[str, str], Format]:
    """The requested formats of a network by the names of number format and scheme."""
    return {(known.number_format.name, known.scheme.name): known for known in _asked(request, task)}


def _asked(request: CollectionRequest, task: NetworkTask) -> list[Format]:
    """The requested formats of a network."""
    return [*request.number_formats, *(each.format for each in task.quantized)]


def _has_sensitivity(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = connection.execute(
        "select 1 from layer_sensitivity join layer as l using (layer_id) "
        "join network as n using (network_id) where n.name = ? limit 1",
        [name],
    )
    return found.fetchone() is not None


def _has_enough_images(
    until: float | None,
    all_images: int,
    image_count: int,
    correct: int,
    float_correct: int | None,
    correct_both: int,
) -> bool:
    """Whether a stored evaluation covers all images, or as many as the request needs."""
    if image_count == all_images:
        return True
    if until is None or float_correct is None:
        return False
    return is_enough(image_count, correct, float_correct, correct_both, until)


def _layers(connection: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    """The layers of a stored network, in order."""
    rows = connection.execute(
        "select l.name from layer as l join network as n using (network_id) where n.name = ? "
        "order by l.position",
        [name],
    ).fetchall()
    return [layer for (layer,) in rows]


def _failed_cells(
    connection: duckdb.DuckDBPyConnection, request: CollectionRequest, task: NetworkTask
) -> set[Cell]:
    rows = connection.execute(
        "select number_format, scheme, scope, quantized_layer from failed_cell_overview "
        "where network = ?",
        [task.name],
    ).fetchall()
    asked = {(known.name, names[1]): known for names, known in _by_names(request, task).items()}
    return {Cell(task.name, asked[row[:2]], *row[2:]) for row in rows if row[:2] in asked}
