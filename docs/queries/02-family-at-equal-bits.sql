-- At equal width, which family of formats loses least?
-- Mean over the networks, of each family its best format of that width.
with best as (
    select
        network,
        family,
        bits,
        min(accuracy_loss) as accuracy_loss
    from fakefreeze_flops_log
    where bits between 3 and 8
    group by all
)

pivot best on family using avg(accuracy_loss)
group by bits
order by bits;
