"""Study files: what they declare, and what is said of faulty ones."""

import re
from pathlib import Path
from textwrap import indent

import pytest

import ptqdb.collection.study_file
from ptqdb.collection.declaration import DatasetEntry, NetworkEntry, StudyDeclaration
from ptqdb.collection.study_file import read_study_file
from ptqdb.errors import UsageError
from ptqdb.quantization.formats import STUDY_FORMATS, match_formats

SMALLEST = """
[dataset.toy]
path = "toy"
[[network]]
spec = "AlexNet"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    documentation = ptqdb.collection.study_file.__doc__ or ""
    example = re.search(r"code-block:: toml\n\n(.*?)\n\nPaths are", documentation, re.DOTALL)
    assert example
    path = written(tmp_path, re.sub(r"^    ", "", example[1], flags=re.MULTILINE))
    (tmp_path / "gptq4.safetensors").touch()
    study = read_study_file(path)
    cifar10 = DatasetEntry(
        "cifar10",
        str(tmp_path / "images" / "cifar10"),
        images=2000,
        calibration=512,
        image_column="img",
        label_column="label",
    )
    flowers = DatasetEntry(
        "flowers",
        str(tmp_path / "flowers" / "val"),
        calibration_path=str(tmp_path / "flowers" / "train"),
        split="validation",
        channels=3,
    )
    fashion = DatasetEntry(
        "fashion", "torchvision:FashionMNIST", root=tmp_path / "images", download=True
    )
    assert study == StudyDeclaration(
        (cifar10, flowers, fashion),
        (
            NetworkEntry("torchvision:resnet18", "flowers", weights="DEFAULT"),
            NetworkEntry(
                f"{tmp_path}/models.py:ResNet20",
                "cifar10",
                checkpoint=tmp_path / "resnet20.safetensors",
                name="ResNet_20",
                architecture="ResNet",
                mean=(0.4914, 0.4822, 0.4465),
                std=(0.247, 0.2435, 0.2616),
                resize=32,
                crop=32,
                interpolation="bilinear",
                quantized=(("gptq4", tmp_path / "gptq4.safetensors"),),
            ),
            NetworkEntry(
                "timm:vit_tiny_patch16_224", "fashion", weights="random", class_count=10, seed=1
            ),
        ),
        number_formats=match_formats("INT_*, FLOAT_8_*"),
        scopes=("weight", "bias"),
        until=0.005,
        sensitivity=True,
    )
    assert study.dataset_of(study.networks[0]) == flowers
    assert study.dataset_of(study.networks[1]) == cifar10


def test_the_page_shows_the_same_example() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/study-file.md").read_text("utf-8")
    shown = re.search(r"```toml\n(.*?)\n```", page, re.DOTALL)
    assert shown
    assert indent(shown[1], "    ") in (ptqdb.collection.study_file.__doc__ or "")


def test_most_may_be_left_out(tmp_path: Path) -> None:
    study = read_study_file(written(tmp_path, SMALLEST))
    assert study == StudyDeclaration(
        (DatasetEntry("toy", str(tmp_path / "toy")),),
        (NetworkEntry("AlexNet", "toy"),),
    )
    assert (study.number_formats, study.scopes) == (STUDY_FORMATS, ())
    assert (study.device, study.precision, study.until) == ("cpu", "auto", None)
    assert not study.sensitivity


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("images/toy", "{folder}/images/toy"),
        ("../toy/*.parquet", "{folder}/../toy/*.parquet"),
        ("/data/toy", "/data/toy"),
        ("torchvision:CIFAR10", "torchvision:CIFAR10"),
        ("hf://datasets/owner/name", "hf://datasets/owner/name"),
    ],
)
def test_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    written(tmp_path, SMALLEST.replace('"toy"', f'"{given}"'))
    monkeypatch.chdir(tmp_path)
    found = read_study_file(Path("study.toml")).datasets[0].path
    assert found == expected.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("torchvision:resnet18", "torchvision:resnet18"),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("package.module:Network", "package.module:Network"),
        ("nets/mine.py:Network", "{folder}/nets/mine.py:Network"),
        ("/nets/mine.py:Network", "/nets/mine.py:Network"),
        ("trained.safetensors", "{folder}/trained.safetensors"),
        ("absent.safetensors", "absent.safetensors"),
    ],
)
def test_the_file_of_a_network_is_relative_too(tmp_path: Path, given: str, expected: str) -> None:
    (tmp_path / "trained.safetensors").touch()
    study = read_study_file(written(tmp_path, SMALLEST.replace("AlexNet", given)))
    assert study.networks[0].spec == expected.format(folder=tmp_path)


TWO_DATASETS = SMALLEST + '[dataset.other]\npath = "other"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"study\.toml: expected a table \[dataset\.NAME\] with a path, found none"),
        ("[dataset.toy]\npath = 'toy'\n", r"expected a table \[\[network\]\] with a spec"),
        ("a = 1\nb = = 2\n", r"study\.toml: expected TOML, found: .*line 2"),
        (SMALLEST + "[dataset.toy]\n", r"expected TOML, found: .*line 6"),
        ("number_format = '*'\n" + SMALLEST, "key 'number_format'; did you mean 'number_formats'"),
        ("[datasets.toy]\npath = 'toy'\n", r"key 'datasets'; did you mean 'dataset'"),
        (
            SMALLEST + "chekpoint = 'a'\n",
            r"study\.toml: \[\[network\]\] 1 \(AlexNet\): unknown key 'chekpoint'; did you mean "
            r"'checkpoint'\? Valid are checkpoint, ",
        ),
        (SMALLEST.replace("path", "paht"), r"\[dataset\.toy\]: unknown key 'paht'.* mean 'path'"),
        (SMALLEST.replace("spec = ", "name = "), r"\[\[network\]\] 1: expected the key spec"),
        (SMALLEST.replace('"toy"', "3"), r"\[dataset\.toy\]: path: expected a text, found 3"),
        (SMALLEST.replace('"toy"', '" "'), "path: expected a text, found ' '"),
        (SMALLEST.replace("[[network]]", "[network]"), r"tables \[\[network\]\] in double"),
        ("dataset = 'toy'\n", r"tables \[dataset\.NAME\], found 'toy'"),
        ("[dataset]\npath = 'toy'\n", r"expected the table \[dataset\.path\], found 'toy'"),
        ("scopes = ['weights']\n" + SMALLEST, "scopes: expected one of weight, .*found 'weights'"),
        ("scopes = 'weight'\n" + SMALLEST, "scopes: expected a list of texts, found 'weight'"),
        ("precision = 'half'\n" + SMALLEST, "precision: expected one of .*found 'half'"),
        ("until = 0\n" + SMALLEST, "until: expected a number between 0 and 1, found 0"),
        ("until = 1.0\n" + SMALLEST, "until: expected a number between 0 and 1, found 1.0"),
        ("until = nan\n" + SMALLEST, "until: expected a number between 0 and 1, found nan"),
        ("until = '1 %'\n" + SMALLEST, "until: expected a number between 0 and 1, found '1 %'"),
        ("device = 0\n" + SMALLEST, "device: expected a text, found 0"),
        ("number_formats = 'INT_99'\n" + SMALLEST, r"number_formats: .*'INT_99'.*closest are INT_"),
        (SMALLEST + "dataset = 'tyo'\n", "dataset: expected one of toy, found 'tyo'"),
        (TWO_DATASETS, r"1 \(AlexNet\): dataset: expected one of toy, other, found none"),
        (SMALLEST + "checkpoint = 'a'\nweights = 'b'\n", r"\(a file\) or weights .* found both"),
        (SMALLEST + "mean = [0.5]\n", "expected mean and std, found mean without std"),
        (SMALLEST + "std = [0.5]\n", "found std without mean"),
        (SMALLEST + "mean = [0.5]\nstd = [1, 2, 3]\n", "std: expected 1 numbers as in mean, found"),
        (SMALLEST + "mean = [0.5]\nstd = [0]\n", "std: expected numbers above 0, found 0"),
        (SMALLEST + "mean = 0.5\nstd = [1]\n", "mean: expected a list of one number per channel"),
        (SMALLEST + "mean = []\nstd = []\n", r"mean: .*found \[\]"),
        (SMALLEST + "mean = [true]\nstd = [1]\n", r"mean: .*found \[True\]"),
        (SMALLEST + "mean = [nan]\nstd = [1]\n", r"mean: .*found \[nan\]"),
        (SMALLEST + "resize = 0\n", "resize: expected a whole number, 1 to 16384, found 0"),
        (SMALLEST + "crop = 2.5\n", "crop: expected a whole number, 1 to 16384, found 2.5"),
        (SMALLEST + "crop = true\n", "crop: expected a whole number, 1 to 16384, found True"),
        (SMALLEST + "interpolation = 'cubic'\n", "interpolation: .* of bicubic, .*'cubic'"),
        ("[dataset.toy]\npath = 'toy'\nimages = -1\n", "images: expected a whole number"),
        ("[dataset.toy]\npath = 'toy'\nchannels = 2\n", "channels: expected one of 1, 3, found 2"),
        (
            SMALLEST + "name = 'a'\n[[network]]\nspec = 'VGG_16'\nname = 'a'\n",
            "a name of its own for each network, found 'a' twice",
        ),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        read_study_file(written(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_missing_and_unreadable_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"found no file .*study\.toml"):
        read_study_file(tmp_path / "study.toml")
    with pytest.raises(UsageError, match="directory"):
        read_study_file(tmp_path)
    (tmp_path / "study.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="in UTF-8"):
        read_study_file(tmp_path / "study.toml")


def test_a_function_is_beside_the_file(tmp_path: Path) -> None:
    """Paths are relative to the file, also that of a user's own function."""
    (tmp_path / "mine.py").write_text("def halves(x):\n    return (2 * x).round() / 2\n")
    study = read_study_file(written(tmp_path, "number_formats = 'mine.py:halves'\n" + SMALLEST))
    assert [known.name for known in study.number_formats] == ["halves"]
    missing = written(tmp_path, "number_formats = 'mien.py:halves'\n" + SMALLEST)
    with pytest.raises(UsageError, match=r"^[^:]+: number_formats: no file .*mien\.py"):
        read_study_file(missing)
