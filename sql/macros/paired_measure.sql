-- Measures from sums over the pairs (element, code): for weights, biases and inputs,
-- without bins.

-- Variance of n values, from their sum and sum of squares.
create or replace macro population_variance(n, sum_x, sum_x2) as
    greatest(0, sum_x2 / n - (sum_x / n) ** 2);

-- 1 - cosine of the angle between two vectors, in [0, 2], from the squared norms of the
-- vectors and of their difference: ab cos = (a^2 + b^2 - d^2) / 2, hence
--     1 - cos = (d^2 - (a - b)^2) / (2 a b),
-- which avoids cancellation for close vectors. If one is more than 1e5 times as long as
-- the other, as a bias beyond the largest code may be, all digits cancel; then the
-- product ab cos is used if given. If a norm is 0, the result is 0 for equal vectors
-- and 1 otherwise.
create or replace macro angle_distance(
    norm2_x, norm2_y, difference2, product := null
) as
    case
        when
            norm2_x > 0
            and norm2_y > 0
            and product is not null
            and least(norm2_x, norm2_y) < 1e-10 * greatest(norm2_x, norm2_y)
            then
            greatest(0, least(2, 1 - product / (sqrt(norm2_x) * sqrt(norm2_y))))
        when norm2_x > 0 and norm2_y > 0 then
            greatest(0, least(
                2,
                (difference2 - (sqrt(norm2_x) - sqrt(norm2_y)) ** 2)
                / (2 * sqrt(norm2_x) * sqrt(norm2_y))
            ))
        when difference2 > 0 then 1
        else 0
    end;

-- n times the variance; 0 where it is only rounding error of the sums.
create or replace macro centred_norm2(n, variance, sum_x2) as
    case when variance > 1e-12 * sum_x2 / n then n * variance else 0 end;

-- Squared error over the sum of squares; 0 where both are 0. Under l2 both norms are
-- equal, and the squared error with the factor f, f^2 sum c^2 - 2 f sum cx + sum x^2,
-- is twice the cosine distance times sum x^2. If all codes are 0, f is the scale under
-- both rescales.
create or replace macro noise_to_signal(
    rescale, squared_error, sum_x2, sum_y2, product := null
) as
    case
        when squared_error = 0 then 0
        when rescale = 'l2' and sum_y2 > 0 then
            2 * angle_distance(sum_x2, sum_y2, squared_error, product := product)
        else squared_error / nullif(sum_x2, 0)
    end;

-- Squared coherent error over the sum of squares: (1 - g)^2, where the gain
-- g = sum xy / sum x^2 is the slope of the quantized elements over the float ones. The
-- quantized tensor y is g x plus an error orthogonal to x. Under l2, g is the cosine. 0
-- where x is 0.
create or replace macro coherent_error(
    rescale, squared_error, sum_x2, sum_y2, product
) as
    case
        when squared_error = 0 or sum_x2 = 0 then 0
        when rescale = 'l2' and sum_y2 > 0 then
            angle_distance(sum_x2, sum_y2, squared_error, product := product) ** 2
        else ((sum_x2 - product) / sum_x2) ** 2
    end;

-- Signal-to-noise ratio in decibels, from its inverse; NULL where the error is 0. It
-- decreases with damage: for display, not for fits.
create or replace macro sqnr_db(nsr) as -10 * log10(nullif(nsr, 0));

-- A paired measure of every quantized tensor that has it: js_softmax (measured; not for
-- inputs), nsr and its two parts coherent and orthogonal, cosine, pearson (1 -
-- similarity; for a constant, the cosine's), and the baseline bits, 2^(1 - bits).
-- Grain: one quantized tensor under one of the chosen schemes. Key: tensor_id,
-- number_format_id, scheme_id.
create or replace macro paired_measure(
    the_rescale, the_measure, the_scheme := '*'
) as table
with fact as (
    select
        sums.*,
        number_format.bits,
        tensor.element_count as n,
        tensor.sum_x,
        tensor.sum_x2,
        sums.scale * sums.sum_codes as sum_y,
        sums.scale ** 2 * sums.sum_codes2 as sum_y2,
        sums.scale * sums.sum_code_x as product
    from quantized_sums(the_scheme) as sums
    inner join tensor on sums.tensor_id = tensor.tensor_id
    inner join number_format
        on sums.number_format_id = number_format.number_format_id
    where list_contains(paired_measure_words(), the_measure)
),

varied as (
    select
        fact.*,
        population_variance(fact.n, fact.sum_x, fact.sum_x2) as variance_x,
        population_variance(fact.n, fact.sum_y, fact.sum_y2) as variance_y
    from fact
),

centred as (
    select
        varied.*,
        centred_norm2(varied.n, varied.variance_x, varied.sum_x2) as centred_x2,
        centred_norm2(varied.n, varied.variance_y, varied.sum_y2) as centred_y2,
        noise_to_signal(
            the_rescale,
            varied.squared_error_sum,
            varied.sum_x2,
            varied.sum_y2,
            product := varied.product
        ) as nsr,
        coherent_error(
            the_rescale,
            varied.squared_error_sum,
            varied.sum_x2,
            varied.sum_y2,
            varied.product
        ) as coherent,
        greatest(
            0, varied.squared_error_sum - (varied.sum_x - varied.sum_y) ** 2 / varied.n
        ) as centred_error
    from varied
)

select
    centred.tensor_id,
    centred.number_format_id,
    centred.scheme_id,
    case the_measure
        when 'js_softmax' then
            case the_rescale
                when 'l2' then centred.softmax_js_l2
                else centred.softmax_js_fakefreeze
            end / nullif(centred.softmax_group_count, 0)
        when 'nsr' then centred.nsr
        when 'coherent' then centred.coherent
        when 'orthogonal' then greatest(0, centred.nsr - centred.coherent)
        when 'cosine' then
            angle_distance(
                centred.sum_x2,
                centred.sum_y2,
                centred.squared_error_sum,
                product := centred.product
            )
        when 'pearson' then
            case
                when centred.centred_x2 > 0 and centred.centred_y2 > 0 then
                    angle_distance(
                        centred.centred_x2,
                        centred.centred_y2,
                        centred.centred_error,
                        product := centred.product
                        - centred.sum_x * centred.sum_y / centred.n
                    )
                else
                    angle_distance(
                        centred.sum_x2,
                        centred.sum_y2,
                        centred.squared_error_sum,
                        product := centred.product
                    )
            end
        when 'bits' then 2::double ** (1 - centred.bits)
    end as divergence
from centred;
