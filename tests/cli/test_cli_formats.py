"""`ptqdb formats` as a user runs it, and the completion of its names."""

import csv
import io
import json
from pathlib import Path

import pytest
from running import Run

from ptqdb.cli import completion
from ptqdb.quantization.formats import DEPLOYED_FORMATS, STUDY_FORMATS


def test_every_format_is_listed(run: Run) -> None:
    result = run("formats", "--format", "json")
    assert result.code == 0
    rows = json.loads(result.out)
    known = (*STUDY_FORMATS, *DEPLOYED_FORMATS)
    assert [row["format"] for row in rows] == [each.name for each in known]
    assert [row["bits_per_weight"] for row in rows] == [each.bits_per_weight for each in known]
    assert len({tuple(row) for row in rows}) == 1
    assert result.err == ""


def test_a_row_says_what_shares_a_scale(run: Run) -> None:
    rows = {row["format"]: row for row in json.loads(run("formats", "--format", "json").out)}
    assert rows["nvfp4"] == {
        "format": "nvfp4",
        "bits_per_weight": 4.5,
        "number_format": "FLOAT_4_E2",
        "family": "FLOAT",
        "bits": 4,
        "codes": 15,
        "largest_code": 6.0,
        "scheme": "nv16_e4m3",
        "weights": "block 16",
        "inputs": "block 16",
        "scale": "E4M3",
        "range": "max",
        "bias": "float32",
        "computes_in": "dequantized",
    }
    shown = {
        name: (rows[name]["weights"], rows[name]["inputs"]) for name in ("int8", "nf4", "INT_8")
    }
    assert shown == {
        "int8": ("channel", "tensor, zero point"),
        "nf4": ("block 64", "float"),
        "INT_8": ("tensor", "tensor"),
    }
    assert rows["int4_g128_zp"]["weights"] == "block 128, zero point"


def test_patterns_choose(run: Run) -> None:
    result = run("formats", "mx*4,INT_6@channel,range=mse", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert [row["format"] for row in rows] == ["mxfp4", "INT_6@channel,range=mse"]
    assert rows[1]["scheme"] == "channel,range=mse"


def test_the_table_is_narrower_and_says_more_on_stderr(run: Run) -> None:
    result = run("formats", "mxfp4")
    header, *lines = [line for line in result.out.splitlines() if line.strip()]
    assert header.split() == [
        *("format", "bits_per_weight", "number_format", "codes", "largest_code"),
        *("weights", "inputs", "scale", "computes_in"),
    ]
    assert lines[-1].split()[:3] == ["mxfp4", "4.25", "FLOAT_4_E2"]
    assert "file.py:function" in result.err


def test_a_function_is_listed_with_what_is_known(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("def mine(x):\n    return x\nmine.bits_per_weight = 3\n", encoding="utf-8")
    (row,) = json.loads(run("formats", f"{path}:mine", "--format", "json").out)
    assert (row["format"], row["bits_per_weight"], row["codes"]) == ("mine", 3.0, None)
    assert (row["weights"], row["inputs"], row["scale"]) == ("other", "float", "other")


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("mxfp5", "mxfp4"),
        ("INT_8@chanel", "channel"),
        ("INT_8@channel,scale=E8M1", "E8M0"),
        ("missing.py:mine", "missing.py"),
        ("torch:no_such_thing", "no_such_thing"),
        ("", "closest are"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(run: Run, pattern: str, part: str) -> None:
    result = run("formats", pattern)
    assert (result.code, result.out) == (2, "")
    assert part in result.err
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_names_are_completed() -> None:
    assert completion.number_formats("mxfp6") == ["mxfp6_e2m3", "mxfp6_e3m2"]
    assert completion.number_formats("INT_8,nv") == ["INT_8,nvfp4"]
    assert completion.number_formats("de") == ["deployed"]
    assert {"study", "deployed", "q4_K", "INT_16"} <= set(completion.number_formats(""))
