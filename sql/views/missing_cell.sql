-- The expected cells that are missing.
-- Grain: one cell. Key: network, number_format, scheme, scope. A cell is expected if a
-- run announced it, and, if this file has the study's scheme, for every network of this
-- file and each format of the study's grid, with everything quantized. A cell that
-- was tried and cannot be evaluated is not missing: see failed_cell_overview. The scope
-- layer is one cell, missing until each single layer of the network was tried. A cell
-- evaluated on fewer images than others is not missing.

create or replace view missing_cell as
with announced as (
    select unnest(collection_run.cells) as cell
    from collection_run
),

expected as (
    select
        announced.cell.network,
        format_name(announced.cell.number_format, announced.cell.scheme)
            as number_format,
        announced.cell.scheme,
        announced.cell.scope
    from announced
    union
    select
        network.name as network,
        number_format.name as number_format,
        study.name as scheme,
        'all' as scope
    from network
    cross join chosen_scheme(null) as study
    cross join number_format
    where number_format.in_study_grid
),

tried_layer as (
    select
        layer_evaluation.layer_id,
        layer_evaluation.number_format_id,
        layer_evaluation.scheme_id
    from layer_evaluation
    union
    select
        failed_layer_cell.layer_id,
        failed_layer_cell.number_format_id,
        failed_layer_cell.scheme_id
    from failed_layer_cell
),

tried_layers as (
    select
        network.name as network,
        format_name(number_format.name, scheme.name) as number_format,
        scheme.name as scheme
    from tried_layer
    inner join layer on tried_layer.layer_id = layer.layer_id
    inner join network on layer.network_id = network.network_id
    inner join number_format
        on tried_layer.number_format_id = number_format.number_format_id
    inner join scheme on tried_layer.scheme_id = scheme.scheme_id
    group by network.name, number_format.name, scheme.name
    having count(*) = any_value(network.quantized_layer_count)
),

evaluated as (
    select
        network.name as network,
        format_name(number_format.name, scheme.name) as number_format,
        scheme.name as scheme,
        evaluation.scope
    from evaluation
    inner join network on evaluation.network_id = network.network_id
    inner join number_format
        on evaluation.number_format_id = number_format.number_format_id
    inner join scheme on evaluation.scheme_id = scheme.scheme_id
    union all
    select
        failed_cell_overview.network,
        failed_cell_overview.number_format,
        failed_cell_overview.scheme,
        failed_cell_overview.scope
    from failed_cell_overview
    where failed_cell_overview.scope != 'layer'
    union all
    select
        tried_layers.network,
        tried_layers.number_format,
        tried_layers.scheme,
        'layer' as scope
    from tried_layers
)

select
    expected.network,
    expected.number_format,
    expected.scheme,
    expected.scope
from expected
anti join evaluated
    on
        expected.network = evaluated.network
        and expected.number_format = evaluated.number_format
        and expected.scheme = evaluated.scheme
        and expected.scope = evaluated.scope
order by all;

comment on view missing_cell is
'Grain: one expected cell that is missing: announced by a run, or one of the study''s 43
formats, without an evaluation and not known to fail (failed_cell_overview).';
comment on column missing_cell.network is 'Name of the network';
comment on column missing_cell.number_format is 'Name of the number format';
comment on column missing_cell.scheme is 'Name of the scheme';
comment on column missing_cell.scope is
'What is quantized: all, weight, bias, input or each single layer (layer)';
