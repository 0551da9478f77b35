-- A stored value is NaN or infinite.
-- Grain: one (table, column, row) that is wrong; row_key names the row by its ids.

with suspect as (
    select
        'number_format' as table_name,
        number_format.name as row_key,
        unnest(['max_code', 'code_count']) as column_name,
        unnest([number_format.max_code, number_format.code_count]) as found
    from number_format
    union all
    select
        'number_format_code' as table_name,
        concat_ws(
            ', ', number_format_code.number_format_id, number_format_code.code_index
        ) as row_key,
        'code' as column_name,
        number_format_code.code as found
    from number_format_code
    union all
    select
        'tensor' as table_name,
        tensor.tensor_id::varchar as row_key,
        unnest([
            'min_value', 'max_value', 'sum_x', 'sum_abs', 'sum_x2', 'sum_x3', 'sum_x4'
        ]) as column_name,
        unnest([
            tensor.min_value,
            tensor.max_value,
            tensor.sum_x,
            tensor.sum_abs,
            tensor.sum_x2,
            tensor.sum_x3,
            tensor.sum_x4
        ]) as found
    from tensor
    union all
    select
        'tensor_channel' as table_name,
        concat_ws(', ', tensor_channel.tensor_id, tensor_channel.channel) as row_key,
        unnest(['min_value', 'max_value', 'sum_x2']) as column_name,
        unnest([
            tensor_channel.min_value, tensor_channel.max_value, tensor_channel.sum_x2
        ]) as found
    from tensor_channel
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
        'squared_error_sum' as column_name,
        quantized_tensor_channel.squared_error_sum as found
    from quantized_tensor_channel
    union all
    select
        'quantized_tensor' as table_name,
        concat_ws(
            ', ',
            quantized_tensor.tensor_id,
            quantized_tensor.number_format_id,
            quantized_tensor.scheme_id
        ) as row_key,
        unnest([
            'scale',
            'sum_codes',
            'sum_codes2',
            'sum_code_x',
            'squared_error_sum',
            'softmax_js_fakefreeze',
            'softmax_js_l2'
        ]) as column_name,
        unnest([
            quantized_tensor.scale,
            quantized_tensor.sum_codes,
            quantized_tensor.sum_codes2,
            quantized_tensor.sum_code_x,
            quantized_tensor.squared_error_sum,
            quantized_tensor.softmax_js_fakefreeze,
            quantized_tensor.softmax_js_l2
        ]) as found
    from quantized_tensor
    union all
    select
        'dequantized_tensor' as table_name,
        concat_ws(
            ', ',
            dequantized_tensor.tensor_id,
            dequantized_tensor.number_format_id,
            dequantized_tensor.scheme_id
        ) as row_key,
        unnest([
            'min_scale',
            'max_scale',
            'sum_y',
            'sum_y2',
            'sum_xy',
            'squared_error_sum',
            'softmax_js_fakefreeze',
            'softmax_js_l2'
        ]) as column_name,
        unnest([
            dequantized_tensor.min_scale,
            dequantized_tensor.max_scale,
            dequantized_tensor.sum_y,
            dequantized_tensor.sum_y2,
            dequantized_tensor.sum_xy,
            dequantized_tensor.squared_error_sum,
            dequantized_tensor.softmax_js_fakefreeze,
            dequantized_tensor.softmax_js_l2
        ]) as found
    from dequantized_tensor
    union all
    select
        'code_histogram' as table_name,
        concat_ws(
            ', ',
            code_histogram.tensor_id,
            code_histogram.number_format_id,
            code_histogram.scheme_id
        ) as row_key,
        'code' as column_name,
        code_histogram.code as found
    from code_histogram
    where not isfinite(code_histogram.code)
    union all
    select
        'evaluation' as table_name,
        concat_ws(
            ', ',
            evaluation.network_id,
            evaluation.number_format_id,
            evaluation.scheme_id,
            evaluation.scope
        ) as row_key,
        unnest(['cross_entropy_sum', 'kl_sum']) as column_name,
        unnest([evaluation.cross_entropy_sum, evaluation.kl_sum]) as found
    from evaluation
    union all
    select
        'layer_sensitivity' as table_name,
        layer_sensitivity.layer_id::varchar as row_key,
        unnest([
            'margin_square_sum', 'gradient_square_sum', 'output_square_sum'
        ]) as column_name,
        unnest([
            layer_sensitivity.margin_square_sum,
            layer_sensitivity.gradient_square_sum,
            layer_sensitivity.output_square_sum
        ]) as found
    from layer_sensitivity
    union all
    select
        'layer_evaluation' as table_name,
        concat_ws(
            ', ',
            layer_evaluation.layer_id,
            layer_evaluation.number_format_id,
            layer_evaluation.scheme_id
        ) as row_key,
        unnest(['cross_entropy_sum', 'kl_sum']) as column_name,
        unnest([layer_evaluation.cross_entropy_sum, layer_evaluation.kl_sum]) as found
    from layer_evaluation
    union all
    select
        'probe' as table_name,
        concat_ws(
            ', ', probe.network_id, probe.number_format_id, probe.scheme_id
        ) as row_key,
        unnest([
            'float_probability_sum',
            'chosen_probability_sum',
            'kl_sum',
            'logit_squared_error_sum',
            'float_logit_variance_sum'
        ]) as column_name,
        unnest([
            probe.float_probability_sum,
            probe.chosen_probability_sum,
            probe.kl_sum,
            probe.logit_squared_error_sum,
            probe.float_logit_variance_sum
        ]) as found
    from probe
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
        'value' as column_name,
        tensor_divergence.value as found
    from tensor_divergence
    where not isfinite(tensor_divergence.value)
)

select
    suspect.table_name,
    suspect.column_name,
    suspect.row_key,
    suspect.found
from suspect
where not isfinite(suspect.found)
order by all;
