"""What is taken where a user says nothing: views, curve, coverage."""

FIT_VIEW = "fakefreeze_flops_log"
FIT_CURVE = "rational2"
# The depth puts back that noise adds up layer by layer, so that networks of different depth
# follow one curve: of the named views those times the depth carry over best to new networks.
PREDICTION_VIEW = "fakefreeze_flops_depth"
PREDICTION_VIEW_WITHOUT_IMAGES = "fakefreeze_weightonly_flops_depth"
PREDICTION_CURVE = "rational2"
COVERAGE = 0.9
