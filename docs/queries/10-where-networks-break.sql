-- At which divergence does each network lose a tenth of its accuracy?
-- The largest divergence up to which every format loses less, next to the MACs. Do
-- large networks break earlier?
with running as (
    select
        network,
        divergence,
        max(accuracy_loss) over (
            partition by network order by divergence
            rows between unbounded preceding and current row
        ) as worst_so_far
    from fakefreeze_flops
)

select
    running.network,
    network.quantized_layer_count as layers,
    network.macs / 1e6 as mmac,
    max(running.divergence) filter (where running.worst_so_far < 0.1) as tolerated
from running
inner join network on running.network = network.name
group by all
order by mmac, running.network;
