"""What is taken where a user says nothing: file, views, curve, coverage."""

from pathlib import Path

DEFAULT_DATABASE = Path("ptqdb.duckdb")
FIT_VIEW = "fakefreeze_flops_log"
# For networks of up to 1 MMAC, whose logarithm FIT_VIEW cannot weigh by.
VIEW_OF_SMALL_NETWORKS = "fakefreeze_flops_depth"
FIT_CURVE = "rational2"
# The noise-to-signal ratio of the median channel over the root of the fan-in, mean over the layers
# times the root of the depth: with round powers the one that carries over best from the embedded
# networks to wide, residual and depthwise ones (docs/explanation/prediction.md tells which).
PREDICTION_VIEW = "channelnsr_layer_rootdepth_rootfanin"
PREDICTION_VIEW_WITHOUT_IMAGES = "channelnsr_weightonly_layer_rootdepth_rootfanin"
PREDICTION_CURVE = "rational2"
SCOPES = ("all", "weight", "bias", "input")
"""What of every layer is quantized in an evaluation."""
LAYER_SCOPE = "layer"
"""One layer is quantized, all of it; the others are not."""
COVERAGE = 0.9
COMPARED_CURVES = ("rational2", "hill", "logistic", "isotonic")

MOST_CLASSES = 1_000_000
"""What numbers more is no class."""
