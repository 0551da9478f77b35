"""Rounding beside a plain copy, and the facts that one format of a large network takes."""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from workload import interleaved_medians, progress, random_images, random_network, seconds_of

from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.quantization.formats import study_format
from ptqdb.quantization.number_formats import NumberFormat, number_format
from ptqdb.quantization.rounding import scaled_codes
from ptqdb.quantization.scales import compute_scale

ELEMENT_COUNT = 4_000_000
ROUNDED = ("INT_8", "INT_4", "INT_16", "POT_4", "POT_8", "FLOAT_8_E4", "FLOAT_6_E3", "FLOAT_4_E2")
FAKE_QUANTIZE, COPY = "torch's fake_quantize", "copy"
MEASURED = ("INT_8", "INT_16", "POT_5", "FLOAT_8_E4", "FLOAT_6_E3")
FACTS_NETWORK = "VGG_16"
CALIBRATION_COUNT = 16


def rounding_speeds(repeats: int) -> dict[str, float]:
    """Speed over a plain copy's of dividing by the scale and rounding, into a kept buffer.

    Of each format, and of torch's ``fake_quantize``, which puts out a tensor of its own.
    """
    progress("rounding of 4 M floats")
    values = torch.randn(ELEMENT_COUNT, generator=torch.Generator().manual_seed(0))
    buffer = torch.empty_like(values)
    max_abs = values.abs().amax()

    def rounding(known: NumberFormat) -> Callable[[], object]:
        scale = compute_scale(max_abs, known)
        return lambda: scaled_codes(values, scale, known, out=buffer)

    step = float(max_abs) / 127
    works: dict[str, Callable[[], object]] = {COPY: lambda: buffer.copy_(values)}
    works |= {name: rounding(number_format(name)) for name in ROUNDED}
    works[FAKE_QUANTIZE] = lambda: torch.fake_quantize_per_tensor_affine(values, step, 0, -127, 127)
    with torch.inference_mode():
        taken = interleaved_medians(works, repeats * 20)
    return {name: taken[COPY] / seconds for name, seconds in taken.items() if name != COPY}


def facts_seconds(repeats: int) -> dict[str, float]:
    """Seconds that a format's codes and facts of all tensors of VGG_16 take, at full width."""
    progress(f"facts of a format of {FACTS_NETWORK}")
    formats = [study_format(name) for name in MEASURED]
    measurement = NetworkMeasurement(
        random_network(FACTS_NETWORK).load(),
        random_images(CALIBRATION_COUNT, "train"),
        formats,
        device=torch.device("cpu"),
    )

    def measured(known: NumberFormat) -> None:
        measurement.facts_without_codes(known)

    measured(formats[0])
    taken: dict[str, list[float]] = {name: [] for name in MEASURED}
    for _ in range(repeats):
        for known in formats:
            taken[known.name].append(seconds_of(partial(measured, known)))
    return {name: statistics.median(values) for name, values in taken.items()}
