-- A quantized tensor is in the table of other schemes than its own, or a tensor as
-- trained in that of schemes that do not quantize it.
-- Grain: one (table, scheme, role) that is wrong, with the number of its rows. Facts
-- under the study's scheme are in quantized_tensor, those under all others in
-- dequantized_tensor.

with placed as (
    select
        'quantized_tensor' as table_name,
        quantized_tensor.scheme_id,
        quantized_tensor.tensor_id
    from quantized_tensor
    union all
    select
        'dequantized_tensor' as table_name,
        dequantized_tensor.scheme_id,
        dequantized_tensor.tensor_id
    from dequantized_tensor
)

select
    placed.table_name,
    scheme.name as scheme,
    tensor.role,
    count(*) as row_count
from placed
inner join scheme on placed.scheme_id = scheme.scheme_id
left join tensor on placed.tensor_id = tensor.tensor_id
where
    (placed.table_name = 'quantized_tensor') != (scheme.name = study_scheme())
    or (
        placed.table_name = 'dequantized_tensor'
        and tensor.role in ('trained_weight', 'trained_bias')
    )
group by all
order by all;
