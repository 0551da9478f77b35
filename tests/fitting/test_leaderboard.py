"""The leaderboard: ranks, the choice inside each fold, what is kept, what is fitted again."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import synthetic

from ptqdb.collection.rows import delete_networks
from ptqdb.curves import curve
from ptqdb.database import connect, forget_fits, materialize, query, read_view
from ptqdb.errors import UsageError
from ptqdb.fitting.compare import OpenDatabase, compare
from ptqdb.fitting.cross_validation import Fold, assign_folds, leave_out
from ptqdb.fitting.leaderboard import (
    Entry,
    Task,
    choose_inside_folds,
    matching_views,
    rank_entries,
    run_tasks,
)
from ptqdb.fitting.store import best_prediction
from ptqdb.fitting.view_fit import fit_view_frame


@pytest.fixture(scope="module")
def filled_file(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic study, to copy."""
    path = tmp_path_factory.mktemp("filled") / "filled.duckdb"
    with connect(Path(shutil.copy(empty_file, path)), read_only=False) as connection:
        synthetic.fill(connection)
        materialize(connection)
    return path


@pytest.fixture
def opened(filled_file: Path, tmp_path: Path) -> OpenDatabase:
    """Opens a copy of the synthetic study, which may be written."""
    return partial(connect, Path(shutil.copy(filled_file, tmp_path / "filled.duckdb")))


@pytest.fixture
def filled(opened: OpenDatabase) -> Iterator[duckdb.DuckDBPyConnection]:
    """The synthetic study, to read."""
    with opened(read_only=True) as connection:
        yield connection


class Count:
    """Counts what is fitted."""

    def __init__(self) -> None:
        self.plans: list[tuple[int, int]] = []
        self.done: list[tuple[str, str]] = []

    def planned(self, fit_count: int, present_count: int) -> None:
        self.plans.append((fit_count, present_count))

    def fitted(self, view: str, curve: str) -> None:
        self.done.append((view, curve))


def entry(view: str, held_out: float | None, folds: list[Fold], points: int = 9) -> Entry:
    return Entry(
        view=view,
        curve="rational2",
        leave_out="network",
        fingerprint="x",
        points=points,
        r_squared=0.9,
        held_out_r_squared=held_out,
        params=(1.0,),
        folds=tuple(folds),
    )


# --- the choice ------------------------------------------------------------------------------


def test_the_choice_looks_at_the_others_only() -> None:
    # Without A the first looks best, without B and C the second; judged on A, B, C they have the
    # errors 1, 4 and 5: 1 - 10 / 50 = 0.8.
    first = [Fold("A", 3, 1.0, 0.9), Fold("B", 3, 2.0, 0.5), Fold("C", 3, 3.0, 0.5)]
    second = [Fold("A", 3, 9.0, 0.8), Fold("B", 3, 4.0, 0.6), Fold("C", 3, 5.0, 0.7)]
    choice = choose_inside_folds([entry("one", 0.88, first), entry("two", 0.64, second)], 50.0)
    assert choice is not None
    assert {unit: view for unit, (view, _) in choice.chosen.items()} == {
        "A": "one",
        "B": "two",
        "C": "two",
    }
    assert choice.held_out_r_squared == pytest.approx(0.8)
    assert choice.held_out_rmse == pytest.approx((10 / 9) ** 0.5)
    # the picked best flatters
    assert choice.held_out_r_squared < 0.88


def test_entries_of_fewer_points_are_not_chosen() -> None:
    whole = [Fold("A", 3, 1.0, 0.1), Fold("B", 3, 2.0, 0.1), Fold("C", 3, 2.0, 0.1)]
    part = [Fold("A", 2, 0.0, 0.9), Fold("B", 2, 0.0, 0.9), Fold("C", 2, 0.0, 0.9)]
    choice = choose_inside_folds([entry("part", 0.9, part, 6), entry("whole", 0.1, whole)], 50.0)
    assert choice is not None
    assert {view for view, _ in choice.chosen.values()} == {"whole"}


def test_nothing_to_choose_by() -> None:
    two = [Fold("A", 3, 1.0, None), Fold("B", 3, 2.0, None)]
    assert choose_inside_folds([entry("one", 0.9, two)], 50.0) is None
    assert choose_inside_folds([], 50.0) is None


def test_ranks() -> None:
    entries = [entry("b", 0.5, []), entry("c", None, []), entry("a", 0.5, []), entry("d", 0.7, [])]
    assert [one.view for one in rank_entries(entries)] == ["d", "a", "b", "c"]


# --- over a database -------------------------------------------------------------------------


def test_twins_are_named(opened: OpenDatabase) -> None:
    assert compare(opened, "l2_flops", ["hill"]).remarks == ()
    with opened(read_only=False) as connection:
        connection.execute(
            "update network set checkpoint_sha256 = (select min(checkpoint_sha256) from network) "
            "where network in (select network from network order by network limit 2)"
        )
    (remark,) = compare(opened, "l2_flops", ["hill"]).remarks
    assert "have the same weights" in remark


def test_figures_are_those_of_a_fit(opened: OpenDatabase) -> None:
    board = compare(opened, "fakefreeze_flops", ["rational2", "hill"])
    assert {(one.view, one.curve) for one in board.entries} == {
        (view, name)
        for view in ("fakefreeze_flops", "baseline_bits", "baseline_nsr")
        for name in ("rational2", "hill")
    }
    with opened(read_only=True) as filled:
        frame = read_view(filled, "fakefreeze_flops")
    found = next(
        one for one in board.entries if one.view == "fakefreeze_flops" and one.curve == "hill"
    )
    fit = fit_view_frame(frame, view="fakefreeze_flops", curve="hill")[0]
    for name in ("points", "r_squared", "held_out_r_squared", "held_out_median_error", "params"):
        assert getattr(found, name) == pytest.approx(getattr(fit, name), rel=1e-6), name
    ranks = [one.held_out_r_squared or 0.0 for one in board.entries]
    assert ranks == sorted(ranks, reverse=True)
    assert [fold.left_out for fold in found.folds] == sorted(frame["network"].unique())


def test_architectures_are_left_out_whole(opened: OpenDatabase) -> None:
    board = compare(opened, "l2_flops", ["hill"], leave_out="architecture")
    found = next(one for one in board.entries if one.view == "l2_flops")
    with opened(read_only=True) as filled:
        frame = read_view(filled, "l2_flops")
    assert [fold.left_out for fold in found.folds] == sorted(frame["architecture"].unique())
    fit = fit_view_frame(frame, view="", curve="hill", leave_out_by="architecture")[0]
    assert found.held_out_r_squared == pytest.approx(fit.held_out_r_squared, rel=1e-6)
    networks = compare(opened, "l2_flops", ["hill"]).entries
    assert found.held_out_r_squared != next(
        one.held_out_r_squared for one in networks if one.view == "l2_flops"
    )


@pytest.mark.slow
def test_what_is_unchanged_is_not_fitted_again(opened: OpenDatabase) -> None:
    count = Count()
    first = compare(opened, "l2_*flops", ["hill", "linear"], reporter=count)
    again = compare(opened, "l2_*flops", ["hill", "linear"], reporter=count)
    total = len(first.entries)
    assert count.plans == [(total, 0), (0, total)]
    assert len(count.done) == total
    assert again == first
    # One more curve, and a network less: only that is fitted.
    compare(opened, "l2_flops", ["hill", "linear", "isotonic"], reporter=count)
    assert count.plans[-1] == (3, 6)
    with opened(read_only=False) as filled:
        delete_networks(filled, ["Plain"])
    compare(opened, "l2_flops", ["hill"], reporter=count)
    assert count.plans[-1] == (3, 0)


def test_results_can_be_queried_and_forgotten(opened: OpenDatabase) -> None:
    board = compare(opened, "l2_flops", ["hill"])
    with opened(read_only=False) as filled:
        rows = query(filled, "select view, held_out_r_squared from fit order by 2 desc")
        folds = query(
            filled,
            "select sum(sse), sum(f.points) from fit_fold f join fit using (fit_id) "
            "where view = 'l2_flops'",
        )
        forget_fits(filled)
        left = [query(filled, f"from {table}").height for table in ("fit", "fit_fold")]
    assert rows.rows() == [(one.view, one.held_out_r_squared) for one in board.entries]
    found = next(one for one in board.entries if one.view == "l2_flops")
    assert found.held_out_rmse is not None
    assert folds.row(0) == pytest.approx((found.held_out_rmse**2 * found.points, found.points))
    assert left == [0, 0]


def test_a_stop_loses_no_finished_fit(opened: OpenDatabase) -> None:
    class Stopping(Count):
        def fitted(self, view: str, curve: str) -> None:
            super().fitted(view, curve)
            if len(self.done) == 4:
                raise KeyboardInterrupt

    count = Stopping()
    with pytest.raises(KeyboardInterrupt):
        compare(opened, "l2_flops", ["linear", "hill"], reporter=count)
    compare(opened, "l2_flops", ["linear", "hill"], reporter=count)
    assert count.plans == [(6, 0), (2, 4)]
    with opened(read_only=True) as filled:
        kept = query(filled, "select view, curve from fit order by fit_id").rows()
    assert kept == [
        (view, name)
        for view in ("l2_flops", "baseline_bits", "baseline_nsr")
        for name in ("linear", "hill")
    ]


def test_what_cannot_be_kept_is_said_by_the_one_who_fits(opened: OpenDatabase) -> None:
    def unwritable(*, read_only: bool) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return opened(read_only=True)

    with pytest.raises(duckdb.Error, match="read-only"):
        compare(unwritable, "l2_flops", ["linear"])


def test_views_are_read_where_nothing_can_be_written(opened: OpenDatabase) -> None:
    modes = []

    def noted(*, read_only: bool) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        modes.append(read_only)
        connection = opened(read_only=read_only)
        assert isinstance(connection, duckdb.DuckDBPyConnection)
        if not read_only:  # what is written needs no view, and no text of a user's
            for view in ("l2_flops", "baseline_bits", "baseline_nsr"):
                connection.execute(f"drop view {view}")
        return connection

    call = "variant(measure := 'nsr')"
    compare(noted, call, ["linear"])
    assert modes == [True, False]
    with opened(read_only=False):  # brings the views back
        pass
    compare(noted, call, ["linear"])
    assert modes == [True, False, True]  # nothing is missing: nothing is written


@pytest.mark.slow
def test_views_that_evaluate_the_network_are_told_apart(opened: OpenDatabase) -> None:
    board = compare(opened, "l2_flops*", ["hill"])
    assert board.evaluated_views == {"l2_flops_sensitivity", "l2_flops_segmented"}
    assert board.choice is not None
    chosen = {view for view, _ in board.choice.chosen.values()}
    assert not chosen & {*board.evaluated_views, "baseline_bits", "baseline_nsr"}


def test_views_of_probes_are_ranked_and_not_chosen(opened: OpenDatabase) -> None:
    """They need a run of the quantized network."""
    board = compare(opened, "probe_soft", ["linear"])
    assert board.entries[0].view == "probe_soft"
    assert board.choice is None
    with opened(read_only=True) as connection:
        assert isinstance(connection, duckdb.DuckDBPyConnection)
        best = best_prediction(connection)
    assert best is not None
    assert best.view.startswith("baseline_")


def test_names(opened: OpenDatabase, filled: duckdb.DuckDBPyConnection) -> None:
    baselines = ["baseline_bits", "baseline_nsr"]
    assert matching_views(filled, "l2_flops") == ["l2_flops", *baselines]
    call = "variant(measure := 'nsr')"
    assert matching_views(filled, call) == [call, *baselines]
    assert len(matching_views(filled, "*")) > 100
    with pytest.raises(UsageError, match="no view 'l2_flop': choose l2_flops"):
        matching_views(filled, "l2_flop")
    with pytest.raises(UsageError, match="found 'hil'; choose one of hill"):
        compare(opened, "l2_flops", ["hil"])


@pytest.mark.slow
def test_processes_find_what_one_finds(filled: duckdb.DuckDBPyConnection) -> None:
    frame = read_view(filled, "l2_flops")
    tasks = [Task("l2_flops", name, "network", frame) for name in ("hill", "rational2", "linear")]
    alone = dict(run_tasks(tasks))
    together = dict(run_tasks(tasks, job_count=2))
    assert together == alone
    assert [alone[place].curve for place in range(3)] == [task.curve for task in tasks]


def test_a_task_that_carries_no_curve_says_why() -> None:
    frame = pl.DataFrame(
        {
            "network": ["A", "B"],
            "architecture": ["A", "B"],
            "number_format": ["INT_2", "INT_2"],
            "divergence": [0.1, 0.2],
            "accuracy_loss": [0.1, 0.2],
        }
    )
    ((_, found),) = run_tasks([Task("few", "rational2", "network", frame)])
    assert "at least 5 points" in str(found.error)
    assert (found.points, found.held_out_r_squared, found.folds) == (2, None, ())
    assert np.isnan(leave_out_of(frame)).all()


def leave_out_of(frame: pl.DataFrame) -> np.ndarray:
    from ptqdb.fitting.view_fit import group_names, view_points

    points = view_points(frame)
    return leave_out(
        points, curve("rational2"), assign_folds(group_names(frame["network"]))
    ).predicted


def test_the_fingerprint_follows_the_points(tmp_path: Path) -> None:
    frame = pl.DataFrame({"divergence": [0.1], "accuracy_loss": [0.2]})
    task = Task("v", "hill", "network", frame)
    moved = Task("v", "hill", "network", frame.with_columns(accuracy_loss=pl.lit(0.2 + 1e-16 * 4)))
    assert task.fingerprint == Task("other", "hill", "network", frame).fingerprint
    assert task.fingerprint != moved.fingerprint
    assert task.fingerprint != Task("v", "linear", "network", frame).fingerprint
    assert task.fingerprint != Task("v", "hill", "architecture", frame).fingerprint
