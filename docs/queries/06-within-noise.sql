-- How many formats are indistinguishable from the float network on these images?
-- Those whose loss is within two standard errors of 0.
select
    network,
    any_value(images) as images,
    count(*) filter (where abs(accuracy_loss) <= 2 * accuracy_loss_se) as within_noise,
    count(*) filter (where accuracy_loss > 2 * accuracy_loss_se) as worse,
    count(*) filter (where accuracy_loss < -2 * accuracy_loss_se) as better,
    count(*) filter (where saturated) as at_chance
from fakefreeze_flops_log
group by network
order by network;
