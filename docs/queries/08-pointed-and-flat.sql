-- Are powers of two better for peaked distributions?
-- Weights in four groups of equal size by kurtosis (3 is a normal distribution), and
-- the mean JS divergence of POT_5 and INT_5 in each.
with weights as (
    select distinct
        network,
        layer,
        kurtosis
    from tensor_shape
    where role = 'weight'
),

grouped as (
    select
        *,
        ntile(4) over (order by kurtosis, network, layer) as kurtosis_group
    from weights
),

measured as (
    select
        grouped.kurtosis_group,
        grouped.kurtosis,
        number_format.name as number_format,
        tensor_divergence.value
    from grouped
    inner join network on grouped.network = network.name
    inner join layer
        on
            network.network_id = layer.network_id
            and grouped.layer = layer.name
    inner join tensor on layer.layer_id = tensor.layer_id and tensor.role = 'weight'
    inner join tensor_divergence
        on
            tensor.tensor_id = tensor_divergence.tensor_id
            and tensor_divergence.rescale = 'fakefreeze'
            and tensor_divergence.measure = 'js'
            and tensor_divergence.bins = 63
    inner join number_format
        on tensor_divergence.number_format_id = number_format.number_format_id
    inner join chosen_scheme(null) as study
        on tensor_divergence.scheme_id = study.scheme_id
)

select
    kurtosis_group,
    min(kurtosis) as from_kurtosis,
    max(kurtosis) as to_kurtosis,
    avg(value) filter (where number_format = 'POT_5') as pot_5,
    avg(value) filter (where number_format = 'INT_5') as int_5
from measured
group by kurtosis_group
order by kurtosis_group;
