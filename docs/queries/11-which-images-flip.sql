-- Which images flip, and are they the same in every format?
-- An image flips if exactly one of the float and the quantized network has it right.
-- Among the formats that lose less than 5 %: how many images flip in any of them, how
-- many would if each format chose its own at random, and which image flips most often.
with cell as (
    select *
    from compared_evaluation()
    where
        scope = 'all'
        and scheme_id in (select study.scheme_id from chosen_scheme(null) as study)
        and abs(accuracy_loss(correct_top1, float_correct_top1)) < 0.05
),

flip as (
    select
        cell.network_id,
        cell.number_format_id,
        image_at(spot.place, cell.float_image_count) as image
    from cell
    cross join unnest(range(cell.image_count)) as spot (place)
    where
        get_bit(cell.correct_images, spot.place::integer)
        != get_bit(cell.float_correct_images, spot.place::integer)
),

image as (
    select
        flip.network_id,
        flip.image,
        count(*) as formats
    from flip
    group by flip.network_id, flip.image
),

flipping as (
    select
        image.network_id,
        count(*) as flipping_images,
        arg_max(image.image, (image.formats, -image.image)) as most_often,
        max(image.formats) as in_formats
    from image
    group by image.network_id
),

flips_of_cell as (
    select
        cell.network_id,
        cell.float_image_count as images,
        cell.correct_top1 + cell.float_correct_top1 - 2 * cell.correct_both as flips
    from cell
),

chance as (
    select
        flips_of_cell.network_id,
        count(*) as formats,
        sum(flips_of_cell.flips)::bigint as flips,
        max(flips_of_cell.images)
        * (1 - exp(sum(ln(1 - flips_of_cell.flips / flips_of_cell.images))))
            as at_random
    from flips_of_cell
    group by flips_of_cell.network_id
)

select
    network.name as network,
    chance.formats,
    chance.flips,
    flipping.flipping_images,
    flipping.most_often,
    flipping.in_formats,
    round(chance.at_random)::bigint as at_random
from chance
inner join flipping on chance.network_id = flipping.network_id
inner join network on chance.network_id = network.network_id
order by network.network_id;
