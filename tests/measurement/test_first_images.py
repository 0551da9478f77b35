"""Evaluations of the first images: their order, and when they are enough."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import pictures
from torch import Tensor, nn

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.measurement import evaluation as evaluating
from ptqdb.measurement.batches import Batches
from ptqdb.measurement.evaluation import NetworkEvaluation, compute_logits
from ptqdb.measurement.facts import EvaluationFacts
from ptqdb.measurement.first_images import (
    LEAST_IMAGES,
    accuracy_loss_se,
    image_order,
    image_stride,
    is_enough,
)
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.networks.sources import network_source
from ptqdb.quantization.formats import study_format

COUNT = 1200
CPU = torch.device("cpu")


@given(st.integers(1, 3000))
def test_every_image_has_one_place(count: int) -> None:
    assert sorted(image_order(count).tolist()) == list(range(count))
    assert math.gcd(image_stride(count), count) == 1


@pytest.mark.parametrize(("count", "class_count"), [(2000, 10), (10_000, 10), (50_000, 1000)])
def test_a_prefix_stands_for_images_sorted_by_class_or_dealt_out(
    count: int, class_count: int
) -> None:
    order = image_order(count)
    per_class = count // class_count
    for labels in (order // per_class, order % class_count):
        for first in (class_count, 500, 777, count // 3):
            counts = torch.bincount(labels[:first], minlength=class_count)
            assert (counts - first / class_count).abs().max() < 4, (first, counts)


@pytest.mark.parametrize(
    ("images", "correct", "float_correct", "both", "until", "enough"),
    [
        # 400 right in floating point, 396 here, 396 of them both times: 4 flips, an error of
        # sqrt(396 / 400 * 4) / 400 = 0.004975
        (500, 396, 400, 396, 0.005, True),
        (500, 396, 400, 396, 0.0049, False),
        (499, 396, 400, 396, 0.005, False),
        # a loss of 0.9, known to sqrt(40 / 400 * 380) / 400 = 0.0154: less than 0.045
        (500, 40, 400, 30, 0.005, True),
        # a gain of 0.2, known to sqrt(1.2 * 80) / 400 = 0.0245: more than 0.01
        (500, 480, 400, 400, 0.005, False),
        # a gain of 0.5, known to sqrt(1.5 * 5000) / 10000 = 0.0087: less than 0.025
        (50_000, 15_000, 10_000, 10_000, 0.005, True),
        # nothing flipped, which Wilson's bound allows to be an error of 1.645 / 400 = 0.0041
        (500, 400, 400, 400, 0.0042, True),
        (500, 400, 400, 400, 0.0041, False),
        (500, 10, 0, 0, 0.5, False),
    ],
)
def test_an_error_is_small_enough(
    images: int, correct: int, float_correct: int, both: int, until: float, enough: bool
) -> None:
    assert is_enough(images, correct, float_correct, both, until) is enough


def test_the_error_without_a_correct_image_is_unknown() -> None:
    assert accuracy_loss_se(3, 0, 0) == math.inf


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()


Evaluated = tuple[NetworkMeasurement, NetworkEvaluation]


@pytest.fixture(scope="module")
def evaluated() -> Evaluated:
    fed = Preprocessing((0.5,), (0.25,))
    trained = network_source(network(), name="net", mean=(0.5,), std=(0.25,)).load()
    formats = [study_format(name) for name in ("INT_2", "INT_6")]
    measurement = NetworkMeasurement(trained, pictures(8, "train"), formats, device=CPU)
    shown = pictures(COUNT)
    return measurement, NetworkEvaluation(measurement.network, shown, fed, device=CPU)


def of(evaluated: Evaluated, name: str, until: float | None) -> EvaluationFacts:
    measurement, evaluation = evaluated
    known = study_format(name)
    found = evaluation.of_codes(measurement.code(known), known, "all", until)
    assert isinstance(found, EvaluationFacts)
    return found


def counts(facts: EvaluationFacts, floats: EvaluationFacts) -> dict[str, int]:
    first = floats.correct_images[: facts.image_count]
    pairs = list(zip(facts.correct_images, first, strict=True))
    return {
        "correct": sum(one == "1" for one, _ in pairs),
        "float_correct": sum(one == "1" for _, one in pairs),
        "correct_both": sum(pair == ("1", "1") for pair in pairs),
    }


@pytest.mark.parametrize(("name", "until"), [("INT_6", 0.03), ("INT_2", 0.08)])
def test_an_evaluation_stops_at_the_first_look_that_is_enough(
    evaluated: Evaluated, name: str, until: float
) -> None:
    whole, stopped = of(evaluated, name, None), of(evaluated, name, until)
    floats = evaluated[1].of_float()
    assert LEAST_IMAGES <= stopped.image_count < whole.image_count == COUNT
    # What is seen is what all images show first, to the bit.
    assert whole.correct_images.startswith(stopped.correct_images)
    assert whole.same_images.startswith(stopped.same_images)
    found = counts(stopped, floats)
    assert stopped.correct_top1 == found["correct"]
    assert stopped.correct_both == found["correct_both"]
    assert stopped.same_prediction == stopped.same_images.count("1")
    assert is_enough(stopped.image_count, **found, until=until)


def test_looks_grow_and_end_with_the_images(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def never(image_count: int, *_: float) -> bool:
        looks.append(image_count)
        return False

    monkeypatch.setattr(evaluating, "is_enough", never)
    assert of(evaluated, "INT_2", 0.001).image_count == COUNT
    # Batches of 120: 1200 in ten.
    assert looks == [600, 840, 1080]


def test_evaluations_take_the_images_in_their_order(evaluated: Evaluated) -> None:
    """Bit p is that of the image at place p; the float network has each of its own."""
    floats = evaluated[1].of_float()
    shown = pictures(COUNT)
    batches = Batches(shown, (0.5,), (0.25,), CPU)
    predictions = compute_logits(network(), batches).argmax(1)
    right = (predictions == shown.known_labels())[image_order(COUNT)]
    assert floats.correct_images == "".join(str(int(one)) for one in right)
    assert floats.same_images == "1" * COUNT
    assert 0.1 < floats.correct_top1 / COUNT < 0.9


def test_batches_in_an_order(evaluated: Evaluated) -> None:
    pixels = torch.arange(10, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    images = ImageSet("toy", "test", pixels, torch.zeros(10, dtype=torch.int64), ("a", "b"))
    order = image_order(10)
    batches = Batches(images, (0.0,), (1.0,), CPU, size=4, order=order)
    assert [len(batch) for batch in batches] == [4, 3, 3]
    found: Tensor = torch.cat(list(batches)).flatten() * 255
    assert found.round().to(torch.int64).tolist() == order.tolist()
    assert batches.head(2).flatten().tolist() == pytest.approx([0, 1 / 255])


def test_cells_are_compared_with_the_float_network_that_is_stored(evaluated: Evaluated) -> None:
    evaluation = evaluated[1]
    floats = evaluation.of_float()
    before = of(evaluated, "INT_6", None)
    place = next(
        i
        for i, pair in enumerate(zip(floats.correct_images, before.correct_images, strict=True))
        if pair == ("1", "1")
    )
    other = floats.correct_images[:place] + "0" + floats.correct_images[place + 1 :]
    try:
        evaluation.compare_with(other)
        after = of(evaluated, "INT_6", None)
    finally:
        evaluation.compare_with(floats.correct_images)
    assert after.correct_both == before.correct_both - 1
    assert (after.correct_images, after.same_images) == (before.correct_images, before.same_images)
