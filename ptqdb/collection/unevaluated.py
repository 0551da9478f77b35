"""Measures a network without evaluating it: it gets divergences in the views, but no accuracy."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import polars as pl
import torch

from ptqdb.collection.reporting import Reporter, Silent
from ptqdb.collection.rows import (
    read_layer_ids,
    read_tensor_ids,
    write_network,
    write_probe,
    write_quantized_tensors,
    write_sensitivities,
)
from ptqdb.collection.shared_rows import (
    ensure_dataset,
    ensure_format,
    ensure_formats,
    ensure_scheme,
)
from ptqdb.database import IN_MEMORY, connect, materialize, query, read_view, transaction
from ptqdb.database.variants import variant_words, with_scheme
from ptqdb.datasets.images import ImageSet
from ptqdb.errors import DataError
from ptqdb.measurement.facts import FailedEvaluation, TensorKey
from ptqdb.measurement.network import NetworkMeasurement, example_images
from ptqdb.measurement.own_code import own_errors_as_data_errors
from ptqdb.measurement.probe import NetworkProbe
from ptqdb.measurement.sensitivity import layer_sensitivities
from ptqdb.networks.outputs import check_outputs
from ptqdb.networks.reference import REFERENCE_IMAGE_SIZE, REFERENCE_NETWORKS
from ptqdb.networks.sources import NetworkSource
from ptqdb.quantization.formats import Format

SOFTMAX_MEASURE = "js_softmax"
TRAINED = "trained"
SENSITIVITY = "sensitivity"
EVERY_SCHEME = "*"
_PROBES = (
    "select format_name(number_format.name, scheme.name) as number_format, probe.image_count, "
    "probe.image_count - probe.same_prediction as changed_count "
    "from probe join number_format using (number_format_id) join scheme using (scheme_id)"
)


@dataclass(frozen=True, eq=False)
class UnevaluatedNetwork:
    """A network with known divergences and unknown losses.

    Attributes
    ----------
    name, checkpoint_sha256
        Its name, and the digest of its weights.
    rows
        Its rows of a view, one per number format.
    remarks
        Remarks on the measurement.
    of_weights_alone
        Names of those of its formats that keep inputs in floats.
    probes
        The images of its probes, one row per number format: ``number_format, image_count,
        changed_count``; None without probes.
    """

    name: str
    checkpoint_sha256: str
    rows: pl.DataFrame
    remarks: tuple[str, ...] = ()
    probes: pl.DataFrame | None = None
    of_weights_alone: frozenset[str] = frozenset()


def measure_in_view(
    source: NetworkSource,
    calibration: ImageSet | None,
    number_formats: Sequence[Format],
    view: str,
    *,
    image_size: int | None = None,
    probe: int = 0,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> UnevaluatedNetwork:
    """Measure what a view needs of a network; parameters as in `measure_unevaluated`.

    Raises
    ------
    UsageError
        There is no such view.
    DataError, UsageError
        As in `measure_unevaluated`.
    """
    if calibration is None and image_size is None and source.spec in REFERENCE_NETWORKS:
        image_size = REFERENCE_IMAGE_SIZE
    words = variant_words(view)
    with measure_unevaluated(
        source,
        calibration,
        number_formats,
        image_size=image_size,
        with_inputs=words.get("tensors") not in ("parameters", TRAINED),
        probe=probe,
        with_softmax=words.get("measure", SOFTMAX_MEASURE) == SOFTMAX_MEASURE,
        with_trained=words.get("tensors", TRAINED) == TRAINED,
        with_sensitivity=words.get("share") == SENSITIVITY,
        device=device,
        reporter=reporter,
    ) as connection:
        of_study = all(known.scheme.is_of_study for known in number_formats)
        rows = read_view(connection, view if of_study else with_scheme(view, EVERY_SCHEME))
        checkpoint = query(connection, "select checkpoint_sha256 from network").item()
        probes = query(connection, _PROBES) if probe else None
    remarks = () if calibration is not None else ("no images: only the weights are quantized",)
    alone = {known.name for known in number_formats if known.scheme.is_of_weights_alone}
    return UnevaluatedNetwork(source.name, checkpoint, rows, remarks, probes, frozenset(alone))


@contextmanager
def measure_unevaluated(
    source: NetworkSource,
    calibration: ImageSet | None,
    number_formats: Sequence[Format],
    *,
    image_size: int | None = None,
    with_inputs: bool = True,
    with_softmax: bool = True,
    with_trained: bool = True,
    with_sensitivity: bool = False,
    probe: int = 0,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield an in-memory database with a network's facts in some formats, without evaluations.

    ``variant`` and the named views have one row per format, with ``divergence`` and
    ``chance_accuracy``; all other accuracies are NULL. No quantized network is run, except for
    probes. The float network runs over the calibration images twice, or once without
    `with_inputs`, and over single images before.

    Parameters
    ----------
    source
        The network, not loaded yet.
    calibration
        Images, labelled or not, to calibrate the scales of inputs and biases. None: only the
        weights are measured, and only views that use nothing else have rows; see
        ``ptqdb.database.uses_weights_alone``.
    number_formats
        The formats to measure.
    image_size
        Edge of the network's images in pixels, if neither calibration images nor preprocessing
        determine it; the order of the layers and their MACs depend on it.
    with_inputs
        Whether to measure the quantized inputs of the layers, which needs the second float pass;
        views of weights and biases do not need it.
    with_softmax
        Whether to compute the softmax divergences of weights and biases, which take two thirds of
        the time; only views of the measure ``js_softmax`` need them.
    with_trained
        Whether to measure weights and biases as trained, too; only views with ``tensors :=
        'trained'`` need them.
    with_sensitivity
        Whether to measure the sensitivity of each layer, for views with ``share :=
        'sensitivity'``; it needs calibration images.
    probe
        Number of calibration images to probe each format on, at most all; 0: no probe.
    reporter
        Receives the preparation of the network and remarks for the user, or None.

    Raises
    ------
    DataError
        The network cannot be loaded or measured, or does not accept such images.
    UsageError
        The network's preprocessing or the size of its images is unknown.
    """
    reporter = reporter or Silent()
    reporter.preparing(source.name)
    trained = source.load()
    for remark in trained.remarks:
        reporter.remarked(f"{source.name}: {remark}")
    examples = example_images(trained.preprocessing, calibration, image_size, torch.device("cpu"))
    class_count = check_outputs(trained, examples[:1])
    with own_errors_as_data_errors():
        measurement = NetworkMeasurement(
            trained,
            calibration,
            number_formats,
            device=torch.device(device),
            image_size=image_size,
            with_inputs=with_inputs,
            with_softmax=with_softmax,
            with_trained=with_trained,
        )
    for remark in measurement.remarks:
        reporter.remarked(f"{source.name}: {remark}")
    with connect(IN_MEMORY, read_only=False) as connection:
        with transaction(connection):
            network_id = _write_network(connection, measurement, calibration, class_count)
            tensor_ids = read_tensor_ids(connection, network_id)
            wanted = tuple(dict.fromkeys(number_formats))
            ids = {
                known: (
                    ensure_format(connection, known.number_format),
                    ensure_scheme(connection, known.scheme),
                )
                for known in wanted
            }
            wanted = tuple(
                known
                for known in wanted
                if _write_facts(connection, measurement, known, tensor_ids, ids[known], reporter)
            )
            if with_sensitivity and calibration is not None:
                with own_errors_as_data_errors():
                    sensitivities = layer_sensitivities(
                        measurement.network,
                        calibration,
                        trained.preprocessing,
                        device=torch.device(device),
                    )
                layer_ids = read_layer_ids(connection, network_id)
                write_sensitivities(connection, layer_ids, sensitivities)
            if probe and calibration is not None:
                network_probe = NetworkProbe(
                    measurement.network,
                    calibration,
                    trained.preprocessing,
                    probe,
                    device=torch.device(device),
                )
                for known in wanted:
                    found = network_probe.of_codes(measurement.code(known), known)
                    if isinstance(found, FailedEvaluation):
                        reporter.remarked(
                            f"{source.name} cannot be probed in {known.name}: {found.reason}"
                        )
                    else:
                        write_probe(connection, network_id, *ids[known], found)
        materialize(connection, reporter.remarked)
        yield connection


def _write_facts(
    connection: duckdb.DuckDBPyConnection,
    measurement: NetworkMeasurement,
    known: Format,
    tensor_ids: Mapping[TensorKey, int],
    ids: tuple[int, int],
    reporter: Reporter,
) -> bool:
    """Write the facts in a format; report it and return False if it does not fit the weights."""
    try:
        facts = measurement.facts_without_codes(known)
    except DataError as error:
        reporter.remarked(f"cannot quantize in {known.name}: {error}")
        return False
    write_quantized_tensors(connection, tensor_ids, *ids, facts)
    return True


def _write_network(
    connection: duckdb.DuckDBPyConnection,
    measurement: NetworkMeasurement,
    calibration: ImageSet | None,
    class_count: int,
) -> int:
    """Write the float network's facts; return its id.

    The dataset records that it is evaluated on no images. The number of classes is the number of
    outputs, regardless of labels of the calibration images.
    """
    ensure_formats(connection)
    dataset_id = ensure_dataset(
        connection,
        name="none",
        split="none",
        class_count=class_count,
        image_count=0,
        content_sha256=hashlib.sha256().hexdigest(),
    )
    calibration_id = None
    if calibration is not None:
        calibration_id = ensure_dataset(
            connection,
            name=calibration.name,
            split=calibration.split,
            class_count=class_count,
            image_count=len(calibration),
            content_sha256=calibration.content_sha256,
        )
    return write_network(connection, measurement.float_facts(), dataset_id, calibration_id)
