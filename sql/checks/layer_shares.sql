-- The shares of a network's layers do not sum to 1.
-- Grain: one (network, share) that is wrong. Formula: macro layer_share.

with share_of_layer as (
    select
        'param' as share,
        *
    from layer_share('param')
    union all
    select
        'flops' as share,
        *
    from layer_share('flops')
    union all
    select
        'layer' as share,
        *
    from layer_share('layer')
),

total as (
    select
        share_of_layer.network_id,
        share_of_layer.share,
        sum(share_of_layer.share_of_network) as share_sum
    from share_of_layer
    group by share_of_layer.network_id, share_of_layer.share
)

select
    network.name as network,
    total.share,
    total.share_sum
from network
left join total on network.network_id = total.network_id
where (abs(total.share_sum - 1) <= 1e-9) is distinct from true
order by network.name, total.share;
