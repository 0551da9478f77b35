"""The notebook of the documentation: what it shows, and that it runs from top to bottom."""

import importlib.util
from pathlib import Path
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebook"
NOTEBOOK = FOLDER / "ptqdb.ipynb"


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def kinds(notebook: Any) -> list[list[str]]:
    """What each cell shows: the kinds of its outputs' data."""
    return [
        sorted(kind for output in cell.get("outputs", []) for kind in output.get("data", {}))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_notebook_ships_with_what_it_shows() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    assert NOTEBOOK.stat().st_size < 1e6
    shown = kinds(notebook)
    # The first cell imports, and one makes a network and images of the user's own.
    assert sum(not kind for kind in shown) <= 2
    charts = [kind for kind in shown if "application/vnd.vegalite.v6+json" in kind]
    assert len(charts) == 1
    assert all("image/png" in kind for kind in charts)
    text = NOTEBOOK.read_text("utf-8")
    assert "filled_count=4" in text
    assert "/tmp/" not in text
    assert not [one for one in outputs(notebook) if one.output_type in ("error", "stream")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    spec = importlib.util.spec_from_file_location("notebook_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    shipped = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    notebook = build.executed(tmp_path)
    assert kinds(notebook) == kinds(shipped)
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
