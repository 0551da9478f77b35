"""What is taken where a user says nothing: views, curve, coverage."""

FIT_VIEW = "fakefreeze_flops_log"
FIT_CURVE = "rational2"
# The noise-to-signal ratio, averaged over the layers and times the root of the depth, was the best
# of what was tried on other networks before, and carries over best to those left out here.
PREDICTION_VIEW = "nsr_layer_rootdepth"
PREDICTION_VIEW_WITHOUT_IMAGES = "nsr_weightonly_layer_rootdepth"
PREDICTION_CURVE = "rational2"
COVERAGE = 0.9
COMPARED_CURVES = ("rational2", "hill", "logistic", "isotonic")
