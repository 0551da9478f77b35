-- A network lacks its floating-point evaluation, or was evaluated on other images: on
-- more, or on fewer without a record of which ones are correct.
-- Grain: one evaluation that is wrong, or one network without a floating-point one. An
-- evaluation of fewer images than the floating-point one has the first of them.

select
    network.name as network,
    evaluation.number_format_id,
    evaluation.scope,
    evaluation.layer_id,
    evaluation.image_count,
    evaluation.float_image_count,
    dataset.image_count as dataset_image_count
from network
left join compared_evaluation() as evaluation
    on network.network_id = evaluation.network_id
left join dataset on network.dataset_id = dataset.dataset_id
where
    evaluation.float_correct_top1 is null
    or evaluation.float_image_count is distinct from dataset.image_count
    or (
        evaluation.image_count < evaluation.float_image_count
        and evaluation.correct_images is null
    )
order by all;
