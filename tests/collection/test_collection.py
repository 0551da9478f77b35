"""Collecting: what lands, what a second run does, and what survives a kill."""

import os
import random
import re
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import collecting
import duckdb
import pytest
import torch
from collecting import Silence, contents, images, request, source, started

from ptqdb.collection.rows import write_evaluation
from ptqdb.collection.sweep import collect
from ptqdb.database import connect, transaction
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.errors import MismatchError
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.networks.sources import network_source
from ptqdb.quantization.formats import match_formats

# study.duckdb is there before a test: creating its views takes half a second.
pytestmark = pytest.mark.usefixtures("path")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that was never interrupted, computed in a process of its own."""
    folder = tmp_path_factory.mktemp("whole")
    process = started(folder, folder / "whole.duckdb")
    process.join()
    assert process.exitcode == 0
    return folder / "whole.duckdb"


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_every_cell_has_its_facts(whole: Path) -> None:
    formats = len(match_formats(collecting.FORMATS))
    networks = len(collecting.NETWORKS)
    scopes = dict(rows(whole, "select scope, count(*) from evaluation group by scope"))
    assert scopes == {"none": networks, "all": networks * formats, "weight": networks * formats}
    tensors = rows(
        whole,
        "select role, count(*) from tensor where role in ('weight', 'bias', 'input') "
        "group by role order by role",
    )
    trained = rows(whole, "select count(*) from tensor where role = 'trained_weight'")[0][0]
    # no layer of these networks has a bias before a batch norm
    assert trained == rows(whole, "select count(*) from layer where is_folded")[0][0] > 0
    layers = rows(whole, "select count(*) from layer")[0][0]
    assert tensors == [("bias", layers), ("input", layers), ("weight", layers)]
    counted = rows(
        whole,
        "select count(*) from tensor as t join (select tensor_id, sum(count) as n "
        "from tensor_histogram group by all) as h using (tensor_id) where n <> t.element_count",
    )
    assert counted == [(0,)]
    coded = rows(
        whole,
        "select count(*), count(*) filter (where n is distinct from t.element_count) "
        "from quantized_tensor as q join tensor as t using (tensor_id) left join "
        "(select tensor_id, number_format_id, scheme_id, sum(count) as n from code_histogram "
        "group by all) as h using (tensor_id, number_format_id, scheme_id) "
        "where t.role <> 'input'",
    )
    assert coded == [((2 * layers + trained) * formats, 0)]
    assert rows(whole, "select count(*) from tensor_divergence where measure = 'js'") == [
        (2 * (2 * layers + trained) * formats,)
    ]


def test_the_run_announces_its_cells_and_tells_how_it_ended(whole: Path) -> None:
    found = rows(
        whole, "select outcome, len(cells), failures, ended_at >= started_at from collection_run"
    )
    assert found == [("done", 36, [], True)]


def test_the_views_have_a_row_for_each_cell(whole: Path) -> None:
    found = rows(whole, "select count(*), count(divergence) from fakefreeze_flops")
    assert found == [(18, 18)]


def test_a_second_run_does_nothing_and_more_formats_are_added(tmp_path: Path, whole: Path) -> None:
    database, same = tmp_path / "study.duckdb", request(tmp_path / "networks")
    database.write_bytes(whole.read_bytes())
    outcome = collect(same, database, Silence())
    assert (outcome.filled_count, outcome.present_count) == (0, 36)
    assert contents(database) == contents(whole)
    more = replace(same, number_formats=match_formats("INT_2,INT_3"), scopes=("all", "bias"))
    reporter = Silence()
    collect(more, database, reporter)
    assert {(cell.format.name, cell.scope) for cell in reporter.cells} == {
        ("INT_2", "bias"),
        ("INT_3", "all"),
        ("INT_3", "bias"),
    }
    assert rows(database, "select count(*) from fakefreeze_param") == [(21,)]


@pytest.mark.slow
def test_the_same_arguments_give_the_same_facts_to_the_bit(tmp_path: Path, whole: Path) -> None:
    torch.manual_seed(123)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        collect(request(tmp_path / "other"), tmp_path / "again.duckdb", Silence())
    finally:
        torch.set_num_threads(threads)
    assert contents(tmp_path / "again.duckdb") == contents(whole)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"images": images(19)}, r"images: the database has AlexNet on 20 images, found 19"),
        ({"images": images(20, seed=9)}, r"images: .* found as many others"),
        ({"calibration": images(7, "train", seed=1)}, r"calibration: .* on 8 images, found 7"),
    ],
)
def test_other_arguments_are_refused_by_name(
    tmp_path: Path, whole: Path, changes: dict[str, object], named: str
) -> None:
    database = tmp_path / "copy.duckdb"
    database.write_bytes(whole.read_bytes())
    with pytest.raises(MismatchError, match=named):
        collect(request(tmp_path / "other", **changes), database, Silence())
    assert contents(database) == contents(whole)


def test_another_checkpoint_or_precision_is_refused(tmp_path: Path, whole: Path) -> None:
    database = tmp_path / "copy.duckdb"
    database.write_bytes(whole.read_bytes())
    other = request(tmp_path / "other", networks=(source(tmp_path, "AlexNet", seed=5),))
    with pytest.raises(MismatchError, match="AlexNet from another checkpoint"):
        collect(other, database, Silence())
    with duckdb.connect(database) as connection:
        connection.execute("update evaluation set precision = 'bfloat16' where scope = 'all'")
    same = request(tmp_path / "same", precision="float32")
    with pytest.raises(MismatchError, match=r"precision: .* bfloat16, found float32"):
        collect(same, database, Silence())


def test_another_preprocessing_is_refused(tmp_path: Path, whole: Path) -> None:
    database = tmp_path / "copy.duckdb"
    database.write_bytes(whole.read_bytes())
    same = source(tmp_path, "AlexNet")
    fed = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    other = request(tmp_path / "other", networks=(replace(same, preprocessing=fed),))
    with pytest.raises(
        MismatchError, match=r"mean, std.* the database has AlexNet with the preprocessing"
    ):
        collect(other, database, Silence())


def test_replace_collects_anew_and_leaves_the_others(tmp_path: Path, whole: Path) -> None:
    database = tmp_path / "copy.duckdb"
    database.write_bytes(whole.read_bytes())
    other = source(tmp_path, "AlexNet", seed=5)
    anew = request(tmp_path / "other", networks=(other,), replace=True, scopes=("all",))
    assert collect(anew, database, Silence()).filled_count == 6
    found = dict(
        rows(
            database,
            "select n.name, count(*) from evaluation join network as n "
            "using (network_id) group by all",
        )
    )
    assert found == {"AlexNet": 7, "AlexNet_BN": 13, "Inception_BN": 13}
    assert rows(database, "select count(*) from fakefreeze_flops") == [(18,)]


FRAGILE = """
import torch
from torch import nn


class Fragile(nn.Module):
    '''Fails after its first pass.'''

    passes = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 10)

    def forward(self, images):
        Fragile.passes += 1
        if Fragile.passes > 1:
            raise ValueError("once is enough")
        return self.layer(images.flatten(1))
"""


@pytest.mark.slow
def test_one_network_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    asked = request(tmp_path, scopes=("all",))
    overwritten = source(tmp_path, "VGG_16")
    (tmp_path / "VGG_16.safetensors").write_text("not a checkpoint")
    (tmp_path / "fragile.py").write_text(FRAGILE)
    fragile = network_source(
        f"{tmp_path}/fragile.py:Fragile", weights="random", mean=(0, 0, 0), std=(1, 1, 1)
    )
    failing = [replace(asked.tasks[0], source=found) for found in (overwritten, fragile)]
    reporter = Silence()
    asked = replace(asked, tasks=(*failing, *asked.tasks[1:]))
    outcome = collect(asked, tmp_path / "study.duckdb", reporter)
    assert [failure.network for failure in outcome.failures] == ["VGG_16", "Fragile"]
    assert "once is enough" in outcome.failures[1].reason
    assert outcome.filled_count == 12
    recorded = rows(tmp_path / "study.duckdb", "select outcome, failures from collection_run")[0]
    assert recorded[0] == "failed"
    assert len(recorded[1]) == 2
    assert any("Fragile failed" in remark for remark in reporter.remarks)
    missing_cells = rows(
        tmp_path / "study.duckdb", "select count(*) from missing_cell where network = 'Fragile'"
    )
    assert missing_cells[0][0] >= 6


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"class_names": ("a", "b", "c")}, "found 10: toy has 3 classes"),
        ({"images": torch.zeros(20, 1, 32, 32, dtype=torch.uint8)}, "3 channels.* found 1 in toy"),
        ({"images": torch.zeros(20, 3, 8, 8, dtype=torch.uint8)}, "32 x 32|8 x 8"),
    ],
)
def test_images_that_do_not_fit_the_network_are_told_before_the_first_cell(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    shown = images(20)
    few = replace(shown, labels=shown.known_labels() % 3, **changed)
    asked = request(tmp_path, networks=[source(tmp_path, "AlexNet")], images=few)
    outcome = collect(asked, tmp_path / "study.duckdb", Silence())
    assert outcome.filled_count == 0
    assert re.search(said, outcome.failures[0].reason)


def test_numbered_classes_that_do_not_all_occur_are_as_many_as_the_outputs(tmp_path: Path) -> None:
    shown = images(20)
    few = replace(shown, labels=shown.known_labels() % 3, class_names=("0", "1", "2"))
    asked = request(tmp_path, networks=[source(tmp_path, "AlexNet")], images=few)
    asked = replace(asked, number_formats=asked.number_formats[:1])
    collect(asked, tmp_path / "study.duckdb", Silence())
    assert rows(tmp_path / "study.duckdb", "select class_count from dataset") == [(10,), (10,)]


def test_a_cell_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, asked = tmp_path / "study.duckdb", request(tmp_path, scopes=("all",))
    calls = 0

    def fail_later(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        write_evaluation(*arguments)

    monkeypatch.setattr("ptqdb.collection.sweep.write_evaluation", fail_later)
    with pytest.raises(KeyboardInterrupt):
        collect(asked, database, Silence())
    halves = rows(
        database,
        "select count(distinct number_format_id) from quantized_tensor union all "
        "select count(*) from evaluation where scope = 'all'",
    )
    assert halves == [(2,), (2,)]
    assert rows(database, "select outcome from collection_run") == [("interrupted",)]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_never_killed(tmp_path: Path, whole: Path) -> None:
    database, moments = tmp_path / "killed.duckdb", random.Random(7)
    killed_count = 0
    for _ in range(4):
        process = started(tmp_path / "networks", database)
        process.join(moments.uniform(0.05, 1.0))
        if process.is_alive():
            process.kill()
            killed_count += 1
        process.join()
    assert killed_count >= 2
    final = started(tmp_path / "networks", database)
    final.join()
    assert final.exitcode == 0
    assert contents(database) == contents(whole)
    outcomes = [
        row[0] for row in rows(database, "select outcome from collection_run order by run_id")
    ]
    assert outcomes.count("interrupted") == killed_count
    assert "running" not in outcomes


@pytest.mark.slow
def test_ctrl_c_ends_soon_and_the_next_run_finishes(tmp_path: Path, whole: Path) -> None:
    database = tmp_path / "stopped.duckdb"
    process = started(tmp_path / "networks", database)
    stopped_at = time.monotonic()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert time.monotonic() - stopped_at < 3
    assert process.exitcode not in (None, 0)
    assert rows(database, "select outcome from collection_run") == [("interrupted",)]
    started(tmp_path / "networks", database).join()
    assert contents(database) == contents(whole)


@pytest.mark.parametrize("is_lost", [True, False])
def test_ctrl_c_in_a_library_is_no_failing_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    """DuckDB makes a RuntimeError of it; what a finalizer raises is ignored."""

    def library(*_: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt as error:
            if not is_lost:
                raise RuntimeError("Query interrupted") from error

    monkeypatch.setattr("ptqdb.collection.sweep._collect_format", library)
    handler = signal.getsignal(signal.SIGINT)
    reporter = Silence()
    with pytest.raises(KeyboardInterrupt):
        collect(request(tmp_path, scopes=("all",)), tmp_path / "study.duckdb", reporter)
    assert signal.getsignal(signal.SIGINT) is handler
    found = rows(tmp_path / "study.duckdb", "select outcome, failures from collection_run")
    assert found == [("interrupted", [])]
    assert not any("failed" in remark for remark in reporter.remarks)


def test_ctrl_c_lost_while_a_network_is_measured_writes_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library makes of it may pass for a layer that has to stay in float."""

    def measured(*arguments: Any, **named: Any) -> NetworkMeasurement:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return NetworkMeasurement(*arguments, **named)

    monkeypatch.setattr("ptqdb.collection.sweep.NetworkMeasurement", measured)
    with pytest.raises(KeyboardInterrupt):
        collect(request(tmp_path, scopes=("all",)), tmp_path / "study.duckdb", Silence())
    assert rows(tmp_path / "study.duckdb", "select count(*) from network") == [(0,)]


def test_a_transaction_that_is_interrupted_as_it_begins_leaves_none_open(path: Path) -> None:
    with connect(path, read_only=False) as connection:

        class Interrupted:
            def execute(self, sql: str) -> None:
                connection.execute(sql)
                if sql == "begin":
                    raise KeyboardInterrupt

        with (
            pytest.raises(KeyboardInterrupt),
            transaction(cast("duckdb.DuckDBPyConnection", Interrupted())),
        ):
            pass
        with transaction(connection):
            connection.execute("delete from evaluation")
