"""The page of pictures shows every kind, as its script draws them."""

from pathlib import Path

import gallery
import pytest
from PIL import Image

from ptqdb.charts.pictures import KINDS, Request

DOCS = Path(__file__).parents[2] / "docs"


def test_every_kind_is_shown() -> None:
    kinds = [gallery.parsed(arguments)[0] for arguments in gallery.PICTURES.values()]
    assert set(kinds) == set(KINDS)
    page = (DOCS / "reference/gallery.md").read_text("utf-8")
    for name, arguments in gallery.PICTURES.items():
        assert f"\n    ptqdb chart {arguments}\n" in page
        assert f"](../gallery/{name}.png)" in page


def test_pictures_are_small_and_sharp() -> None:
    files = sorted((DOCS / "gallery").glob("*.png"))
    assert {file.stem for file in files} == set(gallery.PICTURES)
    assert sum(file.stat().st_size for file in files) < 2.5e6
    for file in files:
        with Image.open(file) as image:
            assert image.width > 1000


def test_arguments_are_those_of_the_command_line() -> None:
    kind, request = gallery.parsed("fit --view l2_flops --network A --curve hill,linear")
    assert (kind, request) == ("fit", Request(("l2_flops",), ("hill", "linear"), "A"))
    with pytest.raises(ValueError, match="pie"):
        gallery.parsed("pie")
