-- The measure of the damage to a tensor, materialized or computed live, and its
-- correction. A measure has a word in words.sql and a formula in histogram_measure,
-- paired_measure or sharpness_gap; channelnsr is only materialized.

-- Fraction of the elements of each weight and bias with |x| at most their mean |x|, by
-- the centres of the fine bins; 0 if all magnitudes are nearly equal, so that every
-- centre lies above the mean.
-- Grain: one weight or bias. Key: tensor_id.
create or replace macro mean_range_share() as table
select
    tensor.tensor_id,
    coalesce(sum(tensor_histogram.count) filter (
        where
        abs(tensor_histogram.bin) * max_abs(tensor.min_value, tensor.max_value) / 2047
        <= tensor.sum_abs / tensor.element_count
    ), 0)::double / tensor.element_count as share
from tensor
inner join tensor_histogram on tensor.tensor_id = tensor_histogram.tensor_id
where list_contains(parameter_roles(), tensor.role)
group by tensor.tensor_id, tensor.element_count;

-- Difference between the fractions of float elements and of the format's codes within
-- the tensor's mean range, for every cell without it in tensor_divergence that has one
-- grid of codes for the whole tensor: those of the study's scheme.
-- Grain: one pending cell. Key: tensor_id, number_format_id, scheme_id.
create or replace macro sharpness_gap(the_rescale, the_scheme := '*') as table
with cell as (
    select
        pending.*,
        pending.sum_abs / pending.element_count / pending.factor as mean_abs
    from pending_cell(the_rescale, 'sharpness_gap', null, the_scheme) as pending
    where pending.has_code_grid
)

select
    cell.tensor_id,
    cell.number_format_id,
    cell.scheme_id,
    abs(of_floats.share - codes_within_share(
        cell.mean_abs, cell.family, cell.code_bits, cell.code_ebits
    )) as sharpness_gap
from cell
inner join mean_range_share() as of_floats on cell.tensor_id = of_floats.tensor_id;

-- The measure whose complement to 1 is the correction; NULL for none, sensitivity and
-- the fan-in corrections.
create or replace macro correction_measure(correction) as
    case correction
        when 'cosine' then 'bin_cosine'
        when 'pearson' then 'bin_pearson'
        when 'sharpness' then 'sharpness_gap'
        when 'coverage' then 'uncovered'
        when 'bincoverage' then 'uncovered_bins'
    end;

-- The bins of a measure; NULL for measures without histograms.
create or replace macro measure_bins(measure, bins) as
    case when list_contains(histogram_measure_words(), measure) then bins end;

-- Two measures of every quantized tensor that has either, materialized or else computed
-- live. Both at once, to build their histograms only once.
-- Grain: one quantized tensor under one of the chosen schemes. Key: tensor_id,
-- number_format_id, scheme_id.
create or replace macro tensor_measure(
    the_rescale, the_measure, the_other, the_bins, the_scheme := '*'
) as table
with found as (
    select
        tensor_divergence.tensor_id,
        tensor_divergence.number_format_id,
        tensor_divergence.scheme_id,
        case when tensor_divergence.measure = the_measure then tensor_divergence.value
        end as divergence,
        case when tensor_divergence.measure = the_other then tensor_divergence.value
        end as other
    from tensor_divergence
    semi join chosen_scheme(the_scheme) as chosen
        on tensor_divergence.scheme_id = chosen.scheme_id
    where
        tensor_divergence.rescale = the_rescale
        and (
            tensor_divergence.measure = the_measure
            or tensor_divergence.measure = the_other
        )
        and tensor_divergence.bins is not distinct from
        measure_bins(tensor_divergence.measure, the_bins)
    union all
    select
        live.tensor_id,
        live.number_format_id,
        live.scheme_id,
        case the_measure
            when 'js' then live.js
            when 'kl' then live.kl
            when 'hellinger' then live.hellinger
            when 'total_variation' then live.total_variation
            when 'wasserstein' then live.wasserstein
            when 'bin_cosine' then live.bin_cosine
            when 'bin_pearson' then live.bin_pearson
            when 'uncovered' then live.uncovered
            when 'uncovered_bins' then live.uncovered_bins
        end as divergence,
        case the_other
            when 'bin_cosine' then live.bin_cosine
            when 'bin_pearson' then live.bin_pearson
            when 'uncovered' then live.uncovered
            when 'uncovered_bins' then live.uncovered_bins
        end as other
    from histogram_measure(the_rescale, the_bins, the_scheme) as live
    where
        measure_bins(the_measure, the_bins) is not null
        or measure_bins(the_other, the_bins) is not null
    union all
    select
        live.tensor_id,
        live.number_format_id,
        live.scheme_id,
        case when the_measure = 'sharpness_gap' then live.sharpness_gap end
            as divergence,
        case when the_other = 'sharpness_gap' then live.sharpness_gap end as other
    from sharpness_gap(the_rescale, the_scheme) as live
    where the_measure = 'sharpness_gap' or the_other = 'sharpness_gap'
    union all
    select
        paired.tensor_id,
        paired.number_format_id,
        paired.scheme_id,
        paired.divergence,
        null as other
    from paired_measure(the_rescale, the_measure, the_scheme) as paired
)

select
    found.tensor_id,
    found.number_format_id,
    found.scheme_id,
    max(found.divergence) as divergence,
    max(found.other) as other
from found
group by found.tensor_id, found.number_format_id, found.scheme_id;

-- How a layer's damage splits between weight and bias: in proportion to the shares of
-- images lost when each is quantized alone, 0.5 : 0.5 if neither loses any. A weight
-- without a bias counts 1.
-- Grain: one quantized weight or bias of a cell with all three evaluations. Key:
-- tensor_id, number_format_id, scheme_id.
create or replace macro tensor_sensitivity() as table
with lost as (
    select
        of_weight.network_id,
        of_weight.number_format_id,
        of_weight.scheme_id,
        greatest(0, of_weight.float_correct_top1 - of_weight.correct_top1)
        / of_weight.image_count as by_weight,
        greatest(0, of_bias.float_correct_top1 - of_bias.correct_top1)
        / of_bias.image_count as by_bias
    from compared_evaluation() as of_weight
    inner join compared_evaluation() as of_bias
        on
            of_weight.network_id = of_bias.network_id
            and of_weight.number_format_id = of_bias.number_format_id
            and of_weight.scheme_id = of_bias.scheme_id
    where
        of_weight.scope = 'weight'
        and of_bias.scope = 'bias'
        and of_weight.float_correct_top1 is not null
        and of_bias.float_correct_top1 is not null
)

select
    tensor.tensor_id,
    lost.number_format_id,
    lost.scheme_id,
    case
        when bias.tensor_id is null then 1
        when lost.by_weight + lost.by_bias = 0 then 0.5
        when not is_bias(tensor.role)
            then lost.by_weight / (lost.by_weight + lost.by_bias)
        else lost.by_bias / (lost.by_weight + lost.by_bias)
    end::double as factor
from lost
inner join layer on lost.network_id = layer.network_id
inner join tensor
    on
        layer.layer_id = tensor.layer_id
        and list_contains(parameter_roles(), tensor.role)
left join tensor as bias
    on
        layer.layer_id = bias.layer_id
        and bias.role = replace(tensor.role, 'weight', 'bias');
