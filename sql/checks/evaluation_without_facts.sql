-- A network was evaluated in a format without all facts of its tensors; those as
-- trained, which do not run, may be missing.
-- Grain: one evaluation that is wrong, with the number of tensors that lack facts; a
-- network without any tensor has tensor_count 0.

with tensor_of_network as (
    select
        layer.network_id,
        tensor.tensor_id
    from layer
    inner join tensor
        on
            layer.layer_id = tensor.layer_id
            and tensor.role in ('weight', 'bias', 'input')
),

counted as (
    select
        evaluation.network_id,
        evaluation.number_format_id,
        evaluation.scheme_id,
        evaluation.scope,
        evaluation.layer_id,
        count(tensor_of_network.tensor_id) as tensor_count,
        count(sums.tensor_id) as quantized_count
    from every_evaluation() as evaluation
    left join tensor_of_network
        on evaluation.network_id = tensor_of_network.network_id
    left join quantized_sums() as sums
        on
            tensor_of_network.tensor_id = sums.tensor_id
            and evaluation.number_format_id = sums.number_format_id
            and evaluation.scheme_id = sums.scheme_id
    where evaluation.scope is distinct from 'none'
    group by all
)

select
    network.name as network,
    number_format.name as number_format,
    counted.scheme_id,
    counted.scope,
    counted.layer_id,
    counted.tensor_count,
    counted.tensor_count - counted.quantized_count as missing_count
from counted
left join network on counted.network_id = network.network_id
left join number_format on counted.number_format_id = number_format.number_format_id
where counted.tensor_count = 0 or counted.tensor_count != counted.quantized_count
order by all;
