"""Tries networks of timm and torchvision: params, MACs and logits beside torch's own.

``uv run python benchmarks/zoo.py`` measures every network of the list with random weights on
four random images, evaluates it in INT_8, and writes the table of docs/how-to/networks.md. Names of
networks (``timm:repvgg_a0``) measure those alone and print their rows.
"""

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode
from workload import random_images

from ptqdb.datasets.images import normalize
from ptqdb.errors import PtqdbError
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.macs import total
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.networks.copies import scratch_copy
from ptqdb.networks.sources import NetworkSource, network_source
from ptqdb.quantization.agreement import relative_distance
from ptqdb.quantization.formats import study_format
from ptqdb.support.text import markdown_table

PAGE = Path(__file__).parent.parent / "docs/how-to/networks.md"
BEGIN, END = "<!-- zoo: benchmarks/zoo.py -->", "<!-- end of zoo -->"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_COUNT = 4
TIMM = """
    bat_resnext26ts beit_base_patch16_224 botnet26t_256 caformer_s18 cait_xxs24_224 coat_lite_tiny
    coatnet_pico_rw_224 convit_tiny convmixer_768_32 convnext_atto convnextv2_atto crossvit_9_240
    cs3darknet_s darknet17 davit_tiny deit_tiny_patch16_224 densenet121 dla34 dpn68 eca_resnet33ts
    edgenext_xx_small efficientformer_l1 efficientnet_b0 efficientvit_b0 efficientvit_m0
    fastvit_t8 focalnet_tiny_srf gcresnet33ts gernet_s ghostnet_050 halonet26t hardcorenas_a
    hgnet_tiny hrnet_w18_small inception_next_tiny lambda_resnet26t lcnet_050 levit_128s
    mixer_s32_224 mobilenetv4_conv_small mobileone_s0 mobilevit_xxs nf_regnet_b0 nfnet_f0 nest_tiny
    pit_ti_224 poolformer_s12 pvt_v2_b0 regnety_002 repvgg_a0 res2net50_14w_8s resmlp_12_224
    resnest14d resnetv2_50 rexnet_100 selecsls42 tf_efficientnet_cc_b0_4e tinynet_e
    twins_svt_small xcit_nano_12_p16_224
"""
TORCHVISION = """
    alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 maxvit_t mnasnet0_5
    mobilenet_v2 mobilenet_v3_small regnet_y_400mf resnet18 shufflenet_v2_x0_5 squeezenet1_0
    swin_t vgg11_bn vit_b_16
"""


@dataclass(frozen=True)
class Row:
    """One network of the table.

    Attributes
    ----------
    params, macs, distance
        ptqdb's beside torch's: params; MACs, None where ptqdb cannot count all; the distance of
        the prepared network's logits, relative to the largest.
    """

    name: str
    params: tuple[int, int] = (0, 0)
    macs: tuple[int | None, int] = (0, 0)
    float_params: int = 0
    norms: tuple[int, int] = (0, 0)
    distance: float = 0.0
    remark: str = ""
    seconds: float = 0.0

    @property
    def cells(self) -> list[str]:
        """What the table shows."""
        if self.remark:
            return [self.name, *[""] * 5, self.remark]
        (found, wanted), (found_macs, wanted_macs) = self.params, self.macs
        params = f"{found / 1e6:.2f} M" + ("" if found == wanted else f", torch {wanted}")
        macs = "not all counted" if found_macs is None else f"{found_macs / 1e6:.0f} M"
        if found_macs is not None and found_macs != wanted_macs:
            macs += f", torch {wanted_macs / 1e6:.0f} M"
        share = f"{100 * self.float_params / found:.1f} %"
        folded, unfolded = self.norms
        norms = f"{folded} of {folded + unfolded}"
        return [self.name, params, macs, share, norms, f"{self.distance:.0e}", "works"]


def zoo() -> Iterator[NetworkSource]:
    """Yield each network of the list, with random weights."""
    names = [f"timm:{name}" for name in TIMM.split()] + [
        f"torchvision:{name}" for name in TORCHVISION.split()
    ]
    for name in sys.argv[1:] or names:
        yield network_source(name, weights="random", name=name, mean=MEAN, std=STD)


def examine(source: NetworkSource) -> Row:
    """Measure one network; what it is refused for stands in the row."""
    started = time.perf_counter()
    try:
        row = measure(source)
    except PtqdbError as error:
        return Row(source.name, remark=f"refused: {error}", seconds=time.perf_counter() - started)
    return row


def measure(source: NetworkSource) -> Row:
    """Compare what ptqdb makes of a network with what torch says of it."""
    started = time.perf_counter()
    trained = source.load()
    images = random_images(IMAGE_COUNT, "train", edge=edge_of(source))
    fed = normalize(images.images, torch.tensor(MEAN), torch.tensor(STD))
    with torch.inference_mode(), scratch_copy(trained.module) as scratch:
        expected = scratch(fed)
    params = sum(each.numel() for each in trained.module.parameters())
    with scratch_copy(trained.module) as scratch:
        macs = macs_of_torch(scratch, fed[:1])
    known, cpu = study_format("INT_8"), torch.device("cpu")
    measurement = NetworkMeasurement(trained, images, [known], device=cpu)
    network, facts = measurement.network, measurement.float_facts()
    with torch.inference_mode():
        found = network.module(fed.to(memory_format=network.memory_format))
    evaluation = NetworkEvaluation(network, images, trained.preprocessing, device=cpu)
    evaluation.of_codes(measurement.code(known), known, "all")
    parts = [part.macs for part in measurement.unquantized]
    return Row(
        source.name,
        (facts.params, params),
        (total(iter([facts.macs, *parts])), macs),
        sum(part.params for part in measurement.unquantized),
        (len(network.folding.folded), len(network.folding.unfolded)),
        relative_distance([found], [expected]),
        seconds=time.perf_counter() - started,
    )


def edge_of(source: NetworkSource) -> int:
    """The edge of the images that the network is made for."""
    zoo_name, _, name = source.spec.partition(":")
    config = timm.get_pretrained_cfg(name) if zoo_name == "timm" else None
    return config.input_size[-1] if config is not None else 224


def macs_of_torch(module: torch.nn.Module, image: torch.Tensor) -> int:
    """Half the floating-point operations that torch counts for one image."""
    torch.backends.mha.set_fastpath_enabled(False)
    module.requires_grad_(False)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(image)
    return int(counter.get_total_flops()) // 2


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    head = ["network", "params", "MACs", "params in float", "norms folded", "logits apart", ""]
    return markdown_table(head, (row.cells for row in rows))


def main() -> None:
    """Print each row as it comes; write the page once all are there."""
    warnings.simplefilter("ignore")  # of other people's code
    rows = []
    for source in zoo():
        rows.append(examine(source))
        print(f"{rows[-1].seconds:.0f} s |", " | ".join(rows[-1].cells), flush=True)  # noqa: T201
    if len(sys.argv) == 1:
        text = PAGE.read_text("utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
