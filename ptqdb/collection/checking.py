"""Checks that a network and its images fit together, before the first cell is filled."""

from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from ptqdb.collection.plan import NetworkPlan
from ptqdb.errors import DataError
from ptqdb.measurement.batches import Batches
from ptqdb.measurement.macs import count_work
from ptqdb.networks.outputs import check_outputs
from ptqdb.quantization.layers import quantizable_layers


def check_plan(plan: NetworkPlan) -> NetworkPlan:
    """Return the plan if the network accepts its images and has one output per class.

    Images whose classes are plain numbers get as many classes as the network has outputs: the
    first images of a file need not contain every class. The returned plan has an estimate of the
    work, from the unprepared network.

    Raises
    ------
    DataError
        The network cannot be loaded, does not accept such images, or has a number of outputs
        other than the number of classes.
    UsageError
        The network's preprocessing is unknown.
    """
    task = plan.task
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
    trained = task.source.load()
    outputs = check_outputs(trained, example)
    try:
        task = replace(
            task,
            images=task.images.with_class_count(outputs),
            calibration=task.calibration.with_class_count(outputs),
        )
    except DataError as error:
        raise DataError(
            f"expected as many outputs of {task.name} as the images have classes, found {outputs}: "
            f"{error}; choose a network trained on these classes, or another --dataset"
        ) from error
    plan = replace(plan, task=task, work=_work(trained.module, example))
    if plan.is_new:
        plan = replace(plan, layer_count=len(quantizable_layers(trained.module)))
    return plan


def _work(module: nn.Module, example: Tensor) -> float | None:
    """The work of a network for one image; None if its own code fails under hooks."""
    with suppress(Exception, SystemExit):
        return count_work(module, example).amount
    return None


def _size(example: Tensor) -> str:
    """Width and height of an image."""
    return f"{example.shape[3]} x {example.shape[2]}"
