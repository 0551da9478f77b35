"""Fits over a view: groups, their order, what is left out, and what is printed."""

import json
import math
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import synthetic

from ptqdb.curves import curve
from ptqdb.database import connect
from ptqdb.errors import UsageError
from ptqdb.fitting.view_fit import GroupFit, fit_view_frame, unit_names, view_remarks

KEYS = [
    *("view", "curve", "by", "group", "points", "r_squared", "adjusted_r_squared", "rmse", "ssr"),
    *("aic", "bic", "ceiling_r_squared", "held_out_r_squared", "held_out_rmse"),
    *("held_out_median_error", "monotone", "params"),
]


def view_frame() -> pl.DataFrame:
    """Two networks of 12 formats, one of 3; loss = x / (1 + x) and a third of that."""
    x = np.geomspace(0.001, 10, 12)
    rows = [
        ("Wide", "INT", x, x / (1 + x)),
        ("Deep", "POT", x, x / (1 + x) / 3),
        ("Few", "INT", x[:3], x[:3]),
    ]
    return pl.concat(
        pl.DataFrame({"divergence": a, "accuracy_loss": b}).with_columns(
            network=pl.lit(name), family=pl.lit(family)
        )
        for name, family, a, b in rows
    )


def fits(frame: pl.DataFrame, **options: str | None) -> dict[str, GroupFit]:
    chosen: dict[str, Any] = {"curve": "rational2"} | options
    found = fit_view_frame(frame, view="l2_flops", **chosen)
    return {fit.group: fit for fit in found}


def test_groups_in_order_all_first() -> None:
    assert list(fits(view_frame())) == ["ALL", "Deep", "Few", "Wide"]
    assert list(fits(view_frame(), by="family")) == ["ALL", "INT", "POT"]
    found = fits(view_frame())
    assert [found[name].points for name in found] == [27, 12, 3, 12]


def test_figures_of_a_group() -> None:
    found = fits(view_frame())
    assert found["Wide"].r_squared == pytest.approx(1)
    pool = found["ALL"]
    frame = view_frame()
    y = frame["accuracy_loss"].to_numpy()
    assert pool.results is not None
    residuals = y - pool.results.predict(frame["divergence"].to_numpy())
    sse = float(np.sum(residuals**2))
    assert sse > 0.1  # the two networks differ
    assert pool.ssr == pytest.approx(sse)
    assert pool.rmse == pytest.approx(math.sqrt(sse / 27))
    assert pool.r_squared == pytest.approx(1 - sse / float(np.sum((y - y.mean()) ** 2)))
    assert pool.monotone is True
    assert pool.params == tuple(pool.results.params)


def test_figures_beside_the_fit() -> None:
    frame = view_frame()
    pool = fits(frame)["ALL"]
    results = pool.results
    assert results is not None
    assert (pool.adjusted_r_squared, pool.aic, pool.bic) == (
        results.rsquared_adj,
        results.aic,
        results.bic,
    )
    x, y = frame["divergence"].to_numpy(), frame["accuracy_loss"].to_numpy()
    assert pool.ceiling_r_squared == curve("isotonic").estimate(x, y).rsquared
    assert pool.r_squared is not None
    assert pool.r_squared < pool.ceiling_r_squared


def test_a_network_is_predicted_by_the_others() -> None:
    frame = view_frame().filter(pl.col("network") != "Few")
    found = fits(frame)
    rows = {name: frame.filter(network=name) for name in ("Deep", "Wide")}
    errors = []
    for name, other in (("Deep", "Wide"), ("Wide", "Deep")):
        fitted = curve("rational2").estimate(
            rows[other]["divergence"], rows[other]["accuracy_loss"]
        )
        y = rows[name]["accuracy_loss"].to_numpy()
        error = y - fitted.predict(rows[name]["divergence"])
        errors.append(error)
        spread = float(np.sum((y - y.mean()) ** 2))
        assert found[name].held_out_r_squared == pytest.approx(1 - float(error @ error) / spread)
        assert found[name].held_out_rmse == pytest.approx(float(np.sqrt(np.mean(error**2))))
        assert found[name].held_out_median_error == pytest.approx(float(np.median(np.abs(error))))
    both = np.concatenate(errors)
    y = frame["accuracy_loss"].to_numpy()
    spread = float(np.sum((y - y.mean()) ** 2))
    assert found["ALL"].held_out_r_squared == pytest.approx(1 - float(both @ both) / spread)


def test_a_family_is_predicted_by_its_own_curves() -> None:
    """A family holds a part of every network: its curve is fitted without the network's part."""
    frame = pl.concat([view_frame(), view_frame().with_columns(family=pl.lit("OTHER"))])
    frame = frame.filter(pl.col("network") != "Few")
    alone = frame.filter(family="OTHER")
    found = fits(frame, by="family")["OTHER"]
    assert found.held_out_r_squared == fits(alone)["ALL"].held_out_r_squared
    assert found.held_out_r_squared != fits(frame)["ALL"].held_out_r_squared


def test_twins_may_be_left_out_together() -> None:
    frame = view_frame().filter(pl.col("network") != "Few")
    twin = frame.filter(network="Wide").with_columns(network=pl.lit("Twin"))
    frame = pl.concat([frame, twin]).with_columns(
        architecture=pl.col("network").replace("Twin", "Wide")
    )
    by_network = fits(frame)["Twin"]
    by_architecture = fits(frame, leave_out_by="architecture")["Twin"]
    assert by_network.held_out_r_squared is not None
    assert by_architecture.held_out_r_squared is not None
    # The twin gives the answer away.
    assert by_network.held_out_r_squared > by_architecture.held_out_r_squared + 0.2


def test_one_checkpoint_under_two_names_is_one_network() -> None:
    """The figures of a network's twin are those of a study without the network."""
    frame = view_frame().filter(pl.col("network") != "Few")
    frame = frame.with_columns(weights_of=pl.col("network"))
    twin = frame.filter(network="Wide").with_columns(network=pl.lit("Twin"))
    both = pl.concat([frame, twin])
    held_out = {name: fit.held_out_r_squared for name, fit in fits(both).items()}
    alone = fits(frame)["Wide"].held_out_r_squared
    assert held_out["Twin"] == held_out["Wide"] == pytest.approx(alone)
    (remark,) = view_remarks(both, "l2_flops")
    assert remark.startswith("Twin, Wide have the same weights")
    assert view_remarks(frame, "l2_flops") == []


def test_units_that_share_a_checkpoint_are_one() -> None:
    """B and C share w; so do their architectures, and with them all of P and Q."""
    frame = pl.DataFrame(
        [("A", "P", "A"), ("B", "P", "B"), ("C", "Q", "B"), ("D", "Q", "D"), ("E", "R", "E")],
        schema=["network", "architecture", "weights_of"],
        orient="row",
    )
    assert unit_names(frame, "network").tolist() == ["A", "B", "B", "D", "E"]
    assert unit_names(frame, "architecture").tolist() == ["P", "P", "P", "P", "R"]
    assert unit_names(frame.drop("weights_of"), "network").tolist() == list("ABCDE")


def test_networks_without_a_divergence_are_named() -> None:
    frame = view_frame().with_columns(
        divergence=pl.when(pl.col("network") != "Few").then(pl.col("divergence"))
    )
    (remark,) = view_remarks(frame, "fakefreeze_flops_log")
    assert remark == (
        "Few: no divergence in fakefreeze_flops_log: log10(MMAC) is undefined up to 1 MMAC; "
        "choose a view without it, such as fakefreeze_flops_depth"
    )
    assert view_remarks(frame, "l2_flops") == ["Few: no divergence in l2_flops"]


def test_curves_that_need_counts_use_the_view() -> None:
    frame = view_frame().with_columns(
        float_accuracy=pl.lit(0.9), chance_accuracy=pl.lit(0.1), images=pl.lit(1000)
    )
    found = fits(frame, curve="logistic")["Wide"]
    assert found.error is None
    assert (found.aic, found.bic) == (None, None)
    assert found.fitted is not None
    assert found.fitted.points.chance_loss == pytest.approx(0.8 / 0.9)
    bare = fits(view_frame(), curve="logistic")["Wide"]
    assert "expected chance_loss" in str(bare.error)
    gaps = frame.with_columns(float_accuracy=pl.lit(None, dtype=pl.Float64))
    assert "expected chance_loss" in str(fits(gaps, curve="logistic")["Wide"].error)


def test_printed_form() -> None:
    row = fits(view_frame())["Wide"].as_dict()
    assert list(row) == KEYS
    assert (row["view"], row["curve"], row["by"], row["group"], row["points"]) == (
        "l2_flops",
        "rational2",
        "network",
        "Wide",
        12,
    )
    assert isinstance(row["params"], list)
    assert len(row["params"]) == 5
    assert json.loads(json.dumps(row)) == row


def test_group_of_too_few_points_says_so() -> None:
    few = fits(view_frame())["Few"]
    assert few.error is not None
    row = few.as_dict()
    assert list(row) == [*KEYS, "note"]
    assert "at least 5 points" in row["note"]
    assert (row["points"], row["r_squared"], row["monotone"], row["params"]) == (3, None, None, [])


def test_rows_without_figures_are_left_out_and_counted() -> None:
    frame = view_frame().with_columns(
        divergence=pl.when(pl.int_range(pl.len()) == 2).then(None).otherwise("divergence"),
        accuracy_loss=pl.when(pl.int_range(pl.len()) == 4)
        .then(math.nan)
        .otherwise("accuracy_loss"),
    )
    found = fits(frame)
    assert (found["Wide"].points, found["Wide"].dropped) == (10, 2)
    assert (found["ALL"].points, found["ALL"].dropped) == (25, 2)
    assert "2 rows without" in found["Wide"].as_dict()["note"]
    assert "note" not in found["Deep"].as_dict()


def test_decimals_integers_and_null_groups() -> None:
    frame = pl.DataFrame(
        {
            "divergence": [Decimal(i) for i in range(8)],
            "accuracy_loss": [0, 1, 1, 2, 3, 3, 3, 4],
            "ebits": [None] * 2 + [10] * 3 + [9] * 3,
        }
    )
    found = fits(frame, by="ebits", leave_out_by=None)
    assert list(found) == ["ALL", "9", "10", "NULL"]
    assert [fit.points for fit in found.values()] == [8, 3, 3, 2]
    assert found["ALL"].error is None


def test_empty_view() -> None:
    (only,) = fit_view_frame(view_frame().clear(), view="l2_flops", curve="rational3")
    assert (only.group, only.points) == ("ALL", 0)
    assert "at least 7 points" in str(only.error)


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="found 'netwrk'; choose one of network, "):
        fits(view_frame(), by="netwrk")
    with pytest.raises(UsageError, match="column of the view l2_flops, found 'divergance'"):
        fits(view_frame(), x="divergance")
    with pytest.raises(UsageError, match="name of a curve, found 'cubic'"):
        fits(view_frame(), curve="cubic")


@pytest.mark.slow
def test_results_of_statsmodels_say_the_same() -> None:
    frame = view_frame()
    fit = fits(frame)["ALL"]
    assert fit.results is not None
    assert fit.fitted is not None
    assert fit.results is fit.results
    figures = (fit.results.rsquared, fit.results.rmse, fit.results.ssr, fit.results.monotone)
    assert figures == (fit.r_squared, fit.rmse, fit.ssr, fit.monotone)
    again = curve("rational2").fit(fit.fitted.x, fit.fitted.y, **fit.fitted.points.columns)
    assert again.params.tolist() == fit.results.params.tolist() == list(fit.params)
    assert again.bse.tolist() == fit.results.bse.tolist()
    # Past the points both hold the ends.
    x = [0.0, 0.3, 1e6]
    assert fit.fitted.predict(x).tolist() == fit.results.predict(np.array(x)).tolist()


HEAVY = {"altair", "pandas", "polars", "scipy", "statsmodels", "torch"}


def test_import_is_light() -> None:
    code = (
        "import sys, ptqdb.fitting.view_fit; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert HEAVY & set(out) == {"polars"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("fit", "--help"), set()),
        (("fit",), {"polars", "scipy"}),
        (("chart", "-o", "fit.json"), {"altair", "polars", "scipy"}),
    ],
)
def test_commands_import_no_more_than_they_need(
    empty_file: Path, tmp_path: Path, arguments: tuple[str, ...], expected: set[str]
) -> None:
    """Statsmodels takes two seconds to import, which is more than all the rest."""
    path = Path(shutil.copy(empty_file, tmp_path / "study.duckdb"))
    with connect(path, read_only=False) as connection:
        synthetic.fill(connection, networks=synthetic.NETWORKS[:1])
    code = (
        "import sys\nfrom ptqdb.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PTQDB_DB": str(path)},
    )
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(done.stderr.splitlines()[-1].split()) == expected
    assert ("rational2" in done.stdout) is (arguments[0] == "fit")
