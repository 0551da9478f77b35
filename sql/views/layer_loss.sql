-- The loss when only one layer is quantized, with its contribution to the network's
-- divergence.
-- Grain: one layer in one number format, under the study's scheme. Key: network,
-- number_format, layer. The macro of the same name takes a scheme.

create or replace view layer_loss as
select
    alone.network,
    alone.number_format,
    alone.scheme,
    alone.position,
    alone.layer,
    alone.kind,
    alone.images,
    alone.non_finite_images,
    alone.correct,
    alone.accuracy,
    alone.float_accuracy,
    alone.accuracy_loss,
    alone.accuracy_loss_se,
    alone.contribution
from layer_loss() as alone;

comment on view layer_loss is
'Grain: one layer in one number format: the loss when only this layer is quantized, the
largest first, with its contribution to fakefreeze_flops (layer_divergence). Filled by
`ptqdb collect --scopes layer`. Under every scheme: from layer_loss(scheme := ''*'').';
comment on column layer_loss.network is 'Name of the network';
comment on column layer_loss.number_format is 'Name of the number format';
comment on column layer_loss.scheme is 'Name of the scheme: the study''s';
comment on column layer_loss.position is 'Position of the layer, from 0';
comment on column layer_loss.layer is 'Name of the layer';
comment on column layer_loss.kind is 'Kind of the layer';
comment on column layer_loss.images is 'Images evaluated';
comment on column layer_loss.non_finite_images is
'Images without a prediction, counted as wrong';
comment on column layer_loss.correct is 'Images whose label was predicted';
comment on column layer_loss.accuracy is
'Top-1 accuracy with only this layer quantized, a fraction';
comment on column layer_loss.float_accuracy is
'Top-1 accuracy in floating point, a fraction';
comment on column layer_loss.accuracy_loss is
'(float_accuracy - accuracy) / float_accuracy, a fraction';
comment on column layer_loss.accuracy_loss_se is
'Standard error of accuracy_loss, from the images that only one of the two gets right';
comment on column layer_loss.contribution is
'Its share of the MACs times the JS divergence of its weight and bias: see
layer_divergence';
