-- The counts of a tensor's histogram do not sum to its element count.
-- Grain: one tensor that is wrong; one without a histogram has histogram_count NULL.

with total as (
    select
        tensor_histogram.tensor_id,
        sum(tensor_histogram.count)::bigint as histogram_count
    from tensor_histogram
    group by tensor_histogram.tensor_id
)

select
    tensor.tensor_id,
    network.name as network,
    layer.name as layer,
    tensor.role,
    tensor.element_count,
    total.histogram_count
from tensor
left join layer on tensor.layer_id = layer.layer_id
left join network on layer.network_id = network.network_id
left join total on tensor.tensor_id = total.tensor_id
where tensor.element_count is distinct from total.histogram_count
order by tensor.tensor_id;
