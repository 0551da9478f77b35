-- Which family of formats loses least at the same number of bits?
-- The mean over the networks, with the best format of each family.
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
