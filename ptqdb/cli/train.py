"""``ptqdb train``: train reference networks; a stopped training goes on where it was."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.output import say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb train AlexNet --width 0.5 --dataset cifar10 -o runs`")(
        train
    )


def train(
    networks: Annotated[list[str], typer.Argument(help="Names of reference networks.")],
    dataset: Annotated[
        Path,
        typer.Option(help="Folder with `train-*.parquet`, and `test-*.parquet` to tell how good."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for checkpoints, logs and states.")
    ] = Path("runs"),
    width: Annotated[float, typer.Option(help="Factor on every hidden channel count.")] = 1.0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At the end of the warm-up.")] = None,
    seed: Annotated[int, typer.Option(help="Decides weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Train reference networks on labelled images.

    Each has settings of its own, which the options override. A stopped training goes on
    where it was, to the bit.
    """
    from ptqdb.cli.progress import training_progress
    from ptqdb.datasets import read_parquet
    from ptqdb.networks import reference_network
    from ptqdb.training import SETTINGS, Training, accuracy

    names = [reference_network(name).name for name in networks]
    images = read_parquet(dataset, "train")
    test_images = read_parquet(dataset, "test") if any(dataset.glob("test-*.parquet")) else None
    for name in names:
        default = SETTINGS[name]
        settings = replace(
            default,
            epochs=epochs or default.epochs,
            batch_size=batch_size or default.batch_size,
            peak_learning_rate=learning_rate or default.peak_learning_rate,
            seed=seed,
        )
        training = Training(name, images, output, settings, width=width, device=device)
        with training_progress(name, training.step_count) as tell:
            path = training.run(tell)
        result = f"{path}: trained in {training.elapsed_s:.0f} s"
        if test_images is not None:
            result += f", test accuracy {accuracy(training.module, test_images):.2%}"
        say(result)
