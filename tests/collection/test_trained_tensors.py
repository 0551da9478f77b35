"""Tensors as trained, before batch norm is folded into them, recomputed with NumPy."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import synthetic
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from small_networks import Database, pictures
from torch import nn

import ptqdb
from ptqdb.collection.unevaluated import measure_in_view
from ptqdb.database import connect, read_view, uses_weights_alone
from ptqdb.database.exchange import export_study, import_study
from ptqdb.errors import UsageError
from ptqdb.measurement.trained_tensors import trained_facts
from ptqdb.quantization.formats import study_format
from ptqdb.quantization.number_formats import bias_format, number_format

FORMATS = ("INT_4", "POT_5", "FLOAT_6_E2")
Floats = NDArray[np.float64]


def batch_norm(channel_count: int) -> nn.Module:
    """With other statistics in every channel."""
    norm = nn.BatchNorm2d(channel_count)
    nn.init.uniform_(norm.weight, 0.3, 3.0)
    nn.init.normal_(norm.bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 5.0)
    return norm


def network(*, with_norms: bool = True) -> nn.Module:
    """A convolution without a bias, one with a bias, each before a batch norm; a linear layer."""
    torch.manual_seed(0)
    norms: list[nn.Module] = [nn.Identity(), nn.Identity()]
    if with_norms:
        norms = [batch_norm(4), batch_norm(6)]
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), norms[0], nn.ReLU(),
        nn.Conv2d(4, 6, 3), norms[1], nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    ).eval()  # fmt: skip


def input_ranges(module: nn.Module) -> dict[str, float]:
    """The amax of each layer's input over the calibration images, with hooks."""
    ranges: dict[str, float] = {}
    hooks = [
        part.register_forward_pre_hook(
            lambda _, given, name=name: ranges.update({name: float(given[0].abs().max())})
        )
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        module((pictures(8, "train").images.float() / 255 - 0.5) / 0.25)
    for hook in hooks:
        hook.remove()
    return ranges


def js(x: Floats, codes: Floats, scale: float) -> float:
    """Jensen-Shannon at 63 bins, over shared bins, plus half of each side's mass outside them."""
    bins = [
        np.sign(one) * ((np.abs(one) + 32) // 65)
        for one in (synthetic.fine_bins(part, np.abs(x).max()) for part in (x, codes * scale))
    ]
    places = np.unique(np.concatenate(bins))
    p, q = ([np.mean(one == place) for place in places] for one in bins)
    terms = [
        0.5 * (a * np.log2(2 * a / (a + b)) + b * np.log2(2 * b / (a + b)))
        if a and b
        else 0.5 * (a + b)
        for a, b in zip(p, q, strict=True)
    ]
    return float(np.sum(terms))


def coded(x: Floats, known: str, role: str, scale: float | None) -> tuple[Floats, float]:
    """Nearest codes and scale of a weight, or of a bias at a given scale in its wide format."""
    grid = number_format(known)
    if scale is None:
        scale = float(np.float32(np.float32(np.abs(x).max()) / np.float32(grid.max_code)))
        scaled = (x.astype(np.float32) / np.float32(scale)).astype(np.float64)
        return synthetic.nearest_codes(scaled, grid), scale
    if grid.family == "INT":
        return np.rint(x / scale), scale
    return synthetic.nearest_codes(x / scale, bias_format(grid.family)), scale


def expected_tensors(module: nn.Module, known: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By layer and role: sums, codes and divergences of weight and bias of the given layers."""
    grid, ranges, found = number_format(known), input_ranges(module), {}
    for name, part in module.named_modules():
        if not isinstance(part, nn.Conv2d | nn.Linear):
            continue
        weight_scale = 0.0
        for role, values in (("weight", part.weight), ("bias", part.bias)):
            if values is None:
                continue
            x = values.detach().numpy().astype(np.float64)
            scale = None
            if role == "bias":
                of_input = float(np.float32(ranges[name]) / np.float32(grid.max_code))
                scale = of_input * weight_scale
            codes, scale = coded(x.ravel(), known, role, scale)
            weight_scale = scale
            axis = 1 if x.ndim > 1 else 0
            groups = softmax(x, axis=axis), softmax((codes * scale).reshape(x.shape), axis=axis)
            found[name, role] = {
                "scale": scale,
                "sum_x2": (x**2).sum(),
                "sum_codes": codes.sum(),
                "sum_codes2": (codes**2).sum(),
                "sum_code_x": (codes * x.ravel()).sum(),
                "squared_error_sum": ((codes * scale - x.ravel()) ** 2).sum(),
                "softmax": float(np.sum(jensenshannon(*groups, axis=axis, base=2) ** 2)),
                "js": js(x.ravel(), codes, scale),
                "count": x.size,
            }
    return found


@pytest.fixture(scope="module")
def collected(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """The network with batch norms, and the same without."""
    database = Database(empty_file, tmp_path_factory.mktemp("trained"))
    for name, with_norms in (("normed", True), ("plain", False)):
        module = network(with_norms=with_norms)
        database.collect(module, ",".join(FORMATS), name=name)
    return database


def test_the_facts_are_those_of_the_given_layers(collected: Database) -> None:
    module = network()
    roles = collected.rows(
        "select l.name, t.role from tensor as t join layer as l using (layer_id) "
        "join network as n using (network_id) where n.name = 'normed' order by tensor_id"
    )
    trained = [pair for pair in roles if pair[1].startswith("trained")]
    assert trained == [("0", "trained_weight"), ("3", "trained_weight"), ("3", "trained_bias")]
    assert len(roles) - len(trained) == 9  # folding gives every layer a bias
    for known in FORMATS:
        for (layer, role), expected in expected_tensors(module, known).items():
            stored = role if layer == "8" else f"trained_{role}"
            (row,) = collected.rows(
                "select scale, sum_x2, sum_codes, sum_codes2, sum_code_x, squared_error_sum, "
                "softmax_js_fakefreeze, value, element_count, tensor_id "
                "from quantized_tensor as q join tensor as t using (tensor_id) "
                "join layer as l using (layer_id) join network as n using (network_id) "
                "join number_format as f using (number_format_id) "
                "join tensor_divergence as d using (tensor_id, number_format_id) "
                f"where n.name = 'normed' and l.name = '{layer}' and t.role = '{stored}' "
                f"and f.name = '{known}' and d.measure = 'js' and d.rescale = 'fakefreeze'"
            )
            size = abs(expected["sum_codes2"]) + 1e-9
            assert row[:9] == tuple(
                pytest.approx(value, rel=1e-5, abs=1e-9 * size) for value in expected.values()
            ), (layer, role, known)
            counted = collected.rows(
                f"select sum(count) from code_histogram where tensor_id = {row[9]} group by "
                "number_format_id"
            )
            assert counted == [(expected["count"],)] * len(FORMATS)


@pytest.mark.parametrize(
    ("combine", "of_bias"), [("half", 0.5), ("nodiv", 1.0), ("weightonly", 0.0)]
)
def test_a_bias_that_exists_only_by_folding_does_not_count(
    collected: Database, combine: str, of_bias: float
) -> None:
    macs = dict(
        collected.rows(
            "select l.name, l.macs from layer as l join network as n using (network_id) "
            "where n.name = 'normed'"
        )
    )
    with connect(collected.path, read_only=True) as connection:
        call = f"variant(combine := '{combine}', tensors := 'trained')"
        rows = read_view(connection, call, "network = 'normed'")
        found = dict(rows.select("number_format", "divergence").rows())
    for known in FORMATS:
        tensors, total = expected_tensors(network(), known), 0.0
        for layer, share in macs.items():
            weight, bias = tensors[layer, "weight"]["js"], tensors.get((layer, "bias"))
            of_weight = 0.5 if combine == "half" and bias is not None else 1.0
            total += share * (of_weight * weight + (of_bias * bias["js"] if bias else 0.0))
        assert found[known] == pytest.approx(total / sum(macs.values()), rel=1e-6), known


def test_without_batch_norm_the_tensors_as_trained_are_the_ordinary_ones(
    collected: Database,
) -> None:
    with connect(collected.path, read_only=True) as connection:
        for words in ("combine := 'nodiv'", "measure := 'nsr'", "correction := 'sharpness'"):
            plain, trained = (
                read_view(connection, f"variant({words}, tensors := '{tensors}')")
                for tensors in ("parameters", "trained")
            )
            names = plain["network"] == "plain"
            assert names.sum() == len(FORMATS)
            assert plain.filter(names).equals(trained.filter(names))
            assert not plain.filter(~names).equals(trained.filter(~names))


def test_the_checks_pass_and_a_study_comes_back_from_its_export(
    collected: Database, empty_file: Path, tmp_path: Path
) -> None:
    assert collected.failed_checks() == {}
    call, copy = "variant(tensors := 'trained')", Path(shutil.copy(empty_file, tmp_path / "copy"))
    with connect(collected.path, read_only=True) as connection:
        export_study(connection, tmp_path / "facts")
        expected = read_view(connection, call)
    with connect(copy, read_only=False) as connection:
        import_study(connection, tmp_path / "facts")
        assert read_view(connection, call).equals(expected)
        assert sum(import_study(connection, tmp_path / "facts").values()) == 0


def test_facts_of_an_older_version_have_no_rows(
    collected: Database, empty_file: Path, tmp_path: Path
) -> None:
    """They lack the column, and a collection that goes on with them measures no such tensors."""
    database = Database(empty_file, tmp_path)
    facts = tmp_path / "facts"
    with connect(Path(shutil.copy(collected.path, tmp_path / "whole")), read_only=False) as whole:
        trained = "(select tensor_id from tensor where starts_with(role, 'trained'))"
        for table in ("tensor_histogram", "quantized_tensor", "code_histogram", "tensor"):
            whole.execute(f"delete from {table} where tensor_id in {trained}")
        export_study(whole, facts)
    layers = facts / "layer.parquet"
    with duckdb.connect() as plain:
        older = f"select * exclude (is_folded) from read_parquet('{layers}')"
        plain.execute(f"create table older as {older}")
        plain.execute(f"copy older to '{layers}' (format parquet)")
    with connect(database.path, read_only=False) as connection:
        import_study(connection, facts)
        assert read_view(connection, "variant(tensors := 'trained')").is_empty()
        assert read_view(connection, "variant()").height == 2 * len(FORMATS)
    database.collect(network(), "INT_4,INT_5", name="normed")
    roles = "select distinct role from tensor order by all"
    assert [role for (role,) in database.rows(roles)] == ["bias", "input", "weight"]
    assert database.failed_checks() == {}


def test_another_format_is_added_to_the_tensors_as_trained(
    collected: Database, empty_file: Path, tmp_path: Path
) -> None:
    more, whole = Database(empty_file, tmp_path), "from variant(tensors := 'trained')"
    for formats in (FORMATS[:1], FORMATS):
        more.collect(network(), ",".join(formats), name="normed")
    assert more.rows(whole) == collected.rows(f"{whole} where network = 'normed'")


def test_a_prediction_measures_them_where_its_view_asks_for_them(
    collected: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def spied(*arguments: Any, **named: Any) -> Any:
        asked.append(True)
        return trained_facts(*arguments, **named)

    monkeypatch.setattr("ptqdb.measurement.network.trained_facts", spied)
    view = "variant(combine := 'weightonly', measure := 'nsr', tensors := 'trained')"
    assert uses_weights_alone(view)
    given = ptqdb.network(network(), name="normed", mean=[0.5], std=[0.25])
    formats = [study_format(known) for known in FORMATS]
    rows = measure_in_view(given, None, formats, view, image_size=8).rows
    with connect(collected.path, read_only=True) as connection:
        known = read_view(connection, view, "network = 'normed'")
    assert rows["divergence"].to_list() == known["divergence"].to_list()
    assert len(asked) == 2  # one for each layer that a batch norm was folded into
    measure_in_view(given, None, formats, view.replace("trained", "parameters"), image_size=8)
    assert len(asked) == 2


def test_channels_and_inputs_as_trained_are_refused(collected: Database) -> None:
    with (
        connect(collected.path, read_only=True) as connection,
        pytest.raises(UsageError, match="measure as trained is one of js"),
    ):
        read_view(connection, "variant(measure := 'channelnsr', tensors := 'trained')")


def test_a_bias_as_trained_has_the_codes_of_a_bias(collected: Database) -> None:
    """INT_64, POT_8 and FLOAT_16_E7: what is uncovered depends on them."""
    of_codes = collected.rows(
        "select code_bits(role, 'INT', 4), code_bits(role, 'POT', 5), "
        "code_ebits(role, 'FLOAT', 2) from (values ('trained_bias'), ('bias')) as roles (role)"
    )
    assert of_codes == [(64, 8, 7)] * 2
