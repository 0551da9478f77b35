"""A quantized network compared with the float network on a few images, beside hand counts."""

import math

import numpy as np
import pytest
import torch
from small_networks import three_layers
from torch import Tensor

import ptqdb
from ptqdb.datasets.images import ImageSet
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.facts import EvaluationFacts, ProbeFacts
from ptqdb.measurement.first_images import image_order
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.measurement.probe import NetworkProbe, probe_facts
from ptqdb.quantization.formats import study_format

NAN, INF, CPU = math.nan, math.inf, torch.device("cpu")
INT_3 = study_format("INT_3")


def logits(*probabilities: tuple[float, ...]) -> Tensor:
    return torch.tensor(probabilities).log()


def test_sums_are_those_worked_out_by_hand() -> None:
    # Image 0 keeps its class, 1 goes to the second most likely, 2 to the least likely.
    floats = logits((0.5, 0.3, 0.2), (0.6, 0.3, 0.1), (0.2, 0.1, 0.7))
    codes = logits((0.4, 0.3, 0.3), (0.3, 0.6, 0.1), (0.2, 0.6, 0.2))
    facts = probe_facts(codes, floats, "float32")
    assert (facts.image_count, facts.same_prediction, facts.same_images) == (3, 1, "100")
    assert facts.float_probability_sum == pytest.approx(0.5 + 0.6 + 0.7)
    assert facts.chosen_probability_sum == pytest.approx(0.5 + 0.3 + 0.1)
    p, q = floats.double().exp().numpy(), codes.double().exp().numpy()
    assert facts.kl_sum == pytest.approx((p * np.log(p / q)).sum(), rel=1e-6)
    errors = np.log(q) - np.log(p)
    assert facts.logit_squared_error_sum == pytest.approx(errors.var(1).sum(), rel=1e-6)
    assert facts.float_logit_variance_sum == pytest.approx(np.log(p).var(1).sum(), rel=1e-6)
    assert (facts.kl_count, facts.logit_count, facts.non_finite_count) == (3, 3, 0)


def test_a_shift_of_all_logits_changes_nothing() -> None:
    floats = logits((0.5, 0.3, 0.2), (0.6, 0.3, 0.1))
    facts = probe_facts(floats + torch.tensor([[3.0], [-2.0]]), floats, "float32")
    assert facts.same_images == "11"
    assert facts.kl_sum == pytest.approx(0, abs=1e-6)
    assert facts.logit_squared_error_sum == pytest.approx(0, abs=1e-10)
    assert facts.chosen_probability_sum == facts.float_probability_sum


def test_an_image_without_a_prediction_is_lost() -> None:
    floats = logits((0.5, 0.3, 0.2), (0.6, 0.3, 0.1), (0.2, 0.1, 0.7))
    codes = floats.clone()
    codes[0] = NAN
    codes[1, 2] = INF
    facts = probe_facts(codes, floats, "float32")
    assert (facts.non_finite_count, facts.same_images) == (2, "001")
    assert facts.float_probability_sum == pytest.approx(1.8)
    assert facts.chosen_probability_sum == pytest.approx(0.7)
    assert (facts.kl_count, facts.logit_count) == (1, 1)


def test_masked_classes() -> None:
    """Masked in both they do not count; in one, the image is left out of the logits."""
    floats = torch.tensor([[2.0, 0.0, -INF], [2.0, 0.0, 1.0]])
    codes = torch.tensor([[1.0, 1.5, -INF], [2.0, 0.0, -INF]])
    facts = probe_facts(codes, floats, "float32")
    assert facts.same_images == "01"
    # Differences -1 and 1.5, logits 2 and 0: variances (2.5 / 2)^2 and 1.
    assert facts.logit_squared_error_sum == pytest.approx(1.5625)
    assert facts.float_logit_variance_sum == pytest.approx(1.0)
    assert facts.logit_count == 1
    assert facts.kl_count == 1


def test_without_any_prediction_all_is_lost() -> None:
    facts = probe_facts(torch.full((2, 3), NAN), torch.eye(3)[:2], "float32")
    assert (facts.chosen_probability_sum, facts.kl_sum, facts.kl_count) == (0, 0, 0)
    assert (facts.logit_squared_error_sum, facts.logit_count, facts.same_images) == (0, 0, "00")


def sorted_pictures() -> ImageSet:
    """Sorted by class, as folders are: the first 10 are of one class, dark ones."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) // 10
    pixels = torch.randint(0, 64, (40, 1, 8, 8), generator=generator) + 60 * labels.view(
        -1, 1, 1, 1
    )
    return ImageSet("toy", "train", pixels.to(torch.uint8), labels, tuple("abcd"))


def test_a_probe_has_the_first_images_and_agrees_with_an_evaluation_of_them() -> None:
    images = sorted_pictures()
    source = ptqdb.network(three_layers(3).eval(), name="net", mean=[0.5], std=[0.25])
    trained = source.load()
    measurement = NetworkMeasurement(trained, images, [INT_3], device=CPU)
    prepared, fed = measurement.network, trained.preprocessing
    evaluation = NetworkEvaluation(prepared, images, fed, device=CPU)
    coded = measurement.code(INT_3)
    whole = evaluation.of_codes(coded, INT_3, "all")
    assert isinstance(whole, EvaluationFacts)
    unlabelled = ImageSet("toy", "train", images.images, None, ())
    found = {}
    for count in (12, 40, 100):
        facts = NetworkProbe(prepared, unlabelled, fed, count, device=CPU).of_codes(coded, INT_3)
        assert isinstance(facts, ProbeFacts)
        found[count] = facts
    assert [facts.image_count for facts in found.values()] == [12, 40, 40]
    assert found[100] == found[40]
    # Some images flip, among the first ones, too.
    assert 0 < found[12].same_prediction < 12
    assert whole.same_images.startswith(found[12].same_images)
    assert found[40].same_images == whole.same_images
    assert found[40].kl_sum == pytest.approx(whole.kl_sum, rel=1e-6)
    assert found[40].precision == whole.precision
    # The same as a probe of a set of only these images.
    chosen = ImageSet("toy", "train", images.images[image_order(40)[:12]], None, ())
    alone = NetworkProbe(prepared, chosen, fed, 12, device=CPU).of_codes(coded, INT_3)
    assert isinstance(alone, ProbeFacts)
    for name in ("same_prediction", "chosen_probability_sum", "kl_sum", "logit_squared_error_sum"):
        assert getattr(alone, name) == pytest.approx(getattr(found[12], name), rel=1e-6)
    # Spread over the classes, unlike the first 12 of the set.
    assert len(set(images.known_labels()[image_order(40)[:12]].tolist())) == 4
