"""Names that hold more than a name: escape codes, line breaks, HTML, Markdown, directions."""

import csv
import io
import json
import re
import shutil
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import browser
import duckdb
import polars as pl
import pytest
import synthetic
import torch
from markdown_it import MarkdownIt
from pictures import encoded, noise
from rich.console import Console
from running import Run, runner
from torch import nn

import ptqdb
from ptqdb.charts.pictures import KINDS
from ptqdb.cli.output import OutputFormat, print_rows
from ptqdb.cli.progress import CollectionProgress, ComparisonProgress, training_progress
from ptqdb.collection.plan import Cell
from ptqdb.collection.study_file import read_study_file
from ptqdb.database import connect, materialize
from ptqdb.database.exchange import export_study, import_study
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError, UsageError
from ptqdb.networks.sources import network_source
from ptqdb.quantization.formats import study_format
from ptqdb.report import report_page
from ptqdb.study import open_study
from ptqdb.support.text import is_harmless, markdown_cell, visible

HARMFUL = (
    *("\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029"),
    *("\u202a", "\u202e", "\u2066", "\u2069", "\ud800", "\udfff", "\ufffe", "\uffff"),
)
SCRIPT = "</script><script>document.title = 'run'</script><!--"
MARKUP = f"{SCRIPT}|`a`\\|[b](javascript:c) *d* _e_ & 'f' \"g\""
LABELS = torch.tensor([0, 1, 0, 1])
CODES = "\x1b[31mred\x1b[0m\u202e"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def odd(empty_file: Path, folder: Path, ending: str) -> Path:
    """A study made by other means: names of all kinds end in what they should not hold."""
    path = Path(shutil.copy(empty_file, folder / "odd.duckdb"))
    with connect(path, read_only=False) as connection:
        synthetic.fill(connection)
        for table, column in (("network", "name"), ("network", "architecture"), ("layer", "name")):
            connection.execute(f"update {table} set {column} = {column} || ?", [ending])
        materialize(connection)
    return path


@pytest.fixture(scope="module")
def with_codes(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return odd(empty_file, tmp_path_factory.mktemp("codes"), "\x00\uffff" + CODES)


@pytest.fixture(scope="module")
def with_markup(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return odd(empty_file, tmp_path_factory.mktemp("markup"), MARKUP)


# --- what may enter --------------------------------------------------------------------------


@pytest.mark.parametrize("character", HARMFUL)
def test_control_characters_are_no_part_of_a_name(character: str) -> None:
    name = f"a{character}b"
    assert not is_harmless(name)
    assert visible(name).isprintable()
    assert visible(name).encode("ascii").decode() == visible(name)
    expected = f"expected a name without control characters, found {name!r}"
    with pytest.raises(UsageError) as caught:
        network_source(nn.Linear(2, 2), name=name)
    assert str(caught.value) == f"name: {expected}"
    with pytest.raises(UsageError) as caught:
        network_source(nn.Linear(2, 2), architecture=name)
    assert str(caught.value) == f"architecture: {expected}"


def test_names_of_every_language_are_names() -> None:
    for name in ("Zürich-残差", "שלום", "مرحبا", "e\u0301", "👩\u200d💻", "a b|c<d>", "ß\u00ad"):
        assert is_harmless(name)
        assert visible(name) == name
        network_source(nn.Linear(2, 2), name=name)


def test_a_study_file_names_the_place_of_a_bad_name(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    for dataset, network in (
        ('"a\\u001b"', 'name = "b"'),
        ("a", 'name = "b\\nc"'),
        ("a", 'architecture = "b\\u202e"'),
    ):
        text = f'[dataset.{dataset}]\npath = "x"\n[[network]]\nspec = "AlexNet"\n{network}\n'
        path.write_text(text)
        with pytest.raises(UsageError, match=r"study\.toml: .*expected a name without control"):
            read_study_file(path)


def test_a_layer_of_a_bad_name_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    module = nn.Sequential(
        OrderedDict(
            [("a\x1b[31m", nn.Conv2d(3, 4, 3)), ("flat", nn.Flatten()), ("b", nn.Linear(64, 2))]
        )
    )
    pixels = ImageSet("toy", "test", torch.from_numpy(noise(4, 3, 6, 6)), LABELS, ("a", "b"))
    source = ptqdb.network(module.eval(), name="net", mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(DataError, match="layer names without control characters in Sequential"):
        source.load()
    outcome = ptqdb.open(tmp_path / "s.duckdb", create=True).collect(
        source, pixels, pixels, number_formats="INT_8"
    )
    (failure,) = outcome.failures
    assert is_harmless(failure.reason)
    with open_study(tmp_path / "s.duckdb") as study:
        assert study.sql("from network").is_empty()


def test_a_folder_of_a_bad_name_is_refused_and_a_class_of_one_is_shown(tmp_path: Path) -> None:
    for name in ("good", "bad\x1b"):
        for label in ("cat\x1b[31m", "dog"):
            (tmp_path / name / label).mkdir(parents=True)
            (tmp_path / name / label / "1.png").write_bytes(encoded(noise(1, 4, 4, 3)[0]))
    assert read_images(tmp_path / "good", "test").class_names == ("cat\x1b[31m", "dog")
    with pytest.raises(DataError, match=r"expected a dataset name .*found 'bad\\x1b'; rename"):
        read_images(tmp_path / "bad\x1b", "test")
    assert read_images(tmp_path / "bad\x1b", "test", name="good").name == "good"


@pytest.mark.parametrize(
    ("table", "column"), [("network", "name"), ("network", "architecture"), ("layer", "name")]
)
def test_an_import_of_a_bad_name_is_refused_whole(
    study: duckdb.DuckDBPyConnection,
    database: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    table: str,
    column: str,
) -> None:
    export_study(study, tmp_path)
    path = tmp_path / f"{table}.parquet"
    pl.read_parquet(path).with_columns(pl.col(column) + "\x1b[31m").write_parquet(path)
    with pytest.raises(DataError) as caught:
        import_study(database, tmp_path)
    message = f"{path}: expected the column {column} without control characters, found "
    assert str(caught.value).startswith(message)
    assert is_harmless(str(caught.value))
    assert database.execute("select count(*) from dataset").fetchall() == [(0,)]


# --- how it is shown -------------------------------------------------------------------------


@pytest.mark.parametrize("output_format", ["table", "markdown", "json"])
def test_no_command_prints_a_control_character(
    run: Run, with_codes: Path, output_format: str
) -> None:
    for command in (
        ("info", "-q"),
        ("sql", "select name, chr(8238) || name as 'a\x1b' from layer"),
    ):
        done = run(*command, "--db", with_codes, "--format", output_format)
        assert (done.code, done.err) == (0, "")
        assert is_harmless(done.out.replace("\n", ""))
        assert "\\u001b[31mred" in done.out if output_format == "json" else "x1b" in done.out
    done = run("fit", "--db", with_codes, "--curve", "linear", "--show-summary")
    assert (done.code, is_harmless((done.out + done.err).replace("\n", ""))) == (0, True)


@pytest.mark.slow
def test_csv_holds_the_very_name(run: Run) -> None:
    name = f'a"b,\n{CODES};\r'
    codes = " || ".join(f"chr({ord(character)})" for character in name)
    done = run("sql", f"select {codes} as x, 1 as y", "--format", "csv")
    assert list(csv.reader(io.StringIO(done.out, newline=""))) == [["x", "y"], [name, "1"]]


@pytest.mark.slow
def test_messages_show_control_characters(run: Run, tmp_path: Path) -> None:
    for arguments in (
        ("sql", "nowhere\x1b[31m\n.sql"),
        ("sql", "select 1", "--db", f"{tmp_path}/a\x1b\u202e.duckdb"),
        ("fit", "--from", f"{tmp_path}/a\x1b.csv", "--x", "x", "--y", "y"),
        ("collect", "--network", "a\x1b[2J"),
        ("views", "a\x9b\r"),
        ("import", f"{tmp_path}/a\x1b", "--db", f"{tmp_path}/new.duckdb"),
        ("sql", 'select "\x1b[31m" from network'),
    ):
        done = run(*arguments)
        assert done.code in (1, 2), arguments
        assert is_harmless(done.err.replace("\n", "")), arguments
        assert "\\x" in done.err, arguments
        lines = [line for line in done.err.splitlines() if not line.startswith("no --db given")]
        assert len(lines) == 1 or "LINE 1:" in done.err
    (tmp_path / "t.csv").write_text("a\x1b[31m,b\n1,2\n")
    done = run("fit", "--from", tmp_path / "t.csv")
    assert done.err.endswith("it has a\\x1b[31m, b\n")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_shows_control_characters_and_no_markup(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    console = Console(file=shown, force_terminal=is_terminal, width=200, color_system=None)
    monkeypatch.setattr("ptqdb.cli.progress.Console", lambda **_: console)
    name = f"{CODES}\n[/b][bold]net\x00"
    with CollectionProgress() as progress:
        progress.planned(1, 0)
        progress.weighed(name, 1, 1e6)
        progress.preparing(name)
        progress.prepared(name, 1)
        progress.remarked(f"{name}: said")
        progress.filled(Cell(name, study_format("INT_8"), "all"))
    with training_progress(name, 1) as tell:
        tell(cast(Any, SimpleNamespace(epoch=1, loss=1.0, images_per_s=1.0, step=1, step_count=1)))
    with ComparisonProgress() as comparison:
        comparison.planned(1, 0)
        comparison.fitted(name, "hill")
    text = shown.getvalue()
    assert visible(name) in text
    for character in ("\x1b[31m", "\u202e", "\x00"):
        assert character not in text


@pytest.mark.parametrize(
    "name",
    [MARKUP, "a\\", "\\|", "`|`", "a\n|b", "<br>", "&lt;", "**a**", "~~a~~", "http://a.b"],
)
def test_a_markdown_cell_shows_the_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([name, "b"], [{name: name, "b": 1}], OutputFormat.MARKDOWN)
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    head, _, row = capsys.readouterr().out.splitlines()
    for line in (head, row):
        tokens = html.parse(f"{line}\n| --- | --- |\n")
        first, second = [token for token in tokens if token.type == "inline"]
        parts = first.children or []
        assert {part.type for part in parts} <= {"text", "text_special"}
        assert "".join(part.content for part in parts) == visible(name)
        assert second.content in ("b", "1")
    assert markdown_cell("FLOAT_4_E2 of fakefreeze_flops") == "FLOAT_4_E2 of fakefreeze_flops"


def curve(kind: str) -> tuple[str, ...]:
    """A quick curve, where a picture draws one."""
    drawn = ("fit", "networks", "variants", "frontier", "residuals")
    return ("--curve", "linear") if kind in drawn else ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_charts_of_names_with_control_characters_are_drawn(
    run: Run, with_codes: Path, tmp_path: Path, kind: str
) -> None:
    done = run("chart", kind, "--db", with_codes, *curve(kind), "-o", tmp_path / "a.svg")
    if kind == "crowding":  # without the formats that it draws
        assert done.code in (0, 1)
        return
    assert (done.code, done.err) == (0, f"wrote {tmp_path / 'a.svg'}\n")
    text = (tmp_path / "a.svg").read_text("utf-8")
    assert is_harmless(text.replace("\n", ""))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["networks", "layers"])
def test_names_are_text_in_svg_and_json(
    run: Run, with_markup: Path, tmp_path: Path, kind: str
) -> None:
    for suffix in ("svg", "json", "html", "png"):
        path = tmp_path / f"a.{suffix}"
        assert run("chart", kind, "--db", with_markup, *curve(kind), "-o", path).code == 0
    for suffix in ("svg", "html"):
        assert SCRIPT not in (tmp_path / f"a.{suffix}").read_text("utf-8")
    assert f"Plain{MARKUP}" in json.dumps(
        json.loads((tmp_path / "a.json").read_text()), ensure_ascii=False
    ).replace('\\"', '"').replace("\\\\", "\\")


@pytest.mark.slow
def test_a_report_shows_the_names(with_markup: Path, with_codes: Path) -> None:
    for path in (with_markup, with_codes):
        with open_study(path) as study, pytest.MonkeyPatch.context() as patch:
            few(patch)
            text = report_page(study.connection, curves=("isotonic",))
        assert SCRIPT not in text
        own = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
        assert "\x1b[31m" not in own
        assert "\u202e" not in own
        assert "\x00" not in own


def few(patch: pytest.MonkeyPatch) -> None:
    """A page of few pictures."""
    from ptqdb.report import content
    from ptqdb.report.gallery import CHAPTERS

    explorer = content.explorer
    for module in ("page", "gallery"):
        patch.setattr(f"ptqdb.report.{module}.DEGREES", ("isotonic", "linear", "isotonic"))
        patch.setattr(f"ptqdb.report.{module}.VIEWS", CHAPTERS[0].pooled)
    patch.setattr("ptqdb.report.gallery.CHAPTERS", CHAPTERS[:1])
    patch.setattr(content, "explorer", lambda fits, views, names: explorer(fits, views[:2], names))
    patch.setattr("ptqdb.charts.board.FEW_VIEWS", ("l2_flops",))
    patch.setattr("ptqdb.charts.board.FEW_CURVES", ("linear",))


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")
def test_a_browser_draws_the_names_and_runs_none(
    run: Run, with_markup: Path, with_codes: Path, tmp_path: Path
) -> None:
    for number, path in enumerate((with_markup, with_codes)):
        page = tmp_path / f"{number}.html"
        assert run("chart", "layers", "--db", path, "-o", page).code == 0
        with browser.Browser(tmp_path / f"profile{number}") as window:
            window.open(page)
            window.wait_for("document.querySelectorAll('canvas, svg').length > 0")
            assert window.value("document.title") != "run"
            entries = "[...document.querySelectorAll('.vega-actions a')].map(a => a.textContent)"
            # None of them shows the source, which Vega-Embed writes as HTML.
            assert window.value(entries) == ["Save as SVG", "Save as PNG"]
            assert window.complaints == []
