"""Files that lie about themselves: any metadata ends in one of ptqdb's own errors."""

import io
import json
import os
import random
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pictures import encoded, noise, write_class_folders
from running import Run, runner
from safetensors.torch import save_file

import ptqdb
from ptqdb.collection.study_file import read_study_file
from ptqdb.curves import curve
from ptqdb.curves.function import fit_curve
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError, PtqdbError, UsageError
from ptqdb.fitting.saved import LAYOUT
from ptqdb.networks.checkpoints import NetworkDescription, read_description, save_checkpoint
from ptqdb.networks.reference import reference_network
from ptqdb.networks.sources import described_source

ROUNDS = 60
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 10**400, 1e9, 1e308, -0.5, "", "text", "\n", "\0"),
    *(float("nan"), float("inf"), [], [None], [[]], {}, {"": None}, "\x1b[31m", "a" * 10_000),
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def mutated(value: Any, dice: random.Random) -> Any:
    """A JSON value with one part of it, at any depth, replaced, left out or said twice."""
    if isinstance(value, dict | list) and value and dice.random() < 0.8:
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        place = dice.choice(list(copy)) if isinstance(copy, dict) else dice.randrange(len(copy))
        match dice.randrange(6):
            case 0:
                del copy[place]
            case 1 if isinstance(copy, dict):
                copy[str(dice.choice(ODD))] = copy.pop(place)
            case _:
                copy[place] = mutated(copy[place], dice)
        return copy
    return dice.choice(ODD)


def texts(value: Any, seed: int) -> Iterator[str]:
    """JSON texts near a value: mutated, cut short, nested too deep."""
    dice = random.Random(seed)
    whole = json.dumps(value)
    yield from ("", "[" * 100_000, '{"a":' * 100_000, "1" * 5_000, whole + whole)
    for _ in range(ROUNDS):
        yield json.dumps(mutated(value, dice))
        yield whole[: dice.randrange(len(whole))]


def refused_or_read(read: Callable[[], object]) -> bool:
    """Whether something was read; raises whatever is not one of ptqdb's own errors."""
    try:
        read()
    except PtqdbError:
        return False
    return True


# The metadata of each format.


def test_any_description_in_a_checkpoint_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    description = NetworkDescription("AlexNet", 0.0625, 10, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    weights = dict(reference_network("AlexNet").build(0.0625).state_dict())
    save_checkpoint(path, description, weights)
    fields = {"name": "AlexNet", "width": 0.0625, "class_count": 10, "mean": [0.5] * 3}
    small = {"a": next(iter(weights.values()))}
    outcomes = set()
    for text in texts(fields | {"std": [0.2] * 3}, seed=1):
        save_file(small, path, {"ptqdb": text})
        outcomes.add(refused_or_read(lambda: read_description(path)))
        refused_or_read(lambda: described_source(path))
    assert outcomes == {True, False}


def test_any_metadata_of_parquet_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "test-0.parquet"
    pictures = [{"bytes": encoded(image, "PNG")} for image in noise(2, 4, 4, 3)]
    frame = pl.DataFrame({"img": pictures, "label": [0, 1]})
    names = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    for text in texts({"info": {"features": {"label": names, "img": {}}}}, seed=2):
        frame.write_parquet(path, metadata={"huggingface": text})
        refused_or_read(lambda: read_images(tmp_path, "test"))


def toml(value: Any) -> str:
    """A value as TOML, as far as it has such; what is longer than a file may hold is kept."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key)} = {toml(part)}" for key, part in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if value is None:
        return "1979-05-27T07:32:00Z"
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return json.dumps(value)


def test_any_study_file_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    study = {
        "number_formats": "INT_*",
        "scopes": ["weight"],
        "device": "cpu",
        "dataset": {"a": {"path": "a", "images": 5, "channels": 3, "download": False}},
        "network": [
            {"spec": "AlexNet", "mean": [0.5], "std": [0.5], "resize": 4, "name": "x", "seed": 1}
        ],
    }
    outcomes = set()
    dice = random.Random(3)
    for _ in range(3 * ROUNDS):
        chosen = mutated(study, dice)
        if isinstance(chosen, dict):
            lines = [f"{json.dumps(key)} = {toml(part)}" for key, part in chosen.items()]
            path.write_text("\n".join(lines), "utf-8")
            outcomes.add(refused_or_read(lambda: read_study_file(path)))
    assert outcomes == {True, False}
    number = "1" + "0" * 400
    for text in (
        *("a = " + "[" * 10_000, "a = " + "{b = " * 5_000, "a = " + "1" * 5_000, "\xff"),
        f"[dataset.a]\npath = 'a'\n[[network]]\nspec = 'b'\nmean = [{number}]\nstd = [1]",
        f"[dataset.a]\npath = 'a'\nimages = {number}\n[[network]]\nspec = 'b'",
        "[dataset.a]\npath = 'a'\n[[network]]\nspec = 'b'\nresize = 1000000000",
    ):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(UsageError, match=r"study\.toml"):
            read_study_file(path)


@pytest.fixture(scope="module")
def fit_json(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `save_fits` writes of two curves."""
    path = tmp_path_factory.mktemp("fits") / "fit.json"
    x = np.linspace(0.001, 0.9, 20)
    entries = []
    for name in ("rational2", "isotonic"):
        fixed = fit_curve(curve(name).function_class(), x, x / (x + 0.2)).fixed
        options = {"options": asdict(fixed.function), "low": fixed.low, "high": fixed.high}
        entries.append(
            {"group": name, "curve": name, "params": list(fixed.params), "prediction": options}
        )
    path.write_text(json.dumps({"ptqdb_fit": LAYOUT, "version": "0", "fits": entries}))
    assert set(ptqdb.load_fits(path)) == {"rational2", "isotonic"}
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_any_saved_fit_is_read_or_refused(fit_json: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    outcomes = set()
    for text in texts(fit_json, seed=4):
        path.write_text(text)
        is_read = refused_or_read(lambda: ptqdb.load_fits(path))
        outcomes.add(is_read)
        if is_read:
            for fixed in ptqdb.load_fits(path).values():
                assert not np.isnan(fixed.predict([0, 0.1, 1e9], 0.5)).any()
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("text", r"fits\[0\]\.params is not a list of numbers"),
        (["1"], r"fits\[0\]\.params: expected finite numbers, found 1"),
        ([float("nan")], r"fits\[0\]\.params: expected finite numbers, found nan"),
        ([float("inf")], r"fits\[0\]\.params: expected finite numbers, found inf"),
        ([10**400], r"fits\[0\]\.params: expected finite numbers, found 1000"),
        ([True], r"fits\[0\]\.params: expected finite numbers, found True"),
        ([1.0], r"fits\[0\] is not a fitted curve"),
    ],
)
def test_params_that_are_none_are_named(
    fit_json: dict[str, Any], tmp_path: Path, params: Any, said: str
) -> None:
    path = tmp_path / "fit.json"
    first, *others = fit_json["fits"]
    path.write_text(json.dumps(fit_json | {"fits": [first | {"params": params}, *others]}))
    with pytest.raises(DataError, match=rf"save-fit` at {path}, found another: {said}"):
        ptqdb.load_fits(path)


# Archives of arrays.


def npz(path: Path, header: bytes, content: bytes = b"", name: str = "images.npy") -> Path:
    """An archive whose image array has the given header, and fitting labels."""
    labels = io.BytesIO()
    np.save(labels, np.zeros(2, np.int64))
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
        archive.writestr("labels.npy", labels.getvalue())
    return path


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (50000, 1000, 1000, 3)}", "140 GiB"),
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9" * 90 + b",)}", "images"),
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4, 4)}", "plain arrays"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", "Object arrays"),
        (b"{'descr': '<U99999999', 'fortran_order': False, 'shape': (2, 4)}", "its header says"),
        (b"(" * 9000, "plain arrays"),
        (b"[" * 200, "plain arrays"),
        (b"{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2,)}", "its header says"),
        (b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 0, 4)}", "pictures with pixels"),
    ],
)
def test_an_array_that_is_not_there_takes_no_memory(
    tmp_path: Path, header: bytes, said: str
) -> None:
    path = npz(tmp_path / "a.npz", header)
    with pytest.raises(DataError, match=said) as caught:
        read_images(path, "test")
    assert str(path) in str(caught.value)


def test_an_array_larger_than_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb: a few bytes in the file that are many when they are decompressed."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (16, 256, 256)}"
    path = npz(tmp_path / "a.npz", header, bytes(2**20))
    assert path.stat().st_size < 2**14
    monkeypatch.setattr(os, "sysconf", lambda name: 1000)
    with pytest.raises(DataError, match="fits into 1000000 bytes of memory, found 1 MiB"):
        read_images(path, "test")


def test_any_damage_to_an_archive_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=noise(2, 4, 4), labels=np.array([0, 1]))
    whole = path.read_bytes()
    dice = random.Random(5)
    outcomes = set()
    for _ in range(4 * ROUNDS):
        damaged = bytearray(whole)
        for _ in range(dice.randrange(1, 5)):
            damaged[dice.randrange(len(whole))] = dice.randrange(256)
        path.write_bytes(damaged[: dice.choice((len(whole), dice.randrange(len(whole))))])
        outcomes.add(refused_or_read(lambda: read_images(path, "test")))
    assert False in outcomes


# Folders of pictures.


def folders(root: Path) -> Path:
    write_class_folders(root, list(noise(4, 4, 4, 3)), [0, 0, 1, 1], ("a", "b"))
    return root


@pytest.mark.parametrize("target", ["..", "../..", ".", "../b", "../b/deep", "/"])
def test_a_link_to_what_is_read_elsewhere_is_left_out_and_said(tmp_path: Path, target: str) -> None:
    root = folders(tmp_path / "root")
    (root / "b" / "deep").mkdir()
    (root / "b" / "0002.png").rename(root / "b" / "deep" / "0002.png")
    expected = read_images(root, "test")
    (root / "a" / "up").symlink_to(target)
    found = read_images(root, "test")
    assert found.content_sha256 == expected.content_sha256
    assert found.remarks[-1] == (
        "skipped links to folders that are already read, or contain such folders: "
        f"{root / 'a' / 'up'}"
    )


def test_a_link_upward_leads_to_no_parquet_files(tmp_path: Path) -> None:
    root = folders(tmp_path / "root")
    (tmp_path / "other.parquet").write_bytes(b"PAR1")
    expected = read_images(root, "test")
    (root / "a" / "up").symlink_to("../..")
    assert read_images(root, "test").content_sha256 == expected.content_sha256


def test_links_to_other_places_are_followed_once(tmp_path: Path) -> None:
    root = folders(tmp_path / "root")
    store = tmp_path / "store"
    (store / "inner").mkdir(parents=True)
    (store / "inner" / "x.png").write_bytes(encoded(noise(1, 4, 4, 3)[0], "PNG"))
    (store / "inner" / "back").symlink_to(store)
    (root / "a" / "more").symlink_to(store)
    (root / "b" / "same").symlink_to(store)
    (root / "b" / "file.png").symlink_to(store / "inner" / "x.png")
    found = read_images(root, "test")
    assert found.known_labels().tolist().count(0) == 3
    assert found.known_labels().tolist().count(1) == 3
    assert "a/more/inner/back" in found.remarks[-1]
    assert "b/same" in found.remarks[-1]


def test_two_classes_in_one_folder_are_refused(tmp_path: Path) -> None:
    root = folders(tmp_path / "root")
    (root / "c").symlink_to(root / "a")
    with pytest.raises(DataError, match=r"a folder of its own for each class, found .*/c"):
        read_images(root, "test")
    (root / "c").unlink()
    (root / "c").symlink_to("..")
    with pytest.raises(DataError, match=r"a folder of its own for each class, found .*/c"):
        read_images(root, "test")


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "broken link", "loop", "text"])
def test_what_is_no_picture_is_a_line(run: Run, tmp_path: Path, kind: str) -> None:
    root = folders(tmp_path / "root")
    path = root / "a" / "new\nline.png"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            server = socket.socket(socket.AF_UNIX)
            server.bind(str(path))
            server.close()
        case "broken link":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(path)
        case "text":
            path.write_text("no picture")
    with pytest.raises(DataError, match="expected an image in"):
        read_images(root, "test")
    db = tmp_path / "new.duckdb"
    result = run(
        *("collect", "--network", "AlexNet", "--weights", "random", "--mean", "0,0,0"),
        *("--std", "1,1,1", "--dataset", root, "--calibration-dataset", root, "--db", db),
    )
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("ptqdb: expected an image in")
    assert "new\\nline.png" in result.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["test-0.parquet", "a.npz", "study.toml", "fit.json"])
def test_nobody_waits_for_a_pipe(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    readers: dict[str, Callable[[], object]] = {
        ".parquet": lambda: read_images(tmp_path, "test"),
        ".npz": lambda: read_images(path, "test"),
        ".toml": lambda: read_study_file(path),
        ".json": lambda: ptqdb.load_fits(path),
    }
    with pytest.raises(PtqdbError, match=name):
        readers[path.suffix]()
