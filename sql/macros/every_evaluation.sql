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
    evaluation.kl_count
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
    layer_evaluation.kl_count
from layer_evaluation
left join layer on layer_evaluation.layer_id = layer.layer_id;
