"""The page of a study: what it holds, and how it behaves in a real browser."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import duckdb
import numpy as np
import pytest
from picture_study import opened, write_study
from PIL import Image
from running import Run, runner

from ptqdb.database import query
from ptqdb.errors import DataError, UsageError
from ptqdb.report import content, report_page, write_report
from ptqdb.report.content import QUERIES
from ptqdb.report.gallery import CHAPTERS
from ptqdb.report.parts import Parts
from ptqdb.study import Study

pytestmark = pytest.mark.slow

NETWORKS = ("Plain", "Plain_BN", "Small")
CURVES = ("hill", "isotonic")


@pytest.fixture(scope="module")
def shown(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    path = tmp_path_factory.mktemp("report") / "study.duckdb"
    with opened(write_study(Path(shutil.copy(empty_file, path)))) as study:
        yield study


@pytest.fixture(scope="module")
def page(shown: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the small study, with fewer views to choose and curves that fit fast."""
    explorer = content.explorer
    path = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        for module in ("page", "gallery"):
            patch.setattr(f"ptqdb.report.{module}.DEGREES", ("hill", "isotonic", "linear"))
        patch.setattr(
            content, "explorer", lambda fits, views, names: explorer(fits, views[:3], names)
        )
        patch.setattr("ptqdb.charts.board.FEW_VIEWS", ("l2_flops", "fakefreeze_flops"))
        patch.setattr("ptqdb.charts.board.FEW_CURVES", ("hill",))
        write_report(shown.connection, path, curves=CURVES)
    return path


def payload(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    held: dict[str, Any] = json.loads(found[1])
    return held


def whole(value: Any, parts: list[Any]) -> Any:
    """What the page's script makes of a value: an independent reading."""
    if isinstance(value, list):
        return [whole(item, parts) for item in value]
    if not isinstance(value, dict):
        return value
    if "$" in value:
        return whole(parts[value["$"]], parts)
    if "$rows" in value:
        columns = {name: whole(column, parts) for name, column in value["$rows"].items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {key: whole(item, parts) for key, item in value.items()}


# --- the file --------------------------------------------------------------------------------


def test_every_picture_of_the_study_is_there(page: Path) -> None:
    figures = payload(page.read_text("utf-8"))["figures"]
    gallery = [name for name in figures if name.startswith(("gallery-", "distribution-"))]
    # Two distributions, 3 + 4 + 4 pooled, three chapters by network, and weightratio's two.
    assert len(gallery) == 2 + 11 + 3 * len(NETWORKS) + 2
    # With five networks, weightratio aside, they are the study's 28.
    assert 2 + 11 + 3 * 5 == 28
    for chapter in CHAPTERS:
        assert all(f"gallery-{view}" in gallery for view in chapter.pooled)
    assert {"explorer", "networks", "residuals", "frontier", "crowding", "layers"} <= set(figures)
    assert {"worst-layers", "leaderboard", "prediction-fit"} <= set(figures)


def test_what_to_rely_on_comes_first(page: Path) -> None:
    text = page.read_text("utf-8")
    main = text[text.index("<main>") : text.index("</main>")]
    headings = re.findall(r"<h2>(.*?)</h2>", main)
    assert headings == [
        "Predictions, and how far to trust them",
        "Leaderboard",
        "What was collected",
        "Loss over divergence",
        "Each network",
        "Powers of two",
        "Layers",
        "The gallery of the study",
        "Ask more in SQL",
    ]
    # The gallery alone is folded, and all of it.
    folded = re.findall(r"<details>.*?</details>", main, re.DOTALL)
    assert len(folded) == 1
    assert folded[0].count('id="gallery-') == main.count('id="gallery-') > 10
    assert "Nothing to show" not in main
    assert "failed" not in main


@pytest.fixture(scope="module")
def few_pictures() -> Iterator[None]:
    """Fewer views and curves, to look at what the page says."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("page", "gallery"):
            patch.setattr(f"ptqdb.report.{module}.DEGREES", ("isotonic",))
            patch.setattr(f"ptqdb.report.{module}.VIEWS", CHAPTERS[0].pooled)
        patch.setattr("ptqdb.report.gallery.CHAPTERS", CHAPTERS[:1])
        patch.setattr("ptqdb.report.page.NETWORK_VIEWS", ())
        patch.setattr("ptqdb.report.page.FURTHER_VIEWS", ())
        patch.setattr("ptqdb.charts.board.FEW_VIEWS", ("l2_flops",))
        patch.setattr("ptqdb.charts.board.FEW_CURVES", ("isotonic",))
        patch.setattr("ptqdb.report.page.FIT_CURVE", "isotonic")
        patch.setattr(content, "PREDICTION_CURVE", "isotonic")
        patch.setattr("ptqdb.report.page.PREDICTION_CURVE", "isotonic")
        yield


def test_failures_are_listed_with_their_reasons(
    few_pictures: None, empty_file: Path, tmp_path: Path
) -> None:
    path = write_study(Path(shutil.copy(empty_file, tmp_path / "failed.duckdb")))
    with duckdb.connect(path) as connection:
        connection.execute(
            "insert into collection_run by name select 1 as run_id, '1' as version, '{}' as "
            "arguments, 'cpu' as device, 0 as seed, timestamp '2026-01-01' as started_at, "
            "[]::struct(network varchar, number_format varchar, scheme varchar, scope varchar)[] "
            "as cells, 'failed' as outcome, [{'network': 'Broken', 'reason': 'no <layer> to "
            "quantize'}] as failures"
        )
        connection.execute(
            "delete from evaluation where number_format_id is not null and scope ="
            " 'all' and network_id = 1 and number_format_id = (select min(number_format_id) from "
            "evaluation)"
        )
        connection.execute(
            "insert into failed_cell select network_id, number_format_id, scheme_id, 'weight', "
            "'layer1', 'ValueError: outputs of Inf' from evaluation where scope = 'all' limit 1"
        )
    with opened(path) as study:
        text = report_page(study.connection, curves=("isotonic",))
    for said in ("Broken", "no &lt;layer&gt; to quantize", "ValueError: outputs of Inf"):
        assert f"<td>{said}</td>" in text
    assert "Networks and runs that failed" in text
    assert "Formats that could not be evaluated" in text


def test_a_study_of_small_networks_opens_with_a_view_that_has_rows(
    few_pictures: None, empty_file: Path, tmp_path: Path
) -> None:
    path = write_study(Path(shutil.copy(empty_file, tmp_path / "small.duckdb")))
    with duckdb.connect(path) as connection:
        connection.execute("update layer set macs = 1")
        connection.execute("update network set macs = 3")
    with opened(path) as study:
        assert not study.view("fakefreeze_flops_log")["divergence"].is_not_null().any()
        text = report_page(study.connection, curves=("isotonic",))
    figures = payload(text)["figures"]
    assert next(iter(figures["explorer"])).startswith("fakefreeze_flops_depth|")
    assert not [key for key in figures["explorer"] if "flops_log" in key]
    assert {"prediction-fit", "frontier", "leaderboard"} <= set(figures)


def test_of_many_networks_some_are_shown_one_by_one(
    few_pictures: None, monkeypatch: pytest.MonkeyPatch, shown: Study
) -> None:
    networks = sorted(shown.sql("select name from network")["name"])
    monkeypatch.setattr(content, "MOST_NETWORKS", len(networks) - 1)
    text = report_page(shown.connection, curves=("isotonic",))
    alone = {key.split("|")[2] for key in payload(text)["figures"]["explorer"]}
    assert alone == {content.EVERY_NETWORK, *networks[:-1]}
    assert f"The first {len(networks) - 1} of {len(networks)} networks are shown" in text


def test_shared_parts_come_back_whole(page: Path, shown: Study) -> None:
    data = payload(page.read_text("utf-8"))
    spec = whole(data["figures"]["explorer"]["l2_param|hill|Small"], data["parts"])
    assert spec["title"]["text"] == "l2_param: Small"
    points = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "point")
    rows = points["data"]["values"]
    expected = shown.view("l2_param", "network = 'Small'")
    assert [row["number_format"] for row in rows] == expected["number_format"].to_list()
    np.testing.assert_allclose([row["divergence"] for row in rows], expected["divergence"], 1e-4)


def test_parts_are_put_once() -> None:
    parts = Parts()
    rows = [{"x": 1 / 3, "name": "a rather long name of a network"}] * 3
    one, other = parts.put({"values": rows}), parts.put({"values": rows, "more": float("nan")})
    assert whole(one, parts.parts)["values"][2]["x"] == 0.33333
    assert other["values"] == one["values"]
    assert whole(other, parts.parts)["more"] is None
    assert len(json.dumps(parts.parts)) < 400


def test_the_page_says_what_was_collected(page: Path) -> None:
    text = page.read_text("utf-8")
    for said in (*NETWORKS, "What was collected", "Leaderboard", "Ask more in SQL"):
        assert said in text
    assert '<meta name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "default-src 'none'" in text
    assert page.stat().st_size < 5e6
    tags = re.findall(r"<(?:script|link|img|iframe|style)\b[^>]*>", text)
    assert not [tag for tag in tags if re.search(r"""(?:src|href)\s*=\s*["']?\w*:?//""", tag)]


def test_its_queries_are_answered(shown: Study) -> None:
    for _, sql in QUERIES:
        assert query(shown.connection, sql).height > 0


@pytest.mark.slow
def test_names_are_no_markup(few_pictures: None, empty_file: Path, tmp_path: Path) -> None:
    path = write_study(Path(shutil.copy(empty_file, tmp_path / "odd.duckdb")), networks=1)
    with duckdb.connect(path) as connection:
        connection.execute("update network set architecture = '<b>bold</b></script>'")
    with opened(path) as study:
        text = report_page(study.connection, curves=("isotonic",))
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    # One network has no held-out figures; the page says so in their place.
    assert "Nothing to show: expected three or more networks" in text
    assert "Nothing to show: expected views with a held-out R²" in text


def test_what_cannot_be_written_is_said(shown: Study, empty_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ending in \.html, found 'report\.png'"):
        write_report(shown.connection, tmp_path / "report.png")
    with pytest.raises(UsageError, match="existing folder, found none at"):
        write_report(shown.connection, tmp_path / "missing" / "report.html")
    with pytest.raises(UsageError, match="found 'hil'; choose one of hill"):
        write_report(shown.connection, tmp_path / "report.html", curves=("hil",))
    with pytest.raises(UsageError, match="there is no view 'l3_\\*'"):
        write_report(shown.connection, tmp_path / "report.html", views=("l3_*",))
    with opened(empty_file) as study, pytest.raises(DataError, match=r"no rows|found none"):
        write_report(study.connection, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["report", "-o", "report.pdf"], 2, "ending in .html"),
        (["report", "-o", "missing/report.html"], 2, "missing; create it"),
        (["report", "--curve", "cubic"], 2, "choose one of"),
        (["chart", "--view", "fakefreeze_flops_sensitivity"], 1, "has no rows"),
        (["chart", "fit", "--network", "tiny"], 2, "found 'tiny'; choose one of"),
        (["chart", "distribution", "--layer", "conv1"], 2, "found 'conv1'; choose one of"),
        (["chart", "frontiers"], 2, "frontiers"),
        (["chart", "--x-scale", "cubic"], 2, "cubic"),
        (["chart", "-o", "missing/fit.png"], 2, "missing; create it"),
        (["chart", "-o", "fit.jpeg"], 2, "ending in .html, .png, .svg, .json, found 'fit.jpeg'"),
        (["chart", "variants", "--view", "l2_flop"], 2, "choose l2_flops"),
    ],
)
def test_a_mistake_is_one_clear_line(
    run: Run, shown: Study, arguments: list[str], code: int, said: str
) -> None:
    assert shown.path is not None
    done = run(*arguments, "--db", shown.path)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    if "Usage:" not in done.err:
        assert len(done.err.strip().splitlines()) == 1


def test_charts_of_the_command_line(run: Run, shown: Study, tmp_path: Path) -> None:
    assert shown.path is not None
    options = ("--view", "l2_flops", "--view", "l2_param", "--curve", "hill,isotonic")
    done = run("chart", "variants", *options, "--db", shown.path, "-o", "four.json")
    assert done.code == 0, done.err
    assert len(json.loads((tmp_path / "four.json").read_text())["concat"]) == 4
    layer = ("--layer", "Plain:layer1", "--theme", "dark")
    assert run("chart", "distribution", *layer, "--db", shown.path).code == 0
    assert "Plain, layer1" in (tmp_path / "distribution.html").read_text("utf-8")


# --- in a browser ----------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(
    browser.PROGRAM is None, reason="no Chromium on this machine: install Debian's chromium"
)
MARKS = "document.querySelectorAll('#{} .chart path').length"
DRAWN = "document.documentElement.dataset.drawn === 'yes'"
TITLE = "document.querySelector('#{} figcaption b').textContent"
POINTS = """JSON.stringify([...document.querySelectorAll('#explorer .mark-symbol.role-mark path')]
    .map((path) => path.getAttribute('transform')))"""
CURVE = """document.querySelector('#explorer .mark-line.role-mark path[stroke="var(--ink)"]')
    .getAttribute('d')"""


def chosen(place: int, option: str) -> str:
    """Choose in the explorer, and wait until the picture is another."""
    return (
        "(async () => {"
        f"const list = document.querySelectorAll('#explorer select')[{place}];"
        f"list.value = {option!r};"
        "await draw(list.closest('figure'));"
        "return list.value; })()"
    )


@pytest.fixture(scope="module")
def window(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    with browser.Browser(tmp_path_factory.mktemp("browser") / "profile") as opened_browser:
        opened_browser.screen(1280, 900)
        opened_browser.open(page)
        opened_browser.wait_for(DRAWN)
        # The folded gallery is drawn when it is opened, not before.
        assert opened_browser.value(MARKS.format("gallery-l2_flops")) == 0
        opened_browser.value("document.querySelector('details').open = true")
        opened_browser.wait_for(MARKS.format("gallery-l2_flops") + " > 10 && " + DRAWN)
        yield opened_browser


@needs_browser
def test_the_page_opens_without_a_complaint(
    window: browser.Browser, page: Path, tmp_path: Path
) -> None:
    figures = payload(page.read_text("utf-8"))["figures"]
    for name in figures:
        assert window.value(MARKS.format(name)) > 10, name
        assert window.value(TITLE.format(name)), name
    assert not window.value("document.querySelectorAll('.failed').length")
    assert window.complaints == []
    picture = tmp_path / "page.png"
    window.picture(picture)
    with Image.open(picture) as image:
        assert image.size == (1280, 900)
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20


@needs_browser
def test_no_request_leaves_the_machine(window: browser.Browser, page: Path) -> None:
    assert window.requests == [page.as_uri()]
    # And none could: the page forbids itself to ask.
    asked = "fetch('https://example.org/').then(() => 'answered', () => 'refused')"
    assert window.value(asked) == "refused"
    window.events.clear()  # of the refusal, which the console reports


@pytest.mark.slow
@needs_browser
def test_choosing_changes_the_marks(window: browser.Browser, shown: Study) -> None:
    before = window.value(POINTS)
    # One of the networks is too small for the logarithm of its MACs.
    assert window.value(TITLE.format("explorer")) == "fakefreeze_flops_depth: all networks"
    assert len(json.loads(before)) == len(shown.view("fakefreeze_flops_depth"))
    assert window.value(chosen(0, "l2_param")) == "l2_param"
    after_view, curve = window.value(POINTS), window.value(CURVE)
    assert after_view != before
    assert window.value(TITLE.format("explorer")) == "l2_param: all networks"
    window.value(chosen(1, "isotonic"))
    assert len(json.loads(window.value(POINTS))) == len(json.loads(after_view))
    assert window.value(CURVE) != curve
    window.value(chosen(2, "Small"))
    assert len(json.loads(window.value(POINTS))) == len(shown.view("l2_param", "network = 'Small'"))
    assert window.value(TITLE.format("explorer")) == "l2_param: Small"
    # A real change of the list does the same, and a list of another picture changes that one.
    window.value(
        "(() => { const list = document.querySelector('#layers select'); list.value = 'Small';"
        "list.dispatchEvent(new Event('change', { bubbles: true })); })()"
    )
    window.wait_for(TITLE.format("layers") + ".includes('Small')")
    assert window.complaints == []


@pytest.mark.slow
@needs_browser
def test_the_axis_of_all_pictures_changes(window: browser.Browser) -> None:
    ticks = "document.querySelector('#gallery-l2_flops .chart').textContent"
    assert "1e-" not in window.value(ticks)
    window.value(
        "(() => { const list = document.getElementById('x'); list.value = 'log';"
        "list.dispatchEvent(new Event('change')); })()"
    )
    window.wait_for(DRAWN)
    assert "1e-" in window.value(ticks) or "0.001" in window.value(ticks)
    assert window.complaints == []


@pytest.mark.slow
@needs_browser
def test_a_phone_a_dark_room_and_paper(window: browser.Browser, tmp_path: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#explorer .mark-line path')).stroke"
    light = window.value(ground), window.value(ink)
    window.screen(390, 844, dark=True)
    # Panels stand below each other, and nothing is wider than the screen.
    box = "document.querySelector('#frontier .chart svg').getBoundingClientRect()"
    window.wait_for(f"{DRAWN} && {box}.height > 2 * {box}.width")
    assert window.value(ground) != light[0]
    assert window.value(ink) != light[1]
    assert window.value("document.documentElement.scrollWidth") <= 390
    window.picture(tmp_path / "phone.png")
    printed = window.call("Page.printToPDF", printBackground=False)["data"]
    assert len(printed) > 50_000
    assert window.complaints == []
