-- An evaluation's scope contradicts its format: none has neither format nor scheme.
-- Grain: one evaluation that is wrong, including a second one in floating point, which
-- the unique constraint allows, since NULLs are distinct.

with counted as (
    select
        *,
        count(*) over (
            partition by network_id, number_format_id, scheme_id, scope
        ) as copy_count
    from evaluation
)

select
    network.name as network,
    counted.number_format_id,
    counted.scheme_id,
    counted.scope,
    counted.copy_count
from counted
left join network on counted.network_id = network.network_id
where
    (counted.scope = 'none') is distinct from (counted.number_format_id is null)
    or (counted.scope = 'none') is distinct from (counted.scheme_id is null)
    or counted.copy_count > 1
order by all;
