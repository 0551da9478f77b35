-- Fills tensor_divergence with all measures of histograms at 63 bins, under both
-- rescales, of each quantized weight and bias that is not there yet.
-- Grain and key: those of tensor_divergence. Formulas: macro histogram_measure. A cell
-- has all of them or none, since this statement alone writes them: js tells which.

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
)

select
    wide.tensor_id,
    wide.number_format_id,
    wide.scheme_id,
    wide.rescale,
    63 as bins,
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
order by
    wide.rescale,
    measure,
    wide.tensor_id,
    wide.scheme_id,
    wide.number_format_id;
