-- What each layer adds to its network's divergence, the largest first.
-- Grain: one layer in one number format. Key: network, number_format, layer.
--     contribution = share * divergence; their sum over the layers is the divergence of
--     fakefreeze_flops

create or replace view layer_divergence as
select
    network.name as network,
    number_format.name as number_format,
    layer.position,
    layer.name as layer,
    layer.kind,
    wired.fan_in,
    shared.share_of_network as share,
    measured.divergence,
    shared.share_of_network * measured.divergence as contribution,
    of_weight.divergence as weight_nsr,
    of_channel.value as weight_channelnsr,
    sqnr_db(of_weight.divergence) as weight_sqnr_db
from measured_layer('fakefreeze', 'half', 'none', 'js', 63, 'parameters') as measured
inner join chosen_scheme(null) as chosen on measured.scheme_id = chosen.scheme_id
inner join layer on measured.layer_id = layer.layer_id
inner join layer_share('flops') as shared on layer.layer_id = shared.layer_id
inner join network on layer.network_id = network.network_id
inner join number_format
    on measured.number_format_id = number_format.number_format_id
inner join tensor on layer.layer_id = tensor.layer_id and tensor.role = 'weight'
inner join tensor_fan_in() as wired on tensor.tensor_id = wired.tensor_id
inner join paired_measure('fakefreeze', 'nsr') as of_weight
    on
        tensor.tensor_id = of_weight.tensor_id
        and measured.number_format_id = of_weight.number_format_id
        and measured.scheme_id = of_weight.scheme_id
left join tensor_divergence as of_channel
    on
        tensor.tensor_id = of_channel.tensor_id
        and measured.number_format_id = of_channel.number_format_id
        and measured.scheme_id = of_channel.scheme_id
        and of_channel.measure = 'channelnsr'
order by
    network.name asc,
    number_format.number_format_id asc,
    contribution desc,
    layer.position asc;

comment on view layer_divergence is
'Grain: one layer in one number format. What it adds to fakefreeze_flops, the largest
contribution first.';
comment on column layer_divergence.network is 'Name of the network';
comment on column layer_divergence.number_format is 'Name of the number format';
comment on column layer_divergence.position is 'Place of the layer, from 0';
comment on column layer_divergence.layer is 'Name of the layer';
comment on column layer_divergence.kind is 'Kind of the layer';
comment on column layer_divergence.fan_in is
'Elements of the weight that one output channel sums over';
comment on column layer_divergence.share is
'Share of the layer in the MACs of its network';
comment on column layer_divergence.divergence is
'JS divergence of its weight and bias, half and half';
comment on column layer_divergence.contribution is 'share * divergence';
comment on column layer_divergence.weight_nsr is
'Squared error of the weight over its sum of squares';
comment on column layer_divergence.weight_channelnsr is
'The same of the median output channel; NULL where the channels were not measured';
comment on column layer_divergence.weight_sqnr_db is
'weight_nsr as a signal-to-noise ratio in decibels; NULL where nothing was lost';
