"""What is taken where a user says nothing: views, curve, coverage."""

FIT_VIEW = "fakefreeze_flops_log"
FIT_CURVE = "rational2"
# The noise-to-signal ratio of the median channel, averaged over the layers and times the depth,
# carries over best from the embedded networks to others, of plain, residual and depthwise kind
# (docs/prediction.md tells which). Among the embedded ones alone nsr_layer_rootdepth is better.
PREDICTION_VIEW = "channelnsr_layer_depth"
PREDICTION_VIEW_WITHOUT_IMAGES = "channelnsr_weightonly_layer_depth"
PREDICTION_CURVE = "rational2"
COVERAGE = 0.9
COMPARED_CURVES = ("rational2", "hill", "logistic", "isotonic")
