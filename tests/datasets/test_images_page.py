"""The examples of docs/how-to/images.md give what the page says."""

import doctest
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/images.md"


def test_the_examples_give_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    page = doctest.DocTestParser().get_doctest(PAGE.read_text("utf-8"), {}, PAGE.name, None, None)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    runner.run(page, out=report.append)
    assert runner.summarize(verbose=False).attempted > 15
    assert not report, "".join(report)
