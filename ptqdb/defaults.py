"""What is taken where a user says nothing: views, curve, coverage."""

FIT_VIEW = "fakefreeze_flops_log"
FIT_CURVE = "rational2"
# Of the plain views those that carry over best to a network of the embedded study that was left
# out (`ptqdb compare`); without images the weights' noise-to-signal ratio does.
PREDICTION_VIEW = "fakefreeze_flops"
PREDICTION_VIEW_WITHOUT_IMAGES = "baseline_nsr"
PREDICTION_CURVE = "rational2"
COVERAGE = 0.9
COMPARED_CURVES = ("rational2", "hill", "logistic", "isotonic")
