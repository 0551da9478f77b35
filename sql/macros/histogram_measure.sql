-- Measures of two histograms, of the float tensor and of the rescaled codes, over the
-- same bins. With N elements, f and q are the counts of a bin. The domain is the bins
-- of the range and those beyond it that contain a code, n in total.

-- (1 + d) ln(1 + d) + (1 - d) ln(1 - d) for abs(d) below 0.02, from d squared. There
-- the logarithms nearly cancel, so the series sum d^2k / (k (2k - 1)) is used: its
-- first omitted term is less than 1e-15 of the sum.
create or replace macro js_series(d2) as
    d2 * (1 + d2 * (1 / 6::double + d2 * (1 / 15::double + d2 / 28)));

-- Term of the Jensen-Shannon divergence, base 2, for a bin with fractions p, q above 0.
-- p / 2 * log2(2p / (p + q)) + q / 2 * log2(2q / (p + q)), which with
-- d = (p - q) / (p + q) is
--     (p + q) / (4 ln 2) * ((1 + d) ln(1 + d) + (1 - d) ln(1 - d)).
create or replace macro js_term(p, q) as
    (p + q) / (4 * ln(2)) * case
        when abs(p - q) < 0.02 * (p + q) then js_series(((p - q) / (p + q)) ** 2)
        else
            2 * p / (p + q) * ln(2 * p / (p + q))
            + 2 * q / (p + q) * ln(2 * q / (p + q))
    end;

-- Term of the Kullback-Leibler divergence of the floats from the codes, base 2, for a
-- bin with counts f and q of N in n bins, with half a count added to each. With P = (f
-- + 0.5) / (N + n / 2) and Q likewise it is P log2(P / Q) + (Q - P) / ln 2. The sum of
-- Q - P is 0; adding it makes every term non-negative, which avoids cancellation.
create or replace macro kl_term(f, q, element_count, bin_count) as
    ((f + 0.5) * ln((f + 0.5) / (q + 0.5)) - f + q)
    / ((element_count + 0.5 * bin_count) * ln(2));

-- Term of the squared Hellinger distance: (sqrt(p) - sqrt(q))^2 / 2.
create or replace macro hellinger_term(p, q) as 0.5 * (sqrt(p) - sqrt(q)) ** 2;

-- Similarity of two histograms in [0, 1], with negative values set to 0; if a norm is
-- 0, it is 1 for equal histograms and 0 otherwise.
create or replace macro bounded_similarity(product, norm2_product, are_equal) as
    case
        when norm2_product > 0 then
            greatest(0, least(1, product / sqrt(norm2_product)))
        else are_equal::integer
    end;

-- Quantized weights and biases without a measure in tensor_divergence, with the factor
-- of their codes and the range of their bins. All histogram measures are stored
-- together, so js alone is checked. If no cell is pending, the joins of the measure are
-- empty, too. deviation: the standard deviation of the float tensor; its max_abs if the
-- tensor is constant or the deviation is lost in the rounding of the sums; NULL for a
-- tensor of zeros.
-- Grain: one (weight or bias, format) under one of the chosen schemes. Key: cell_id;
-- tensor_id, number_format_id, scheme_id.
create or replace macro pending_cell(
    the_rescale, the_measure, the_bins, the_scheme := '*'
) as table
select
    sums.tensor_id,
    sums.number_format_id,
    sums.scheme_id,
    sums.has_code_grid,
    number_format.family,
    tensor.element_count,
    tensor.sum_abs,
    row_number() over ()::integer as cell_id,
    code_bits(tensor.role, number_format.family, number_format.bits) as code_bits,
    code_ebits(tensor.role, number_format.family, number_format.ebits) as code_ebits,
    max_abs(tensor.min_value, tensor.max_value) as max_abs,
    case
        when
            centred_norm2(
                tensor.element_count,
                population_variance(
                    tensor.element_count, tensor.sum_x, tensor.sum_x2
                ),
                tensor.sum_x2
            ) > 0
            then
            sqrt(population_variance(
                tensor.element_count, tensor.sum_x, tensor.sum_x2
            ))
        else nullif(max_abs(tensor.min_value, tensor.max_value), 0)
    end as deviation,
    rescale_factor(the_rescale, sums.scale, tensor.sum_x2, sums.sum_codes2) as factor
from quantized_sums(the_scheme) as sums
inner join tensor on sums.tensor_id = tensor.tensor_id
inner join number_format
    on sums.number_format_id = number_format.number_format_id
where
    list_contains(parameter_roles(), tensor.role)
    and not exists (
        select 1
        from tensor_divergence
        where
            tensor_divergence.tensor_id = sums.tensor_id
            and tensor_divergence.number_format_id = sums.number_format_id
            and tensor_divergence.scheme_id = sums.scheme_id
            and tensor_divergence.rescale = the_rescale
            and tensor_divergence.measure = the_measure
            and tensor_divergence.bins is not distinct from the_bins
    );

-- All histogram measures, for every cell without them in tensor_divergence.
-- Grain: one pending cell with two complete histograms. Key: tensor_id,
-- number_format_id, scheme_id.
--     js: sum of js_term over common bins + half of each side's fraction outside them
--     kl: sum of kl_term
--     hellinger: square root of the sum of hellinger_term
--     total_variation: half the sum of |f - q| / N
--     wasserstein: area between the cumulative histograms, in standard deviations
--     bin_cosine, bin_pearson: 1 - similarity of the two vectors of counts, at least 0
--     uncovered, uncovered_bins: fraction of the elements, and of the occupied bins, in
--     bins without a code of the grid; NULL without one grid for the whole tensor, as
--     under all schemes but the study's
-- Sums are ordered by bin, or of integers below 2^53: they do not depend on the number
-- of threads.
create or replace macro histogram_measure(
    the_rescale, the_bins, the_scheme := '*'
) as table
with cell as (
    select
        pending.*,
        (4095 // the_bins) * pending.max_abs / 2047 as bin_width
    from pending_cell(the_rescale, 'js', the_bins, the_scheme) as pending
),

float_bin as (
    select
        tensor_histogram.tensor_id,
        coarse_bin(tensor_histogram.bin, the_bins) as coarse,
        sum(tensor_histogram.count)::double as occupancy
    from tensor_histogram
    where tensor_histogram.tensor_id in (select cell.tensor_id from cell)
    group by tensor_histogram.tensor_id, coarse
),

code_place as (
    select
        cell.cell_id,
        coded.count,
        fine_bin(coded.code * cell.factor, cell.max_abs) as bin
    from quantized_histogram() as coded
    inner join cell
        on
            coded.tensor_id = cell.tensor_id
            and coded.number_format_id = cell.number_format_id
            and coded.scheme_id = cell.scheme_id
),

occupied as (
    select
        cell.cell_id,
        float_bin.coarse,
        float_bin.occupancy as f,
        0::double as q
    from cell
    inner join float_bin on cell.tensor_id = float_bin.tensor_id
    union all
    select
        code_place.cell_id,
        coarse_bin(code_place.bin, the_bins) as coarse,
        0::double as f,
        sum(code_place.count)::double as q
    from code_place
    group by code_place.cell_id, coarse
),

paired as (
    select
        occupied.cell_id,
        occupied.coarse,
        sum(occupied.f) as f,
        sum(occupied.q) as q
    from occupied
    group by occupied.cell_id, occupied.coarse
),

running as (
    select
        paired.*,
        sum(paired.f - paired.q) over (
            partition by paired.cell_id order by paired.coarse
            rows between unbounded preceding and current row
        ) as ahead,
        lead(paired.coarse) over (
            partition by paired.cell_id order by paired.coarse
        ) - paired.coarse as step
    from paired
),

total as (
    select
        paired.cell_id,
        the_bins + count(*) filter (where abs(paired.coarse) > the_bins // 2)
            as bin_count
    from paired
    group by paired.cell_id
    having sum(paired.f) > 0 and sum(paired.f) = sum(paired.q)
),

placed as (
    select
        running.*,
        cell.element_count,
        total.bin_count,
        cell.family,
        cell.code_bits,
        cell.code_ebits,
        running.f / cell.element_count as float_share,
        running.q / cell.element_count as code_share,
        (abs(running.coarse) - 0.5) * cell.bin_width / cell.factor as inner_edge,
        (abs(running.coarse) + 0.5) * cell.bin_width / cell.factor as outer_edge
    from running
    inner join total on running.cell_id = total.cell_id
    inner join cell on running.cell_id = cell.cell_id
),

covered as (
    select
        placed.*,
        placed.coarse = 0 or magnitudes_within(
            placed.outer_edge, placed.family, placed.code_bits, placed.code_ebits
        ) > magnitudes_within(
            placed.inner_edge, placed.family, placed.code_bits, placed.code_ebits
        ) as holds_code
    from placed
),

summed as (
    select
        covered.cell_id,
        covered.bin_count,
        sum(
            case
                when covered.float_share > 0 and covered.code_share > 0 then
                    js_term(covered.float_share, covered.code_share)
                else 0.5 * (covered.float_share + covered.code_share)
            end
            order by covered.coarse
        ) as js,
        sum(
            kl_term(covered.f, covered.q, covered.element_count, covered.bin_count)
            order by covered.coarse
        ) as kl,
        sum(
            hellinger_term(covered.float_share, covered.code_share)
            order by covered.coarse
        ) as squared_hellinger,
        sum(abs(covered.f - covered.q)) as difference,
        coalesce(sum(abs(covered.ahead) * covered.step), 0) as area,
        sum(covered.f * covered.q) as sum_fq,
        sum(covered.f * covered.f) as sum_f2,
        sum(covered.q * covered.q) as sum_q2,
        count(*) filter (where covered.f > 0) as float_bins,
        sum(covered.f) filter (where not covered.holds_code) as uncovered,
        count(*) filter (where covered.f > 0 and not covered.holds_code)
            as uncovered_bins
    from covered
    group by covered.cell_id, covered.bin_count
),

moments as (
    select
        summed.*,
        cell.*,
        cell.element_count::double ** 2 as square_count
    from summed
    inner join cell on summed.cell_id = cell.cell_id
)

select
    moments.tensor_id,
    moments.number_format_id,
    moments.scheme_id,
    greatest(0, least(1, moments.js)) as js,
    greatest(0, moments.kl) as kl,
    least(1, sqrt(moments.squared_hellinger)) as hellinger,
    0.5 * moments.difference / moments.element_count as total_variation,
    case
        when moments.area = 0 then 0
        else
            moments.area / moments.element_count
            * moments.bin_width / moments.deviation
    end as wasserstein,
    1 - bounded_similarity(
        moments.sum_fq, moments.sum_f2 * moments.sum_q2, moments.difference = 0
    ) as bin_cosine,
    1 - bounded_similarity(
        moments.bin_count * moments.sum_fq - moments.square_count,
        (moments.bin_count * moments.sum_f2 - moments.square_count)
        * (moments.bin_count * moments.sum_q2 - moments.square_count),
        moments.difference = 0
    ) as bin_pearson,
    case
        when moments.has_code_grid
            then coalesce(moments.uncovered, 0) / moments.element_count
    end as uncovered,
    case
        when moments.has_code_grid then moments.uncovered_bins / moments.float_bins
    end as uncovered_bins
from moments;
