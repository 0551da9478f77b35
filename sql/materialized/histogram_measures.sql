-- Fills tensor_divergence with all histogram measures at 63 bins, for both rescales, of
-- each quantized weight and bias without them.
-- Grain and key: those of tensor_divergence. Formulas: macro histogram_measure. A cell
-- has all of them or none, since only this statement writes them: js is checked. NULL
-- measures are omitted.

insert into tensor_divergence by name
with wide as (
    select
        'fakefreeze' as rescale,
        *
    from histogram_measure('fakefreeze', 63)
    union all
    select
        'l2' as rescale,
        *
    from histogram_measure('l2', 63)
),

long as (
    select
        wide.tensor_id,
        wide.number_format_id,
        wide.scheme_id,
        wide.rescale,
        unnest([
            'js',
            'kl',
            'hellinger',
            'total_variation',
            'wasserstein',
            'bin_cosine',
            'bin_pearson',
            'uncovered',
            'uncovered_bins'
        ]) as measure,
        unnest([
            wide.js,
            wide.kl,
            wide.hellinger,
            wide.total_variation,
            wide.wasserstein,
            wide.bin_cosine,
            wide.bin_pearson,
            wide.uncovered,
            wide.uncovered_bins
        ]) as value
    from wide
)

select
    long.tensor_id,
    long.number_format_id,
    long.scheme_id,
    long.rescale,
    63 as bins,
    long.measure,
    long.value
from long
where long.value is not null
order by
    long.rescale,
    long.measure,
    long.tensor_id,
    long.scheme_id,
    long.number_format_id;
