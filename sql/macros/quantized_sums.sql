-- One shape for the facts of all schemes. Under the study's scheme they are codes and
-- their one scale; under the others, dequantized values, which stand for codes of scale
-- 1. So each formula over codes and scale is written once.

-- Every quantized tensor under the chosen schemes (see chosen_scheme), with sums over
-- its codes. has_code_grid: whether the codes of all its elements are those of the
-- number format times one scale.
-- Grain: one quantized tensor. Key: tensor_id, number_format_id, scheme_id.
create or replace macro quantized_sums(the_scheme := '*') as table
with every_tensor as (
    select
        quantized_tensor.tensor_id,
        quantized_tensor.number_format_id,
        quantized_tensor.scheme_id,
        true as has_code_grid,
        quantized_tensor.scale,
        quantized_tensor.clipped_count,
        quantized_tensor.sum_codes,
        quantized_tensor.sum_codes2,
        quantized_tensor.sum_code_x,
        quantized_tensor.squared_error_sum,
        quantized_tensor.softmax_js_fakefreeze,
        quantized_tensor.softmax_js_l2,
        quantized_tensor.softmax_group_count
    from quantized_tensor
    union all
    select
        dequantized_tensor.tensor_id,
        dequantized_tensor.number_format_id,
        dequantized_tensor.scheme_id,
        false as has_code_grid,
        1::double as scale,
        dequantized_tensor.clipped_count,
        dequantized_tensor.sum_y as sum_codes,
        dequantized_tensor.sum_y2 as sum_codes2,
        dequantized_tensor.sum_xy as sum_code_x,
        dequantized_tensor.squared_error_sum,
        dequantized_tensor.softmax_js_fakefreeze,
        dequantized_tensor.softmax_js_l2,
        dequantized_tensor.softmax_group_count
    from dequantized_tensor
)

select every_tensor.*
from every_tensor
semi join chosen_scheme(the_scheme) as chosen
    on every_tensor.scheme_id = chosen.scheme_id;

-- The codes of every quantized weight and bias; of a dequantized element, with scale 1,
-- the centre of its bin.
-- Grain: one occupied code. Key: tensor_id, number_format_id, scheme_id, code.
create or replace macro quantized_histogram() as table
select
    code_histogram.tensor_id,
    code_histogram.number_format_id,
    code_histogram.scheme_id,
    code_histogram.code,
    code_histogram.count
from code_histogram
union all
select
    dequantized_histogram.tensor_id,
    dequantized_histogram.number_format_id,
    dequantized_histogram.scheme_id,
    bin_centre(
        dequantized_histogram.bin, max_abs(tensor.min_value, tensor.max_value)
    ) as code,
    dequantized_histogram.count
from dequantized_histogram
inner join tensor on dequantized_histogram.tensor_id = tensor.tensor_id;

-- Bits that each network's weights take, with their scales and zero points, per weight
-- element. Under the study's scheme a weight of n elements takes n * bits + 32: one
-- float32 scale.
-- Grain: one network in one number format under one scheme: any format under the
-- study's, and those with facts under the others. Key: network_id, number_format_id,
-- scheme_id. bits_per_weight is NULL if the bits of a weight are unknown.
create or replace macro weight_storage() as table
with weights as (
    select
        layer.network_id,
        count(*) as weight_count,
        sum(tensor.element_count) as element_count
    from tensor
    inner join layer on tensor.layer_id = layer.layer_id
    where tensor.role = 'weight'
    group by layer.network_id
),

stored as (
    select
        layer.network_id,
        dequantized_tensor.number_format_id,
        dequantized_tensor.scheme_id,
        count(dequantized_tensor.storage_bits) as known_count,
        sum(dequantized_tensor.storage_bits) as storage_bits
    from dequantized_tensor
    inner join tensor
        on dequantized_tensor.tensor_id = tensor.tensor_id and tensor.role = 'weight'
    inner join layer on tensor.layer_id = layer.layer_id
    group by all
)

select
    weights.network_id,
    number_format.number_format_id,
    study.scheme_id,
    (weights.element_count * number_format.bits + 32 * weights.weight_count)
    / weights.element_count as bits_per_weight
from weights
cross join number_format
cross join chosen_scheme(null) as study
union all
select
    stored.network_id,
    stored.number_format_id,
    stored.scheme_id,
    case
        when stored.known_count = weights.weight_count
            then stored.storage_bits / weights.element_count
    end as bits_per_weight
from stored
inner join weights on stored.network_id = weights.network_id;
