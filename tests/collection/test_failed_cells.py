"""Number formats that break a network: NaN where the float network has none, or an error."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import torch
from collecting import Silence
from running import Run
from small_networks import Database, pictures
from torch import Tensor, nn

import ptqdb
from ptqdb.database import connect, materialize
from ptqdb.database.exchange import export_study, import_study
from ptqdb.errors import DatabaseError, DataError


class Shares(nn.Module):
    """Divides by a sum to which the coarsest format rounds nothing but zeros.

    One filter is large and negative, and ReLU silences it: in INT_2 all others become 0.
    """

    def __init__(self, look: Callable[[Tensor], object] = lambda _: None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 8, 3, bias=False), nn.Linear(8, 4)
        self.look = look
        with torch.no_grad():
            self.conv.weight.abs_().mul_(0.1)
            self.conv.weight[0] = -1.0

    def forward(self, images: Tensor) -> Tensor:
        means = torch.relu(self.conv(images.abs())).mean((2, 3))
        self.look(means)
        logits: Tensor = self.head(means / means.sum(1, keepdim=True))
        return logits


def test_activations_that_become_nan_are_wrong_and_stop_nothing(db: Database) -> None:
    alone = db.collect(Shares(), "INT_8", name="alone")
    assert (alone.filled_count, alone.failed_count, alone.failures) == (1, 0, [])
    outcome = db.collect(Shares(), "INT_2,INT_8", scopes=("weight",))
    assert (outcome.filled_count, outcome.failed_count, outcome.failures) == (4, 0, [])
    query = (
        "select correct_top1, correct_top5, correct_both, same_prediction, non_finite_count, "
        "cross_entropy_sum, cross_entropy_count, kl_sum, kl_count from evaluation "
        "join network using (network_id) join number_format as f using (number_format_id) "
        "where network.name = '{}' and f.name = '{}' and scope = 'all'"
    )
    assert db.rows(query.format("net", "INT_2")) == [(0, 0, 0, 0, 12, 0.0, 0, 0.0, 0)]
    assert db.rows(query.format("net", "INT_8")) == db.rows(query.format("alone", "INT_8"))
    views = db.rows(
        "select number_format, accuracy, accuracy_loss, images, non_finite_images, saturated "
        "from fakefreeze_param where network = 'net' and accuracy = 0 or non_finite_images > 0"
    )
    assert views == [("INT_2", 0.0, 1.0, 12, 12, True)]
    segmented = "select sum(non_finite_images) from segmented_variant()"
    assert db.rows(segmented) == [(12,)]
    assert db.failed_checks() == {}


def test_a_float_network_without_numbers_for_some_images(db: Database) -> None:
    """It divides by zero where a picture is dark; the calibration images are not."""

    class Dark(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.head = nn.Linear(64, 4)

        def forward(self, images: Tensor) -> Tensor:
            is_bright = (images.mean((1, 2, 3)) > -0.05)[:, None].float()
            logits: Tensor = self.head(images.flatten(1)) * (is_bright / is_bright)
            return logits

    assert db.collect(Dark(), "INT_8", count=40).failures == []
    found = db.rows(
        "select non_finite_count, same_prediction, kl_count from evaluation where scope = 'none'"
    )[0]
    assert 0 < found[0] < 40
    assert found[1:] == (40 - found[0], 40 - found[0])
    assert db.failed_checks() == {}


def refuse_zeros(means: Tensor) -> None:
    if not means.any():
        raise ValueError("a unit has to be awake")


def leave(means: Tensor) -> None:
    if not means.any():
        sys.exit("all units sleep")


def look_up(means: Tensor) -> None:
    torch.arange(3)[10 if not means.any() else 0]


def invert(means: Tensor) -> None:
    torch.linalg.inv(means[:1, 1:2])


def recurse(means: Tensor) -> None:
    if not means.any():
        recurse(means)


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (refuse_zeros, "ValueError: a unit has to be awake"),
        (leave, "SystemExit: all units sleep"),
        (look_up, "IndexError: index 10 is out of bounds"),
        (invert, "_LinAlgError: linalg.inv: The diagonal element 1 is zero"),
        (recurse, "RecursionError: "),
    ],
)
def test_a_cell_that_fails_is_recorded_and_the_next_goes_on(
    db: Database, look: Callable[[Tensor], object], reason: str
) -> None:
    outcome = db.collect(Shares(look), "INT_2,INT_8", scopes=("input",))
    assert (outcome.filled_count, outcome.failed_count, outcome.failures) == (3, 1, [])
    ((network, number_format, scope, found),) = db.rows(
        "select network, number_format, scope, reason from failed_cell_overview"
    )
    assert (network, number_format, scope) == ("net", "INT_2", "all")
    assert found.startswith(reason)
    assert "\n" not in found
    assert db.rows("select outcome, failures from collection_run") == [("done", [])]
    # what the format does to the tensors is known all the same: conv, head, its bias, two inputs
    facts = "select number_format_id, count(*) from quantized_tensor group by all order by all"
    assert [count for _, count in db.rows(facts)] == [5, 5]
    assert db.rows("select count(*) from missing_cell where number_format = 'INT_2'") == [(0,)]
    assert db.failed_checks() == {}
    again = db.collect(Shares(look), "INT_2,INT_8", scopes=("input",))
    assert (again.filled_count, again.present_count, again.failed_count) == (0, 3, 1)


def test_a_cell_that_fails_is_tried_again_only_anew(db: Database) -> None:
    told = Silence()
    db.collect(Shares(refuse_zeros), "INT_2,INT_8", reporter=told)
    assert [cell.format.name for cell in told.cells] == ["INT_2", "INT_8"]
    assert told.remarks[-1].startswith("net cannot be evaluated in INT_2: ")
    later = Silence()
    db.collect(Shares(refuse_zeros), "INT_2,INT_8", reporter=later)
    assert later.remarks == [
        "net cannot be evaluated in INT_2, as recorded earlier; --replace collects it again"
    ]
    mended = db.collect(Shares(), "INT_2,INT_8", replace=True)
    assert (mended.filled_count, mended.failed_count) == (2, 0)
    assert db.rows("from failed_cell") == []


def test_a_network_that_fails_in_its_only_cell_passes_every_check(db: Database) -> None:
    db.collect(Shares(refuse_zeros), "INT_2")
    assert db.rows("select count(*) from failed_cell") == [(1,)]
    assert db.rows("from fakefreeze_param") == []
    assert db.failed_checks() == {}


def test_the_layer_that_started_last_is_named(
    db: Database, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    from ptqdb.quantization.network import QuantizedNetwork

    monkeypatch.setattr(QuantizedNetwork, "last_started", "conv", raising=False)
    told = Silence()
    db.collect(Shares(refuse_zeros), "INT_2", reporter=told)
    said = "net cannot be evaluated in INT_2: after layer conv started: ValueError: a unit"
    assert said in told.remarks[-1]
    assert db.rows("select layer from failed_cell") == [("conv",)]
    check, info = run("check", "--db", db.path), run("info", "--db", db.path)
    assert (check.code, info.code) == (0, 0)
    assert said in check.err
    assert said in info.err
    listed = run("info", "--db", db.path, "--format", "csv").out.splitlines()
    found = dict(zip(listed[0].split(","), listed[1].split(","), strict=True))
    assert (found["all_cells"], found["failed_cells"], found["missing_cells"]) == ("0", "1", "42")


def test_ctrl_c_in_a_cell_is_no_failure(db: Database) -> None:
    def interrupt(means: Tensor) -> None:
        if not means.any():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        db.collect(Shares(interrupt), "INT_2,INT_8")
    assert db.rows("from failed_cell") == []
    assert db.rows("select outcome from collection_run") == [("interrupted",)]
    assert db.rows("select scope from evaluation") == [("none",)]


def test_ctrl_c_that_a_library_makes_an_error_of_is_no_failure(db: Database) -> None:
    def interrupt(means: Tensor) -> None:
        if not means.any():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                sys.exit("interrupted")

    with pytest.raises(KeyboardInterrupt):
        db.collect(Shares(interrupt), "INT_2,INT_8")
    assert db.rows("from failed_cell") == []


def test_a_lack_of_memory_says_nothing_about_a_format(db: Database) -> None:
    def exhaust(means: Tensor) -> None:
        if not means.any():
            raise torch.OutOfMemoryError("CUDA out of memory")

    outcome = db.collect(Shares(exhaust), "INT_8,INT_2")
    assert [failure.reason for failure in outcome.failures] == [
        "OutOfMemoryError: CUDA out of memory"
    ]
    assert db.rows("from failed_cell") == []


class Leaves(nn.Module):
    """Ends the interpreter after so many passes of all its copies."""

    passes = 0

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.head = most, nn.Linear(64, 4)

    def forward(self, images: Tensor) -> Tensor:
        Leaves.passes += 1
        if Leaves.passes > self.most:
            sys.exit(3)
        logits: Tensor = self.head(images.flatten(1))
        return logits


@pytest.mark.parametrize("most", [0, 1, 8])
def test_a_network_that_leaves_does_not_take_the_others_along(db: Database, most: int) -> None:
    Leaves.passes = 0
    sources = [
        ptqdb.network(module.eval(), name=name, mean=[0.5], std=[0.25])
        for name, module in (("leaver", Leaves(most)), ("stayer", Shares()))
    ]
    outcome = ptqdb.open(db.path, create=True).collect(
        sources, pictures(12), pictures(8, "train"), number_formats="INT_8"
    )
    assert outcome.filled_count == 1
    assert [failure.network for failure in outcome.failures] == ["leaver"]
    assert "SystemExit: 3" in outcome.failures[0].reason
    assert db.rows("select outcome from collection_run") == [("failed",)]


@pytest.mark.slow
def test_failed_cells_travel_and_give_way_to_evaluations(
    db: Database, empty_file: Path, tmp_path: Path
) -> None:
    db.collect(Shares(refuse_zeros), "INT_2,INT_8")
    (tmp_path / "other").mkdir()
    other = Database(empty_file, tmp_path / "other")
    with connect(db.path, read_only=True) as connection:
        export_study(connection, tmp_path / "facts")
    with connect(other.path, read_only=False) as connection:
        assert import_study(connection, tmp_path / "facts")["failed_cell"] == 1
        assert import_study(connection, tmp_path / "facts")["failed_cell"] == 0
    assert other.rows("from failed_cell") == db.rows("from failed_cell")
    assert other.failed_checks() == {}
    other.collect(Shares(), "INT_2,INT_8", replace=True)
    with connect(other.path, read_only=False) as connection:
        import_study(connection, tmp_path / "facts")
    assert other.rows("from failed_cell") == []
    assert other.failed_checks() == {}


def break_formulas(path: Path) -> None:
    """Refuse one measure, as a constraint that a formula breaks would."""
    with connect(path, read_only=False) as connection:
        connection.execute("alter table tensor_divergence rename to kept")
        connection.execute(
            "create table tensor_divergence (tensor_id integer, number_format_id smallint, "
            "scheme_id smallint, rescale varchar, measure varchar, bins integer, "
            "value double check (measure != 'sharpness_gap'))"
        )


def test_what_cannot_be_derived_is_said_and_the_file_stays_usable(db: Database) -> None:
    break_formulas(db.path)
    for name in ("first", "second"):
        told = Silence()
        outcome = db.collect(Shares(), "INT_8", name=name, reporter=told)
        assert (outcome.filled_count, outcome.failures) == (1, [])
        said = [remark for remark in told.remarks if "sharpness_gap" in remark]
        assert said[0].startswith("cannot derive sharpness_gap from the facts, which are kept: ")
        assert len(said) == len(set(said))
    assert db.rows("select outcome from collection_run") == [("done",), ("done",)]
    assert db.rows("select count(divergence) from channelnsr_weightonly_layer") == [(2,)]
    with connect(db.path, read_only=False) as connection:
        with pytest.raises(DataError, match="cannot derive sharpness_gap"):
            materialize(connection)
        remarks: list[str] = []
        assert materialize(connection, remarks.append) == 0
        assert len(remarks) == 1


def test_a_full_disk_is_an_error_and_no_remark(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[int]]:
        raise duckdb.IOException("Could not write: No space left on device")

    monkeypatch.setattr("ptqdb.database.writing.interruptible", fail)
    with pytest.raises(DatabaseError, match="No space left on device"):
        db.collect(Shares(), "INT_8")
    assert db.rows("select outcome from collection_run") == [("failed",)]


def test_a_full_disk_is_no_failure_of_a_network(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise DatabaseError("cannot write to the database: No space left on device")

    monkeypatch.setattr("ptqdb.collection.sweep.write_evaluation", fail)
    with pytest.raises(DatabaseError, match="No space left on device"):
        db.collect(Shares(), "INT_8")
    assert db.rows("select outcome, failures from collection_run") == [("failed", [])]


@pytest.mark.parametrize(
    ("macro", "lacking"),
    [
        (
            "mean_range_share() as table select tensor_id, null::double as share from tensor",
            {"sharpness_gap"},
        ),
        (
            "noise_to_signal(a, b, c, d, product := null) as null::double",
            {"channelnsr"},
        ),
        (
            "centred_norm2(n, a, b) as 1; "
            "create or replace macro population_variance(n, a, b) as null::double",
            {"wasserstein"},
        ),
    ],
)
def test_a_measure_that_is_null_is_left_out(db: Database, macro: str, lacking: set[str]) -> None:
    db.collect(Shares(), "INT_8")
    measures = "select measure, count(*) from tensor_divergence group by measure"
    with connect(db.path, read_only=False) as connection:
        whole = dict(connection.execute(measures).fetchall())
        connection.execute("delete from tensor_divergence")
        connection.execute(f"create or replace macro {macro}")
        materialize(connection)
        found = dict(connection.execute(measures).fetchall())
    assert {name for name, count in whole.items() if found.get(name, 0) < count} == lacking


def test_a_format_of_another_scheme_is_not_tried_again(db: Database) -> None:
    """Two weights of one number format under two schemes: only one of them breaks the network."""
    formats = "INT_2,INT_2@channel,mxfp4"
    outcome = db.collect(Shares(refuse_zeros), formats)
    assert (outcome.filled_count, outcome.failed_count) == (2, 1)
    assert db.rows("select number_format, scheme from failed_cell_overview") == [
        ("INT_2", "per_tensor_symmetric_max")
    ]
    other = db.collect(Shares(refuse_zeros), "INT_2@tensor_tensor", name="other")
    assert (other.filled_count, other.failed_count) == (0, 1)
    assert db.rows("select number_format from failed_cell_overview where network = 'other'") == [
        ("INT_2@tensor_tensor",)
    ]
    for name, asked, present in (("net", formats, 2), ("other", "INT_2@tensor_tensor", 0)):
        again = db.collect(Shares(refuse_zeros), asked, name=name)
        assert (again.filled_count, again.present_count, again.failed_count) == (0, present, 1)
    assert db.failed_checks() == {}
