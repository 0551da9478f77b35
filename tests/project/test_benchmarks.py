"""The benchmarks' arithmetic and page; what they measure is nothing that a test could hold."""

import sys
from collections import Counter
from dataclasses import replace
from functools import partial

import duckdb
import numpy as np
import pytest
import until
from commands import CommandTiming, PredictionTiming
from floor import CPU, Floor, Way, float_precision
from page import Results, page
from processes import Growth, Memory
from sampling import CALIBRATION, DATABASE, EVALUATION, FACTS, FLOAT, OPENING, REST, phase_of
from sweep import STUDY, Size, SweepTiming, database_share
from until import Cell, cells_in_random_order, cells_with_bits, replayed, shuffled
from workload import evenly_chosen, interleaved_medians, random_module, random_network

from ptqdb.collection import rows
from ptqdb.database import opening, writing
from ptqdb.measurement import evaluation
from ptqdb.measurement import network as network_measurement
from ptqdb.quantization.number_formats import STUDY_GRID

PHASES = {
    EVALUATION: 2.0,
    FACTS: 3.0,
    CALIBRATION: 1.0,
    FLOAT: 0.5,
    DATABASE: 0.25,
    OPENING: 1.0,
    REST: 0.25,
}
SWEEP = SweepTiming(
    "AlexNet",
    Size(image_count=100, calibration_count=50, format_count=4),
    seconds=(8.0, 6.0, 9.0),
    floor=Floor({"float32": 0.4}, {"float32": 4}, {"float32": Way("channels last", 32)}),
    phases=PHASES,
)


@pytest.mark.parametrize("count", [7, 11, 22, 43])
def test_formats_are_chosen_evenly_from_the_families(count: int) -> None:
    chosen = evenly_chosen(count)
    assert len(set(chosen)) == count
    shares = Counter(known.family for known in STUDY_GRID)
    for family, of_all in shares.items():
        found = sum(known.family == family for known in chosen)
        assert abs(found - of_all * count / len(STUDY_GRID)) < 1


def test_a_sweep_is_held_to_one_pass_for_each_format() -> None:
    assert SWEEP.floor.total_s == pytest.approx(1.6)
    assert SWEEP.sweep_s == 8.0
    assert SWEEP.ratios == pytest.approx((8.0 / 1.6, 6.0 / 1.6, 9.0 / 1.6))


def test_integers_are_no_floor_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass in integers quantizes: the floor stays a pass of floats."""
    monkeypatch.setattr("floor.choose_precision", lambda known, device: "int8")
    assert float_precision(STUDY_GRID[0], CPU) in ("float32", "bfloat16")


def test_the_estimate_grows_each_phase_by_what_it_depends_on() -> None:
    # ten times the images, three times the formats, twice the images to calibrate on
    larger = Size(image_count=1000, calibration_count=100, format_count=12)
    expected = {
        EVALUATION: 2.0 * 10 * 3,
        FACTS: 3.0 * 3,
        CALIBRATION: 1.0 * 2 * 3,
        FLOAT: 0.5 * 10,
        DATABASE: 0.25 * 3,
        OPENING: 1.0,
        REST: 0.25,
    }
    assert SWEEP.seconds_at(larger) == pytest.approx(expected)
    assert SWEEP.ratio_at(larger) == pytest.approx(sum(expected.values()) / (1.6 * 10 * 3))
    assert SWEEP.ratio_at(SWEEP.size) == pytest.approx(8.0 / 1.6)
    assert database_share(PHASES) == pytest.approx((0.25 + 1.0) / 8.0)


def test_a_growth_is_a_line_with_its_constant() -> None:
    growth = Growth("networks", (1, 2, 4, 8), (5.0, 8.0, 14.0, 26.0), (900.0, 902.0, 901.0, 900.0))
    assert growth.line(growth.seconds) == pytest.approx((2.0, 3.0, 1.0))
    assert growth.line(growth.peak_mib)[2] < 0.5


def test_works_are_timed_in_turns_after_one_call_that_does_not_count() -> None:
    calls: list[str] = []
    works = {name: partial(calls.append, name) for name in "ab"}
    assert set(interleaved_medians(works, 2)) == {"a", "b"}
    assert "".join(calls) == "ababab"


def test_random_weights_come_again_and_keep_signals_alive() -> None:
    first, again = (random_network("VGG_16", width=0.0625, seed=3) for _ in range(2))
    assert first.checkpoint_sha256 == again.checkpoint_sha256
    assert random_network("VGG_16", width=0.0625).checkpoint_sha256 != first.checkpoint_sha256
    variances = [
        buffer
        for name, buffer in random_module("VGG_16", width=0.0625).named_buffers()
        if name.endswith("running_var")
    ]
    assert all(float(variance.max()) not in (0.0, 1.0) for variance in variances)


@pytest.mark.parametrize(
    ("file", "function", "phase"),
    [
        (evaluation.__file__, "of_codes", EVALUATION),
        (evaluation.__file__, "a_new_name", FLOAT),
        (network_measurement.__file__, "quantized_facts", FACTS),
        (network_measurement.__file__, "_measure_inputs", CALIBRATION),
        (rows.__file__, "write_evaluation", DATABASE),
        (writing.__file__, "materialize", DATABASE),
        (opening.__file__, "connect", OPENING),
        ("/elsewhere.py", "of_codes", REST),
    ],
)
def test_a_stack_is_told_by_its_outermost_known_function(
    file: str, function: str, phase: str
) -> None:
    source = f"def {function}(look):\n    return look()\n"
    names: dict[str, object] = {}
    exec(compile(source, file, "exec"), names)
    caller = names[function]
    assert callable(caller)

    def deepest() -> str:
        return phase_of(sys._getframe())

    assert caller(deepest) == phase


def test_the_page_says_what_was_reached_and_what_was_left_out() -> None:
    results = Results(
        machine="two cores",
        loads=(0.25, 2.0),
        command="uv run python benchmarks/performance.py",
        date="2026-01-02",
        repeats=3,
        sweeps=[SWEEP],
        commands=[
            CommandTiming("VGG_16", (30.0, 24.0, 27.0), 15.0),
            CommandTiming(None, (180.0,), None),
        ],
        prediction=PredictionTiming(pass_s=0.5, total_s=12.0, facts_s=10.0),
        rounding={"INT_8": 0.6, "INT_4": 0.4, "POT_4": 0.35, "torch's fake_quantize": 0.05},
        facts={"INT_8": 1.5, "POT_5": 2.5},
        memory=Memory(1 << 30, 1 << 27, 1 << 25, {1: 1 << 27, 9: 9 << 25}),
        start={"ptqdb fit": 1.2},
        growths=[],
    )
    lines = page(results).splitlines()
    spread = "5.00 (3.75 to 5.62) | 0.75 | not reached |"
    assert f"| sweep over its floor, AlexNet, 4 formats and 100 images | {spread}" in lines
    estimate = f"{SWEEP.ratio_at(STUDY):.2f} | 0.75 | not reached |"
    of_study = "43 formats and 10,000 images"
    assert f"| the same, {of_study}, estimated from it | {estimate}" in lines
    measured = page(replace(results, sweeps=[replace(SWEEP, size=STUDY)]))
    assert f"| sweep over its floor, AlexNet, {of_study} | {spread}" in measured
    assert "estimated from it" not in measured
    alone = "`ptqdb collect --network VGG_16` (the narrow one that ships) over its floor"
    assert any(line.startswith(f"| {alone}") and "1.80 (1.60 to 2.00)" in line for line in lines)
    whole = "`ptqdb collect`, five networks, from the shell's call to the end"
    assert f"| {whole} | 180 s | 195 s | reached |" in lines
    assert any("in float passes | 4.0 | 3 | not reached |" in line for line in lines)
    assert (
        "| rounding 4 M floats, speed over a copy's, INT, the slowest | 0.40 | 0.5 | not reached |"
    ) in lines
    assert (
        "| rounding 4 M floats, speed over a copy's, POT, the slowest | 0.35 | 0.3 | reached |"
    ) in lines
    assert not any(", FLOAT, the slowest" in line for line in lines)
    assert "| facts of one format of VGG_16, the slowest | 2.50 s | 2 s | not reached |" in lines
    assert any("in weights | 2.0 | 2 | reached |" in line for line in lines)
    assert "| 1 | 128 | 0.75 |" in lines
    assert "| start of `ptqdb fit` | 1.20 s | 1.5 s | reached |" in lines
    assert "## Growth" not in lines
    assert "Formats at even steps through the grid, 100 images" in page(results)
    assert "two cores" in page(results)
    assert "2026-01-02" in page(results)


def test_random_orders_agree_with_the_counts(study: duckdb.DuckDBPyConnection) -> None:
    known = {
        (cell.network_id, cell.number_format_id): cell
        for cell in cells_with_bits(study)
        if cell.scope == "all"
    }
    drawn = cells_in_random_order(study, seed=0)
    assert len(drawn) == len(known) == 15
    for cell in drawn:
        other = known[cell.network_id, cell.number_format_id]
        for count in ("right", "float_right"):
            assert getattr(cell, count).sum() == getattr(other, count).sum()
        assert (cell.right & cell.float_right).sum() == (other.right & other.float_right).sum()
        assert (cell.right != other.right).any()
        assert cell.loss(1000) == other.loss(1000)
    again = cells_in_random_order(study, seed=1)
    assert any((one.right != two.right).any() for one, two in zip(drawn, again, strict=True))
    floats = {cell.network_id: cell.float_right for cell in drawn}
    assert all((floats[cell.network_id] == cell.float_right).all() for cell in drawn)


def test_an_order_is_one_of_all_cells(study: duckdb.DuckDBPyConnection) -> None:
    cells = cells_with_bits(study)[:8]
    other = shuffled(cells, seed=0)
    for one, two in zip(cells, other, strict=True):
        assert (one.right != two.right).any()
        assert one.loss(1000) == two.loss(1000)
    before, after = (
        [int((one.right & two.right).sum()) for one in some for two in some]
        for some in (cells, other)
    )
    assert before == after


def test_a_replayed_cell_stops_as_an_evaluation_does() -> None:
    # One image of a hundred flips, always at the end of a hundred.
    floats = np.arange(2000) % 10 > 0
    right = floats & (np.arange(2000) % 100 != 99)
    cell = Cell(1, 1, "all", right, floats)
    # Of 500 images 450 and 445: sqrt(445 / 450 * 5) / 450 = 0.00494; of 700 images: 0.00418
    assert [cell.image_count(until) for until in (0.005, 0.0049, 0.0001)] == [500, 700, 2000]
    assert cell.loss(500) == pytest.approx(5 / 450)


def test_a_replay_leaves_the_study_as_it_was(
    study: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = study.execute("from evaluation order by all").fetchall()
    cells = [cell for cell in cells_with_bits(study) if cell.scope == "all"]
    found = replayed(study, cells, 0.02)
    assert study.execute("from evaluation order by all").fetchall() == before
    counts = [cell.image_count(0.02) for cell in cells]
    assert found.share == sum(counts) / 15_000 < 1
    assert found.r_squared_change != 0
    errors = [cell.loss(n) - cell.loss(1000) for cell, n in zip(cells, counts, strict=True)]
    assert found.bias == pytest.approx(sum(errors) / 15)
    assert found.worst_error == pytest.approx(max(map(abs, errors)))
    assert 0 < found.mean_error <= found.rms_error <= found.worst_error
    monkeypatch.setattr(until, "is_enough", lambda *_: False)
    whole = replayed(study, cells, 0.02)
    assert (whole.share, whole.worst_error) == (1, 0)
    assert whole.r_squared_change == pytest.approx(0, abs=1e-9)
