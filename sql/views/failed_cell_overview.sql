-- The cells that cannot be evaluated because the network's own code fails.
-- Grain: one cell. Key: network, number_format, scheme, scope, quantized_layer. They
-- are retried when the network is collected again.

create or replace view failed_cell_overview as
with failed as (
    select
        failed_cell.*,
        null::varchar as quantized_layer
    from failed_cell
    union all by name
    select
        layer.network_id,
        failed_layer_cell.number_format_id,
        failed_layer_cell.scheme_id,
        'layer' as scope,
        layer.name as quantized_layer,
        failed_layer_cell.layer,
        failed_layer_cell.reason
    from failed_layer_cell
    inner join layer on failed_layer_cell.layer_id = layer.layer_id
)

select
    network.name as network,
    format_name(number_format.name, scheme.name) as number_format,
    scheme.name as scheme,
    failed.scope,
    failed.quantized_layer,
    failed.layer,
    failed.reason
from failed
inner join network on failed.network_id = network.network_id
inner join number_format
    on failed.number_format_id = number_format.number_format_id
inner join scheme on failed.scheme_id = scheme.scheme_id
order by
    network.network_id asc,
    number_format.number_format_id asc,
    scheme.scheme_id asc,
    failed.scope asc,
    failed.quantized_layer asc;

comment on view failed_cell_overview is
'Grain: one cell that cannot be evaluated because the network''s own code fails in that
number format. ptqdb collect --replace retries it.';
comment on column failed_cell_overview.network is 'Name of the network';
comment on column failed_cell_overview.number_format is 'Name of the number format';
comment on column failed_cell_overview.scheme is 'Name of the scheme';
comment on column failed_cell_overview.scope is
'What is quantized: all, weight, bias, input or layer';
comment on column failed_cell_overview.quantized_layer is
'The only quantized layer; NULL except for the scope layer';
comment on column failed_cell_overview.layer is
'The last quantized layer that started before the error; NULL if unknown';
comment on column failed_cell_overview.reason is 'Type and message of the error';
