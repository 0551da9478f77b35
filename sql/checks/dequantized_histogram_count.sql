-- The bin counts of a dequantized weight or bias do not sum to its element count.
-- Grain: one (tensor, format, scheme) that is wrong; one without bins has
-- dequantized_histogram_count NULL.

with total as (
    select
        dequantized_histogram.tensor_id,
        dequantized_histogram.number_format_id,
        dequantized_histogram.scheme_id,
        sum(dequantized_histogram.count)::bigint as dequantized_histogram_count
    from dequantized_histogram
    group by all
)

select
    tensor.tensor_id,
    network.name as network,
    layer.name as layer,
    tensor.role,
    number_format.name as number_format,
    dequantized_tensor.scheme_id,
    tensor.element_count,
    total.dequantized_histogram_count
from dequantized_tensor
inner join tensor on dequantized_tensor.tensor_id = tensor.tensor_id
left join layer on tensor.layer_id = layer.layer_id
left join network on layer.network_id = network.network_id
left join number_format
    on dequantized_tensor.number_format_id = number_format.number_format_id
left join total
    on
        dequantized_tensor.tensor_id = total.tensor_id
        and dequantized_tensor.number_format_id = total.number_format_id
        and dequantized_tensor.scheme_id = total.scheme_id
where
    list_contains(parameter_roles(), tensor.role)
    and tensor.element_count is distinct from total.dequantized_histogram_count
order by
    tensor.tensor_id,
    dequantized_tensor.number_format_id,
    dequantized_tensor.scheme_id;
