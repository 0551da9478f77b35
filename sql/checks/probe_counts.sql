-- A probe's counts or sums are impossible.
-- Grain: one probe that is wrong. With n images, of which m have a prediction: 1 <= n
-- <= calibration images; same prediction <= m, counted by its bits, one per image; the
-- sums of KL and logits cover at most m images and are not negative (KL up to float32
-- rounding); 0 <= sum of p(quantized prediction) <= sum of p(own prediction) <= n, the
-- probabilities of the float network, where equal predictions have equal ones. Sums
-- that all formats of a network share are equal for equal image counts.

with shared as (
    select
        probe.*,
        max(probe.float_probability_sum) over (
            partition by probe.network_id, probe.image_count
        ) as largest_probability_sum
    from probe
)

select
    network.name as network,
    number_format.name as number_format,
    shared.scheme_id,
    shared.image_count,
    dataset.image_count as calibration_image_count,
    shared.same_prediction,
    shared.same_images,
    shared.non_finite_count,
    shared.float_probability_sum,
    shared.chosen_probability_sum,
    shared.kl_sum,
    shared.kl_count,
    shared.logit_squared_error_sum,
    shared.float_logit_variance_sum,
    shared.logit_count
from shared
left join network on shared.network_id = network.network_id
left join dataset on network.calibration_dataset_id = dataset.dataset_id
left join number_format on shared.number_format_id = number_format.number_format_id
where
    (
        shared.image_count between 1 and dataset.image_count
        and shared.non_finite_count between 0 and shared.image_count
        and shared.same_prediction
        between 0 and shared.image_count - shared.non_finite_count
        and bit_count(shared.same_images) = shared.same_prediction
        and length(shared.same_images) = shared.image_count
        and shared.kl_count
        between 0 and shared.image_count - shared.non_finite_count
        and shared.logit_count
        between 0 and shared.image_count - shared.non_finite_count
        and shared.kl_sum >= -1e-4 * shared.image_count
        and shared.logit_squared_error_sum >= 0
        and shared.float_logit_variance_sum >= 0
        and shared.chosen_probability_sum >= 0
        and shared.chosen_probability_sum
        <= shared.float_probability_sum + 1e-9 * shared.image_count
        and shared.float_probability_sum <= shared.image_count * (1 + 1e-9)
        and shared.float_probability_sum
        >= (1 - 1e-3) * shared.largest_probability_sum
        and (
            shared.same_prediction < shared.image_count
            or abs(shared.chosen_probability_sum - shared.float_probability_sum)
            <= 1e-9 * shared.image_count
        )
    ) is distinct from true
order by all;
