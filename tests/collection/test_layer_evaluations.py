"""One layer quantized at a time: what is evaluated, stored, resumed, and what SQL says of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from collecting import Silence
from running import Run
from small_networks import Database, pictures, three_layers
from torch import Tensor, nn

import ptqdb
from ptqdb.collection import sweep
from ptqdb.collection.estimate import preview
from ptqdb.collection.plan import NetworkTask
from ptqdb.collection.requests import build_request
from ptqdb.collection.rows import write_layer_evaluation
from ptqdb.database import connect
from ptqdb.database.exchange import export_study, import_study
from ptqdb.quantization.formats import match_formats
from ptqdb.quantization.number_formats import number_format
from ptqdb.quantization.precision import choose_precision

LAYERS = ("0", "3", "5")
FORMATS = "INT_3,POT_4"


def fed(count: int, split: str) -> Tensor:
    """The pictures as the networks take them."""
    return (pictures(count, split).images.float() / 255 - 0.5) / 0.25


def nearest(values: Tensor, scale: Tensor, name: str) -> Tensor:
    """Values on the grid of a format, by looking at every code."""
    magnitudes = torch.tensor(number_format(name).magnitudes(), dtype=torch.float64)
    codes = torch.cat([-magnitudes, magnitudes])
    distances = (values.double()[..., None] / scale.double() - codes).abs()
    return codes[distances.argmin(-1)] * scale.double()


def with_one_quantized(module: nn.Sequential, layer: str, name: str, images: Tensor) -> Tensor:
    """Logits with one layer in fake quantization, in float64 and without ptqdb's own layers."""
    largest = number_format(name).max_code
    seen, x = fed(8, "train").double(), images.double()
    for place, part in enumerate(module.double()):
        if str(place) == layer:
            assert isinstance(part, nn.Conv2d | nn.Linear)
            input_scale = (seen.abs().max().float() / largest).double()
            weight_scale = (part.weight.abs().max().float() / largest).double()
            codes = nearest(x, input_scale, name)
            weight = nearest(part.weight.detach(), weight_scale, name)
            assert part.bias is not None
            scale = input_scale * weight_scale
            bias = torch.round(part.bias.detach() / scale) * scale
            if name.startswith("POT"):
                bias = nearest(part.bias.detach(), scale, "POT_8")
            seen = part(seen)
            x = torch.func.functional_call(part, {"weight": weight, "bias": bias}, (codes,))
        else:
            seen, x = part(seen), part(x)
    return x.float()


def stored(db: Database, table: str = "layer_evaluation") -> Mapping[tuple[str, str], Any]:
    """The rows of a table by layer and format, without their ids."""
    rows = db.rows(
        f"select l.name, f.name, t.* exclude (layer_id, number_format_id, scheme_id) from {table} "
        "as t join layer as l using (layer_id) join number_format as f using (number_format_id) "
        "order by l.position, f.name"
    )
    return {row[:2]: row[2:] for row in rows}


def test_each_layer_alone_is_what_fake_quantization_of_it_gives(db: Database) -> None:
    outcome = db.collect(three_layers(0), FORMATS, count=40, scopes=("layer",))
    assert (outcome.filled_count, outcome.failures) == (2 + 3 * 2, [])
    found = stored(db)
    assert list(found) == [(layer, name) for layer in LAYERS for name in ("INT_3", "POT_4")]
    images, labels = fed(40, "test"), pictures(40).known_labels()
    float_logits = three_layers(0).eval()(images)
    for (layer, name), row in found.items():
        logits = with_one_quantized(three_layers(0).eval(), layer, name, images)
        right, float_right = (each.argmax(1) == labels for each in (logits, float_logits))
        divergence = torch.nn.functional.kl_div(
            torch.log_softmax(logits.double(), 1),
            torch.log_softmax(float_logits.double(), 1),
            reduction="sum",
            log_target=True,
        )
        counts = (int(right.sum()), int((right & float_right).sum()))
        same = int((logits.argmax(1) == float_logits.argmax(1)).sum())
        precision = choose_precision(number_format(name), torch.device("cpu"), scope="layer")
        assert row[:2] == (precision, 40)
        assert (row[2], row[4], row[5]) == (*counts, same), (layer, name)
        assert row[9] == pytest.approx(divergence.item(), rel=1e-3)
    assert len({row[9] for row in found.values()}) == 6
    assert db.failed_checks() == {}


def test_the_only_layer_alone_is_the_whole_network(db: Database) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    db.collect(module, "INT_4", scopes=("layer",), precision="float32")
    columns = "correct_top1, correct_top5, correct_both, same_prediction, kl_sum"
    alone = db.rows(f"select {columns} from layer_evaluation")
    assert alone == db.rows(f"select {columns} from evaluation where scope = 'all'")


@pytest.mark.slow
def test_a_stop_costs_one_evaluation_and_the_rest_is_filled(
    db: Database, run: Run, tmp_path: Path, empty_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def stop(*arguments: Any) -> None:
        nonlocal written
        written += 1
        if written == 5:
            raise KeyboardInterrupt
        write_layer_evaluation(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "write_layer_evaluation", stop)
        with pytest.raises(KeyboardInterrupt):
            db.collect(three_layers(0), FORMATS, scopes=("layer",))
    assert len(stored(db)) == 4
    # What a run announced of layers is one cell per format, missing until each layer is there.
    announced = "select unnest(cells).scope as scope from collection_run order by scope"
    assert db.rows(announced) == [("all",)] * 2 + [("layer",)] * 2
    missing = "select number_format, scope from missing_cell where scope = 'layer'"
    assert db.rows(missing) == [("POT_4", "layer")]
    assert "missing_announced_cell" in db.failed_checks()
    kept, reporter = stored(db), Silence()
    outcome = db.collect(three_layers(0), FORMATS, scopes=("layer",), reporter=reporter)
    assert (outcome.filled_count, outcome.present_count) == (2, 6)
    assert [(cell.layer, cell.format.name) for cell in reporter.cells] == [
        ("3", "POT_4"),
        ("5", "POT_4"),
    ]
    assert db.rows(missing) == []
    assert db.failed_checks() == {}
    (tmp_path / "whole").mkdir()
    whole = Database(empty_file, tmp_path / "whole")
    whole.collect(three_layers(0), FORMATS, scopes=("layer",))
    assert stored(db) == stored(whole)
    assert {key: kept[key] for key in kept} == {key: stored(whole)[key] for key in kept}
    overview = db.rows("select all_cells, layer_cells, missing_cells from network_overview")
    assert overview == [(2, 6, 41)]


@pytest.mark.slow
def test_layers_that_are_added_leave_fits_alone_and_replace_starts_anew(db: Database) -> None:
    db.collect(three_layers(0), FORMATS)
    before = db.rows("from evaluation order by all")
    forgotten: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "forget_fits", forgotten.append)
        assert db.collect(three_layers(0), FORMATS, scopes=("layer",)).filled_count == 6
        assert forgotten == []
        assert db.rows("from evaluation order by all") == before
        assert db.collect(three_layers(0), "INT_5").filled_count == 1
        assert len(forgotten) == 1
    assert db.collect(three_layers(1), FORMATS, replace=True).filled_count == 2
    assert stored(db) == {}
    # As with every scope that an earlier run announced and the new one leaves out.
    assert set(db.failed_checks()) == {"missing_announced_cell"}


def test_a_dry_run_counts_layers(db: Database) -> None:
    def shown(scopes: tuple[str, ...]) -> Any:
        source = ptqdb.network(three_layers(0).eval(), name="net", mean=[0.5], std=[0.25])
        task = NetworkTask(source, pictures(12), pictures(8, "train"))
        request = build_request([task], number_formats=match_formats(FORMATS), scopes=scopes)
        (one,) = preview(request, db.path, print)
        return one

    new = shown(("layer",))
    assert (new.present, len(new.missing), new.layer_count, new.failure) == (0, 8, 3, None)
    db.collect(three_layers(0), FORMATS)
    some = shown(("layer",))
    assert (some.present, len(some.missing), some.layer_count) == (2, 6, 3)
    assert some.seconds > 0
    db.collect(three_layers(0), FORMATS, scopes=("layer",))
    done = shown(("layer", "weight"))
    assert (done.present, {cell.scope for cell in done.missing}) == (8, {"weight"})


class Refuses(nn.Module):
    """Raises an error where the first layer puts out nothing but zeros, as INT_2 lets it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 8, 3, bias=False), nn.Linear(8, 4)
        with torch.no_grad():
            self.conv.weight.abs_().mul_(0.1)
            self.conv.weight[0] = -1.0

    def forward(self, images: Tensor) -> Tensor:
        means = torch.relu(self.conv(images.abs())).mean((2, 3))
        if not means.any():
            raise ValueError("a unit has to be awake")
        logits: Tensor = self.head(means)
        return logits


@pytest.mark.slow
def test_a_layer_that_breaks_the_network_is_recorded_and_travels(
    db: Database, run: Run, empty_file: Path, tmp_path: Path
) -> None:
    reporter = Silence()
    outcome = db.collect(Refuses(), "INT_2", scopes=("layer",), reporter=reporter)
    # All together, and the convolution alone; the head alone is fine.
    assert (outcome.filled_count, outcome.failed_count, outcome.failures) == (1, 2, [])
    assert any("cannot be evaluated in INT_2 (layer conv): " in said for said in reporter.remarks)
    failed = "select scope, quantized_layer, layer, reason from failed_cell_overview"
    reason = "ValueError: a unit has to be awake"
    assert db.rows(failed) == [("all", None, "conv", reason), ("layer", "conv", "conv", reason)]
    assert db.rows("select layer_cells, failed_cells from network_overview") == [(1, 2)]
    assert db.rows("from missing_cell where number_format = 'INT_2'") == []
    assert db.failed_checks() == {}
    again = db.collect(Refuses(), "INT_2", scopes=("layer",))
    assert (again.filled_count, again.present_count, again.failed_count) == (0, 1, 2)
    assert "INT_2 (layer conv)" in run("info", "--db", db.path).err
    (tmp_path / "other").mkdir()
    other = Database(empty_file, tmp_path / "other")
    with connect(db.path, read_only=True) as connection:
        export_study(connection, tmp_path / "facts")
    with connect(other.path, read_only=False) as connection:
        added = import_study(connection, tmp_path / "facts")
        assert (added["layer_evaluation"], added["failed_layer_cell"]) == (1, 1)
        added = import_study(connection, tmp_path / "facts")
        assert (added["layer_evaluation"], added["failed_layer_cell"]) == (0, 0)
        # What one study evaluated is no failure of another's.
        connection.execute(
            "insert into layer_evaluation from (select * replace ("
            "(select layer_id from layer where name = 'conv') as layer_id) from layer_evaluation)"
        )
        import_study(connection, tmp_path / "facts")
        assert connection.execute("from failed_layer_cell").fetchall() == []


def test_layer_loss(db: Database) -> None:
    db.collect(three_layers(0), FORMATS, count=40, scopes=("layer",))
    found = db.rows(
        "select number_format, layer, position, images, correct, accuracy, float_accuracy, "
        "accuracy_loss, accuracy_loss_se, contribution from layer_loss"
    )
    (right,) = db.rows("select correct_top1 from evaluation where scope = 'none'")[0]
    rows = stored(db)
    assert len(found) == len(rows) == 6
    for name, layer, position, count, correct, accuracy, was, loss, error, added in found:
        row = rows[layer, name]
        assert (position, count, correct) == (LAYERS.index(layer), 40, row[2])
        assert (accuracy, was) == (correct / 40, right / 40)
        assert loss == pytest.approx((right - correct) / right)
        only_one = correct + right - 2 * row[4]
        assert error == pytest.approx(max(correct / right * only_one, 1.645**2) ** 0.5 / right)
        (expected,) = db.rows(
            f"select contribution from layer_divergence where layer = '{layer}' "
            f"and number_format = '{name}'"
        )
        assert added == expected[0]
    assert [name for name, *_ in found] == ["INT_3"] * 3 + ["POT_4"] * 3
    losses = [row[7] for row in found]
    assert losses[:3] == sorted(losses[:3], reverse=True)


def test_the_command_line_names_the_scopes(run: Run, tmp_path: Path) -> None:
    refused = run("collect", "--scopes", "layers", "--db", tmp_path / "x.duckdb")
    assert refused.code == 2
    assert "expected any of all, weight, bias, input, layer, found 'layers'" in refused.err
