-- The measures of the damage to a tensor: those materialized, and live those that are
-- not. A measure is a table macro like js_divergence over the cells that pending_cell
-- names, a word in measure_words and one more branch in tensor_measure.

-- Quantized weights and biases whose measure is not materialized yet, with the factor
-- of their codes and the range of their bins. Where all are, it is empty, and so are
-- the joins of the measure over it.
-- Grain: one (weight or bias, format, scheme). Key: tensor_id, number_format_id,
-- scheme_id.
create or replace macro pending_cell(the_rescale, the_measure, the_bins) as table
select
    quantized_tensor.tensor_id,
    quantized_tensor.number_format_id,
    quantized_tensor.scheme_id,
    max_abs(tensor.min_value, tensor.max_value) as max_abs,
    rescale_factor(
        the_rescale,
        quantized_tensor.scale,
        tensor.sum_x2,
        quantized_tensor.sum_codes2
    ) as factor
from quantized_tensor
inner join tensor on quantized_tensor.tensor_id = tensor.tensor_id
where
    tensor.role in ('weight', 'bias')
    and not exists (
        select 1
        from tensor_divergence
        where
            tensor_divergence.tensor_id = quantized_tensor.tensor_id
            and tensor_divergence.number_format_id = quantized_tensor.number_format_id
            and tensor_divergence.scheme_id = quantized_tensor.scheme_id
            and tensor_divergence.rescale = the_rescale
            and tensor_divergence.measure = the_measure
            and tensor_divergence.bins is not distinct from the_bins
    );

-- (1 + d) ln(1 + d) + (1 - d) ln(1 - d) for abs(d) below 0.02, from d squared.
-- There the logarithms nearly cancel, and the series sum d^2k / (k (2k - 1)) takes
-- their place: its first dropped term is less than 1e-15 of the sum.
create or replace macro js_series(d2) as
    d2 * (1 + d2 * (1 / 6::double + d2 * (1 / 15::double + d2 / 28)));

-- Summand of the Jensen-Shannon divergence, base 2, of a bin with shares p, q above 0.
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

-- Jensen-Shannon divergence (base 2, in [0, 1]) of the histograms of the float tensor
-- and of the rescaled codes, for every cell that is not materialized.
-- Grain: one pending cell with both histograms. Key: tensor_id, number_format_id,
-- scheme_id. JS = sum of js_term over the shared bins + half of each side's share
-- outside them. The terms are summed in the order of the bins and the counts are whole
-- numbers, so that threads cannot change the last bits.
create or replace macro js_divergence(rescale, bins) as table
with cell as (
    select * from pending_cell(rescale, 'js', bins)
),

float_bin as (
    select
        tensor_histogram.tensor_id,
        coarse_bin(tensor_histogram.bin, bins) as coarse,
        sum(tensor_histogram.count)::double as occupancy
    from tensor_histogram
    where tensor_histogram.tensor_id in (select cell.tensor_id from cell)
    group by tensor_histogram.tensor_id, coarse
),

code_bin as (
    select
        cell.tensor_id,
        cell.number_format_id,
        cell.scheme_id,
        coarse_bin(fine_bin(code_histogram.code * cell.factor, cell.max_abs), bins)
            as coarse,
        sum(code_histogram.count)::double as occupancy
    from code_histogram
    inner join cell
        on
            code_histogram.tensor_id = cell.tensor_id
            and code_histogram.number_format_id = cell.number_format_id
            and code_histogram.scheme_id = cell.scheme_id
    group by cell.tensor_id, cell.number_format_id, cell.scheme_id, coarse
),

float_total as (
    select
        float_bin.tensor_id,
        sum(float_bin.occupancy) as occupancy
    from float_bin
    group by float_bin.tensor_id
),

code_total as (
    select
        code_bin.tensor_id,
        code_bin.number_format_id,
        code_bin.scheme_id,
        sum(code_bin.occupancy) as occupancy
    from code_bin
    group by code_bin.tensor_id, code_bin.number_format_id, code_bin.scheme_id
)

select
    code_total.tensor_id,
    code_total.number_format_id,
    code_total.scheme_id,
    least(1, greatest(
        0,
        coalesce(sum(
            js_term(
                float_bin.occupancy / float_total.occupancy,
                code_bin.occupancy / code_total.occupancy
            )
            order by code_bin.coarse
        ), 0)
        + 0.5 * (1 - coalesce(sum(float_bin.occupancy), 0) / float_total.occupancy)
        + 0.5 * (
            1 - coalesce(
                sum(code_bin.occupancy) filter (where float_bin.occupancy is not null),
                0
            ) / code_total.occupancy
        )
    ))::double as divergence
from code_total
inner join float_total on code_total.tensor_id = float_total.tensor_id
inner join code_bin
    on
        code_total.tensor_id = code_bin.tensor_id
        and code_total.number_format_id = code_bin.number_format_id
        and code_total.scheme_id = code_bin.scheme_id
left join float_bin
    on
        code_bin.tensor_id = float_bin.tensor_id
        and code_bin.coarse = float_bin.coarse
group by
    code_total.tensor_id,
    code_total.number_format_id,
    code_total.scheme_id,
    code_total.occupancy,
    float_total.occupancy;

-- A measure of every quantized weight and bias: as materialized, else computed live.
-- Grain: one quantized weight or bias. Key: tensor_id, number_format_id, scheme_id.
create or replace macro tensor_measure(the_rescale, the_measure, the_bins) as table
select
    tensor_divergence.tensor_id,
    tensor_divergence.number_format_id,
    tensor_divergence.scheme_id,
    tensor_divergence.value as divergence
from tensor_divergence
where
    tensor_divergence.rescale = the_rescale
    and tensor_divergence.measure = the_measure
    and tensor_divergence.bins is not distinct from the_bins
union all
select
    js.tensor_id,
    js.number_format_id,
    js.scheme_id,
    js.divergence
from js_divergence(the_rescale, the_bins) as js
where the_measure = 'js';

-- The factor in [0, 1] that corrects each tensor's divergence; 1 under none.
-- Grain: one quantized weight or bias. Key: tensor_id, number_format_id, scheme_id.
-- A correction is one more branch here and a word in correction_words.
create or replace macro tensor_correction(correction) as table
select
    quantized_tensor.tensor_id,
    quantized_tensor.number_format_id,
    quantized_tensor.scheme_id,
    1::double as factor
from quantized_tensor
where correction = 'none';
