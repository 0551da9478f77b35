"""``ptqdb train``: train reference networks."""

from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.output import say
from ptqdb.cli.resuming import resumes


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb train AlexNet --width 0.5 --dataset cifar10 -o runs`")(
        train
    )


def train(
    context: typer.Context,
    networks: Annotated[list[str], typer.Argument(help="Names of reference networks.")],
    dataset: Annotated[
        Path,
        typer.Option(help="Folder with `train-*.parquet`, and `test-*.parquet` for the accuracy."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for checkpoints, logs and states.")
    ] = Path("runs"),
    width: Annotated[float, typer.Option(help="Factor for all hidden channel counts.")] = 1.0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At the end of the warm-up.")] = None,
    seed: Annotated[int, typer.Option(help="For weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace existing checkpoints.")
    ] = False,
) -> None:
    """Train reference networks on labelled images.

    Each network has its own settings, which the options override. Finished checkpoints with the
    same settings and images are not trained again; others are refused without --replace.
    Interrupted? Run the same command again; it resumes, with bit-identical results.
    """
    from ptqdb.cli.progress import training_progress
    from ptqdb.datasets.parquet import read_parquet
    from ptqdb.networks.devices import require_device
    from ptqdb.networks.training import Training
    from ptqdb.networks.training_settings import choose_settings
    from ptqdb.networks.trainings import run_trainings

    resumes(context)
    require_device(device)
    settings = choose_settings(
        networks,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    images = read_parquet(dataset, "train")
    test_images = read_parquet(dataset, "test") if any(dataset.glob("test-*.parquet")) else None
    trainings = [
        Training(name, images, output, chosen, width=width, device=device)
        for name, chosen in settings.items()
    ]
    for one in run_trainings(trainings, training_progress, test_images=test_images, anew=replace):
        told = "no test images"
        if one.accuracy is not None and test_images is not None:
            told = f"{one.accuracy * 100:.2f} % on {len(test_images):,} test images"
        if one.seconds is None:
            say(f"{one.path}: already trained ({told})")
        else:
            say(f"{one.path}: trained in {one.seconds:.0f} s ({told})")
