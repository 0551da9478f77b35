-- A weight's histogram contains a code that its number format does not have.
-- Grain: one (tensor, format, scheme, code) that is wrong: beyond the largest code or,
-- if the format's codes are stored, not among them. Biases have their own formats.

with listed as (
    select distinct number_format_code.number_format_id
    from number_format_code
)

select
    code_histogram.tensor_id,
    number_format.name as number_format,
    code_histogram.scheme_id,
    code_histogram.code,
    number_format.max_code
from code_histogram
inner join tensor on code_histogram.tensor_id = tensor.tensor_id
inner join number_format
    on code_histogram.number_format_id = number_format.number_format_id
left join listed on code_histogram.number_format_id = listed.number_format_id
left join number_format_code
    on
        code_histogram.number_format_id = number_format_code.number_format_id
        and code_histogram.code = number_format_code.code
where
    tensor.role in ('weight', 'trained_weight')
    and (
        (abs(code_histogram.code) <= number_format.max_code) is distinct from true
        or (
            listed.number_format_id is not null
            and number_format_code.code is null
        )
    )
order by all;
