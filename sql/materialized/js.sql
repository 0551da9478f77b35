-- Fills tensor_divergence with the Jensen-Shannon divergence at 63 bins, under both
-- rescales, of each quantized weight and bias that is not there yet.
-- Grain and key: those of tensor_divergence. Formula: macro js_divergence.

insert into tensor_divergence by name
select
    js.tensor_id,
    js.number_format_id,
    js.scheme_id,
    js.rescale,
    'js' as measure,
    63 as bins,
    js.divergence as value
from (
    select
        'fakefreeze' as rescale,
        *
    from js_divergence('fakefreeze', 63)
    union all
    select
        'l2' as rescale,
        *
    from js_divergence('l2', 63)
) as js
order by js.rescale, js.tensor_id, js.scheme_id, js.number_format_id;
