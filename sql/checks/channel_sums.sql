-- The sums over a weight's output channels do not match the weight: squares, or squared
-- errors in a format, or the number of channels.
-- Grain: one weight that is wrong, or one (weight, format, scheme). Weights without
-- channels are skipped: older versions did not measure them. Tolerance: 1e-6 of the
-- sum; 1e-5 for a format, since older versions stored the errors of channels in single
-- precision.

with of_floats as (
    select
        tensor_channel.tensor_id,
        count(*) as channel_count,
        fsum(tensor_channel.sum_x2) as total
    from tensor_channel
    group by tensor_channel.tensor_id
),

of_codes as (
    select
        quantized_tensor_channel.tensor_id,
        quantized_tensor_channel.number_format_id,
        quantized_tensor_channel.scheme_id,
        count(*) as channel_count,
        fsum(quantized_tensor_channel.squared_error_sum) as total
    from quantized_tensor_channel
    group by all
)

select
    tensor.tensor_id,
    null as number_format,
    null as scheme_id,
    of_floats.channel_count,
    of_floats.channel_count as expected_count,
    of_floats.total,
    tensor.sum_x2 as expected_total
from of_floats
inner join tensor on of_floats.tensor_id = tensor.tensor_id
where
    (abs(of_floats.total - tensor.sum_x2) <= 1e-6 * tensor.sum_x2) is distinct from true
union all
select
    sums.tensor_id,
    number_format.name as number_format,
    sums.scheme_id,
    of_codes.channel_count,
    of_floats.channel_count as expected_count,
    of_codes.total,
    sums.squared_error_sum as expected_total
from of_codes
inner join quantized_sums() as sums
    on
        of_codes.tensor_id = sums.tensor_id
        and of_codes.number_format_id = sums.number_format_id
        and of_codes.scheme_id = sums.scheme_id
inner join number_format
    on sums.number_format_id = number_format.number_format_id
left join of_floats on of_codes.tensor_id = of_floats.tensor_id
where
    of_codes.channel_count is distinct from of_floats.channel_count
    or (
        abs(of_codes.total - sums.squared_error_sum)
        <= 1e-5 * sums.squared_error_sum
    ) is distinct from true
order by all;
