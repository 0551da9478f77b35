"""A network that nobody evaluates has the divergences that a collection would have given it."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch
from collecting import Silence, images, request, source
from polars.testing import assert_frame_equal
from torch import Tensor, nn

import ptqdb
from ptqdb.collection.plan import CollectionRequest, NetworkTask
from ptqdb.collection.sweep import collect
from ptqdb.collection.unevaluated import measure_in_view, measure_unevaluated
from ptqdb.database import connect, query, read_view
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Geometry
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError, UsageError
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.measurement.softmax_divergence import softmax_divergences
from ptqdb.networks.embedded import embedded_folder, embedded_network
from ptqdb.networks.sources import network_source
from ptqdb.quantization.formats import match_formats
from ptqdb.quantization.layers import QuantizedLayer

FORMATS = match_formats("INT_4,INT_8,POT_4,FLOAT_6_E3")
VIEWS = (
    "fakefreeze_flops_depth",
    "l2_flops_segmented",
    "fakefreeze_flops_cosine",
    "fakefreeze_weightonly_flops",
    "variant(measure := 'js_softmax', bins := 21)",
    "variant(measure := 'nsr', tensors := 'both')",
)
KEY = ["network", "architecture", "number_format", "family", "bits", "ebits"]
OF_IMAGES = [
    "accuracy", "float_accuracy", "accuracy_loss", "accuracy_loss_se", "images", "saturated",
]  # fmt: skip


@pytest.fixture(scope="module")
def calibration() -> ImageSet:
    return read_images(embedded_folder(), "train", count=64, labelled=False)


@pytest.fixture(scope="module")
def collected(
    calibration: ImageSet, empty_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    """AlexNet, evaluated on a few images."""
    shown = read_images(embedded_folder(), "test", count=10)
    task = NetworkTask(embedded_network("AlexNet"), shown, calibration)
    path = Path(shutil.copy(empty_file, tmp_path_factory.mktemp("collected") / "study.duckdb"))
    assert not collect(CollectionRequest((task,), FORMATS), path, Silence()).failures
    with connect(path, read_only=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def unevaluated(calibration: ImageSet) -> Iterator[duckdb.DuckDBPyConnection]:
    with measure_unevaluated(embedded_network("AlexNet"), calibration, FORMATS) as connection:
        yield connection


@pytest.fixture(scope="module")
def of_weights() -> Iterator[duckdb.DuckDBPyConnection]:
    found = measure_unevaluated(embedded_network("AlexNet"), None, FORMATS, image_size=32)
    with found as connection:
        yield connection


def test_divergences_are_those_of_a_collection(
    collected: duckdb.DuckDBPyConnection, unevaluated: duckdb.DuckDBPyConnection
) -> None:
    for view in VIEWS:
        expected, found = read_view(collected, view), read_view(unevaluated, view)
        assert len(found) == len(FORMATS), view
        same = [*KEY, "divergence", "chance_accuracy"]
        assert_frame_equal(found[same], expected[same], rel_tol=1e-12, abs_tol=0)
        assert (found["divergence"] > 0).all()
        assert found["chance_accuracy"].unique().to_list() == [0.1]
        assert found[OF_IMAGES].null_count().row(0) == (len(found),) * len(OF_IMAGES)
    assert read_view(unevaluated, "fakefreeze_flops_sensitivity").is_empty()


def test_without_images_the_views_of_weights_are_the_same(
    unevaluated: duckdb.DuckDBPyConnection, of_weights: duckdb.DuckDBPyConnection
) -> None:
    for view in (
        "fakefreeze_weightonly_flops_depth",
        "variant(combine := 'weightonly', correction := 'coverage')",
        "variant(combine := 'weightonly', measure := 'nsr')",
        "channelnsr_weightonly_layer_depth",
    ):
        expected, found = read_view(unevaluated, view), read_view(of_weights, view)
        assert len(found) == len(FORMATS), view
        assert found.equals(expected)
    # Never a sum without its biases or inputs.
    for view in ("fakefreeze_flops_depth", "variant(measure := 'nsr', tensors := 'inputs')"):
        assert read_view(of_weights, view).is_empty()


def test_the_float_facts_are_those_of_a_collection(
    collected: duckdb.DuckDBPyConnection,
    unevaluated: duckdb.DuckDBPyConnection,
    of_weights: duckdb.DuckDBPyConnection,
) -> None:
    tables = ("layer", "tensor", "tensor_channel", "tensor_histogram", "unquantized_part")
    cells = ("quantized_tensor", "quantized_tensor_channel", "code_histogram")
    for table in (*tables, *cells, "tensor_divergence"):
        text = f"from {table} order by all"
        assert query(unevaluated, text).equals(query(collected, text)), table
    layers = "select name, kind, params, macs from layer order by position"
    assert query(of_weights, layers).equals(query(collected, layers))
    roles = query(of_weights, "select distinct role from tensor order by role")["role"]
    assert roles.to_list() == ["bias", "weight"]


def test_the_datasets_say_what_there_was(
    calibration: ImageSet,
    unevaluated: duckdb.DuckDBPyConnection,
    of_weights: duckdb.DuckDBPyConnection,
) -> None:
    datasets = (
        "select d.name, d.split, d.class_count, d.image_count, c.name as calibration, "
        "c.image_count as calibration_count, c.content_sha256 from network as n "
        "join dataset as d using (dataset_id) "
        "left join dataset as c on c.dataset_id = n.calibration_dataset_id"
    )
    none = ("none", "none", 10, 0)
    shown = (calibration.name, 64, calibration.content_sha256)
    assert query(unevaluated, datasets).rows() == [(*none, *shown)]
    assert query(of_weights, datasets).rows() == [(*none, None, None, None)]


# What is run.


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """By layer, how many images each of its passes saw, those of the proof 1 or 2."""
    seen: dict[str, list[int]] = {}
    plain = QuantizedLayer.forward

    def forward(layer: QuantizedLayer, inputs: Tensor) -> Any:
        seen.setdefault(layer.name, []).append(len(inputs))
        return plain(layer, inputs)

    monkeypatch.setattr(QuantizedLayer, "forward", forward)
    monkeypatch.setattr("ptqdb.measurement.network.PROOF_IMAGES", 1)
    return seen


def counted(passes: dict[str, list[int]]) -> set[tuple[int, ...]]:
    """How many images the passes saw that come after the proof: alike for every layer."""
    return {tuple(n for n in seen if n > 2) for seen in passes.values()}


def refuse(*_: Any) -> None:
    raise AssertionError("a quantized network is about to run")


def test_two_float_passes_and_none_in_codes(
    tmp_path: Path, passes: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QuantizedLayer, "use_codes", refuse)
    monkeypatch.setattr("ptqdb.measurement.batches.MOST_IMAGES", 50)
    network, shown = source(tmp_path, "AlexNet"), images(60, "train")
    with measure_unevaluated(network, shown, FORMATS) as connection:
        assert len(read_view(connection, "fakefreeze_flops")) == len(FORMATS)
    assert len(passes) == 8
    assert counted(passes) == {(30, 30, 30, 30)}  # two even batches, twice
    passes.clear()
    with measure_unevaluated(network, None, FORMATS, image_size=32):
        assert counted(passes) == {()}


@pytest.mark.slow
def test_views_of_weights_and_biases_need_one_float_pass_and_no_facts_of_inputs(
    tmp_path: Path, passes: dict[str, list[int]]
) -> None:
    network, shown = source(tmp_path, "AlexNet"), images(8, "train")
    views = ("fakefreeze_flops", "variant(measure := 'nsr', tensors := 'inputs')")
    frames = []
    for with_inputs in (True, False):
        passes.clear()
        with measure_unevaluated(network, shown, FORMATS, with_inputs=with_inputs) as connection:
            frames.append([read_view(connection, view) for view in views])
        expected = (8,) * (1 + with_inputs)
        assert counted(passes) == {expected}
    (parameters, inputs), (same_parameters, no_inputs) = frames
    assert len(parameters) == len(inputs) == len(FORMATS)
    assert same_parameters.equals(parameters)
    assert no_inputs.is_empty()


@pytest.mark.parametrize(
    ("view", "pass_count"),
    [("fakefreeze_flops", 1), ("variant(measure := 'nsr', tensors := 'both')", 2)],
)
def test_a_prediction_measures_inputs_where_its_view_asks_for_them(
    tmp_path: Path, passes: dict[str, list[int]], view: str, pass_count: int
) -> None:
    network = source(tmp_path, "AlexNet")
    with ptqdb.open() as study:
        found = study.predict(network, images(8), view=view, number_formats="INT_4")
    assert len(found.rows) == 1
    assert counted(passes) == {(8,) * pass_count}


def test_a_collection_makes_no_more_passes_than_it_needs(
    path: Path, tmp_path: Path, passes: dict[str, list[int]]
) -> None:
    """Two of calibration, two of the float network, one for each format and scope, and probes."""
    asked = request(tmp_path, networks=[source(tmp_path, "AlexNet")])
    collect(asked, path, Silence())
    assert asked.scopes == ("all", "weight")
    expected = (8, 8, 20, 8, *(20, 8, 20) * len(asked.number_formats))
    assert counted(passes) == {expected}


# What it is told, and what it refuses.


def test_labels_of_calibration_images_do_not_matter(tmp_path: Path) -> None:
    """Not even where they are of other classes than the network tells apart."""
    few = replace(images(8, "train"), labels=torch.zeros(8, dtype=torch.int64), class_names=("a",))
    network, frames = source(tmp_path, "AlexNet"), []
    for shown in (few, replace(few, labels=None, class_names=())):
        with measure_unevaluated(network, shown, FORMATS[:1]) as connection:
            frames.append(read_view(connection, "fakefreeze_flops"))
    assert frames[0].equals(frames[1])
    assert frames[0]["chance_accuracy"].to_list() == [0.1]


def test_a_user_is_told_what_stays_in_float() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    network = network_source(module, mean=(0.5,) * 3, std=(0.5,) * 3, crop=4)
    reporter = Silence()
    with measure_unevaluated(network, None, FORMATS[:1], reporter=reporter) as connection:
        row = read_view(connection, "fakefreeze_weightonly_flops").row(0, named=True)
    assert row["chance_accuracy"] == 0.2
    assert any("not quantized: " in remark for remark in reporter.remarks)


@pytest.mark.parametrize(
    ("image_size", "shown", "geometry", "said"),
    [
        (None, None, Geometry(), "edge in pixels .* found none; give it"),
        (0, None, Geometry(), "at least 1 pixel, found 0"),
        (
            32,
            None,
            Geometry(resize=40, crop=36),
            "the preprocessing's, 36 pixels, found 32; leave it out",
        ),
        (32, None, Geometry(resize=40), "the preprocessing's, 40 pixels, found 32; leave it out"),
        (31, images(2), Geometry(), "the calibration images', 32 pixels, found 31; leave it out"),
    ],
)
def test_the_size_of_images_is_known_and_agreed_upon(
    tmp_path: Path,
    image_size: int | None,
    shown: ImageSet | None,
    geometry: Geometry,
    said: str,
) -> None:
    network = source(tmp_path, "AlexNet")
    fed = replace(network.known_preprocessing(), geometry=geometry)
    measured = measure_unevaluated(
        replace(network, preprocessing=fed), shown, FORMATS[:1], image_size=image_size
    )
    with pytest.raises(UsageError, match=rf"^image_size: .*{said}$"), measured:
        pass


def test_what_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    network = source(tmp_path, "AlexNet")
    small = measure_unevaluated(network, None, FORMATS[:1], image_size=8)
    with pytest.raises(DataError, match="AlexNet cannot take an image of 3 x 8 x 8"), small:
        pass
    gray = replace(images(2), images=torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    with (
        pytest.raises(DataError, match=r"expected images of 3 channels.* found 1 in toy"),
        measure_unevaluated(network, gray, FORMATS[:1]),
    ):
        pass


def test_codes_of_inputs_and_biases_need_calibration_images(tmp_path: Path) -> None:
    trained = source(tmp_path, "AlexNet").load()
    measurement = NetworkMeasurement(
        trained,
        None,
        FORMATS,
        device=torch.device("cpu"),
        image_size=32,
    )
    with pytest.raises(DataError, match="expected calibration images for AlexNet"):
        measurement.code(FORMATS[0])
    assert {role for _, role in measurement.facts_without_codes(FORMATS[0])} == {"weight"}


@pytest.mark.parametrize(
    ("view", "count"), [("fakefreeze_flops", 0), ("variant(measure := 'js_softmax')", 16)]
)
def test_softmax_divergences_are_computed_where_the_view_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str, count: int
) -> None:
    """They take two thirds of the time of the facts."""
    network, shown, called = source(tmp_path, "AlexNet"), images(8, "train"), []

    def softmax(values: Tensor, codes: Tensor, factors: Sequence[float]) -> list[float]:
        called.append(values.shape)
        return softmax_divergences(values, codes, factors)

    monkeypatch.setattr("ptqdb.measurement.coded_tensors.softmax_divergences", softmax)
    formats = match_formats("INT_4")
    found = measure_in_view(network, shown, formats, view).rows
    assert len(called) == count
    with measure_unevaluated(network, shown, formats) as connection:
        assert found.equals(read_view(connection, view))
    assert len(called) == count + 16
