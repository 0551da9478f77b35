"""Trainings in a folder: what is finished stays, what is stopped resumes, what is refused."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from running import Run, runner

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.parquet import cut
from ptqdb.errors import DataError, MismatchError, UsageError
from ptqdb.networks.checkpoints import NetworkDescription, read_description, save_checkpoint
from ptqdb.networks.reference import reference_network
from ptqdb.networks.training import Training, TrainingProgress
from ptqdb.networks.training_settings import TrainingSettings, learning_rate
from ptqdb.networks.trainings import TrainedReference, run_trainings
from ptqdb.resources import data_folder

SMALL = TrainingSettings(epochs=2, batch_size=8, peak_learning_rate=0.02)
WIDTH = 0.0625


def images(count: int = 32, edge: int = 32) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, edge, edge), generator=generator, dtype=torch.uint8)
    return ImageSet("toy", "train", pixels, torch.arange(count) % 2, ("even", "odd"))


IMAGES = images()


def trainings(
    folder: Path, *names: str, settings: TrainingSettings = SMALL, shown: ImageSet = IMAGES
) -> list[Training]:
    return [Training(name, shown, folder, settings, width=WIDTH) for name in names]


class Steps:
    """Notes the steps of each training; at one of them, Ctrl-C is pressed."""

    def __init__(self, stop_at: tuple[str, int] | None = None):
        self.done: list[tuple[str, int]] = []
        self.stop_at = stop_at

    @contextmanager
    def __call__(self, name: str, _: int) -> Iterator[Callable[[TrainingProgress], None]]:
        def tell(progress: TrainingProgress) -> None:
            self.done.append((name, progress.step))
            if self.done[-1] == self.stop_at:
                signal.raise_signal(signal.SIGINT)

        yield tell


def weights(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks that were trained without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    assert len(list(run_trainings(trainings(folder, "AlexNet_BN", "AlexNet"), Steps()))) == 2
    return folder


# --- what is there already -------------------------------------------------------------------


def test_what_is_finished_is_not_trained_again(whole: Path) -> None:
    steps, before = Steps(), weights(whole)
    found = list(
        run_trainings(trainings(whole, "AlexNet", "AlexNet_BN"), steps, test_images=IMAGES)
    )
    assert [(one.name, one.seconds) for one in found] == [("AlexNet", None), ("AlexNet_BN", None)]
    assert all(one.accuracy is not None and 0 <= one.accuracy <= 1 for one in found)
    assert steps.done == []
    assert weights(whole) == before


def test_a_training_alone_overwrites_nothing_either(whole: Path) -> None:
    before = weights(whole)
    (training,) = trainings(whole, "AlexNet")
    with pytest.raises(MismatchError, match=r"expected no weights at .*AlexNet.safetensors yet"):
        training.run(lambda _: None)
    assert weights(whole) == before


@pytest.mark.parametrize(
    ("settings", "shown", "said"),
    [
        (TrainingSettings(epochs=3, batch_size=8, peak_learning_rate=0.02), IMAGES, "epochs 2 in"),
        (TrainingSettings(epochs=2, batch_size=8, peak_learning_rate=0.2), IMAGES, "rate 0.02 in"),
        (TrainingSettings(2, 8, 0.02, seed=1), IMAGES, "has seed 0 instead of 1: give"),
        (SMALL, images(40), "has other images: give"),
    ],
)
def test_weights_of_another_training_are_refused_and_stay(
    whole: Path, settings: TrainingSettings, shown: ImageSet, said: str
) -> None:
    steps, before = Steps(), weights(whole)
    asked = trainings(whole, "MobileNetV2", "AlexNet", settings=settings, shown=shown)
    with pytest.raises(MismatchError, match=f"{said}.*replace"):
        list(run_trainings(asked, steps))
    assert steps.done == []  # not even of the network that could be trained
    assert weights(whole) == before


def test_another_width_is_named(whole: Path) -> None:
    wider = Training("AlexNet", IMAGES, whole, SMALL, width=0.125)
    with pytest.raises(MismatchError, match=r"has width 0\.0625 instead of 0\.125"):
        wider.is_finished()


def test_weights_that_do_not_say_how_they_were_trained_are_only_replaced(tmp_path: Path) -> None:
    """As those that travel with ptqdb."""
    path = tmp_path / "AlexNet.safetensors"
    description = NetworkDescription("AlexNet", WIDTH, 2, (0.5,) * 3, (0.25,) * 3)
    save_checkpoint(
        path, description, dict(reference_network("AlexNet").build(WIDTH, 2).state_dict())
    )
    before = path.read_bytes()
    with pytest.raises(MismatchError, match=r"does not say how it was trained.*replace"):
        list(run_trainings(trainings(tmp_path, "AlexNet"), Steps()))
    assert path.read_bytes() == before
    (found,) = run_trainings(trainings(tmp_path, "AlexNet"), Steps(), anew=True)
    assert found.seconds is not None
    told = read_description(path)
    assert told is not None
    assert told.training is not None
    assert told.training["images"] == IMAGES.content_sha256


def test_a_damaged_checkpoint_is_only_replaced(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "AlexNet.safetensors"
    path.write_bytes(b"{" * 100)
    with pytest.raises(MismatchError, match=r"found .*AlexNet.safetensors.*replace"):
        list(run_trainings(trainings(tmp_path, "AlexNet"), Steps()))
    list(run_trainings(trainings(tmp_path, "AlexNet"), Steps(), anew=True))
    assert path.read_bytes() == weights(whole)["AlexNet"]


# --- stops -----------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_state_and_the_unfinished_network_resumes(
    tmp_path: Path, whole: Path
) -> None:
    first = Steps(stop_at=("AlexNet", 3))
    found: list[TrainedReference] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(run_trainings(trainings(tmp_path, "AlexNet_BN", "AlexNet"), first))
    assert (tmp_path / "AlexNet.state").exists()
    second = Steps()
    found = list(run_trainings(trainings(tmp_path, "AlexNet_BN", "AlexNet"), second))
    assert [(one.name, one.seconds is None) for one in found] == [
        ("AlexNet_BN", True),
        ("AlexNet", False),
    ]
    assert second.done == [("AlexNet", step) for step in range(4, 9)]
    assert weights(tmp_path) == weights(whole)
    assert (
        sorted(path.suffix for path in tmp_path.iterdir())
        == [".parquet"] * 2 + [".safetensors"] * 2
    )


def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (training,) = trainings(tmp_path, "AlexNet_BN")
    step = training._train_step

    def pressed(*arguments: torch.Tensor) -> float:
        hook = torch.nn.modules.module.register_module_forward_hook(
            lambda *_: signal.raise_signal(signal.SIGINT) if training.step == 3 else None
        )
        try:
            return step(*arguments)
        finally:
            hook.remove()

    monkeypatch.setattr(training, "_train_step", pressed)
    with pytest.raises(KeyboardInterrupt):
        training.run(lambda _: None)
    assert training.step == 4
    steps = Steps()
    list(run_trainings(trainings(tmp_path, "AlexNet_BN"), steps))
    assert steps.done[0] == ("AlexNet_BN", 5)
    assert weights(tmp_path)["AlexNet_BN"] == weights(whole)["AlexNet_BN"]


def test_a_replacing_that_was_stopped_resumes_too(tmp_path: Path, whole: Path) -> None:
    other = TrainingSettings(2, 8, 0.02, seed=1)
    names = ("AlexNet_BN", "AlexNet")
    list(run_trainings(trainings(tmp_path, *names, settings=other), Steps()))
    with pytest.raises(KeyboardInterrupt):
        list(run_trainings(trainings(tmp_path, *names), Steps(stop_at=("AlexNet", 3)), anew=True))
    before = weights(tmp_path)
    assert before["AlexNet_BN"] == weights(whole)["AlexNet_BN"]
    assert before["AlexNet"] != weights(whole)["AlexNet"]
    steps = Steps()
    list(run_trainings(trainings(tmp_path, *names), steps, anew=True))
    assert steps.done == [("AlexNet", step) for step in range(4, 9)]
    assert weights(tmp_path) == weights(whole)
    # Nothing is left to resume: now all is trained anew.
    again = Steps()
    list(run_trainings(trainings(tmp_path, *names), again, anew=True))
    assert len(again.done) == 16


def test_a_state_of_another_training_or_of_none_is_only_replaced(
    tmp_path: Path, whole: Path
) -> None:
    other = TrainingSettings(2, 8, 0.02, seed=1)
    with pytest.raises(KeyboardInterrupt):
        list(run_trainings(trainings(tmp_path, "AlexNet", settings=other), Steps(("AlexNet", 1))))
    with pytest.raises(MismatchError, match=r"begun in .*AlexNet.state has seed 1 instead of 0"):
        list(run_trainings(trainings(tmp_path, "AlexNet"), Steps()))
    (tmp_path / "AlexNet.state").write_bytes(b"not a state")
    with pytest.raises(DataError, match=r"AlexNet\.state.*replace"):
        list(run_trainings(trainings(tmp_path, "AlexNet"), Steps()))
    list(run_trainings(trainings(tmp_path, "AlexNet"), Steps(), anew=True))
    assert weights(tmp_path)["AlexNet"] == weights(whole)["AlexNet"]


# --- what is refused before anything begins --------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 0},
        {"epochs": -3},
        {"batch_size": 0},
        {"peak_learning_rate": 0.0},
        {"peak_learning_rate": -0.1},
        {"peak_learning_rate": float("nan")},
        {"peak_learning_rate": float("inf")},
        {"peak_learning_rate": 1e6},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_numbers_beyond_their_bounds(given: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"^expected a .* from \S+ to \S+, found \S+$"):
        TrainingSettings(**({"epochs": 2} | given))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_widths_beyond_their_bounds(tmp_path: Path, width: float) -> None:
    with pytest.raises(UsageError, match=r"expected a width from 0\.001 to 16, found"):
        Training("AlexNet", IMAGES, tmp_path, SMALL, width=width)


def test_a_network_that_memory_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqdb.networks.training_settings._physical_memory", lambda: 10_000_000)
    with pytest.raises(
        UsageError, match="AlexNet of width 1 has 4 million params, which take 0 GB"
    ):
        Training("AlexNet", IMAGES, tmp_path, SMALL)


def test_images_that_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="up to the number of training images, 32, found 33"):
        Training("AlexNet", IMAGES, tmp_path, TrainingSettings(epochs=1, batch_size=33))
    with pytest.raises(DataError, match=r"3 channels and 32 x 32 pixels.*found 3 and 28 x 28"):
        Training("AlexNet", images(edge=28), tmp_path, SMALL)
    unlabelled = ImageSet("toy", "train", IMAGES.images, None, ())
    with pytest.raises(DataError, match="expected labelled images"):
        Training("AlexNet", unlabelled, tmp_path, SMALL)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(DataError, match=r"the folder .*runs cannot be created"):
        list(run_trainings(trainings(tmp_path / "runs", "AlexNet"), Steps()))


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_shorter_than_its_warm_up_reaches_the_peak_and_falls(epochs: int) -> None:
    settings = TrainingSettings(epochs=epochs, peak_learning_rate=0.5, warmup_epochs=5)
    rates = [learning_rate(settings, step, 100) for step in range(100 * epochs)]
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) == 25 * epochs - 1
    assert rates[-1] < 0.001


# --- in the shell ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 training images and 32 test images."""
    folder = tmp_path_factory.mktemp("dataset")
    for split, count in (("train", 64), ("test", 32)):
        cut(data_folder() / "embedded", split, count, folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def arguments(dataset: Path, folder: Path) -> tuple[object, ...]:
    options = ("--width", WIDTH, "--batch-size", 16, "--epochs", 2)
    return ("train", "AlexNet_BN", *options, "--dataset", dataset, "-o", folder)


def test_the_command_says_what_is_there(run: Run, dataset: Path, tmp_path: Path) -> None:
    asked = arguments(dataset, tmp_path)
    first = run(*asked)
    assert first.code == 0
    assert "AlexNet_BN.safetensors: trained in " in first.err
    again = run(*asked)
    assert again.code == 0
    told = again.err.strip().splitlines()[-1]
    assert told.startswith(f"{tmp_path / 'AlexNet_BN.safetensors'}: already trained (")
    assert told.endswith(" % on 32 test images)")
    assert told.partition("(")[2] == first.err.strip().splitlines()[-1].partition("(")[2]
    refused = run(*asked, "--seed", 1)
    assert refused.code == 2
    assert "has seed 0 instead of 1" in refused.err
    assert "trained in" in run(*asked, "--seed", 1, "--replace").err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--learning-rate", "-0.1"),
        ("--learning-rate", "nan"),
        ("--width", "1e9"),
        ("--width", "0"),
        ("--epochs", "0"),
        ("--batch-size", "0"),
        ("--seed", "-1"),
    ],
)
def test_the_command_refuses_in_one_line(
    run: Run, dataset: Path, tmp_path: Path, option: str, value: str
) -> None:
    done = run(*arguments(dataset, tmp_path / "runs"), option, value)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "expected a " in done.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_keep_the_state(
    dataset: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    options = ("--width", WIDTH, "--batch-size", 16, "--epochs", 200, "--dataset", dataset)
    asked = ("train", "AlexNet_BN", *options, "-o", tmp_path)
    command = [sys.executable, "-m", "ptqdb", *map(str, asked)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "epoch 2," not in process.stderr.readline():
            assert process.poll() is None
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.endswith("Interrupted. Run the same command again to resume.\n")
    assert "Traceback" not in err
    state = torch.load(tmp_path / "AlexNet_BN.state", weights_only=True)
    assert state["step"] >= 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["AlexNet_BN.state"]
