"""What is taken where a user says nothing: views, curve, coverage."""

FIT_VIEW = "fakefreeze_flops_log"
FIT_CURVE = "rational2"
# What the noise of the median channel, averaged over its fan-in and summed over the layers, comes
# to carries over best from the embedded networks to others: wide and narrow ones, of plain,
# residual and depthwise kind (docs/prediction.md tells which).
PREDICTION_VIEW = "channelnsr_layer_rootdepth_rootfanin"
PREDICTION_VIEW_WITHOUT_IMAGES = "channelnsr_weightonly_layer_rootdepth_rootfanin"
PREDICTION_CURVE = "rational2"
COVERAGE = 0.9
COMPARED_CURVES = ("rational2", "hill", "logistic", "isotonic")
