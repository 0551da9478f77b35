-- Why do powers of two not improve beyond four bits?
-- The divergences of POT_4 to POT_8 lie within `divergence_spread` of each other, while
-- all formats span `divergence_range`. A further bit only adds codes close to zero.
select
    network,
    formats,
    divergence_spread,
    divergence_range,
    accuracy_loss_spread,
    largest_se
from pot_crowding
order by network;
