-- A row refers to a missing network, layer, tensor, scheme or quantized tensor.
-- Grain: one (table, missing object) that is wrong, with the number of such rows.
-- Number formats have a check of their own.

with dequantized_key as (
    select distinct
        dequantized_tensor.tensor_id,
        dequantized_tensor.number_format_id,
        dequantized_tensor.scheme_id
    from dequantized_tensor
),

code_key as (
    select distinct
        quantized_tensor.tensor_id,
        quantized_tensor.number_format_id,
        quantized_tensor.scheme_id
    from quantized_tensor
),

quantized_key as (
    select * from code_key
    union
    select * from dequantized_key
)

select
    'layer' as table_name,
    'network ' || layer.network_id as absent,
    count(*) as row_count
from layer
anti join network on layer.network_id = network.network_id
group by layer.network_id
union all
select
    'unquantized_part' as table_name,
    'network ' || unquantized_part.network_id as absent,
    count(*) as row_count
from unquantized_part
anti join network on unquantized_part.network_id = network.network_id
group by unquantized_part.network_id
union all
select
    'evaluation' as table_name,
    'network ' || evaluation.network_id as absent,
    count(*) as row_count
from evaluation
anti join network on evaluation.network_id = network.network_id
group by evaluation.network_id
union all
select
    'evaluation' as table_name,
    'scheme ' || evaluation.scheme_id as absent,
    count(*) as row_count
from evaluation
anti join scheme on evaluation.scheme_id = scheme.scheme_id
where evaluation.scheme_id is not null
group by evaluation.scheme_id
union all
select
    'failed_cell' as table_name,
    'network ' || failed_cell.network_id as absent,
    count(*) as row_count
from failed_cell
anti join network on failed_cell.network_id = network.network_id
group by failed_cell.network_id
union all
select
    'failed_cell' as table_name,
    'scheme ' || failed_cell.scheme_id as absent,
    count(*) as row_count
from failed_cell
anti join scheme on failed_cell.scheme_id = scheme.scheme_id
group by failed_cell.scheme_id
union all
select
    'probe' as table_name,
    'network ' || probe.network_id as absent,
    count(*) as row_count
from probe
anti join network on probe.network_id = network.network_id
group by probe.network_id
union all
select
    'probe' as table_name,
    'scheme ' || probe.scheme_id as absent,
    count(*) as row_count
from probe
anti join scheme on probe.scheme_id = scheme.scheme_id
group by probe.scheme_id
union all
select
    'layer_sensitivity' as table_name,
    'layer ' || layer_sensitivity.layer_id as absent,
    count(*) as row_count
from layer_sensitivity
anti join layer on layer_sensitivity.layer_id = layer.layer_id
group by layer_sensitivity.layer_id
union all
select
    'layer_evaluation' as table_name,
    'layer ' || layer_evaluation.layer_id as absent,
    count(*) as row_count
from layer_evaluation
anti join layer on layer_evaluation.layer_id = layer.layer_id
group by layer_evaluation.layer_id
union all
select
    'layer_evaluation' as table_name,
    'scheme ' || layer_evaluation.scheme_id as absent,
    count(*) as row_count
from layer_evaluation
anti join scheme on layer_evaluation.scheme_id = scheme.scheme_id
group by layer_evaluation.scheme_id
union all
select
    'failed_layer_cell' as table_name,
    'layer ' || failed_layer_cell.layer_id as absent,
    count(*) as row_count
from failed_layer_cell
anti join layer on failed_layer_cell.layer_id = layer.layer_id
group by failed_layer_cell.layer_id
union all
select
    'failed_layer_cell' as table_name,
    'scheme ' || failed_layer_cell.scheme_id as absent,
    count(*) as row_count
from failed_layer_cell
anti join scheme on failed_layer_cell.scheme_id = scheme.scheme_id
group by failed_layer_cell.scheme_id
union all
select
    'tensor' as table_name,
    'layer ' || tensor.layer_id as absent,
    count(*) as row_count
from tensor
anti join layer on tensor.layer_id = layer.layer_id
group by tensor.layer_id
union all
select
    'tensor_channel' as table_name,
    'tensor ' || tensor_channel.tensor_id as absent,
    count(*) as row_count
from tensor_channel
anti join tensor on tensor_channel.tensor_id = tensor.tensor_id
group by tensor_channel.tensor_id
union all
select
    'tensor_histogram' as table_name,
    'tensor ' || tensor_histogram.tensor_id as absent,
    count(*) as row_count
from tensor_histogram
anti join tensor on tensor_histogram.tensor_id = tensor.tensor_id
group by tensor_histogram.tensor_id
union all
select
    'quantized_tensor' as table_name,
    'tensor ' || quantized_tensor.tensor_id as absent,
    count(*) as row_count
from quantized_tensor
anti join tensor on quantized_tensor.tensor_id = tensor.tensor_id
group by quantized_tensor.tensor_id
union all
select
    'quantized_tensor' as table_name,
    'scheme ' || quantized_tensor.scheme_id as absent,
    count(*) as row_count
from quantized_tensor
anti join scheme on quantized_tensor.scheme_id = scheme.scheme_id
group by quantized_tensor.scheme_id
union all
select
    'quantized_tensor_channel' as table_name,
    'quantized tensor ' || concat_ws(
        ', ',
        quantized_tensor_channel.tensor_id,
        quantized_tensor_channel.number_format_id,
        quantized_tensor_channel.scheme_id
    ) as absent,
    count(*) as row_count
from quantized_tensor_channel
anti join quantized_key
    on
        quantized_tensor_channel.tensor_id = quantized_key.tensor_id
        and quantized_tensor_channel.number_format_id = quantized_key.number_format_id
        and quantized_tensor_channel.scheme_id = quantized_key.scheme_id
group by
    quantized_tensor_channel.tensor_id,
    quantized_tensor_channel.number_format_id,
    quantized_tensor_channel.scheme_id
union all
select
    'code_histogram' as table_name,
    'quantized tensor ' || concat_ws(
        ', ',
        code_histogram.tensor_id,
        code_histogram.number_format_id,
        code_histogram.scheme_id
    ) as absent,
    count(*) as row_count
from code_histogram
anti join code_key
    on
        code_histogram.tensor_id = code_key.tensor_id
        and code_histogram.number_format_id = code_key.number_format_id
        and code_histogram.scheme_id = code_key.scheme_id
group by
    code_histogram.tensor_id,
    code_histogram.number_format_id,
    code_histogram.scheme_id
union all
select
    'dequantized_tensor' as table_name,
    'tensor ' || dequantized_tensor.tensor_id as absent,
    count(*) as row_count
from dequantized_tensor
anti join tensor on dequantized_tensor.tensor_id = tensor.tensor_id
group by dequantized_tensor.tensor_id
union all
select
    'dequantized_tensor' as table_name,
    'scheme ' || dequantized_tensor.scheme_id as absent,
    count(*) as row_count
from dequantized_tensor
anti join scheme on dequantized_tensor.scheme_id = scheme.scheme_id
group by dequantized_tensor.scheme_id
union all
select
    'dequantized_histogram' as table_name,
    'dequantized tensor ' || concat_ws(
        ', ',
        dequantized_histogram.tensor_id,
        dequantized_histogram.number_format_id,
        dequantized_histogram.scheme_id
    ) as absent,
    count(*) as row_count
from dequantized_histogram
anti join dequantized_key
    on
        dequantized_histogram.tensor_id = dequantized_key.tensor_id
        and dequantized_histogram.number_format_id = dequantized_key.number_format_id
        and dequantized_histogram.scheme_id = dequantized_key.scheme_id
group by
    dequantized_histogram.tensor_id,
    dequantized_histogram.number_format_id,
    dequantized_histogram.scheme_id
union all
select
    'quantized_checkpoint' as table_name,
    'network ' || quantized_checkpoint.network_id as absent,
    count(*) as row_count
from quantized_checkpoint
anti join network on quantized_checkpoint.network_id = network.network_id
group by quantized_checkpoint.network_id
union all
select
    'quantized_checkpoint' as table_name,
    'scheme ' || quantized_checkpoint.scheme_id as absent,
    count(*) as row_count
from quantized_checkpoint
anti join scheme on quantized_checkpoint.scheme_id = scheme.scheme_id
group by quantized_checkpoint.scheme_id
union all
select
    'tensor_divergence' as table_name,
    'quantized tensor ' || concat_ws(
        ', ',
        tensor_divergence.tensor_id,
        tensor_divergence.number_format_id,
        tensor_divergence.scheme_id
    ) as absent,
    count(*) as row_count
from tensor_divergence
anti join quantized_key
    on
        tensor_divergence.tensor_id = quantized_key.tensor_id
        and tensor_divergence.number_format_id = quantized_key.number_format_id
        and tensor_divergence.scheme_id = quantized_key.scheme_id
group by
    tensor_divergence.tensor_id,
    tensor_divergence.number_format_id,
    tensor_divergence.scheme_id
order by all;
