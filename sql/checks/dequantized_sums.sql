-- The stored sums of dequantized elements and of their squares do not match their
-- histogram.
-- Grain: one (tensor, format, scheme) that is wrong. Tolerance: an element y lies up to
-- half a bin width w from the centre c of its bin, so y deviates by w / 2 and y^2 by
-- abs(c) * w + w^2 / 4; and 1e-6 of the sum of absolute values, for rounding. A float
-- tensor of zeros has no bins to compare with.

with binned as (
    select
        dequantized_histogram.tensor_id,
        dequantized_histogram.number_format_id,
        dequantized_histogram.scheme_id,
        dequantized_histogram.count,
        bin_centre(
            dequantized_histogram.bin, max_abs(tensor.min_value, tensor.max_value)
        ) as centre,
        bin_centre(1, max_abs(tensor.min_value, tensor.max_value)) as width
    from dequantized_histogram
    inner join tensor on dequantized_histogram.tensor_id = tensor.tensor_id
    where max_abs(tensor.min_value, tensor.max_value) > 0
),

total as (
    select
        binned.tensor_id,
        binned.number_format_id,
        binned.scheme_id,
        sum(binned.count * binned.centre) as sum_y,
        sum(binned.count * binned.centre ** 2) as sum_y2,
        sum(binned.count * (binned.width / 2 + 1e-6 * abs(binned.centre)))
            as tolerance,
        sum(
            binned.count * (
                abs(binned.centre) * binned.width
                + binned.width ** 2 / 4
                + 1e-6 * binned.centre ** 2
            )
        ) as square_tolerance
    from binned
    group by all
)

select
    dequantized_tensor.tensor_id,
    number_format.name as number_format,
    dequantized_tensor.scheme_id,
    dequantized_tensor.sum_y,
    total.sum_y as sum_y_of_histogram,
    dequantized_tensor.sum_y2,
    total.sum_y2 as sum_y2_of_histogram
from dequantized_tensor
inner join number_format
    on dequantized_tensor.number_format_id = number_format.number_format_id
inner join total
    on
        dequantized_tensor.tensor_id = total.tensor_id
        and dequantized_tensor.number_format_id = total.number_format_id
        and dequantized_tensor.scheme_id = total.scheme_id
where
    (
        abs(dequantized_tensor.sum_y - total.sum_y) <= total.tolerance
    ) is distinct from true
    or (
        abs(dequantized_tensor.sum_y2 - total.sum_y2) <= total.square_tolerance
    ) is distinct from true
order by
    dequantized_tensor.tensor_id,
    dequantized_tensor.number_format_id,
    dequantized_tensor.scheme_id;
