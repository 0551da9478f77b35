-- A cell is recorded as failed but has an evaluation.
-- Grain: one cell that is wrong.

select
    network.name as network,
    number_format.name as number_format,
    failed_cell.scheme_id,
    failed_cell.scope,
    failed_cell.reason
from failed_cell
semi join evaluation
    on
        failed_cell.network_id = evaluation.network_id
        and failed_cell.number_format_id = evaluation.number_format_id
        and failed_cell.scheme_id = evaluation.scheme_id
        and failed_cell.scope = evaluation.scope
left join network on failed_cell.network_id = network.network_id
left join number_format
    on failed_cell.number_format_id = number_format.number_format_id
union all
select
    network.name as network,
    number_format.name as number_format,
    failed_layer_cell.scheme_id,
    'layer' as scope,
    failed_layer_cell.reason
from failed_layer_cell
semi join layer_evaluation
    on
        failed_layer_cell.layer_id = layer_evaluation.layer_id
        and failed_layer_cell.number_format_id = layer_evaluation.number_format_id
        and failed_layer_cell.scheme_id = layer_evaluation.scheme_id
left join layer on failed_layer_cell.layer_id = layer.layer_id
left join network on layer.network_id = network.network_id
left join number_format
    on failed_layer_cell.number_format_id = number_format.number_format_id
order by all;
