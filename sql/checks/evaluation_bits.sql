-- An evaluation's counts are not those of its images, bit by bit.
-- Grain: one evaluation that is wrong. correct_images and same_images have one bit per
-- image, or both are NULL. correct_both counts the images that are correct here and, at
-- the same position, in floating point.

with counted as (
    select
        *,
        length(correct_images) as correct_length,
        length(same_images) as same_length,
        bit_count(correct_images) as correct_bits,
        bit_count(same_images) as same_bits,
        case
            when length(correct_images) <= length(float_correct_images)
                then
                    bit_count(
                        bitstring(correct_images, length(float_correct_images)::integer)
                        & first_bits(float_correct_images, length(correct_images))
                    )
        end as both_bits
    from compared_evaluation()
)

select
    network.name as network,
    number_format.name as number_format,
    counted.scheme_id,
    counted.scope,
    counted.layer_id,
    counted.image_count,
    counted.correct_length,
    counted.same_length,
    counted.correct_top1,
    counted.correct_bits,
    counted.same_prediction,
    counted.same_bits,
    counted.correct_both,
    counted.both_bits
from counted
left join network on counted.network_id = network.network_id
left join number_format on counted.number_format_id = number_format.number_format_id
where
    (counted.correct_images is null) != (counted.same_images is null)
    or counted.correct_length != counted.image_count
    or counted.same_length != counted.image_count
    or counted.correct_bits != counted.correct_top1
    or counted.same_bits != counted.same_prediction
    or counted.both_bits != counted.correct_both
order by all;
