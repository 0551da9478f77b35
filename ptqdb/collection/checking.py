"""Whether a network and its images belong together, asked before the first cell is filled."""

from dataclasses import replace

import torch
from torch import Tensor

from ptqdb.collection.evaluation import Batches
from ptqdb.collection.plan import NetworkTask
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
    mean, std = preprocessing.mean, preprocessing.std
    example, other = (
        Batches(images, mean, std, torch.device("cpu")).head()
        for images in (task.images, task.calibration)
    )
    if other.shape != example.shape:
        raise DataError(
            f"expected calibration images of {_size(example)} pixels as in {task.images.name} "
            f"{task.images.split}, found {_size(other)} in {task.calibration.name} "
            f"{task.calibration.split}; give --resize or --crop"
        )
    outputs = check_outputs(task.source.load(), example)
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


def _size(example: Tensor) -> str:
    """Width and height of an image."""
    return f"{example.shape[3]} x {example.shape[2]}"
