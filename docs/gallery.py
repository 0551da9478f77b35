"""Draws the pictures of docs/reference/gallery.md: ``uv run python docs/gallery.py``."""

import os
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from ptqdb.charts import save_chart
from ptqdb.charts.pictures import KINDS, Request, draw
from ptqdb.study import open_study

DOCS = Path(__file__).parent
# What comes after `ptqdb chart`, by the name of the picture.
PICTURES = {
    "fit": "fit --view fakefreeze_flops_log",
    "fit-one": "fit --view nsr_flops --network VGG_19 --curve rational2,hill --theme dark",
    "networks": "networks --view fakefreeze_flops --x-scale linear",
    "variants": "variants",
    "degrees": "variants --view l2_param --curve rational2,rational3,rational4 --x-scale linear",
    "distribution": "distribution",
    "layers": "layers --network VGG_16",
    "frontier": "frontier",
    "leaderboard": "leaderboard",
    "crowding": "crowding",
    "residuals": "residuals --view channelnsr_weightonly_layer_coherence",
}


def main() -> None:
    """Draw them all from the embedded study, as it is before anything is fitted and kept."""
    with TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        with open_study() as study:
            for name, arguments in PICTURES.items():
                kind, request = parsed(arguments)
                path = DOCS / "gallery" / f"{name}.png"
                save_chart(draw(study.connection, kind, request), path)
                with Image.open(path) as image:  # the same pixels in a third of the space
                    pixels = image.convert("RGB")
                pixels.save(path, optimize=True)
                sys.stdout.write(f"{path} {path.stat().st_size // 1000} kB\n")


def parsed(arguments: str) -> tuple[str, Request]:
    """The kind and the options of a picture, as the command line takes them."""
    kind, *words = shlex.split(arguments)
    options = dict(zip(words[::2], words[1::2], strict=True))
    if kind not in KINDS:
        raise ValueError(f"expected a kind of chart, found {kind}")
    view = options.pop("--view", None)
    return kind, Request(
        views=() if view is None else (view,),
        curves=tuple(filter(None, options.pop("--curve", "").split(","))),
        network=options.pop("--network", None),
        x_scale=options.pop("--x-scale", ""),
        theme=options.pop("--theme", "light"),
    )


if __name__ == "__main__":
    main()
