"""The pages on formats: their tables are the code's, their pairs exist, their commands run."""

import re
import shlex
from pathlib import Path

import duckdb
import pytest
from running import Run, runner
from safetensors import safe_open
from safetensors.torch import save_file

from ptqdb.networks.embedded import embedded_folder
from ptqdb.quantization.formats import PRESETS, find_format, match_formats
from ptqdb.quantization.number_formats import STUDY_GRID
from ptqdb.quantization.schemes import SCHEMES, find_scheme

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference/number-formats.md").read_text("utf-8")
HOW_TO = (ROOT / "docs/how-to/formats.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
COLUMNS = "format,bits_per_weight,number_format,scheme,weights,inputs,scale,computes_in"
FEW = ("--images", "8", "--calibration", "4", "--probe", "4")


@pytest.fixture
def ptqdb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line."""
    return runner(monkeypatch, capsys)


def examples(page: str, verb: str) -> list[tuple[list[str], str]]:
    """Arguments and answer of each command of a page that is shown with its answer."""
    blocks = re.findall(rf"```console\n\$ (?:uv run )?(ptqdb {verb} .*?)```", page, re.DOTALL)
    found = []
    for block in blocks:
        lines = block.splitlines()
        count = next(place for place, line in enumerate(lines) if "──" in line) - 1
        command = "\n".join(lines[:count]).replace("\\\n", " ")
        found.append((shlex.split(command)[1:], "\n".join(lines[count:]) + "\n"))
    return found


def test_the_table_of_presets_is_what_the_command_prints(ptqdb: Run) -> None:
    """With number format, scheme and bits per weight; and all presets are in it."""
    table = ptqdb("formats", "deployed", "--format", "markdown", "--columns", COLUMNS).out
    assert len(table.splitlines()) == len(PRESETS) + 2
    assert table in REFERENCE
    for name, (number_format, scheme) in PRESETS.items():
        bits = find_format(name).bits_per_weight
        assert f"| {name} | {bits:.4g} | {number_format} | {scheme} |" in REFERENCE


def test_the_table_of_schemes_is_the_codes() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|$", REFERENCE, re.MULTILINE))
    assert rows.keys() == {name for name in SCHEMES if not name.startswith("gguf_")}
    for name, text in rows.items():
        assert find_scheme(text) == SCHEMES[name]


def test_pairs_that_are_shown_exist() -> None:
    shown = re.findall(r"\b(?:[A-Z]+_\d[A-Z0-9_]*)@[a-z0-9_]+(?:,[a-z_]+=\w+)*", REFERENCE + HOW_TO)
    assert len(set(shown)) >= 7
    for pair in shown:
        assert find_format(pair)
    assert len(match_formats("study")) == len(STUDY_GRID) == 43
    assert find_format("INT_8@tensor,bias=study").name == "INT_8"
    assert find_format("FLOAT_4_E2@block32,scale=E8M0").name == "mxfp4"


@pytest.mark.parametrize("page", [REFERENCE, HOW_TO], ids=["reference", "how-to"])
def test_lists_of_formats_are_printed_as_shown(ptqdb: Run, page: str) -> None:
    shown = examples(page, "formats")
    assert shown
    for arguments, answer in shown:
        assert ptqdb(*arguments, "--wide").out == answer


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, HOW_TO], ids=["README", "how-to"])
def test_recommendations_are_given_as_shown(ptqdb: Run, page: str) -> None:
    """Names and bits exactly, losses within a hundredth: another processor rounds differently."""
    [(arguments, answer)] = examples(page, "recommend")
    found = [line.split() for line in ptqdb(*arguments, "--wide").out.splitlines()]
    shown = [line.split() for line in answer.splitlines()]
    assert [row[:3] for row in found] == [row[:3] for row in shown]
    for given, wanted in zip(found[2:], shown[2:], strict=True):
        losses = [float(number) for number in wanted[3:]]
        assert [float(number) for number in given[3:]] == pytest.approx(losses, rel=1e-2, abs=1e-4)


@pytest.mark.slow
def test_every_way_to_a_format_collects(
    ptqdb: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On few images; the file that somebody else's method wrote is made here."""
    monkeypatch.chdir(tmp_path)
    with safe_open(embedded_folder() / "AlexNet.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        rounded = {name: (each * 32).round() / 32 for name, each in weights.items()}
        save_file(rounded, "gptq4.safetensors", file.metadata())
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", HOW_TO, re.DOTALL):
        Path(name).write_text(text)
    commands = re.findall(r"```sh\nptqdb (.*?)\n```", HOW_TO, re.DOTALL)
    assert len(commands) == 5
    for command in commands:
        arguments = shlex.split(command)
        done = ptqdb(*arguments, *(FEW if arguments[0] == "collect" else ()))
        assert done.code == 0, done.err
    assert Path("frontier.html").stat().st_size > 10_000
    for arguments, answer in examples(HOW_TO, "sql"):
        done = ptqdb(*arguments)
        assert done.code == 0, done.err
        assert done.out.split()[:3] == answer.split()[:3]
    with duckdb.connect("mine.duckdb", read_only=True) as connection:
        found = connection.execute(
            "select format_name(n.name, s.name) from evaluation join number_format as n "
            "using (number_format_id) join scheme as s using (scheme_id)"
        ).fetchall()
    names = {name for (name,) in found}
    assert names > {"gptq4", "outliers", "INT_6@channel", *PRESETS, "INT_4"}
