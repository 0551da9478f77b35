"""Default values: file, views, curve, coverage."""

from pathlib import Path
from typing import Literal

DEFAULT_DATABASE = Path("ptqdb.duckdb")
FIT_VIEW = "fakefreeze_flops_log"
# For networks of up to 1 MMAC: FIT_VIEW weights by log(MMACs), which is not positive there.
VIEW_OF_SMALL_NETWORKS = "fakefreeze_flops_depth"
FIT_CURVE = "rational2"
# Noise of the weights over the fan-in, averaged over the layers, plus the errors of the gains,
# summed over them. Chosen on 14 networks, each left out, on 2026-11-27, and frozen since; the curve
# is 0 without damage (see docs/explanation/prediction.md). It needs no images.
PREDICTION_VIEW = "channelnsr_weightonly_layer_coherence"
PREDICTION_CURVE = "hill"
# With --probe: soft agreement, which predicts a loss even without a reference.
PROBE_VIEW = "probe_soft"
STUDY_SCHEME = "per_tensor_symmetric_max"
"""The scheme of the study: its named views show no other."""
Scope = Literal["all", "weight", "bias", "input", "layer"]
SCOPES: tuple[Scope, ...] = ("all", "weight", "bias", "input")
"""What an evaluation quantizes in every layer."""
LAYER_SCOPE: Scope = "layer"
"""One whole layer is quantized; the others are not."""
COVERAGE = 0.9
DEFAULT_PROBE_COUNT = 128
"""Calibration images that a collection probes each format on."""
COMPARED_CURVES = ("rational2", "hill", "logistic", "isotonic")

LeaveOut = Literal["network", "architecture"]
"""What is left out at a time for held-out figures."""
Precision = Literal["auto", "float32"]
"""Precision in which codes are multiplied; ``auto``: the fastest in which products are exact."""
ChartKind = Literal[
    "fit",
    "networks",
    "variants",
    "distribution",
    "layers",
    "frontier",
    "leaderboard",
    "crowding",
    "residuals",
]
XScale = Literal["auto", "linear", "log", "symlog"]
ThemeName = Literal["light", "dark"]

MOST_CLASSES = 1_000_000
"""Labels above this are not class indices."""
