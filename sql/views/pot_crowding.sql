-- How POT_4 to POT_8 crowd into one column of points: beyond a few bits, a further bit
-- only adds codes close to zero.
-- Grain: one network. Key: network. Source: fakefreeze_flops.

create or replace view pot_crowding as
select
    points.network,
    count(*) filter (where points.family = 'POT' and points.bits >= 4) as formats,
    max(points.divergence) filter (where points.family = 'POT' and points.bits >= 4)
    - min(points.divergence) filter (where points.family = 'POT' and points.bits >= 4)
        as divergence_spread,
    max(points.divergence) - min(points.divergence) as divergence_range,
    max(points.accuracy_loss) filter (where points.family = 'POT' and points.bits >= 4)
    - min(points.accuracy_loss) filter (
        where points.family = 'POT' and points.bits >= 4
    ) as accuracy_loss_spread,
    max(points.accuracy_loss_se) filter (
        where points.family = 'POT' and points.bits >= 4
    ) as largest_se
from fakefreeze_flops as points
group by points.network
having formats > 0
order by points.network;

comment on view pot_crowding is
'Grain: one network. The spread of divergence (fakefreeze_flops) and of loss among POT_4
to POT_8, and of the divergence among all formats.';
comment on column pot_crowding.network is 'Name of the network';
comment on column pot_crowding.formats is 'Number of formats POT_4 to POT_8 evaluated';
comment on column pot_crowding.divergence_spread is
'Largest minus smallest divergence among them';
comment on column pot_crowding.divergence_range is
'Largest minus smallest divergence among all formats';
comment on column pot_crowding.accuracy_loss_spread is
'Largest minus smallest accuracy loss among them';
comment on column pot_crowding.largest_se is
'Largest standard error of their accuracy losses';
