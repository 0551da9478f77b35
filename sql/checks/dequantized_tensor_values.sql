-- A dequantized tensor's scale is negative, or a count or sum is impossible.
-- Grain: one (tensor, format, scheme) that is wrong: a negative scale, a smallest scale
-- above the largest, a range of scales without scales, negative counts or bits, more
-- clipped elements than elements, a negative sum of squares, a squared error other than
-- sum x^2 - 2 sum xy + sum y^2, a paired softmax divergence below 0 or above 1 per
-- group. Tolerance: 1e-4 of the sums of squares, which come from two passes over an
-- input.

select
    dequantized_tensor.tensor_id,
    dequantized_tensor.number_format_id,
    dequantized_tensor.scheme_id,
    tensor.element_count,
    dequantized_tensor.scale_count,
    dequantized_tensor.min_scale,
    dequantized_tensor.max_scale,
    dequantized_tensor.storage_bits,
    dequantized_tensor.clipped_count,
    tensor.sum_x2,
    dequantized_tensor.sum_xy,
    dequantized_tensor.sum_y2,
    dequantized_tensor.squared_error_sum,
    dequantized_tensor.softmax_js_fakefreeze,
    dequantized_tensor.softmax_js_l2,
    dequantized_tensor.softmax_group_count
from dequantized_tensor
inner join tensor on dequantized_tensor.tensor_id = tensor.tensor_id
where
    dequantized_tensor.scale_count < 0
    or (dequantized_tensor.min_scale is null)
    is distinct from (dequantized_tensor.max_scale is null)
    or (
        dequantized_tensor.scale_count = 0
        and dequantized_tensor.min_scale is not null
    )
    or dequantized_tensor.min_scale < 0
    or dequantized_tensor.min_scale > dequantized_tensor.max_scale
    or dequantized_tensor.storage_bits < 0
    or dequantized_tensor.clipped_count < 0
    or dequantized_tensor.clipped_count > tensor.element_count
    or (dequantized_tensor.sum_y2 >= 0) is distinct from true
    or (dequantized_tensor.squared_error_sum >= 0) is distinct from true
    or (
        abs(
            dequantized_tensor.squared_error_sum
            - (
                tensor.sum_x2
                - 2 * dequantized_tensor.sum_xy
                + dequantized_tensor.sum_y2
            )
        )
        <= 1e-4 * (tensor.sum_x2 + dequantized_tensor.sum_y2)
    ) is distinct from true
    or not coalesce(
        dequantized_tensor.softmax_js_fakefreeze
        between 0 and dequantized_tensor.softmax_group_count * (1 + 1e-9),
        dequantized_tensor.softmax_js_fakefreeze is null
    )
    or not coalesce(
        dequantized_tensor.softmax_js_l2
        between 0 and dequantized_tensor.softmax_group_count * (1 + 1e-9),
        dequantized_tensor.softmax_js_l2 is null
    )
order by
    dequantized_tensor.tensor_id,
    dequantized_tensor.number_format_id,
    dequantized_tensor.scheme_id;
