"""Charts: what they encode, what they say, and the files they are saved in."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import browser
import numpy as np
import polars as pl
import pytest

from ptqdb.charts import fit_chart, networks_chart, save_chart
from ptqdb.charts.axes import axis_title
from ptqdb.charts.style import PALETTE
from ptqdb.errors import DataError, UsageError
from ptqdb.fitting.view_fit import GroupFit, fit_view_frame

VIEW = "fakefreeze_flops_log"
# The layers of a fit with a curve and without a band; the first is the ceiling.
POINTS, CURVE = 1, 2


def view_frame(low: float = 1e-5) -> pl.DataFrame:
    """Two networks of 9 formats each; the first format's divergence may be 0."""
    x = np.geomspace(1e-5, 10, 9)
    x[0] = low
    names = [f"{family}_{bits}" for family in ("FLOAT", "INT", "POT") for bits in (3, 4, 5)]
    return pl.concat(
        pl.DataFrame({"divergence": x, "accuracy_loss": x / (factor + x)}).with_columns(
            network=pl.lit(network),
            number_format=pl.Series(names),
            family=pl.Series(names).str.split("_").list.first(),
            accuracy=0.9 * (1 - pl.col("accuracy_loss")),
            accuracy_loss_se=pl.lit(0.004),
        )
        for network, factor in (("Wide", 1.0), ("Deep", 0.2))
    )


def fitted(frame: pl.DataFrame) -> list[GroupFit]:
    return fit_view_frame(frame, view=VIEW, curve="rational2")


def drawn(frame: pl.DataFrame, network: str | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = fit_chart(frame, fitted(frame), view=VIEW, network=network).to_dict()
    return spec


def rows(spec: dict[str, Any], layer: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec["datasets"][spec["layer"][layer]["data"]["name"]]
    return found


def test_pooled_chart() -> None:
    frame = view_frame()
    spec = drawn(frame)
    ceiling, points, line = spec["layer"]
    encoding = points["encoding"]
    assert points["mark"]["type"] == "point"
    assert encoding["color"]["field"] == "network"
    assert encoding["color"]["scale"] == {"domain": ["Deep", "Wide"]}
    assert spec["config"]["range"]["category"][:9] == list(PALETTE)
    assert encoding["shape"]["field"] == "family"
    assert encoding["shape"]["scale"]["domain"] == ["INT", "POT", "FLOAT"]
    assert encoding["y"]["axis"]["format"] == "%"
    assert "loss" in encoding["y"]["title"]
    assert encoding["x"]["scale"]["type"] == "log"
    assert [tip["title"] for tip in encoding["tooltip"]] == [
        "Network",
        "Format",
        "Divergence",
        "Relative loss",
        "Accuracy",
    ]
    assert (line["mark"]["type"], line["mark"]["style"]) == ("line", "curve")
    assert (ceiling["mark"]["style"], ceiling["mark"]["interpolate"]) == ("ceiling", "step-after")
    assert len(rows(spec, POINTS)) == 18
    assert rows(spec, POINTS)[0]["loss_and_error"] == "0.00% ± 0.40%"
    assert len(set(PALETTE)) == len(PALETTE) == 9


def test_title_and_goodness_of_fit() -> None:
    frame = view_frame()
    spec = drawn(frame)
    pool = fitted(frame)[0]
    assert pool.r_squared is not None
    assert pool.rmse is not None
    assert spec["title"]["text"] == f"{VIEW}: all networks"
    subtitle, legend = spec["title"]["subtitle"]
    assert (
        legend == f"faint step: isotonic regression (upper bound), R² {pool.ceiling_r_squared:.4f}"
    )
    assert f"R² {pool.r_squared:.4f}" in subtitle
    assert f"RMSE {pool.rmse:.2%}" in subtitle
    assert "18 points" in subtitle


def test_curve_is_the_fit_over_the_range_of_the_points() -> None:
    frame = view_frame()
    line = rows(drawn(frame), CURVE)
    x = np.array([row["x"] for row in line])
    y = np.array([row["fitted"] for row in line])
    results = fitted(frame)[0].results
    assert results is not None
    np.testing.assert_allclose(y, results.predict(x))
    assert (x[0], x[-1]) == (frame["divergence"].min(), frame["divergence"].max())
    assert np.all(np.diff(x) > 0)


def test_chart_of_one_network() -> None:
    frame = view_frame()
    spec = drawn(frame, "Deep")
    assert spec["layer"][POINTS]["encoding"]["color"]["field"] == "family"
    assert {row["network"] for row in rows(spec, POINTS)} == {"Deep"}
    assert spec["title"]["text"] == f"{VIEW}: Deep"
    assert "9 points" in spec["title"]["subtitle"][0]
    deep = next(fit for fit in fitted(frame) if fit.group == "Deep")
    assert deep.results is not None
    top = rows(spec, CURVE)[-1]
    np.testing.assert_allclose(top["fitted"], deep.results.predict([top["x"]])[0])


def test_divergence_of_zero_on_a_logarithmic_axis() -> None:
    spec = drawn(view_frame(low=0.0))
    zero = [row for row in rows(spec, POINTS) if row["divergence"] == 0]
    smallest = min(row["divergence"] for row in rows(spec, POINTS) if row["divergence"] > 0)
    assert [row["x"] for row in zero] == [smallest / 2] * 2
    assert spec["title"]["subtitle"][-1].startswith("2 points with divergence 0")


def test_narrow_range_has_a_linear_axis() -> None:
    frame = view_frame().with_columns(divergence=pl.col("divergence") + 1)
    spec = drawn(frame)
    assert spec["layer"][POINTS]["encoding"]["x"]["scale"]["type"] == "linear"
    assert len(spec["title"]["subtitle"]) == 2


def test_no_curve_where_the_fit_failed() -> None:
    spec = drawn(view_frame().head(3), "Wide")
    assert len(spec["layer"]) == 1
    assert (
        "rational2 was not fitted to 3 points: expected at least 5"
        in (spec["title"]["subtitle"][0])
    )


def test_many_rows_and_decimals() -> None:
    # DuckDB's HUGEINT sums arrive as Decimal; Altair refuses a frame of more than 5,000 rows.
    frame = pl.concat([view_frame()] * 300).with_columns(
        accuracy=pl.lit(Decimal("0.5")), divergence=pl.col("divergence").cast(pl.Decimal(38, 9))
    )
    chart = fit_chart(frame, fitted(view_frame()), view=VIEW)
    assert len(rows(chart.to_dict(), POINTS)) == 5400


def test_what_cannot_be_drawn() -> None:
    frame = view_frame()
    with pytest.raises(UsageError, match="a fit of Nobody, found fits of ALL, Deep, Wide"):
        drawn(frame, "Nobody")
    with pytest.raises(DataError, match="rows of Deep with a divergence and a loss, found none"):
        fit_chart(
            frame.filter(pl.col("network") == "Wide"), fitted(frame), view=VIEW, network="Deep"
        )


@pytest.mark.parametrize(
    ("view", "title"),
    [
        ("l2_param", "L2-rescaled Jensen-Shannon divergence (base 2), weighted by share of params"),
        (
            "fakefreeze_weightonly_flops_rootdepth_cosine_segmented",
            "Jensen-Shannon divergence (base 2), weights only, weighted by share of MACs, "
            "times square root of depth, corrected by cosine, capped at the breakpoint",
        ),
        ("variant(measure := 'nsr')", "Divergence of variant(measure := 'nsr')"),
        ("my_view", "Divergence of my_view"),
    ],
)
def test_axis_title(view: str, title: str) -> None:
    assert axis_title(view) == title


@pytest.fixture(scope="module")
def chart() -> Any:
    frame = view_frame()
    return fit_chart(frame, fitted(frame), view=VIEW)


def test_png(chart: Any, tmp_path: Path) -> None:
    save_chart(chart, tmp_path / "fit.png")
    data = (tmp_path / "fit.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) > 20_000
    assert int.from_bytes(data[16:20], "big") > 2 * 640  # two pixels per unit


def test_html_works_offline(chart: Any, tmp_path: Path) -> None:
    save_chart(chart, tmp_path / "fit.html")
    text = (tmp_path / "fit.html").read_text()
    assert len(text) > 500_000  # Vega is inside
    assert VIEW in text
    tags = re.findall(r"<(?:script|link|img|iframe|style)\b[^>]*>", text)
    assert any(tag.startswith("<script") for tag in tags)
    assert not [tag for tag in tags if re.search(r"""(?:src|href)\s*=\s*["']?\s*\w*:?//""", tag)]
    assert "@import" not in text
    assert "cdn." not in text


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")
def test_html_fills_the_window(chart: Any, tmp_path: Path) -> None:
    frame = view_frame()
    panels = networks_chart(frame, fitted(frame), view=VIEW)
    save_chart(chart, tmp_path / "single.html")
    save_chart(panels, tmp_path / "panels.html")
    size = """(() => { const drawn = document.querySelector("#vis svg, #vis canvas");
        return [drawn.clientWidth, drawn.clientHeight]; })()"""
    drawn = "document.documentElement.dataset.drawn === 'yes'"
    with browser.Browser(tmp_path / "profile") as window:
        for name in ("single", "panels"):
            window.screen(1500, 900)
            window.events.clear()
            window.open(tmp_path / f"{name}.html")
            window.wait_for(drawn)
            width, height = window.value(size)
            assert 0.9 * 1500 < width <= 1500
            assert 0.45 * 900 < height <= 900
            window.screen(900, 700)  # a window made smaller, without the page being loaded anew
            window.wait_for(f"{drawn} && {size}[0] < 901")
            width, _ = window.value(size)
            assert width > 0.9 * 900
            assert window.complaints == []


def test_svg_and_json(chart: Any, tmp_path: Path) -> None:
    save_chart(chart, tmp_path / "fit.svg")
    text = (tmp_path / "fit.svg").read_text()
    assert text.startswith("<svg")
    assert "R²" in text
    save_chart(chart, tmp_path / "fit.json")
    assert len(json.loads((tmp_path / "fit.json").read_text())["layer"]) == 3


def test_where_nothing_can_be_saved(chart: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ending in \.html, \.png, \.svg, \.json, found 'a\.gif'"):
        save_chart(chart, tmp_path / "a.gif")
    with pytest.raises(UsageError, match=r"existing folder, found none at .*missing; create it"):
        save_chart(chart, tmp_path / "missing" / "a.png")
    for suffix in ("html", "png", "svg", "json"):
        folder = tmp_path / f"a.{suffix}"
        folder.mkdir()
        with pytest.raises(DataError, match=r"expected to write .*found: Is a directory"):
            save_chart(chart, folder)


@pytest.mark.parametrize("name", ["logistic", "hill_chance"])
def test_curves_at_chance_are_drawn_to_the_mean_of_it(name: str) -> None:
    frame = view_frame().with_columns(
        accuracy_loss=pl.col("accuracy_loss") * 0.8,
        float_accuracy=pl.when(pl.col("network") == "Wide").then(0.8).otherwise(0.4),
        chance_accuracy=pl.lit(0.1),
        images=pl.lit(2000),
    )
    fits = fit_view_frame(frame, view=VIEW, curve=name)
    spec = fit_chart(frame, fits, view=VIEW).to_dict()
    assert fits[0].fitted is not None
    (expected,) = fits[0].fitted.predict([10.0], (0.875 + 0.75) / 2)
    assert rows(spec, CURVE)[-1]["fitted"] == pytest.approx(expected)
    assert "drawn with the mean loss at chance" in str(spec["title"])
