"""Whether a network and its images belong together, asked before the first cell is filled."""

from dataclasses import replace

import torch

from ptqdb.collection.plan import NetworkTask
from ptqdb.datasets import normalized
from ptqdb.errors import DataError
from ptqdb.networks.outputs import check_outputs


def checked(task: NetworkTask) -> NetworkTask:
    """The task, with as many classes as the network has outputs.

    Images whose classes are only numbers get as many as the network tells apart: the first
    images of a file need not show every class.

    Raises
    ------
    DataError
        The network cannot be loaded, does not take such images, or has another number of
        outputs than the images have classes.
    UsageError
        Nobody says how the network is fed.
    """
    preprocessing = task.source.known_preprocessing()
    shape = tuple(task.images.images.shape[1:])
    for images in (task.images, task.calibration):
        found = images.images.shape[1:]
        if found[0] != preprocessing.channel_count:
            raise DataError(
                f"expected images of {preprocessing.channel_count} channels, as many as --mean "
                f"and --std have, found {found[0]} in {images.name} {images.split}"
            )
        if tuple(found) != shape:
            raise DataError(
                f"expected calibration images of {shape[2]} x {shape[1]} pixels as in "
                f"{task.images.name} {task.images.split}, found {found[2]} x {found[1]} in "
                f"{images.name} {images.split}; give --resize or --crop"
            )
    trained = task.source.load()
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    outputs = check_outputs(trained, normalized(task.images.images[:1], mean, std))
    try:
        return replace(
            task,
            images=task.images.with_class_count(outputs),
            calibration=task.calibration.with_class_count(outputs),
        )
    except DataError as error:
        raise DataError(
            f"expected as many outputs of {task.name} as the images have classes, found {outputs}: "
            f"{error}; give a network trained on these classes, or another --dataset"
        ) from error
