-- The loss when only one layer is quantized, with its contribution to the network's
-- divergence.
-- Grain: one layer in one number format, under the first scheme. Key: network,
-- number_format, layer. One row for each row of layer_evaluation whose network was
-- evaluated in floating point on the same images and maybe more. For contributions to
-- another divergence, join layer_divergence(...) using (network, number_format, layer).

create or replace view layer_loss as
select
    network.name as network,
    number_format.name as number_format,
    layer.position,
    layer.name as layer,
    layer.kind,
    alone.image_count as images,
    alone.non_finite_count as non_finite_images,
    alone.correct_top1 as correct,
    alone.correct_top1 / alone.image_count as accuracy,
    alone.float_correct_top1 / alone.image_count as float_accuracy,
    accuracy_loss(alone.correct_top1, alone.float_correct_top1) as accuracy_loss,
    accuracy_loss_se(
        alone.correct_top1, alone.float_correct_top1, alone.correct_both
    ) as accuracy_loss_se,
    added.contribution
from compared_evaluation() as alone
inner join chosen_scheme(null) as chosen on alone.scheme_id = chosen.scheme_id
inner join layer on alone.layer_id = layer.layer_id
inner join network on layer.network_id = network.network_id
inner join number_format on alone.number_format_id = number_format.number_format_id
left join layer_divergence() as added
    on
        network.name = added.network
        and number_format.name = added.number_format
        and layer.name = added.layer
where alone.scope = 'layer' and alone.float_correct_top1 is not null
order by
    network.name asc,
    number_format.number_format_id asc,
    accuracy_loss desc,
    layer.position asc;

comment on view layer_loss is
'Grain: one layer in one number format: the loss when only this layer is quantized, the
largest first, with its contribution to fakefreeze_flops (layer_divergence). Filled by
`ptqdb collect --scopes layer`.';
comment on column layer_loss.network is 'Name of the network';
comment on column layer_loss.number_format is 'Name of the number format';
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
