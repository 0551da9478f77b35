-- Which measure sorts the formats of a network by their losses?
-- Spearman's rank correlation for each network, then its mean and its minimum. `bits`
-- is the baseline that a measure should beat.
with points as (
    select
        'js' as measure,
        *
    from variant(measure := 'js')
    union all by name
    select
        'nsr' as measure,
        *
    from variant(measure := 'nsr')
    union all by name
    select
        'wasserstein' as measure,
        *
    from variant(measure := 'wasserstein')
    union all by name
    select
        'js_softmax' as measure,
        *
    from variant(measure := 'js_softmax')
    union all by name
    select
        'bits' as measure,
        *
    from variant(measure := 'bits')
),

ranked as (
    select
        measure,
        network,
        rank() over (partition by measure, network order by divergence)
        + (count(*) over (partition by measure, network, divergence) - 1) / 2 as x_rank,
        rank() over (partition by measure, network order by accuracy_loss)
        + (count(*) over (partition by measure, network, accuracy_loss) - 1)
        / 2 as y_rank
    from points
),

per_network as (
    select
        measure,
        network,
        corr(x_rank, y_rank) as spearman
    from ranked
    group by all
)

select
    measure,
    avg(spearman) as mean_spearman,
    min(spearman) as worst,
    arg_min(network, spearman) as worst_network
from per_network
group by measure
order by mean_spearman desc;
