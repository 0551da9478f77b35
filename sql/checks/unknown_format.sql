-- A fact, an evaluation or a run has a number format that is not in the file.
-- Grain: one (table, format) that is wrong: the name in a run, the id elsewhere.

with mentioned as (
    select
        'quantized_tensor' as table_name,
        quantized_tensor.number_format_id
    from quantized_tensor
    union
    select
        'quantized_tensor_channel' as table_name,
        quantized_tensor_channel.number_format_id
    from quantized_tensor_channel
    union
    select
        'code_histogram' as table_name,
        code_histogram.number_format_id
    from code_histogram
    union
    select
        'dequantized_tensor' as table_name,
        dequantized_tensor.number_format_id
    from dequantized_tensor
    union
    select
        'dequantized_histogram' as table_name,
        dequantized_histogram.number_format_id
    from dequantized_histogram
    union
    select
        'number_format_code' as table_name,
        number_format_code.number_format_id
    from number_format_code
    union
    select
        'evaluation' as table_name,
        evaluation.number_format_id
    from evaluation
    where evaluation.number_format_id is not null
    union
    select
        'failed_cell' as table_name,
        failed_cell.number_format_id
    from failed_cell
    union
    select
        'layer_evaluation' as table_name,
        layer_evaluation.number_format_id
    from layer_evaluation
    union
    select
        'probe' as table_name,
        probe.number_format_id
    from probe
    union
    select
        'failed_layer_cell' as table_name,
        failed_layer_cell.number_format_id
    from failed_layer_cell
    union
    select
        'tensor_divergence' as table_name,
        tensor_divergence.number_format_id
    from tensor_divergence
),

announced as (
    select unnest(collection_run.cells) as cell
    from collection_run
)

select
    mentioned.table_name,
    mentioned.number_format_id::varchar as number_format
from mentioned
anti join number_format
    on mentioned.number_format_id = number_format.number_format_id
union
select
    'collection_run' as table_name,
    announced.cell.number_format
from announced
anti join number_format on announced.cell.number_format = number_format.name
order by all;
