-- The stored sums of codes and of their squares do not match the code histogram.
-- Grain: one (tensor, format, scheme) that is wrong. Weights in formats with more than
-- 4095 codes are skipped: their codes are binned. Tolerance: 1e-6 of the sum of
-- absolute values.

with total as (
    select
        code_histogram.tensor_id,
        code_histogram.number_format_id,
        code_histogram.scheme_id,
        sum(code_histogram.code * code_histogram.count) as sum_codes,
        sum(abs(code_histogram.code) * code_histogram.count) as sum_abs_codes,
        sum(code_histogram.code ** 2 * code_histogram.count) as sum_codes2
    from code_histogram
    group by all
)

select
    quantized_tensor.tensor_id,
    number_format.name as number_format,
    quantized_tensor.scheme_id,
    quantized_tensor.sum_codes,
    total.sum_codes as sum_codes_of_histogram,
    quantized_tensor.sum_codes2,
    total.sum_codes2 as sum_codes2_of_histogram
from quantized_tensor
inner join tensor on quantized_tensor.tensor_id = tensor.tensor_id
inner join number_format
    on quantized_tensor.number_format_id = number_format.number_format_id
inner join total
    on
        quantized_tensor.tensor_id = total.tensor_id
        and quantized_tensor.number_format_id = total.number_format_id
        and quantized_tensor.scheme_id = total.scheme_id
where
    (is_bias(tensor.role) or number_format.code_count <= 4095)
    and (
        (
            abs(quantized_tensor.sum_codes - total.sum_codes)
            <= 1e-6 * total.sum_abs_codes
        ) is distinct from true
        or (
            abs(quantized_tensor.sum_codes2 - total.sum_codes2)
            <= 1e-6 * total.sum_codes2
        ) is distinct from true
    )
order by
    quantized_tensor.tensor_id,
    quantized_tensor.number_format_id,
    quantized_tensor.scheme_id;
