"""A name that a user gives is that file or folder: never a pattern, an address or a home folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import synthetic
from pictures import encoded, noise, write_parquet
from running import Run, runner

from ptqdb.database import connect, materialize
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError
from ptqdb.fitting.points_table import read_table

NAMES = ("run[1]", "run*", "run?", "~run", 'it\'s "%20"', "file:run", "[!a]{1,2}")
FOLDERS = ("data[1]", "d*ta", "~", "it's", "hf:")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, and beside it a home folder where nothing may be written or read."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_read_from_the_file_of_its_name(name: str, suffix: str) -> None:
    for stem, x in ((name, 1), ("run1", 2), ("runs", 2), ("run", 2)):
        frame = pl.DataFrame({"x": [x]})
        with Path(stem + suffix).open("wb") as file:
            if suffix == ".parquet":
                frame.write_parquet(file)
            else:
                frame.write_csv(file, separator="\t" if suffix == ".tsv" else ",")
    assert read_table(Path(name + suffix))["x"].to_list() == [1]


def test_a_table_that_is_not_there_is_not_one_that_matches() -> None:
    Path("run1.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match=r"expected a table at run\[1\]\.csv, found: "):
        read_table(Path("run[1].csv"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_a_study_goes_out_and_comes_back_by_any_name(run: Run, empty_file: Path, name: str) -> None:
    place = Path(name)
    place.mkdir()
    study, copy = place / f"{name}.duckdb", place / "copy.duckdb"
    study.write_bytes(empty_file.read_bytes())
    with connect(study, read_only=False) as connection:
        synthetic.fill(connection)
        materialize(connection)
    exported = run("export", place / "facts", "--db", study)
    assert exported.code == 0
    assert run("import", place / "facts", "--db", copy).code == 0
    query = "select name from network order by name"
    found = run("sql", query, "--db", copy, "--format", "csv")
    assert (found.code, found.out) == (0, "name\nPlain\nPlain_BN\nSmall\n")
    (place / "query[1].sql").write_text(query)
    assert run("sql", place / "query[1].sql", "--db", copy, "--format", "csv").out == found.out
    assert not list(Path.home().iterdir())


def test_a_database_may_be_called_like_a_service(run: Run, empty_file: Path) -> None:
    Path("md:study.duckdb").write_bytes(empty_file.read_bytes())
    found = run("sql", "select count(*) as n from network", "--db", "md:study.duckdb")
    assert (found.code, found.err) == (0, "")


def parquet(place: Path, seed: int) -> None:
    images = [encoded(image) for image in noise(2, 6, 6, 3, seed=seed)]
    write_parquet(place / "test-0.parquet", images, [0, 1], classes=["cat", "dog"])


def npz(place: Path, seed: int) -> None:
    np.savez(place / "test[1].npz", images=noise(2, 6, 6, 3, seed=seed), labels=np.arange(2))


def pictures(place: Path, seed: int) -> None:
    for name, image in zip(("cat", "dog"), noise(2, 6, 6, 3, seed=seed), strict=True):
        (place / name).mkdir()
        (place / name / "a[1].png").write_bytes(encoded(image))


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(
    ("written", "inside"),
    [(parquet, ""), (parquet, "test-0.parquet"), (npz, "test[1].npz"), (pictures, "")],
)
def test_images_are_read_from_the_folder_of_its_name(
    written: Callable[[Path, int], None], inside: str, name: str
) -> None:
    for other, seed in ((name, 0), ("data1", 1), ("data", 1)):
        Path(other).mkdir()
        written(Path(other), seed)
    images = read_images(Path(name, inside), "test")
    assert np.array_equal(images.images[0].permute(1, 2, 0), noise(2, 6, 6, 3, seed=0)[0])
    assert images.known_labels().tolist() == [0, 1]


def test_a_glob_stays_one_beneath_a_folder_that_is_called_like_one() -> None:
    for name, seed in (("data[1]", 0), ("data1", 1)):
        Path(name).mkdir()
        parquet(Path(name), seed)
    expected = read_images("data[1]", "test").content_sha256
    assert read_images("data[1]/*.parquet", "test").content_sha256 == expected
    assert read_images(Path("data[1]/*.parquet").absolute(), "test").content_sha256 == expected
    other = read_images("data1", "test").content_sha256
    assert read_images("data[12]/test-?.parquet", "test").content_sha256 == other
    with pytest.raises(DataError, match="expected Parquet files in"):
        read_images("data[3]/*.parquet", "test")


def test_a_home_folder_that_does_not_exist_is_a_name() -> None:
    with pytest.raises(DataError, match="found no file or folder ~nobody-of-that-name/images"):
        read_images("~nobody-of-that-name/images", "test")
    parquet_home = Path.home() / "images"
    parquet_home.mkdir()
    parquet(parquet_home, 0)
    assert len(read_images("~/images", "test")) == 2


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("collect", "--dataset", LONG),
        ("collect", "--network", "AlexNet", "--checkpoint", LONG),
        ("collect", "--network", f"{LONG}.py:net"),
        ("collect", f"{LONG}.toml"),
        ("collect", "--db", LONG),
        ("fit", "--from", f"{LONG}.csv", "--x", "a", "--y", "b"),
        ("fit", "--db", LONG),
        ("import", LONG, "--db", "new.duckdb"),
        ("compare", "--db", LONG),
        ("chart", "-o", f"{LONG}/a.html"),
    ],
)
def test_a_path_that_is_too_long_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.code in (1, 2)
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("ptqdb: ")
