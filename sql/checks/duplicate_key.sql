-- A table without an enforced key has two rows of the same key.
-- Grain: one (table, key) that is wrong.

select
    'tensor_channel' as table_name,
    concat_ws(', ', tensor_channel.tensor_id, tensor_channel.channel) as row_key,
    count(*) as row_count
from tensor_channel
group by tensor_channel.tensor_id, tensor_channel.channel
having count(*) > 1
union all
select
    'tensor_histogram' as table_name,
    concat_ws(', ', tensor_histogram.tensor_id, tensor_histogram.bin) as row_key,
    count(*) as row_count
from tensor_histogram
group by tensor_histogram.tensor_id, tensor_histogram.bin
having count(*) > 1
union all
select
    'quantized_tensor' as table_name,
    concat_ws(
        ', ',
        quantized_tensor.tensor_id,
        quantized_tensor.number_format_id,
        quantized_tensor.scheme_id
    ) as row_key,
    count(*) as row_count
from quantized_tensor
group by
    quantized_tensor.tensor_id,
    quantized_tensor.number_format_id,
    quantized_tensor.scheme_id
having count(*) > 1
union all
select
    'dequantized_tensor' as table_name,
    concat_ws(
        ', ',
        dequantized_tensor.tensor_id,
        dequantized_tensor.number_format_id,
        dequantized_tensor.scheme_id
    ) as row_key,
    count(*) as row_count
from dequantized_tensor
group by
    dequantized_tensor.tensor_id,
    dequantized_tensor.number_format_id,
    dequantized_tensor.scheme_id
having count(*) > 1
union all
select
    'dequantized_histogram' as table_name,
    concat_ws(
        ', ',
        dequantized_histogram.tensor_id,
        dequantized_histogram.number_format_id,
        dequantized_histogram.scheme_id,
        dequantized_histogram.bin
    ) as row_key,
    count(*) as row_count
from dequantized_histogram
group by
    dequantized_histogram.tensor_id,
    dequantized_histogram.number_format_id,
    dequantized_histogram.scheme_id,
    dequantized_histogram.bin
having count(*) > 1
union all
select
    'quantized_tensor_channel' as table_name,
    concat_ws(
        ', ',
        quantized_tensor_channel.tensor_id,
        quantized_tensor_channel.number_format_id,
        quantized_tensor_channel.scheme_id,
        quantized_tensor_channel.channel
    ) as row_key,
    count(*) as row_count
from quantized_tensor_channel
group by
    quantized_tensor_channel.tensor_id,
    quantized_tensor_channel.number_format_id,
    quantized_tensor_channel.scheme_id,
    quantized_tensor_channel.channel
having count(*) > 1
union all
select
    'code_histogram' as table_name,
    concat_ws(
        ', ',
        code_histogram.tensor_id,
        code_histogram.number_format_id,
        code_histogram.scheme_id,
        code_histogram.code
    ) as row_key,
    count(*) as row_count
from code_histogram
group by
    code_histogram.tensor_id,
    code_histogram.number_format_id,
    code_histogram.scheme_id,
    code_histogram.code
having count(*) > 1
union all
select
    'tensor_divergence' as table_name,
    concat_ws(
        ', ',
        tensor_divergence.tensor_id,
        tensor_divergence.number_format_id,
        tensor_divergence.scheme_id,
        tensor_divergence.rescale,
        tensor_divergence.measure,
        tensor_divergence.bins
    ) as row_key,
    count(*) as row_count
from tensor_divergence
group by
    tensor_divergence.tensor_id,
    tensor_divergence.number_format_id,
    tensor_divergence.scheme_id,
    tensor_divergence.rescale,
    tensor_divergence.measure,
    tensor_divergence.bins
having count(*) > 1
order by all;
