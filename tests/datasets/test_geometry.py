"""Pictures are cut as torchvision cuts them, to the pixel."""

import numpy as np
import pytest
from pictures import noise
from PIL import Image

from ptqdb.datasets.geometry import RESAMPLING, eight_bit, fit_picture
from ptqdb.datasets.preprocessing import INTERPOLATIONS, Geometry
from ptqdb.errors import DataError

SIZES = [(33, 47), (47, 33), (32, 32), (31, 32), (64, 35), (100, 32)]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grayscale", "rgb"])
def test_the_pixels_are_those_of_torchvision(interpolation: str, channels: tuple[int, ...]) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    mode = transforms.InterpolationMode(interpolation)
    for height, width in SIZES:
        image = Image.fromarray(noise(1, height, width, *channels)[0])
        for resize, crop in ((None, 31), (None, 28), (32, 31), (40, 29), (32, 32), (20, None)):
            steps = [transforms.Resize(resize, mode)] if resize else []
            steps += [transforms.CenterCrop(crop)] if crop else []
            expected = transforms.Compose(steps)(image)
            found = fit_picture(image, Geometry(resize, crop, interpolation))
            assert found.size == expected.size
            assert np.array_equal(np.asarray(found), np.asarray(expected)), (height, width, resize)


def test_every_interpolation_has_its_resampling() -> None:
    assert set(RESAMPLING) == set(INTERPOLATIONS)


def test_the_corner_of_a_crop_rounds_half_to_even() -> None:
    # (5 - 2) / 2 = 1.5 rounds to 2, (7 - 2) / 2 = 2.5 to 2 as well.
    column = np.arange(5, dtype=np.uint8)[:, None].repeat(7, axis=1)
    image = Image.fromarray(column * 10 + np.arange(7, dtype=np.uint8))
    assert np.asarray(fit_picture(image, Geometry(crop=2))).tolist() == [[22, 23], [32, 33]]


def test_a_crop_larger_than_the_picture_is_refused() -> None:
    image = Image.fromarray(noise(1, 5, 9)[0])
    with pytest.raises(DataError, match=r"6 x 6 pixels to crop, found 9 x 5; give resize=6"):
        fit_picture(image, Geometry(crop=6))
    assert fit_picture(image, Geometry(resize=6, crop=6)).size == (6, 6)


def test_sixteen_bits_keep_the_upper_eight() -> None:
    wide = np.array([[0, 255, 256], [4000, 40000, 65535]], np.uint16)
    expected = [[0, 0, 1], [15, 156, 255]]
    assert np.asarray(eight_bit(Image.fromarray(wide), None)).tolist() == expected


def test_modes_become_grayscale_or_rgb() -> None:
    rgb = Image.fromarray(noise(1, 4, 4, 3)[0])
    natural = {
        "1": "L",
        "L": "L",
        "LA": "L",
        "P": "RGB",
        "RGB": "RGB",
        "RGBA": "RGB",
        "CMYK": "RGB",
        "YCbCr": "RGB",
    }
    for mode, expected in natural.items():
        image = rgb.convert(mode)
        assert eight_bit(image, None).mode == expected, mode
        assert eight_bit(image, 1).mode == "L"
        assert eight_bit(image, 3).mode == "RGB"
    transparent = rgb.convert("P")
    transparent.info["transparency"] = bytes(range(256))
    assert np.array_equal(
        np.asarray(eight_bit(transparent, None)), np.asarray(rgb.convert("P").convert("RGB"))
    )
    with pytest.raises(DataError, match="32-bit"):
        eight_bit(Image.fromarray(np.zeros((2, 2), np.float32)), None)
