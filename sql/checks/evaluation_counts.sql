-- An evaluation's counts or sums are impossible.
-- Grain: one evaluation that is wrong. With n images, of which m have a prediction, t
-- are correct here and f in floating point: 0 <= t <= top 5 <= m; t + f - n <= both
-- <= least(t, f); both <= same prediction <= m; in floating point both = t and same =
-- m. Sums of cross-entropy and KL cover at most m images and are not negative (KL up to
-- float32 rounding).

with paired as (
    select
        *,
        image_count - non_finite_count as predicted_count
    from compared_evaluation()
)

select
    network.name as network,
    number_format.name as number_format,
    paired.scheme_id,
    paired.scope,
    paired.layer_id,
    paired.image_count,
    paired.correct_top1,
    paired.correct_top5,
    paired.correct_both,
    paired.same_prediction,
    paired.non_finite_count,
    paired.float_correct_top1,
    paired.cross_entropy_sum,
    paired.cross_entropy_count,
    paired.kl_sum,
    paired.kl_count
from paired
left join network on paired.network_id = network.network_id
left join number_format on paired.number_format_id = number_format.number_format_id
where
    (
        paired.correct_top1 between 0 and paired.correct_top5
        and paired.correct_top5 <= paired.predicted_count
        and paired.non_finite_count >= 0
        and paired.correct_both >= 0
        and paired.correct_both <= paired.correct_top1
        and paired.correct_both <= paired.same_prediction
        and paired.same_prediction <= paired.predicted_count
        and paired.cross_entropy_count between 0 and paired.predicted_count
        and paired.kl_count between 0 and paired.predicted_count
        and paired.cross_entropy_sum >= 0
        and paired.kl_sum >= -1e-4 * paired.image_count
    ) is distinct from true
    or paired.correct_both > paired.float_correct_top1
    or paired.correct_both
    < paired.correct_top1 + paired.float_correct_top1 - paired.image_count
    or (
        paired.scope = 'none'
        and (
            paired.correct_both != paired.correct_top1
            or paired.same_prediction != paired.predicted_count
        )
    )
order by all;
