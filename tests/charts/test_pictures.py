"""Every kind of picture: what it encodes and says, from a study and from frames made by hand."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import polars as pl
import pytest
import vl_convert
from picture_study import NAMES, data, opened, spec_of, write_study
from PIL import Image
from scipy.stats import spearmanr

from ptqdb.charts import (
    crowding_chart,
    distribution_chart,
    fit_chart,
    frontier_chart,
    layers_chart,
    networks_chart,
    residuals_chart,
    variants_chart,
)
from ptqdb.charts.distribution import Distribution
from ptqdb.charts.distributions import choose_layers, read_distributions
from ptqdb.charts.pictures import KINDS, Request, draw
from ptqdb.charts.style import DARK, LIGHT, PALETTE, format_key
from ptqdb.charts.variants import Variant
from ptqdb.curves import curve
from ptqdb.defaults import PREDICTION_VIEW, ChartKind
from ptqdb.errors import DataError, UsageError
from ptqdb.fitting.cross_validation import leave_out
from ptqdb.fitting.fitted_view import fit_whole_view
from ptqdb.fitting.view_fit import fit_view_frame
from ptqdb.study import Study

NETWORKS = ["Plain", "Plain_BN", "Small"]
VIEW = "fakefreeze_flops"
CURVED = ("fit", "networks", "variants", "frontier", "residuals")


@pytest.fixture(scope="module")
def shown(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    path = tmp_path_factory.mktemp("pictures") / "study.duckdb"
    with opened(write_study(Path(shutil.copy(empty_file, path)))) as study:
        yield study


def layers_of(part: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    return [layer for layer in part["layer"] if layer["mark"]["type"] == mark]


def parts(spec: Any) -> Iterator[dict[str, Any]]:
    """Every single picture within a picture."""
    yield spec
    for key in ("layer", "concat", "hconcat", "vconcat"):
        for part in spec.get(key, ()):
            yield from parts(part)


# --- every kind ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_rendered(shown: Study, kind: str) -> None:
    theme = ("light", "dark")[KINDS.index(kind) % 2]
    views = {"leaderboard": ("l2_flops",), "variants": ("l2_flops", "l2_param")}.get(kind, ())
    curves = ("hill",) if kind in CURVED else ()
    spec = spec_of(draw(shown.connection, kind, Request(views=views, curves=curves, theme=theme)))
    assert spec["title"]["text"]
    assert spec["config"]["background"] == (LIGHT if theme == "light" else DARK).background
    marks = [part for part in parts(spec) if "mark" in part]
    assert marks
    # Names, not codes: axes and legends have titles in words, and tooltips too.
    for mark in marks:
        for tip in mark["encoding"].get("tooltip", ()):
            assert tip.get("title") or tip["field"] in ("network", "number_format")
    with Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec))) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[0] > 150
    assert pixels.shape[1] > 300
    ground = [int(LIGHT.background[1:3], 16), int(DARK.background[1:3], 16)][theme == "dark"]
    assert pixels[2, 2, 0] == pixels[-3, 2, 0] == ground
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"networks", "residuals", "leaderboard"}))
def test_one_network_alone(shown: Study, kind: str) -> None:
    views = {"variants": ("l2_param", VIEW), "distribution": ()}.get(kind, (VIEW,))
    curves = ("hill",) if kind in CURVED else ()
    spec = spec_of(draw(shown.connection, kind, Request(views, curves, "Small")))
    rows = [row for rows in spec["datasets"].values() for row in rows]
    assert {row["network"] for row in rows if "network" in row} <= {"Small"}


@pytest.mark.slow
def test_a_study_of_one_network(empty_file: Path, tmp_path: Path) -> None:
    path = write_study(Path(shutil.copy(empty_file, tmp_path / "one.duckdb")), networks=1)
    with opened(path) as study:
        for kind in KINDS:
            few = Request(
                views=() if kind == "distribution" else ("l2_flops",),
                curves=("hill",) if kind in CURVED else (),
            )
            if kind == "leaderboard":
                with pytest.raises(DataError, match="collect two or more networks"):
                    draw(study.connection, kind, few)
                continue
            spec = spec_of(draw(study.connection, kind, few))
            assert "predicted" not in str(spec["title"])
            bands = [part for part in parts(spec) if part.get("mark", {}).get("style") == "band"]
            assert not bands


def test_what_is_misspelled_is_said(shown: Study) -> None:
    for kind, request, said in (
        ("fits", Request(), "expected a kind of chart, found 'fits'; choose one of fit"),
        ("fit", Request(views=("fakefreeze_flop",)), "choose fakefreeze_flops"),
        ("fit", Request(curves=("rational9",)), "expected the name of a curve, found 'rational9'"),
        ("fit", Request(network="small"), "found 'small'; choose one of Small"),
        ("layers", Request(network="small"), "choose one of Small"),
        ("fit", Request(x_scale="logarithmic"), "expected a scale of x, found 'logarithmic'"),
        ("fit", Request(theme="night"), "expected a theme, found 'night'; choose one of light"),
        ("fit", Request(views=("network_overview",)), "expected a view of losses"),
        ("distribution", Request(layers=("Small:layer9",)), "found 'Small:layer9'; choose one of"),
        ("distribution", Request(layers=("layer0",)), "expected one layer, found 'layer0'"),
    ):
        with pytest.raises(UsageError, match=said) as raised:
            draw(shown.connection, kind, request)
        assert "\n" not in str(raised.value)


def test_an_empty_study_is_said(empty_file: Path) -> None:
    with opened(empty_file) as study:
        for kind in KINDS:
            with pytest.raises(DataError) as raised:
                draw(study.connection, kind)
            assert "\n" not in str(raised.value)


def test_from_python(shown: Study) -> None:
    spec = spec_of(shown.chart(["l2_flops", "l2_param"], kind="variants", curve="hill"))
    assert spec["title"]["text"] == "l2_flops and l2_param: all networks"
    assert [panel["title"]["text"].split(":")[0] for panel in spec["concat"]] == [
        "l2_flops",
        "l2_param",
    ]


# --- fits ------------------------------------------------------------------------------------


def test_the_band_is_of_networks_left_out(shown: Study) -> None:
    frame = shown.view(VIEW)
    whole = fit_whole_view(frame, VIEW, "hill")
    assert whole.networks == NETWORKS
    # The same figures as those of `ptqdb fit`, though every fold is fitted once.
    expected = fit_view_frame(frame, view=VIEW, curve="hill")
    for mine, other in zip(whole.fits, expected, strict=True):
        assert mine.as_dict() == other.as_dict()
    assert whole.predictor is not None
    spec = spec_of(draw(shown.connection, "fit", Request(views=(VIEW,), curves=("hill",))))
    (band,) = layers_of(spec, "area")
    rows = data(spec, band)
    found = whole.predictor.predict([row["x"] for row in rows])
    # What is drawn has no corners, and is near to the intervals.
    lower, upper = (np.array([row[name] for row in rows]) for name in ("lower", "upper"))
    assert np.abs(lower - found.lower).max() < 0.1
    assert np.abs(upper - found.upper).mean() < 0.05
    assert np.all((lower <= found.loss + 1e-9) & (found.loss <= upper + 1e-9) & (upper <= 1))
    assert f"held out {whole.pool.held_out_r_squared:.4f}" in spec["title"]["subtitle"][0]
    assert "90% prediction interval for a new network" in spec["title"]["subtitle"][1]


def test_the_band_of_one_network_comes_from_the_others(shown: Study) -> None:
    frame = shown.view(VIEW)
    others = fit_whole_view(frame.filter(pl.col("network") != "Small"), VIEW, "hill")
    spec = spec_of(draw(shown.connection, "fit", Request((VIEW,), ("hill",), "Small")))
    (band,) = layers_of(spec, "area")
    rows = data(spec, band)
    assert others.predictor is not None
    found = others.predictor.predict([row["x"] for row in rows])
    assert np.abs(np.array([row["upper"] for row in rows]) - found.upper).mean() < 0.05
    assert "prediction interval for this network, from the others" in spec["title"]["subtitle"][1]


def test_several_curves_are_told_apart_by_their_dashes(shown: Study) -> None:
    spec = spec_of(draw(shown.connection, "fit", Request(curves=("rational2", "hill", "isotonic"))))
    lines = [line for line in layers_of(spec, "line") if line["mark"]["style"] == "curve"]
    assert [data(spec, line)[0]["curve"] for line in lines] == ["rational2", "hill", "isotonic"]
    dashes = lines[0]["encoding"]["strokeDash"]["scale"]["range"]
    assert len({tuple(dash) for dash in dashes}) == 3
    assert len([line for line in spec["title"]["subtitle"] if "R² " in line]) == 4


@pytest.mark.parametrize("scale", ["linear", "log", "symlog"])
def test_scales_of_x(shown: Study, scale: str) -> None:
    spec = spec_of(draw(shown.connection, "fit", Request(x_scale=scale)))
    (points,) = layers_of(spec, "point")
    x = points["encoding"]["x"]
    assert x["scale"]["type"] == scale
    ticks = x["axis"].get("values", [])
    assert (0 in ticks) == (scale == "symlog")
    if scale == "log":
        assert np.allclose(np.diff(np.log10(ticks)), 1)
    assert all(row["x"] == row["divergence"] for row in data(spec, points) if row["x"] > 1e-3)


def test_no_logarithmic_axis_without_positive_x(shown: Study) -> None:
    frame = shown.view(VIEW).with_columns(divergence=-pl.col("divergence"))
    fits = fit_view_frame(frame, view=VIEW, curve="isotonic", leave_out_by=None)
    with pytest.raises(UsageError, match="expected divergences above 0 on a log axis"):
        networks_chart(frame, fits, view=VIEW, x_scale="log")


def test_a_panel_per_network(shown: Study) -> None:
    frame = shown.view(VIEW)
    spec = spec_of(draw(shown.connection, "networks", Request(views=(VIEW,), curves=("hill",))))
    assert [panel["title"]["text"] for panel in spec["concat"]] == NETWORKS
    assert spec["columns"] == 3
    assert spec["resolve"]["scale"]["y"] == "shared"
    domains = set()
    for name, panel in zip(NETWORKS, spec["concat"], strict=True):
        (points,) = layers_of(panel, "point")
        rows = data(spec, points)
        assert {row["network"] for row in rows} == {name}
        domains.add(tuple(points["encoding"]["x"]["scale"]["domain"]))
        own = frame.filter(pl.col("network") == name)
        lines = layers_of(panel, "line")
        (curve_line,) = [line for line in lines if line["mark"]["style"] == "curve"]
        drawn = data(spec, curve_line)
        fitted = curve("hill").estimate(own["divergence"], own["accuracy_loss"])
        expected = fitted.predict([row["x"] for row in drawn])
        np.testing.assert_allclose([row["fitted"] for row in drawn], expected)
        # Beyond the network's own points the curve is dashed, and stays where it was.
        assert drawn[-1]["x"] == own["divergence"].max()
        further = [data(spec, line) for line in lines if line["mark"]["style"] == "extrapolation"]
        for row in (row for rows in further for row in rows):
            assert not drawn[0]["x"] < row["x"] < drawn[-1]["x"]
            assert row["fitted"] in (drawn[0]["fitted"], drawn[-1]["fitted"])
        right = [rows for rows in further if rows[1]["x"] > drawn[-1]["x"]]
        assert bool(right) == (drawn[-1]["x"] < frame["divergence"].max())
    assert len(domains) == 1


def test_variants_say_what_each_is_worth(shown: Study) -> None:
    views, curves = ("l2_param", "l2_flops"), ("rational2", "hill")
    spec = spec_of(draw(shown.connection, "variants", Request(views=views, curves=curves)))
    assert len(spec["concat"]) == 4
    frame = shown.view("l2_flops")
    fits = fit_view_frame(frame, view="l2_flops", curve="hill")
    r_squared, held_out = fits[0].r_squared, fits[0].held_out_r_squared
    heading = spec["concat"][3]["title"]
    assert heading["text"] == "l2_flops"
    assert heading["subtitle"] == [f"R² {r_squared:.4f}, held out {held_out:.4f}"]
    over_one = spec_of(
        draw(shown.connection, "variants", Request(views=("l2_flops",), curves=curves))
    )
    assert [panel["title"]["text"] for panel in over_one["concat"]] == list(curves)
    # By network: coloured by family, without a band.
    single = spec_of(draw(shown.connection, "variants", Request(views=views, network="Small")))
    (points,) = layers_of(single["concat"][0], "point")
    assert points["encoding"]["color"]["field"] == "family"
    assert not layers_of(single["concat"][0], "area")


def test_the_command_line_knows_the_kinds_that_can_be_drawn() -> None:
    assert tuple(KINDS) == get_args(ChartKind)


@pytest.mark.slow
def test_twenty_networks() -> None:
    rows = pl.concat(
        pl.DataFrame(
            {
                "network": [f"Network_{number:02}"] * 9,
                "number_format": [f"INT_{bits}" for bits in range(2, 11)],
                "family": ["INT"] * 9,
                "bits": list(range(2, 11)),
                "divergence": np.geomspace(1, 1e-6, 9) * (1 + number / 40),
                "accuracy_loss": np.geomspace(0.8, 0.001, 9),
            }
        )
        for number in range(20)
    )
    whole = fit_whole_view(rows, VIEW, "isotonic")
    panels = networks_chart(rows, whole.fits, view=VIEW)
    assert len(panels.concat) == 20
    for chart in (
        panels,
        frontier_chart(rows),
        residuals_chart(rows, whole.pool, view=VIEW),
        variants_chart([Variant(rows, VIEW, whole.pool, whole.predictor)]),
    ):
        spec = spec_of(chart)
        assert spec["title"]["text"]
        colours = spec["config"]["range"]["category"]
        assert colours[:9] == list(PALETTE)
        assert len(set(colours)) == len(colours) == 17


@pytest.mark.slow
def test_few_points_of_a_dense_grid_make_the_same_picture(shown: Study) -> None:
    frame = shown.view(VIEW)
    whole = fit_whole_view(frame, VIEW, "rational3")
    spec = spec_of(fit_chart(frame, whole.fits, view=VIEW, predictor=whole.predictor))
    (line,) = [one for one in layers_of(spec, "line") if one["mark"]["style"] == "curve"]
    rows = data(spec, line)
    x, y = (np.array([row[name] for row in rows]) for name in ("x", "fitted"))
    assert len(x) < 150
    assert whole.pool.fitted is not None
    # Straight lines between the points, on either scale, are within a pixel of the curve.
    for scale in (np.log, np.asarray):
        dense = np.interp(np.linspace(scale(x[0]), scale(x[-1]), 3000), scale(x), x)
        drawn = np.interp(scale(dense), scale(x), y)
        expected = whole.pool.fitted.predict(dense)
        assert np.abs(drawn - expected).max() < 1 / 200 * np.ptp(expected)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_looks_like_the_ground(shown: Study, theme: str) -> None:
    config = spec_of(draw(shown.connection, "residuals", Request((VIEW,), ("hill",), theme=theme)))[
        "config"
    ]
    ground = config["background"]
    for colour in (config["range"]["heatmap"][0], config["range"]["diverging"][3]):
        channels = zip(
            *((one[i : i + 2] for i in (1, 3, 5)) for one in (ground, colour)), strict=True
        )
        assert all(abs(int(one, 16) - int(other, 16)) < 40 for one, other in channels)
    spec = spec_of(draw(shown.connection, "layers", Request(network="Small", theme=theme)))
    assert "range" not in spec["hconcat"][0]["encoding"]["color"]["scale"]


# --- the others ------------------------------------------------------------------------------


def test_residuals_are_measured_less_fitted(shown: Study) -> None:
    spec = spec_of(draw(shown.connection, "residuals", Request(views=(VIEW,), curves=("hill",))))
    above, (cells, right) = spec["vconcat"][0], spec["vconcat"][1]["hconcat"]
    rows = pl.DataFrame(data(spec, cells))
    frame = shown.view(VIEW)
    fitted = curve("hill").estimate(frame["divergence"], frame["accuracy_loss"])
    expected = frame["accuracy_loss"].to_numpy() - fitted.fittedvalues
    np.testing.assert_allclose(rows["residual"], expected)
    low, high = cells["encoding"]["color"]["scale"]["domain"]
    assert low == -high == pytest.approx(-np.abs(expected).max())
    assert cells["encoding"]["x"]["sort"] == sorted(NAMES, key=format_key)
    means = pl.DataFrame(data(spec, right["layer"][0]))
    by_network = rows.group_by("network").agg(pl.col("residual").mean()).sort("network")
    np.testing.assert_allclose(means.sort("network")["mean"], by_network["residual"])
    # 0 is named and has a line, above and at the right.
    for part, channel in ((above, "y"), (right, "x")):
        bars, zero = part["layer"]
        assert zero["mark"]["type"] == "rule"
        assert data(spec, zero) == [{"mean": 0.0}]
        axis = bars["encoding"][channel]["axis"]
        assert 0 in axis["values"]
        assert axis["labelExpr"].startswith("datum.value == 0 ? '0%'")
    assert f"R² {fitted.rsquared:.4f}" in spec["title"]["subtitle"][0]


@pytest.mark.parametrize(
    "view", [VIEW, "l2_param_cuberoot", "variant(measure := 'nsr', aggregate := 'mean')"]
)
def test_layers_add_up_to_the_view_and_the_largest_come_first(shown: Study, view: str) -> None:
    spec = spec_of(draw(shown.connection, "layers", Request((view,), network="Plain")))
    assert spec["title"]["text"] == "Layers of Plain"
    assert view in spec["title"]["subtitle"][0]
    added = spec["hconcat"][0]
    rows = pl.DataFrame(data(spec, added))
    summed = rows.group_by("number_format").agg(pl.col("contribution").sum())
    frame = shown.view(view, "network = 'Plain'").join(summed, on="number_format")
    assert len(frame) == len(NAMES)
    np.testing.assert_allclose(frame["divergence"], frame["contribution"], rtol=1e-12)
    whole = frame.select("number_format", whole=pl.col("divergence").replace(0.0, 1.0))
    mean = (
        rows.join(whole, on="number_format")
        .group_by("layer")
        .agg((pl.col("contribution") / pl.col("whole")).mean().alias("mean"))
    )
    ranked = mean.sort("mean", descending=True)["layer"].to_list()
    encoding = added["encoding"]
    assert encoding["y"]["sort"] == encoding["y"]["scale"]["domain"] == ranked
    assert encoding["x"]["scale"]["domain"] == sorted(NAMES, key=format_key)
    assert {tip["title"] for tip in encoding["tooltip"]} >= {"Layer", "Position", "Rank", "Format"}
    # The colours are of parts, on a scale for this network.
    parts = rows.join(whole, on="number_format")
    expected = (parts["contribution"] / parts["whole"]).to_numpy()
    np.testing.assert_allclose(parts["part"], expected, rtol=1e-12)
    assert encoding["color"]["field"] == "part"
    assert encoding["color"]["scale"]["domain"] == [0, rows["part"].max()]


def test_layers_are_of_one_network_and_of_the_view_that_predicts(shown: Study) -> None:
    spec = spec_of(draw(shown.connection, "layers"))
    assert spec["title"]["text"] == "Layers of Plain"
    assert PREDICTION_VIEW in spec["title"]["subtitle"][0]
    assert spec["title"]["subtitle"][-1] == "the first of 3 networks"
    largest = {
        name: spec_of(draw(shown.connection, "layers", Request(network=name)))["hconcat"][0][
            "encoding"
        ]["color"]["scale"]["domain"][1]
        for name in NETWORKS
    }
    assert len(set(largest.values())) == 3
    # Below 1 MMAC the logarithm of a network is NULL: it is not the first then.
    with pytest.raises(DataError, match="contribution to l2_flops_log, found none"):
        draw(shown.connection, "layers", Request(("l2_flops_log",), network="Small"))


def test_what_layers_cost_alone_stands_beside(shown: Study) -> None:
    spec = spec_of(draw(shown.connection, "layers", Request((VIEW,), network="Plain")))
    added, alone = spec["hconcat"]
    assert alone["encoding"]["y"]["sort"] == added["encoding"]["y"]["sort"]
    assert spec["resolve"]["scale"] == {"color": "independent", "y": "shared"}
    found = {
        (row["layer"], row["number_format"]): (row["accuracy_loss"], row["accuracy_loss_se"])
        for row in data(spec, alone)
    }
    losses = shown.view("layer_loss", "network = 'Plain'")
    assert len(found) == len(losses) == 3 * len(NAMES)
    for row in losses.to_dicts():
        expected = (row["accuracy_loss"], row["accuracy_loss_se"])
        assert found[row["layer"], row["number_format"]] == pytest.approx(expected)
    correlations = []
    for _, rows in losses.group_by("number_format"):
        if rows["contribution"].n_unique() > 1 and rows["accuracy_loss"].n_unique() > 1:
            correlations.append(
                spearmanr(rows["contribution"].to_numpy(), rows["accuracy_loss"].to_numpy())[0]
            )
    assert f"correlation with the contributions {np.mean(correlations):.2f}" in str(spec["title"])
    frame = shown.view("layer_divergence", "network = 'Plain'")
    plain = spec_of(layers_chart(frame, view=VIEW))
    assert len(plain["hconcat"]) == 1
    assert "alone" not in str(plain["title"])


def test_layers_without_a_finite_contribution_are_none(shown: Study) -> None:
    frame = shown.view("layer_divergence").with_columns(contribution=pl.lit(float("nan")))
    with pytest.raises(DataError, match="collect the network first"):
        layers_chart(frame, view=VIEW)


def test_many_layers_have_lower_rows(shown: Study) -> None:
    frame = shown.view("layer_divergence").filter(network="Plain", layer="layer0")
    many = pl.concat(
        frame.with_columns(layer=pl.lit(f"layer{number}"), position=pl.lit(number))
        for number in range(300)
    )
    (one,) = spec_of(layers_chart(many, view=VIEW))["hconcat"]
    assert one["height"] == 300 * 6


@pytest.mark.parametrize("view", ["network_overview", "fakefreeze_flop", "variant(shar := 'a')"])
def test_layers_of_what_is_no_variant(shown: Study, view: str) -> None:
    with pytest.raises(UsageError) as raised:
        draw(shown.connection, "layers", Request((view,)))
    said = {
        "network_overview": "the contributions of its layers are unknown",
        "fakefreeze_flop": "choose fakefreeze_flops",
    }.get(view, "shar")
    assert said in str(raised.value)


USED = {
    "fit": {"view", "curve", "network", "x-scale"},
    "networks": {"view", "curve", "x-scale"},
    "variants": {"view", "curve", "network", "x-scale"},
    "distribution": {"network", "layer"},
    "layers": {"view", "network"},
    "frontier": {"view", "curve", "network"},
    "leaderboard": {"view"},
    "crowding": {"view", "network"},
    "residuals": {"view", "curve"},
}
OPTIONS = {
    "view": Request(views=("l2_flops",)),
    "curve": Request(curves=("hill",)),
    "network": Request(network="Small"),
    "layer": Request(layers=("Small:layer0",)),
    "x-scale": Request(x_scale="linear"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_without_effect_is_refused(kind: str) -> None:
    for option, request in OPTIONS.items():
        # What is not refused asks the study, which is none here.
        expected = AttributeError if option in USED[kind] else UsageError
        with pytest.raises(expected) as raised:
            draw(cast(Any, None), kind, request)
        if expected is UsageError:
            name = option.replace("-", "_")  # as Python has it
            assert f"chart {kind} takes no {name}, only " in str(raised.value)
            assert str(raised.value).endswith(f"do: remove {name}")


def test_one_of_what_a_kind_draws_once(shown: Study) -> None:
    for kind, request, said in (
        ("fit", Request(views=("l2_flops", "l2_param")), "view: chart fit draws one"),
        ("layers", Request(views=("l2_flops", "l2_param")), "view: chart layers draws one"),
        ("residuals", Request(curves=("hill", "linear")), "curve: chart residuals draws one"),
    ):
        with pytest.raises(UsageError, match=said):
            draw(shown.connection, kind, request)


def test_the_frontier_is_the_least_loss_of_each_width(shown: Study) -> None:
    spec = spec_of(draw(shown.connection, "frontier", Request(views=(VIEW,), curves=("hill",))))
    frame = shown.view(VIEW)
    fitted = fit_whole_view(frame, VIEW, "hill").pool.fitted
    assert fitted is not None
    networks = frame["network"].to_numpy().astype(str)
    held_out = leave_out(fitted.points, curve("hill"), networks)
    frame = frame.with_columns(predicted=pl.Series(held_out.predicted))
    panel = spec["concat"][0]
    rows = pl.DataFrame(data(spec, panel))
    assert set(rows["kind"]) == {"measured", "predicted"}
    own = frame.filter(pl.col("network") == "Plain")
    for row in rows.rows(named=True):
        column = "accuracy_loss" if row["kind"] == "measured" else "predicted"
        rivals = own.filter(family=row["family"], bits=row["bits"])
        assert row["loss"] == rivals[column].min()
    whole, decisive = panel["vconcat"]
    assert decisive["layer"][0]["encoding"]["x"]["title"] == "Bits per weight"
    assert whole["layer"][0]["encoding"]["y"]["axis"]["format"] == "%"
    # One scale for all networks; and losses up to 5 %, where people decide.
    losses = [row["loss"] for panel in spec["concat"] for row in data(spec, panel)]
    for one in spec["concat"]:
        upper, lower = (part["layer"][0] for part in one["vconcat"])
        assert upper["encoding"]["y"]["scale"]["domain"] == [min(0, *losses), max(losses)]
        low, high = lower["encoding"]["y"]["scale"]["domain"]
        assert (high, lower["mark"]["clip"]) == (0.05, True)
        assert -0.01 <= low < 0


def test_crowded_formats_share_a_label() -> None:
    rows = pl.DataFrame(
        {
            "network": "One",
            "number_format": ["POT_2", "POT_3", "POT_4", "POT_5", "POT_6", "INT_4", "INT_8"],
            "family": ["POT"] * 5 + ["INT"] * 2,
            "divergence": [0.9, 0.7, 0.4, 0.401, 0.402, 0.3, 0.0],
            "accuracy_loss": [0.9, 0.6, 0.3, 0.31, 0.3, 0.3, 0.0],
        }
    )
    spec = spec_of(crowding_chart(rows, view=VIEW))
    (panel,) = spec["concat"]
    texts = [text for text in layers_of(panel, "text") if text["mark"]["style"] == "label"]
    labels = {text["mark"]["align"]: [row["label"] for row in data(spec, text)] for text in texts}
    # To the left, but for the one that would cover INT_4.
    assert labels == {"right": ["POT_2", "POT_3"], "left": ["POT_4 to 6"]}
    with pytest.raises(DataError, match="expected formats of the family POT"):
        crowding_chart(rows.tail(1), view=VIEW)


def test_a_pointed_and_a_flat_layer_are_chosen(shown: Study) -> None:
    kurtosis = dict(
        shown.sql(
            "select network || ':' || layer, any_value(kurtosis) from tensor_shape "
            "where role = 'weight' group by all"
        ).iter_rows()
    )
    pointed, flat = (f"{network}:{layer}" for network, layer in choose_layers(shown.connection))
    assert kurtosis[pointed] == max(kurtosis.values())
    assert kurtosis[flat] == min(kurtosis.values())
    assert choose_layers(shown.connection, ("layer0",), "Small") == [("Small", "layer0")]
    assert choose_layers(shown.connection, ("Plain:layer0", "Small:layer0")) == [
        ("Plain", "layer0"),
        ("Small", "layer0"),
    ]


@pytest.mark.parametrize("layers", [1, 2])
def test_twins_are_not_the_two_examples(
    shown: Study, monkeypatch: pytest.MonkeyPatch, layers: int
) -> None:
    one = pl.DataFrame(
        {"layer": ["a", "b"], "kurtosis": [9.0, 2.0], "element_count": [2000, 3000]}
    ).head(layers)
    # The last digit is what another machine may make of the same weights.
    twin = one.with_columns(kurtosis=pl.col("kurtosis") * (1 + 1e-15), network=pl.lit("A_twin"))
    shapes = pl.concat([one.with_columns(network=pl.lit("A")), twin], how="diagonal")
    monkeypatch.setattr("ptqdb.charts.distributions.layer_shapes", lambda *_: shapes)
    assert choose_layers(shown.connection) == [("A", "a"), ("A", "b")][:layers]
    assert choose_layers(shown.connection, ("A_twin:a",)) == [("A_twin", "a")]


def test_a_distribution_stands_above_those_of_the_formats(shown: Study) -> None:
    (one,) = read_distributions(shown.connection, [("Plain", "layer1")])
    spec = spec_of(distribution_chart([one]))
    panels = spec["concat"]
    titles = [str(panel["title"].get("subtitle", panel["title"]["text"])) for panel in panels]
    assert [title.split(":")[0] for title in titles] == [
        "['float']",
        "INT_4",
        "INT_5",
        "POT_5",
        "FLOAT_5_E3",
    ]
    assert f"divergence {one.divergences['POT_5']:.3f}" in titles[3]
    # The same axis, and every element once.
    assert len({tuple(panel["encoding"]["x"]["scale"]["domain"]) for panel in panels}) == 1
    for panel in panels:
        rows = data(spec, panel)
        assert sum(row["count"] for row in rows) == 2000
        assert sum(row["share"] for row in rows) == pytest.approx(1)
    with pytest.raises(DataError, match="expected a histogram of Plain, layer1"):
        distribution_chart([Distribution("Plain", "layer1", one.bins.head(0), {}, None)])


def test_layers_without_a_format_leave_its_place_empty(shown: Study) -> None:
    whole, part = read_distributions(shown.connection, [("Plain", "layer1"), ("Small", "layer0")])
    fewer = Distribution(
        part.network,
        part.layer,
        part.bins.filter(pl.col("number_format").is_null()),
        part.divergences,
        part.kurtosis,
    )
    spec = spec_of(distribution_chart([whole, fewer]))
    assert (len(spec["concat"]), spec["columns"]) == (10, 2)
    assert len(vl_convert.vegalite_to_png(spec)) > 5000


def test_formats_of_other_schemes_are_points_with_names() -> None:
    """At their bits per weight; with names where no format of as few bits loses less."""
    of_study, of_blocks = "per_tensor_symmetric_max", "mx32_e8m0"
    rows = [
        ("INT_4", of_study, "INT", 4, 4.001, 0.03),
        ("INT_8", of_study, "INT", 8, 8.001, 0.01),
        ("mxfp4", of_blocks, "FLOAT", 4, 4.25, 0.02),
        ("nvfp4", "nv16_e4m3", "FLOAT", 4, 4.5, 0.025),
        ("mine", "mine", "FLOAT", 32, None, 0.0),
    ]
    columns = ["number_format", "scheme", "family", "bits", "bits_per_weight", "accuracy_loss"]
    frame = pl.DataFrame(rows, columns, orient="row").with_columns(network=pl.lit("N"))
    spec = spec_of(frontier_chart(frame))
    _, decisive = spec["concat"][0]["vconcat"]
    lines, _, points, names = (data(spec, layer) for layer in decisive["layer"])
    assert {row["number_format"]: row["bits"] for row in lines} == {"INT_4": 4, "INT_8": 8}
    assert {row["number_format"]: row["bits"] for row in points} == {"mxfp4": 4.25, "nvfp4": 4.5}
    assert [row["number_format"] for row in names] == ["mxfp4"]
    assert decisive["layer"][2]["mark"]["shape"] == "square"
    assert decisive["layer"][3]["encoding"]["text"]["field"] == "number_format"
