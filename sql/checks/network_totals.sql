-- A network's layer count or MACs do not match its layers, or its params are fewer than
-- those counted in its layers and unquantized parts.
-- Grain: one network that is wrong. More params are valid: a network's count includes
-- batch norms, which are folded into layers.

with total as (
    select
        layer.network_id,
        count(*) as layer_count,
        sum(layer.params - layer.uncounted_params)::bigint as params,
        sum(layer.macs)::bigint as macs
    from layer
    group by layer.network_id
),

unquantized as (
    select
        unquantized_part.network_id,
        sum(unquantized_part.params)::bigint as params
    from unquantized_part
    group by unquantized_part.network_id
)

select
    network.name as network,
    network.quantized_layer_count,
    total.layer_count,
    network.params,
    total.params as params_of_layers,
    network.macs,
    total.macs as macs_of_layers,
    coalesce(unquantized.params, 0) as params_of_unquantized_parts
from network
left join total on network.network_id = total.network_id
left join unquantized on network.network_id = unquantized.network_id
where
    network.quantized_layer_count is distinct from total.layer_count
    or (network.params >= total.params + coalesce(unquantized.params, 0))
    is distinct from true
    or network.macs is distinct from total.macs
order by network.name;
