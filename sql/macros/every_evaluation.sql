-- Every evaluation: those of a network in each scope, including floating point, and
-- those with a single layer quantized (scope layer).
-- Grain: one evaluation. Key: network_id, layer_id (NULL except for the scope layer),
-- number_format_id, scheme_id, scope.
create or replace macro every_evaluation() as table
select
    evaluation.network_id,
    null::integer as layer_id,
    evaluation.number_format_id,
    evaluation.scheme_id,
    evaluation.scope,
    evaluation.precision,
    evaluation.image_count,
    evaluation.correct_top1,
    evaluation.correct_top5,
    evaluation.correct_both,
    evaluation.same_prediction,
    evaluation.non_finite_count,
    evaluation.cross_entropy_sum,
    evaluation.cross_entropy_count,
    evaluation.kl_sum,
    evaluation.kl_count,
    evaluation.correct_images,
    evaluation.same_images
from evaluation
union all by name
select
    layer.network_id,
    layer_evaluation.layer_id,
    layer_evaluation.number_format_id,
    layer_evaluation.scheme_id,
    'layer' as scope,
    layer_evaluation.precision,
    layer_evaluation.image_count,
    layer_evaluation.correct_top1,
    layer_evaluation.correct_top5,
    layer_evaluation.correct_both,
    layer_evaluation.same_prediction,
    layer_evaluation.non_finite_count,
    layer_evaluation.cross_entropy_sum,
    layer_evaluation.cross_entropy_count,
    layer_evaluation.kl_sum,
    layer_evaluation.kl_count,
    layer_evaluation.correct_images,
    layer_evaluation.same_images
from layer_evaluation
left join layer on layer_evaluation.layer_id = layer.layer_id;

-- Every evaluation beside that of the float network. float_correct_top1 is the correct
-- count in floating point on the images of the evaluation; NULL if unknown: without a
-- floating-point evaluation, or if that has fewer images or does not tell which ones
-- are correct.
-- Grain and key: those of every_evaluation.
create or replace macro compared_evaluation() as table
select
    compared.network_id,
    compared.layer_id,
    compared.number_format_id,
    compared.scheme_id,
    compared.scope,
    compared.precision,
    compared.image_count,
    compared.correct_top1,
    compared.correct_top5,
    compared.correct_both,
    compared.same_prediction,
    compared.non_finite_count,
    compared.cross_entropy_sum,
    compared.cross_entropy_count,
    compared.kl_sum,
    compared.kl_count,
    compared.correct_images,
    compared.same_images,
    float_network.image_count as float_image_count,
    float_network.correct_images as float_correct_images,
    float_correct_count(
        compared.image_count,
        float_network.image_count,
        float_network.correct_top1,
        float_network.correct_images
    ) as float_correct_top1
from every_evaluation() as compared
left join evaluation as float_network
    on
        compared.network_id = float_network.network_id
        and float_network.scope = 'none';
