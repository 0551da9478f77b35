-- The cells that cannot be evaluated, since the network's own code fails in them.
-- Grain: one cell. Key: network, number_format, scheme, scope. They are tried again
-- when the network is collected anew.

create or replace view failed_cell_overview as
select
    network.name as network,
    number_format.name as number_format,
    scheme.name as scheme,
    failed_cell.scope,
    failed_cell.layer,
    failed_cell.reason
from failed_cell
inner join network on failed_cell.network_id = network.network_id
inner join number_format
    on failed_cell.number_format_id = number_format.number_format_id
inner join scheme on failed_cell.scheme_id = scheme.scheme_id
order by
    network.network_id asc,
    number_format.number_format_id asc,
    scheme.scheme_id asc,
    failed_cell.scope asc;

comment on view failed_cell_overview is
'Grain: one cell that cannot be evaluated, since the network''s own code fails in that
number format. ptqdb collect --replace tries it again.';
comment on column failed_cell_overview.network is 'Name of the network';
comment on column failed_cell_overview.number_format is 'Name of the number format';
comment on column failed_cell_overview.scheme is 'Name of the scheme';
comment on column failed_cell_overview.scope is
'What is quantized in it: all, weight, bias or input';
comment on column failed_cell_overview.layer is
'The last quantized layer that started before the error; NULL where none is known';
comment on column failed_cell_overview.reason is 'Kind and message of the error';
