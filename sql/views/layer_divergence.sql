-- The contribution of each layer to its network's divergence, the largest first.
-- Grain: one layer in one number format, under the study's scheme. Key: network,
-- number_format, layer. The macro of the same name takes the words of variant; these
-- are its defaults.
--     contribution = share * divergence; their sum over the layers is the divergence of
--     fakefreeze_flops

create or replace view layer_divergence as
select
    added.network,
    added.number_format,
    added.scheme,
    added.position,
    added.layer,
    added.kind,
    added.fan_in,
    added.share,
    added.divergence,
    added.contribution,
    added.weight_nsr,
    added.weight_channelnsr,
    added.weight_sqnr_db
from layer_divergence() as added;

comment on view layer_divergence is
'Grain: one layer in one number format. Its contribution to fakefreeze_flops, the
largest first. With parameters of variant, the contribution to another divergence: from
layer_divergence(measure := ''nsr'', share := ''param'').';
comment on column layer_divergence.network is 'Name of the network';
comment on column layer_divergence.number_format is 'Name of the number format';
comment on column layer_divergence.scheme is 'Name of the scheme: the study''s';
comment on column layer_divergence.position is 'Position of the layer, from 0';
comment on column layer_divergence.layer is 'Name of the layer';
comment on column layer_divergence.kind is 'Kind of the layer';
comment on column layer_divergence.fan_in is
'Number of weight elements per output channel';
comment on column layer_divergence.share is
'Share of the layer in the MACs of its network';
comment on column layer_divergence.divergence is
'JS divergence of its weight and bias, 0.5 : 0.5';
comment on column layer_divergence.contribution is 'share * divergence';
comment on column layer_divergence.weight_nsr is
'Squared error of the weight over its sum of squares';
comment on column layer_divergence.weight_channelnsr is
'The same for the median output channel; NULL if the channels were not measured';
comment on column layer_divergence.weight_sqnr_db is
'weight_nsr as a signal-to-noise ratio in decibels; NULL where the error is 0';
