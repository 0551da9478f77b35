-- A histogram has a bin outside -2047 to 2047, or a bin or code with a count below 1.
-- Grain: one row of tensor_histogram, code_histogram or dequantized_histogram that is
-- wrong. Dequantized elements may lie outside the range of the float tensor.

select
    'tensor_histogram' as table_name,
    tensor_histogram.tensor_id,
    null as number_format_id,
    tensor_histogram.bin::double as bin_or_code,
    tensor_histogram.count
from tensor_histogram
where
    (tensor_histogram.bin between -2047 and 2047) is distinct from true
    or (tensor_histogram.count >= 1) is distinct from true
union all
select
    'code_histogram' as table_name,
    code_histogram.tensor_id,
    code_histogram.number_format_id,
    code_histogram.code as bin_or_code,
    code_histogram.count
from code_histogram
where (code_histogram.count >= 1) is distinct from true
union all
select
    'dequantized_histogram' as table_name,
    dequantized_histogram.tensor_id,
    dequantized_histogram.number_format_id,
    dequantized_histogram.bin as bin_or_code,
    dequantized_histogram.count
from dequantized_histogram
where (dequantized_histogram.count >= 1) is distinct from true
order by all;
