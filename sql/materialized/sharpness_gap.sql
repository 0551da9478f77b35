-- Fills tensor_divergence with the sharpness gap, for both rescales, of each quantized
-- weight and bias without it.
-- Grain and key: those of tensor_divergence. Formula: macro sharpness_gap. NULL gaps
-- are omitted.

insert into tensor_divergence by name
select
    gap.tensor_id,
    gap.number_format_id,
    gap.scheme_id,
    gap.rescale,
    'sharpness_gap' as measure,
    null as bins,
    gap.sharpness_gap as value
from (
    select
        'fakefreeze' as rescale,
        *
    from sharpness_gap('fakefreeze')
    union all
    select
        'l2' as rescale,
        *
    from sharpness_gap('l2')
) as gap
where gap.sharpness_gap is not null
order by gap.rescale, gap.tensor_id, gap.scheme_id, gap.number_format_id;
