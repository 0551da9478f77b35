-- Does the number of bins matter?
-- Pearson's correlation of divergence and loss over all networks and formats.
with points as (
    select
        15 as bins,
        *
    from variant(bins := 15)
    union all by name
    select
        63 as bins,
        *
    from variant(bins := 63)
    union all by name
    select
        273 as bins,
        *
    from variant(bins := 273)
    union all by name
    select
        1365 as bins,
        *
    from variant(bins := 1365)
)

select
    bins,
    corr(divergence, accuracy_loss) as pearson_correlation,
    median(divergence) as middle_divergence,
    max(divergence) as largest_divergence
from points
group by bins
order by bins;
