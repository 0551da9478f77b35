-- The contribution of each layer to its network's divergence, for any words of variant.

-- Contribution of a layer to the aggregate of its network: share times divergence
-- (sum), divergence (plainsum), divergence over the number of layers (mean). For the
-- maximum (max) it is the layer's divergence.
create or replace macro layer_addend(aggregate, share, divergence, layer_count) as
    case aggregate
        when 'sum' then share * divergence
        when 'max' then divergence
        when 'plainsum' then divergence
        when 'mean' then divergence / layer_count
        else unknown_word('aggregate', aggregate, aggregate_words())
    end;

-- Contribution of each layer to the network's divergence in variant, with the same
-- parameters. The contributions of the layers sum to that divergence (with the
-- aggregate max it is the largest of them); scope has no effect.
-- Grain: one layer in one number format under one of the chosen schemes. Key: network,
-- number_format, scheme, layer.
create or replace macro layer_divergence(
    rescale := 'fakefreeze',
    combine := 'half',
    share := 'flops',
    mac_weight := 'none',
    correction := 'none',
    measure := 'js',
    bins := 63,
    aggregate := 'sum',
    scope := 'all',
    scheme := null,
    tensors := 'parameters'
) as table
with checked as (
    select words.network
    from variant_check(
        rescale,
        combine,
        share,
        mac_weight,
        correction,
        measure,
        bins,
        aggregate,
        scope,
        scheme,
        tensors
    ) as words
),

added as (
    select
        network.name as network,
        format_name(number_format.name, chosen.name) as number_format,
        chosen.name as scheme,
        layer.position,
        layer.name as layer,
        layer.kind,
        wired.fan_in,
        shared.share_of_network as share,
        measured.divergence,
        layer_addend(
            aggregate,
            shared.share_of_network,
            measured.divergence,
            network.quantized_layer_count
        ) * network_factor(mac_weight, network.macs, network.quantized_layer_count)
            as contribution,
        of_weight.divergence as weight_nsr,
        of_channel.value as weight_channelnsr,
        sqnr_db(of_weight.divergence) as weight_sqnr_db,
        number_format.number_format_id,
        chosen.scheme_id
    from measured_layer(
        rescale, combine, correction, measure, bins, tensors, scheme
    ) as measured
    inner join chosen_scheme(scheme) as chosen on measured.scheme_id = chosen.scheme_id
    inner join layer on measured.layer_id = layer.layer_id
    inner join layer_share(share) as shared on layer.layer_id = shared.layer_id
    inner join network on layer.network_id = network.network_id
    inner join number_format
        on measured.number_format_id = number_format.number_format_id
    inner join tensor on layer.layer_id = tensor.layer_id and tensor.role = 'weight'
    inner join tensor_fan_in() as wired on tensor.tensor_id = wired.tensor_id
    inner join paired_measure('fakefreeze', 'nsr', scheme) as of_weight
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
    union all by name
    select checked.network
    from checked
)

select * exclude (number_format_id, scheme_id)
from added
order by
    added.network asc,
    added.number_format_id asc,
    added.scheme_id asc,
    added.contribution desc,
    added.position asc;
