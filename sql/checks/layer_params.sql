-- A layer's params do not match the elements of its weight and bias, or it has no
-- weight.
-- Grain: one layer that is wrong.

with total as (
    select
        tensor.layer_id,
        count_if(tensor.role = 'weight') as weight_count,
        sum(tensor.element_count)::bigint as element_count
    from tensor
    where tensor.role in ('weight', 'bias')
    group by tensor.layer_id
)

select
    network.name as network,
    layer.name as layer,
    layer.params,
    total.element_count,
    coalesce(total.weight_count, 0) as weight_count
from layer
left join network on layer.network_id = network.network_id
left join total on layer.layer_id = total.layer_id
where
    layer.params is distinct from total.element_count
    or total.weight_count is distinct from 1
order by network.name, layer.position;
