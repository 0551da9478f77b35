-- A network's layer count or MACs are not its layers' together, or its params fewer.
-- Grain: one network that is wrong. More params are right: a network counts those of
-- its batch norms, which are folded into its layers.

with total as (
    select
        layer.network_id,
        count(*) as layer_count,
        sum(layer.params)::bigint as params,
        sum(layer.macs)::bigint as macs
    from layer
    group by layer.network_id
)

select
    network.name as network,
    network.quantized_layer_count,
    total.layer_count,
    network.params,
    total.params as params_of_layers,
    network.macs,
    total.macs as macs_of_layers
from network
left join total on network.network_id = total.network_id
where
    network.quantized_layer_count is distinct from total.layer_count
    or (network.params >= total.params) is distinct from true
    or network.macs is distinct from total.macs
order by network.name;
