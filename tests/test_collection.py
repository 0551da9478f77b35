"""Collecting: what lands, what a second run does, and what survives a kill."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import collecting
import duckdb
import pytest
import torch
from collecting import Silence, contents, images, request, source

from ptqdb.collection.rows import write_evaluation
from ptqdb.collection.sweep import collect
from ptqdb.errors import MismatchError
from ptqdb.number_formats import matching


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that was never interrupted, computed as the script computes it."""
    folder = tmp_path_factory.mktemp("whole")
    script = [sys.executable, collecting.__file__, str(folder), str(folder / "whole.duckdb")]
    subprocess.run(script, check=True, capture_output=True)
    return folder / "whole.duckdb"


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_every_cell_has_its_facts(whole: Path) -> None:
    formats = len(matching(collecting.FORMATS))
    networks = len(collecting.NETWORKS)
    scopes = dict(rows(whole, "select scope, count(*) from evaluation group by scope"))
    assert scopes == {"none": networks, "all": networks * formats, "weight": networks * formats}
    tensors = rows(whole, "select role, count(*) from tensor group by role order by role")
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
    assert coded == [(2 * layers * formats, 0)]
    assert rows(whole, "select count(*) from tensor_divergence where measure = 'js'") == [
        (4 * layers * formats,)
    ]


def test_the_run_announces_its_cells_and_tells_how_it_ended(whole: Path) -> None:
    found = rows(
        whole, "select outcome, len(cells), failures, ended_at >= started_at from collection_run"
    )
    assert found == [("done", 36, [], True)]


def test_the_views_have_a_row_for_each_cell(whole: Path) -> None:
    found = rows(whole, "select count(*), count(divergence) from fakefreeze_flops")
    assert found == [(18, 18)]


def test_a_second_run_does_nothing_and_more_formats_are_added(tmp_path: Path) -> None:
    database, first = tmp_path / "study.duckdb", request(tmp_path, scopes=("all",))
    assert collect(first, database, Silence()).filled_count == 18
    before = contents(database)
    outcome = collect(first, database, Silence())
    assert (outcome.filled_count, outcome.present_count) == (0, 18)
    assert contents(database) == before
    more = replace(first, number_formats=matching("INT_2,INT_3"), scopes=("all", "bias"))
    reporter = Silence()
    collect(more, database, reporter)
    assert {(cell.number_format, cell.scope) for cell in reporter.cells} == {
        ("INT_2", "bias"),
        ("INT_3", "all"),
        ("INT_3", "bias"),
    }
    assert rows(database, "select count(*) from fakefreeze_param") == [(21,)]


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
        ({"images": images(19)}, r"--images: the database holds AlexNet on 20 images, found 19"),
        ({"images": images(20, seed=9)}, r"--images: .* found as many others"),
        ({"calibration": images(7, "train", seed=1)}, r"--calibration: .* on 8 images, found 7"),
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
    with pytest.raises(MismatchError, match=r"--precision: .* bfloat16, found float32"):
        collect(same, database, Silence())


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


def test_one_network_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    asked = request(tmp_path)
    damaged = asked.tasks[0].source.checkpoint
    assert damaged is not None
    from safetensors.torch import load_file, save_file

    weights, metadata = load_file(damaged), _metadata(damaged)
    weights["features.0.weight"][0] = torch.nan
    save_file(weights, damaged, metadata)
    overwritten = source(tmp_path, "VGG_16")
    (tmp_path / "VGG_16.safetensors").write_text("not a checkpoint")
    reporter = Silence()
    tasks = (replace(asked.tasks[0], source=overwritten), *asked.tasks)
    asked = replace(asked, tasks=tasks, scopes=("all",))
    outcome = collect(asked, tmp_path / "study.duckdb", reporter)
    assert [failure.network for failure in outcome.failures] == ["VGG_16", "AlexNet"]
    assert "NaN or infinity in features.0.weight" in outcome.failures[1].reason
    assert outcome.filled_count == 12
    recorded = rows(tmp_path / "study.duckdb", "select outcome, failures from collection_run")[0]
    assert recorded[0] == "failed"
    assert len(recorded[1]) == 2
    assert any("AlexNet failed" in remark for remark in reporter.remarks)
    missing_cells = rows(
        tmp_path / "study.duckdb", "select count(*) from missing_cell where network = 'AlexNet'"
    )
    assert missing_cells[0][0] >= 6


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


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


def started(folder: Path, database: Path) -> "subprocess.Popen[str]":
    """The script, running, past its imports."""
    process = subprocess.Popen(
        [sys.executable, collecting.__file__, folder, database],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("planned")
    return process


def test_killed_at_random_moments_it_ends_as_if_never_killed(tmp_path: Path, whole: Path) -> None:
    database, moments = tmp_path / "killed.duckdb", random.Random(7)
    killed_count = 0
    for _ in range(5):
        process = started(tmp_path / "networks", database)
        try:
            process.wait(timeout=moments.uniform(0.05, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed_count += 1
        process.communicate()
    assert killed_count >= 2
    final = started(tmp_path / "networks", database)
    final.communicate()
    assert final.returncode == 0
    assert contents(database) == contents(whole)
    outcomes = [
        row[0] for row in rows(database, "select outcome from collection_run order by run_id")
    ]
    assert outcomes.count("interrupted") == killed_count
    assert "running" not in outcomes


def test_ctrl_c_ends_soon_and_the_next_run_finishes(tmp_path: Path, whole: Path) -> None:
    database = tmp_path / "stopped.duckdb"
    process = started(tmp_path / "networks", database)
    time.sleep(0.3)
    stopped_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert time.monotonic() - stopped_at < 3
    assert process.returncode != 0
    assert rows(database, "select outcome from collection_run") == [("interrupted",)]
    started(tmp_path / "networks", database).communicate()
    assert contents(database) == contents(whole)
