-- A network was probed in a format without an evaluation of everything quantized.
-- Grain: one probe that is wrong, unless its network has no evaluation at all, not even
-- in floating point: then it is only predicted.

select
    network.name as network,
    number_format.name as number_format,
    probe.scheme_id
from probe
anti join evaluation
    on
        probe.network_id = evaluation.network_id
        and probe.number_format_id = evaluation.number_format_id
        and probe.scheme_id = evaluation.scheme_id
        and evaluation.scope = 'all'
semi join evaluation as any_evaluation
    on probe.network_id = any_evaluation.network_id
left join network on probe.network_id = network.network_id
left join number_format on probe.number_format_id = number_format.number_format_id
order by all;
