-- How few bits can each network have and lose at most 1 % of its accuracy?
-- The standard error shows how certain the loss is.
select
    network,
    number_format,
    bits,
    accuracy_loss,
    accuracy_loss_se
from fakefreeze_flops_log
where accuracy_loss <= 0.01
qualify
    row_number() over (
        partition by network order by bits asc, accuracy_loss asc, number_format asc
    ) = 1
order by network;
