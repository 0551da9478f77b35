"""The colours of the pictures: told apart by every kind of eye, readable on either ground."""

from typing import Any

import numpy as np
import pytest

from ptqdb.charts.style import DARK, DARK_PALETTE, LIGHT, PALETTE


def luminance(colour: str) -> float:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# How the three kinds of dichromats see linear RGB: Machado, Oliveira and Fernandes (2009), at
# full severity.
DICHROMATS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(colour: str, kind: str | None) -> Any:
    """CIELAB of a colour as it is seen."""
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    if kind is not None:
        linear = np.clip(np.array(DICHROMATS[kind]) @ linear, 0, 1)
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ratio = np.array(xyz) @ linear / [0.9505, 1, 1.089]
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", [None, *DICHROMATS])
@pytest.mark.parametrize("palette", [PALETTE, DARK_PALETTE], ids=["light", "dark"])
def test_the_palette_is_told_apart_by_every_kind_of_eye(
    palette: tuple[str, ...], kind: str | None
) -> None:
    """A difference of 2.3 is just noticeable; 15 is plain."""
    seen = [lab(colour, kind) for colour in palette]
    for place, one in enumerate(seen):
        for other in seen[:place]:
            assert np.linalg.norm(one - other) > 15


def test_text_is_readable_in_both_themes() -> None:
    for theme in (LIGHT, DARK):
        assert contrast(theme.text, theme.background) > 7
        assert contrast(theme.muted, theme.background) > 4.5
        assert contrast(theme.ink, theme.background) > 7
        assert contrast(theme.palette[0], theme.background) > 3
