"""Runs the notebook and keeps what its cells show: ``uv run python docs/notebook/build.py``."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "ptqdb.ipynb"
# Charts are shown as Vega-Lite, which notebooks draw, and as PNG, which pages of code draw.
SHOW_CHARTS = """
import base64
import altair
import vl_convert

def _shown(spec, **_):
    png = base64.b64encode(vl_convert.vegalite_to_png(spec, scale=1.5)).decode()
    return {"application/vnd.vegalite.v6+json": spec, "image/png": png}

altair.renderers.register("shown", _shown)
altair.renderers.enable("shown")
"""


def executed(folder: Path) -> Any:
    """The notebook with its outputs, run in a folder."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    first = nbformat.v4.new_code_cell(SHOW_CHARTS)  # type: ignore[no-untyped-call]
    notebook.cells.insert(0, first)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources, record_timing=False
    ).execute()
    del notebook.cells[0]
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    notebook.metadata = {
        "kernelspec": notebook.metadata.kernelspec,
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    """Write the notebook with what it shows."""
    with TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    nbformat.write(notebook, NOTEBOOK)  # type: ignore[no-untyped-call]
    sys.stdout.write(f"{NOTEBOOK} {NOTEBOOK.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    main()
