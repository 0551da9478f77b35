"""Runs one collection, or the float network alone, and prints its seconds and peak memory.

A process of its own for each, since the peak of a process never falls.
"""

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from workload import (
    MEAN,
    STD,
    evenly_chosen,
    random_images,
    random_network,
    request_of,
    seconds_of,
)

from ptqdb.collection.reporting import Silent
from ptqdb.collection.sweep import collect
from ptqdb.measurement.batches import Batches
from ptqdb.networks.sources import NetworkSource, network_source

BYTES_PER_KB = 1024


def peak_bytes() -> int:
    """The most memory that the process held.

    Not ``ru_maxrss`` where the kernel tells better: a child begins with its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * BYTES_PER_KB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * BYTES_PER_KB


def layer_bytes(module: nn.Module, batch: Tensor) -> int:
    """What one layer reads and puts out of a batch, of the layer where that is most."""
    most = 0

    def look(_: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        nonlocal most
        most = max(most, outputs.nbytes + sum(each.nbytes for each in inputs))

    hooks = [each.register_forward_hook(look) for each in module.modules()]
    module(batch)
    for hook in hooks:
        hook.remove()
    return most


def source_of(name: str, width: float, seed: int) -> NetworkSource:
    """The network; at full width without a copy that is kept, as one from a file has none."""
    if width != 1.0:
        return random_network(name, width=width, seed=seed)
    return network_source(name, weights="random", mean=MEAN, std=STD, seed=seed)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--networks", type=int, default=1, help="so many, of other weights")
    parser.add_argument("--formats", type=int, default=43, help="0: the float network alone")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--calibration", type=int, default=100)
    asked = parser.parse_args()
    sources = [source_of(asked.network, asked.width, seed) for seed in range(asked.networks)]
    seconds, batch_bytes = 0.0, 0
    if asked.formats:
        request = request_of(sources, evenly_chosen(asked.formats), asked.images, asked.calibration)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "child.duckdb"
            outcomes = []
            seconds = seconds_of(lambda: outcomes.append(collect(request, path, Silent())))
        assert not outcomes[0].failures, outcomes[0].failures
    else:
        module = sources[0].load().module.to(memory_format=torch.channels_last)
        images, cpu = random_images(asked.images, "test"), torch.device("cpu")
        batches = Batches(images, MEAN, STD, cpu, memory_format=torch.channels_last)
        with torch.inference_mode():
            for batch in batches:
                batch_bytes = max(batch_bytes, layer_bytes(module, batch))
    peak = peak_bytes()
    parameters = sources[0].load().module.parameters()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    found = {"seconds": seconds, "peak_bytes": peak, "weight_bytes": weights}
    found["batch_bytes"] = batch_bytes
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
