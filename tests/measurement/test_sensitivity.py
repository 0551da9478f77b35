"""The sensitivity of layers beside autograd by hand, and the share made of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import Database, pictures
from torch import Tensor, nn

import ptqdb
from ptqdb.collection.unevaluated import measure_in_view
from ptqdb.database import connect, read_view, uses_weights_alone
from ptqdb.database.exchange import export_study, import_study
from ptqdb.measurement.first_images import image_order
from ptqdb.quantization.formats import study_format

VIEW = "variant(share := 'sensitivity', measure := 'nsr')"


class Detached(nn.Module):
    """Two layers, and a backward pass that the network's own code prevents."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.second(torch.relu(self.first(x.flatten(1))))
            return logits


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(64, 6), nn.Linear(6, 4)
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(inplace=True), layers[1]).eval()


def expected(module: nn.Module, count: int = 8) -> dict[str, tuple[float, ...]]:
    """Sums over images by the chain rule: the margin is (row a - row b) of the last weight."""
    first, second = (part for part in module.children() if isinstance(part, nn.Linear))
    shown = pictures(8, "train").images.float()[image_order(8)[:count]]
    x = ((shown / 255 - 0.5) / 0.25).flatten(1).double()
    with torch.no_grad():
        hidden = x @ first.weight.double().T + first.bias.double()
        logits = hidden.relu() @ second.weight.double().T + second.bias.double()
        top = logits.topk(2, dim=1)
        difference = second.weight.double()[top.indices]
        gradient = (difference[:, 0] - difference[:, 1]) * (hidden > 0)
        margins = (top.values[:, 0] - top.values[:, 1]).square().sum()
        # with respect to the logits it is 1 for the first class, -1 for the second
        sums: tuple[tuple[Any, ...], ...] = (
            (count, margins, hidden.numel(), gradient.square().sum(), hidden.square().sum()),
            (count, margins, logits.numel(), 2 * len(x), logits.square().sum()),
        )
        return {
            name: tuple(float(each) for each in row)
            for name, row in zip(("1", "3"), sums, strict=True)
        }


@pytest.fixture(scope="module")
def collected(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    database = Database(empty_file, tmp_path_factory.mktemp("sensitivity"))
    database.collect(two_layers(), "INT_4,POT_3", name="asked", sensitivity=True)
    database.collect(two_layers(), "INT_4", name="not asked")
    return database


def test_the_facts_are_those_of_the_chain_rule(collected: Database) -> None:
    rows = collected.rows(
        "select l.name, s.* exclude (layer_id) from layer_sensitivity as s "
        "join layer as l using (layer_id)"
    )
    found = {name: row for name, *row in rows}
    assert found == {
        name: pytest.approx(row, rel=1e-5) for name, row in expected(two_layers()).items()
    }


def test_a_few_images_are_the_first_ones_of_the_order(
    empty_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqdb.measurement.sensitivity.SENSITIVITY_IMAGES", 3)
    database = Database(empty_file, tmp_path)
    database.collect(two_layers(), "INT_4", sensitivity=True)
    found = database.rows(
        "select l.name, s.* exclude (layer_id) from layer_sensitivity as s "
        "join layer as l using (layer_id)"
    )
    assert {name: row for name, *row in found} == {
        name: pytest.approx(row, rel=1e-5) for name, row in expected(two_layers(), 3).items()
    }


def test_the_share_is_the_noise_of_the_margin(collected: Database) -> None:
    """Not normalized; a network that was not asked has no rows."""
    facts = expected(two_layers())
    share = {
        name: gradient * output / (elements * margins)
        for name, (_, margins, elements, gradient, output) in facts.items()
    }
    layers = collected.rows(
        "select number_format, layer, divergence, contribution from "
        "layer_divergence(share := 'layer', measure := 'nsr') where network = 'asked'"
    )
    totals: dict[str, float] = {}
    for known, layer, divergence, _ in layers:
        totals[known] = totals.get(known, 0.0) + share[layer] * divergence
    with connect(collected.path, read_only=True) as connection:
        rows = read_view(connection, VIEW)
        assert set(rows["network"]) == {"asked"}
        found = dict(rows.select("number_format", "divergence").rows())
        by_layer = connection.execute(
            "select number_format, sum(contribution) from "
            "layer_divergence(share := 'sensitivity', measure := 'nsr') "
            "where network = 'asked' group by all"
        )
        assert dict(by_layer.fetchall()) == pytest.approx(found)
    assert found == pytest.approx(totals, rel=1e-5)


def test_a_network_is_asked_afterwards_once(
    empty_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(empty_file, tmp_path)
    database.collect(two_layers(), "INT_4")
    facts = "from evaluation", "from quantized_tensor"
    before = [database.rows(text) for text in facts]
    database.collect(two_layers(), "INT_4", sensitivity=True)
    assert len(database.rows("from layer_sensitivity")) == 2
    assert [database.rows(text) for text in facts] == before
    monkeypatch.setattr("ptqdb.collection.sweep._measured", None)
    assert database.collect(two_layers(), "INT_4", sensitivity=True).failures == []
    assert database.failed_checks() == {}


def test_replacing_a_network_deletes_its_sensitivity(empty_file: Path, tmp_path: Path) -> None:
    database = Database(empty_file, tmp_path)
    database.collect(two_layers(), "INT_4", sensitivity=True)
    database.collect(two_layers(), "INT_4", replace=True)
    assert database.rows("from layer_sensitivity") == []


def test_a_network_without_gradients_gets_a_remark_and_no_rows(
    empty_file: Path, tmp_path: Path
) -> None:
    from collecting import Silence

    database, reporter = Database(empty_file, tmp_path), Silence()
    outcome = database.collect(Detached(), "INT_4", sensitivity=True, reporter=reporter)
    assert (outcome.filled_count, outcome.failures) == (1, [])
    (remark,) = [text for text in reporter.remarks if "sensitivity" in text]
    assert "the sensitivity of its layers is unknown: it cannot be differentiated" in remark
    assert database.rows("from layer_sensitivity") == []


def test_it_leaves_the_network_as_it_was(collected: Database) -> None:
    of_asked = collected.rows(
        "select correct_top1, kl_sum from evaluation join network using (network_id) "
        "join number_format as f using (number_format_id) "
        "where f.name = 'INT_4' and scope = 'all' order by network_id"
    )
    assert of_asked[0] == of_asked[1]


def test_a_study_comes_back_from_its_export(
    collected: Database, empty_file: Path, tmp_path: Path
) -> None:
    copy = Database(empty_file, tmp_path)
    with connect(collected.path, read_only=True) as connection:
        export_study(connection, tmp_path / "facts")
    with connect(copy.path, read_only=False) as connection:
        import_study(connection, tmp_path / "facts")
    assert copy.rows(f"from {VIEW}") == collected.rows(f"from {VIEW}") != []
    (tmp_path / "facts" / "layer_sensitivity.parquet").unlink()
    other: dict[str, Any] = {"prefix": "older "}
    with connect(copy.path, read_only=False) as connection:
        import_study(connection, tmp_path / "facts", **other)
    assert len(copy.rows("from layer_sensitivity")) == 2


def test_a_prediction_measures_it_where_its_view_asks_for_it(collected: Database) -> None:
    formats = [study_format("INT_4"), study_format("POT_3")]
    given = ptqdb.network(two_layers(), name="asked", mean=[0.5], std=[0.25])
    rows = measure_in_view(given, pictures(8, "train"), formats, VIEW).rows
    with connect(collected.path, read_only=True) as connection:
        known = read_view(connection, VIEW)
    assert rows["divergence"].to_list() == known["divergence"].to_list()
    assert not uses_weights_alone(VIEW.replace("measure", "combine := 'weightonly', measure"))
