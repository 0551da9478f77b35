-- The code counts of a quantized weight or bias do not sum to its element count.
-- Grain: one (tensor, format, scheme) that is wrong; one without codes has
-- code_histogram_count NULL.

with total as (
    select
        code_histogram.tensor_id,
        code_histogram.number_format_id,
        code_histogram.scheme_id,
        sum(code_histogram.count)::bigint as code_histogram_count
    from code_histogram
    group by all
)

select
    tensor.tensor_id,
    network.name as network,
    layer.name as layer,
    tensor.role,
    number_format.name as number_format,
    quantized_tensor.scheme_id,
    tensor.element_count,
    total.code_histogram_count
from quantized_tensor
inner join tensor on quantized_tensor.tensor_id = tensor.tensor_id
left join layer on tensor.layer_id = layer.layer_id
left join network on layer.network_id = network.network_id
left join number_format
    on quantized_tensor.number_format_id = number_format.number_format_id
left join total
    on
        quantized_tensor.tensor_id = total.tensor_id
        and quantized_tensor.number_format_id = total.number_format_id
        and quantized_tensor.scheme_id = total.scheme_id
where
    list_contains(parameter_roles(), tensor.role)
    and tensor.element_count is distinct from total.code_histogram_count
order by
    tensor.tensor_id,
    quantized_tensor.number_format_id,
    quantized_tensor.scheme_id;
