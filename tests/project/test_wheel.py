"""The wheel carries sql/ and the embedded study, and works outside the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
UV = shutil.which("uv")


@pytest.mark.slow
@pytest.mark.skipif(UV is None, reason="uv, which builds the wheel, is not on the path")
def test_an_installed_wheel_collects_and_fits_outside_the_checkout(tmp_path: Path) -> None:
    assert UV is not None
    build = [UV, "build", "--wheel", "--out-dir", str(tmp_path / "dist"), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("ptqdb-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "ptqdb/py.typed" in names
    assert {f"ptqdb/report/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    for kind in (".sql", ".csv", ".safetensors", ".parquet"):
        assert any(name.startswith("ptqdb/_share/") and name.endswith(kind) for name in names), kind
    work = tmp_path / "work"
    work.mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "ptqdb", *arguments]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import ptqdb.resources as r; print(r.__file__, r.sql_folder(), r.data_folder())"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=work, env=environment, capture_output=True, text=True
    )
    assert all(path.startswith(str(tmp_path / "site")) for path in found.stdout.split())
    few = ("--images", "30", "--calibration", "10", "--number-formats", "INT_*")
    run("collect", "--network", "AlexNet_BN", *few)
    assert "AlexNet_BN" in run("fit")
    assert (work / "ptqdb.duckdb").exists()
