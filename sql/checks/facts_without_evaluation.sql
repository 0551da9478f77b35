-- A network's tensors were quantized in a format in which it was never evaluated.
-- Grain: one (network, format, scheme) that is wrong, unless an evaluation was tried
-- and the network's own code failed.

with quantized as (
    select
        layer.network_id,
        sums.number_format_id,
        sums.scheme_id,
        count(*) as tensor_count
    from quantized_sums() as sums
    inner join tensor on sums.tensor_id = tensor.tensor_id
    inner join layer on tensor.layer_id = layer.layer_id
    group by all
)

select
    network.name as network,
    number_format.name as number_format,
    quantized.scheme_id,
    quantized.tensor_count
from quantized
anti join evaluation
    on
        quantized.network_id = evaluation.network_id
        and quantized.number_format_id = evaluation.number_format_id
        and quantized.scheme_id = evaluation.scheme_id
anti join failed_cell
    on
        quantized.network_id = failed_cell.network_id
        and quantized.number_format_id = failed_cell.number_format_id
        and quantized.scheme_id = failed_cell.scheme_id
left join network on quantized.network_id = network.network_id
left join number_format on quantized.number_format_id = number_format.number_format_id
order by all;
