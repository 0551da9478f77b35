-- The contents of the file for each network, and what is missing.
-- Grain: one network. Key: network. A cell is an evaluation in one number format under
-- one scheme; the counts are by what was quantized in it.

create or replace view network_overview as
with cells as (
    select
        evaluation.network_id,
        count(*) filter (where evaluation.scope = 'all') as all_cells,
        count(*) filter (where evaluation.scope = 'weight') as weight_cells,
        count(*) filter (where evaluation.scope = 'bias') as bias_cells,
        count(*) filter (where evaluation.scope = 'input') as input_cells
    from evaluation
    group by evaluation.network_id
),

layers_alone as (
    select
        layer.network_id,
        count(*) as layer_cells
    from layer_evaluation
    inner join layer on layer_evaluation.layer_id = layer.layer_id
    group by layer.network_id
),

missing as (
    select
        missing_cell.network,
        count(*) as missing_cells
    from missing_cell
    group by missing_cell.network
),

failed as (
    select
        failed_cell_overview.network,
        count(*) as failed_cells
    from failed_cell_overview
    group by failed_cell_overview.network
),

layers as (
    select
        layer.network_id,
        sum(layer.params)::bigint as params
    from layer
    group by layer.network_id
),

unquantized as (
    select
        unquantized_part.network_id,
        sum(unquantized_part.params)::bigint as params,
        -- NULL if the multiplications of a part are not counted
        case
            when count(unquantized_part.macs) = count(*)
                then sum(unquantized_part.macs)::bigint
        end as macs
    from unquantized_part
    group by unquantized_part.network_id
),

float_network as (
    select
        evaluation.network_id,
        evaluation.image_count,
        evaluation.correct_top1
    from evaluation
    where evaluation.scope = 'none'
)

select
    network.name as network,
    network.architecture,
    dataset.name as dataset,
    dataset.split,
    dataset.class_count as classes,
    network.quantized_layer_count as layers,
    network.params,
    network.macs,
    coalesce(unquantized.params, 0)
    / nullif(layers.params + coalesce(unquantized.params, 0), 0)
        as unquantized_param_share,
    case
        when unquantized.network_id is null then 0
        else unquantized.macs / nullif(network.macs + unquantized.macs, 0)
    end as unquantized_mac_share,
    float_network.image_count as images,
    float_network.correct_top1 / float_network.image_count as float_accuracy,
    coalesce(cells.all_cells, 0) as all_cells,
    coalesce(cells.weight_cells, 0) as weight_cells,
    coalesce(cells.bias_cells, 0) as bias_cells,
    coalesce(cells.input_cells, 0) as input_cells,
    coalesce(layers_alone.layer_cells, 0) as layer_cells,
    coalesce(failed.failed_cells, 0) as failed_cells,
    coalesce(missing.missing_cells, 0) as missing_cells
from network
inner join dataset on network.dataset_id = dataset.dataset_id
left join float_network on network.network_id = float_network.network_id
left join layers on network.network_id = layers.network_id
left join unquantized on network.network_id = unquantized.network_id
left join cells on network.network_id = cells.network_id
left join layers_alone on network.network_id = layers_alone.network_id
left join failed on network.name = failed.network
left join missing on network.name = missing.network
order by network.network_id;

comment on view network_overview is
'Grain: one network: its size, its accuracy in floating point, how many number formats
were evaluated and how many are missing.';
comment on column network_overview.network is 'Name of the network';
comment on column network_overview.architecture is
'Family: networks with and without batch norm are one architecture';
comment on column network_overview.dataset is 'Name of the evaluation dataset';
comment on column network_overview.split is 'Split of the dataset';
comment on column network_overview.classes is 'Number of classes';
comment on column network_overview.layers is 'Number of quantized layers: the depth';
comment on column network_overview.params is
'Params of the float network, including its batch norms';
comment on column network_overview.macs is
'Multiply-accumulates of the quantized layers for one image';
comment on column network_overview.unquantized_param_share is
'Fraction of the params, with batch norms folded, that stay in float: see table
unquantized_part';
comment on column network_overview.unquantized_mac_share is
'Fraction of the multiply-accumulates that stay in float; NULL if some of them are not
counted';
comment on column network_overview.images is
'Number of evaluation images of the floating-point network; NULL before';
comment on column network_overview.float_accuracy is
'Top-1 accuracy in floating point, a fraction; NULL before its evaluation';
comment on column network_overview.all_cells is
'Evaluations with everything quantized';
comment on column network_overview.weight_cells is
'Evaluations with only the weights quantized';
comment on column network_overview.bias_cells is
'Evaluations with only the biases quantized';
comment on column network_overview.input_cells is
'Evaluations with only the inputs of the layers quantized';
comment on column network_overview.layer_cells is
'Evaluations with a single layer quantized';
comment on column network_overview.failed_cells is
'Cells that cannot be evaluated: see failed_cell_overview';
comment on column network_overview.missing_cells is
'Cells of the study or of a run that are missing: see missing_cell';
