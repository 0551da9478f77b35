-- A tensor's extremes and sums contradict each other.
-- Grain: one tensor that is wrong. With n elements and the largest absolute value m:
-- min <= max, abs(sum x) <= sum abs(x) <= n m, (sum abs(x))^2 <= n sum x^2,
-- sum x^2 <= m sum abs(x), sum x^4 <= m^2 sum x^2. Tolerance: 1e-6 of the larger side.

with widened as (
    select
        *,
        max_abs(min_value, max_value) as largest,
        1 + 1e-6 as rounding
    from tensor
)

select
    widened.tensor_id,
    widened.role,
    widened.element_count,
    widened.min_value,
    widened.max_value,
    widened.sum_x,
    widened.sum_abs,
    widened.sum_x2,
    widened.sum_x4
from widened
where
    (
        widened.element_count >= 1
        and widened.min_value <= widened.max_value
        and abs(widened.sum_x) <= widened.sum_abs * widened.rounding
        and widened.sum_abs
        <= widened.element_count * widened.largest * widened.rounding
        and widened.sum_abs ** 2
        <= widened.element_count * widened.sum_x2 * widened.rounding
        and widened.sum_x2 <= widened.largest * widened.sum_abs * widened.rounding
        and widened.sum_x4 <= widened.largest ** 2 * widened.sum_x2 * widened.rounding
    ) is distinct from true
order by widened.tensor_id;
