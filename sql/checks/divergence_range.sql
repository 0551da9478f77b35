-- A bounded measure is outside [0, 1], or an unbounded one is below 0.
-- Grain: one row of tensor_divergence that is wrong. Bounded: js, js_softmax,
-- hellinger and total_variation. Tolerance: 1e-9, for rounding.

select
    tensor_divergence.tensor_id,
    tensor_divergence.number_format_id,
    tensor_divergence.scheme_id,
    tensor_divergence.rescale,
    tensor_divergence.measure,
    tensor_divergence.bins,
    tensor_divergence.value
from tensor_divergence
where
    (tensor_divergence.value >= -1e-9) is distinct from true
    or (
        tensor_divergence.measure
        in ('js', 'js_softmax', 'hellinger', 'total_variation')
        and (tensor_divergence.value <= 1 + 1e-9) is distinct from true
    )
order by all;
