-- A histogram has a bin outside -2047 to 2047, or a bin or code with a count below 1.
-- Grain: one row of tensor_histogram or code_histogram that is wrong.

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
order by all;
