-- A network lacks its floating-point evaluation, or was evaluated on other images.
-- Grain: one evaluation that is wrong, or one network without a floating-point one.

with float_network as (
    select
        evaluation.network_id,
        evaluation.image_count
    from evaluation
    where evaluation.scope = 'none'
)

select
    network.name as network,
    evaluation.number_format_id,
    evaluation.scope,
    evaluation.layer_id,
    evaluation.image_count,
    float_network.image_count as float_image_count,
    dataset.image_count as dataset_image_count
from network
left join every_evaluation() as evaluation
    on network.network_id = evaluation.network_id
left join float_network on network.network_id = float_network.network_id
left join dataset on network.dataset_id = dataset.dataset_id
where
    float_network.image_count is null
    or evaluation.image_count is distinct from float_network.image_count
    or evaluation.image_count is distinct from dataset.image_count
order by all;
