-- A quantized tensor's scale is not positive, or a count or sum is impossible.
-- Grain: one (tensor, format, scheme) that is wrong: scale not above 0, more clipped
-- elements than elements, a negative sum of squares, a paired softmax divergence below
-- 0 or above 1 per group.

select
    quantized_tensor.tensor_id,
    quantized_tensor.number_format_id,
    quantized_tensor.scheme_id,
    tensor.element_count,
    quantized_tensor.scale,
    quantized_tensor.clipped_count,
    quantized_tensor.sum_codes2,
    quantized_tensor.squared_error_sum,
    quantized_tensor.softmax_js_fakefreeze,
    quantized_tensor.softmax_js_l2,
    quantized_tensor.softmax_group_count
from quantized_tensor
inner join tensor on quantized_tensor.tensor_id = tensor.tensor_id
where
    (quantized_tensor.scale > 0) is distinct from true
    or (
        quantized_tensor.clipped_count between 0 and tensor.element_count
    ) is distinct from true
    or (quantized_tensor.sum_codes2 >= 0) is distinct from true
    or (quantized_tensor.squared_error_sum >= 0) is distinct from true
    or not coalesce(
        quantized_tensor.softmax_js_fakefreeze
        between 0 and quantized_tensor.softmax_group_count * (1 + 1e-9),
        quantized_tensor.softmax_js_fakefreeze is null
    )
    or not coalesce(
        quantized_tensor.softmax_js_l2
        between 0 and quantized_tensor.softmax_group_count * (1 + 1e-9),
        quantized_tensor.softmax_js_l2 is null
    )
order by
    quantized_tensor.tensor_id,
    quantized_tensor.number_format_id,
    quantized_tensor.scheme_id;
