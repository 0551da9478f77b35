-- A format's errors were not measured for the output channels of a network's weights.
-- Grain: one (network, format, scheme) that lacks it, with the number of such weights.

with measured as (
    select distinct
        quantized_tensor_channel.tensor_id,
        quantized_tensor_channel.number_format_id,
        quantized_tensor_channel.scheme_id
    from quantized_tensor_channel
)

select
    network.name as network,
    number_format.name as number_format,
    sums.scheme_id,
    count(*) as weight_count
from quantized_sums() as sums
inner join tensor on sums.tensor_id = tensor.tensor_id and tensor.role = 'weight'
inner join layer on tensor.layer_id = layer.layer_id
inner join network on layer.network_id = network.network_id
inner join number_format
    on sums.number_format_id = number_format.number_format_id
anti join measured
    on
        sums.tensor_id = measured.tensor_id
        and sums.number_format_id = measured.number_format_id
        and sums.scheme_id = measured.scheme_id
group by all
order by all;
