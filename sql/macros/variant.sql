-- Accuracy loss against divergence: the formula of every named view.
-- Grain: one (network, number format) under one of the chosen schemes. Key: network,
-- number_format, scheme.
--     divergence = factor(network) * aggregate over its layers of
--         share(layer) * combine(divergence(weight), divergence(bias))
-- Parameters: rescale, combine, share, mac_weight, correction, measure, aggregate,
-- scope and tensors take the words of words.sql; bins is a divisor of 4095, without
-- effect on measures without bins; scheme is the name of a row of the table scheme, '*'
-- for all of them, NULL for the study's. number_format is named as --number-formats
-- takes it: see format_name. Only under the study's scheme does one grid of codes serve
-- a whole tensor: under the others there is no row with a measure (uncovered,
-- uncovered_bins, sharpness_gap) or correction (sharpness, coverage, bincoverage) that
-- compares with the grid, nor with tensors trained for a network with folded batch
-- norms, whose tensors as trained they do not quantize. Corrections apply to weights
-- and biases; coherence also to inputs. The measure channelnsr requires rescale
-- fakefreeze. With tensors trained, the weights and biases of layers count as they were
-- before batch norm was folded into them, and a bias that exists only by folding does
-- not; there is no row for a network that an older version measured. With share
-- sensitivity there are rows only for networks collected with --sensitivity. The
-- measures probe_* are of the whole network, whose divergence is that of its probe:
-- rescale, combine, share, mac_weight, correction and aggregate have no effect, the
-- scope is all, and tensors is parameters.
-- There is a row only if every weight and bias that counts has its measure (never a
-- partial sum), or the probe if that counts, and either
--     the format has been evaluated, and the float network on the same images and maybe
--     more, or
--     the network has no evaluation at all, not even in floating point, and is only
--     predicted. Columns that need images are NULL then, and the scope has no effect.
--     A network evaluated only in other formats or scopes has no such row.
-- accuracy, float_accuracy and the loss are over the images of the cell. divergence is
-- NULL under the mac_weight log up to 1 MMAC.

-- No row if all words of variant are valid; otherwise an error that lists the valid
-- ones. The error is the value of the only column, so it is always evaluated, even with
-- empty tables or a filter.
create or replace macro variant_check(
    rescale,
    combine,
    share,
    mac_weight,
    correction,
    measure,
    bins,
    aggregate,
    scope,
    scheme,
    tensors
) as table
select error(problem.message)::varchar as network
from (
    select
        coalesce(
            (
                select
                    first(
                        word_message(given.parameter, given.word, given.words)
                        order by given.place
                    )
                from (
                    values
                    (1, 'rescale', rescale, rescale_words()),
                    (2, 'combine', combine, combine_words()),
                    (3, 'share', share, share_words()),
                    (4, 'mac_weight', mac_weight, mac_weight_words()),
                    (5, 'correction', correction, correction_words()),
                    (6, 'measure', measure, measure_words()),
                    (7, 'aggregate', aggregate, aggregate_words()),
                    (8, 'scope', scope, scope_words()),
                    (9, 'tensors', tensors, tensors_words()),
                    (
                        10,
                        'measure with inputs',
                        case
                            when tensors in ('parameters', 'trained') then 'nsr'
                            else measure
                        end,
                        input_measure_words()
                    ),
                    (
                        11,
                        'rescale with channelnsr',
                        case
                            when measure = 'channelnsr' then rescale else 'fakefreeze'
                        end,
                        ['fakefreeze']
                    ),
                    (
                        12,
                        'scope with a probe',
                        case
                            when list_contains(probe_measure_words(), measure)
                                then scope
                            else 'all'
                        end,
                        ['all']
                    ),
                    (
                        13,
                        'measure as trained',
                        case when tensors = 'trained' then measure else 'nsr' end,
                        trained_measure_words()
                    )
                ) as given (place, parameter, word, words)
                where not coalesce(list_contains(given.words, given.word), false)
            ),
            bins_message(bins),
            scheme_message(scheme)
        ) as message
) as problem
where problem.message is not null;

-- Evaluations of one scope under the chosen schemes, paired with the correct count of
-- the float network on the same images.
-- Grain: one evaluated (network, format, scheme). Key: network_id, number_format_id,
-- scheme_id.
create or replace macro paired_evaluation(the_scope, the_scheme) as table
select
    compared.network_id,
    compared.number_format_id,
    compared.scheme_id,
    compared.image_count,
    compared.correct_top1,
    compared.correct_both,
    compared.non_finite_count,
    compared.float_correct_top1
from compared_evaluation() as compared
inner join chosen_scheme(the_scheme) as chosen
    on compared.scheme_id = chosen.scheme_id
where compared.scope = the_scope and compared.float_correct_top1 is not null;

-- The rows of variant: each paired evaluation, and, for networks without any
-- evaluation, each format with facts of the weights.
-- Grain: one (network, format) under one of the chosen schemes. Key: network_id,
-- number_format_id, scheme_id. The counts are NULL without an evaluation.
create or replace macro variant_cell(the_scope, the_scheme) as table
select
    paired.network_id,
    paired.number_format_id,
    paired.scheme_id,
    paired.image_count,
    paired.correct_top1,
    paired.correct_both,
    paired.non_finite_count,
    paired.float_correct_top1
from paired_evaluation(the_scope, the_scheme) as paired
union all by name
select distinct
    layer.network_id,
    sums.number_format_id,
    sums.scheme_id
from layer
inner join tensor
    on layer.layer_id = tensor.layer_id and tensor.role = 'weight'
inner join quantized_sums(the_scheme) as sums on tensor.tensor_id = sums.tensor_id
where layer.network_id not in (select evaluation.network_id from evaluation);

-- Fan-in of the layer of each tensor: the number of weight elements per output channel.
-- Grain: one tensor. Key: tensor_id.
create or replace macro tensor_fan_in() as table
with channels as (
    select
        tensor_channel.tensor_id,
        count(*) as channel_count
    from tensor_channel
    group by tensor_channel.tensor_id
)

select
    tensor.tensor_id,
    weight.element_count / channels.channel_count as fan_in
from tensor
inner join tensor as weight
    on tensor.layer_id = weight.layer_id and weight.role = 'weight'
inner join channels on weight.tensor_id = channels.tensor_id;

-- Weight of a coherent error beside an orthogonal one that is divided by the fan-in n.
-- In the output of a layer, the noise-to-signal ratio of an orthogonal error is divided
-- by k, the power of the output over that expected of independent inputs; that of a
-- coherent error is not. k is 1 for independent inputs and n at most, if all inputs
-- carry one signal. The median of k / n in 13 networks is 0.009
-- (docs/explanation/prediction.md); orthogonal / (0.01 n) + coherent, times 0.01.
create or replace macro coherence_ratio() as 0.01;

-- Measure of a layer's input that goes with a measure of its weight: the same; for
-- channelnsr, since an input has no output channels, orthogonal.
create or replace macro input_measure(measure) as
    case when measure = 'channelnsr' then 'orthogonal' else measure end;

-- Divergence of each layer in each format: of its weight and bias combined, of its
-- input, or both. A correction multiplies the divergence of each weight and bias by a
-- factor in [0, 1]: the complement of its correction_measure, its sensitivity, or the
-- noise left after averaging over the fan-in. Under coherence, the divergence of the
-- input is averaged over the fan-in, too, and the weight's coherent error is added,
-- which does not average out and grows with the depth:
--     divergence(tensor) / fan-in
--     + coherence_ratio * quantized layers * coherent(weight)
-- Grain: one layer in one format under one of the chosen schemes. Key: layer_id,
-- number_format_id, scheme_id. divergence is NULL if a measure that counts is missing;
-- under weightonly biases do not count.
create or replace macro measured_layer(
    rescale, combine, correction, measure, bins, tensors, the_scheme := '*'
) as table
with measured as (
    select *
    from tensor_measure(
        rescale, measure, correction_measure(correction), bins, the_scheme
    )
),

corrected as (
    select
        measured.tensor_id,
        measured.number_format_id,
        measured.scheme_id,
        measured.divergence * case correction
            when 'none' then 1
            when 'sensitivity' then sensitivity.factor
            when 'fanin' then 1 / wired.fan_in
            when 'rootfanin' then 1 / sqrt(wired.fan_in)
            when 'coherence' then 1 / wired.fan_in
            else 1 - measured.other
        end as divergence
    from measured
    left join tensor_sensitivity() as sensitivity
        on
            correction = 'sensitivity'
            and measured.tensor_id = sensitivity.tensor_id
            and measured.number_format_id = sensitivity.number_format_id
            and measured.scheme_id = sensitivity.scheme_id
    left join tensor_fan_in() as wired
        on
            correction in ('fanin', 'rootfanin', 'coherence')
            and measured.tensor_id = wired.tensor_id
),

coherent as (
    select
        paired.tensor_id,
        paired.number_format_id,
        paired.scheme_id,
        coherence_ratio() * network.quantized_layer_count * paired.divergence
            as divergence
    from paired_measure(
        rescale, case when correction = 'coherence' then 'coherent' end, the_scheme
    ) as paired
    inner join tensor
        on
            paired.tensor_id = tensor.tensor_id
            and tensor.role in ('weight', 'trained_weight')
    inner join layer on tensor.layer_id = layer.layer_id
    inner join network on layer.network_id = network.network_id
),

of_inputs as (
    select
        paired.tensor_id,
        paired.number_format_id,
        paired.scheme_id,
        case correction
            when 'coherence' then paired.divergence / wired.fan_in
            else paired.divergence
        end as divergence
    from paired_measure(
        rescale,
        case when tensors in ('inputs', 'both') then input_measure(measure) end,
        the_scheme
    ) as paired
    inner join tensor_fan_in() as wired on paired.tensor_id = wired.tensor_id
),

parts as (
    select
        layer.layer_id,
        weight.tensor_id as weight_id,
        weight.element_count as weight_count,
        bias.tensor_id as bias_id,
        bias.element_count as bias_count,
        input.tensor_id as input_id
    from layer
    inner join tensor as weight
        on
            layer.layer_id = weight.layer_id
            and weight.role = counted_role('weight', tensors, layer.is_folded)
    left join tensor as bias
        on
            layer.layer_id = bias.layer_id
            and bias.role = counted_role('bias', tensors, layer.is_folded)
    left join tensor as input
        on layer.layer_id = input.layer_id and input.role = 'input'
)

select
    parts.layer_id,
    of_weight.number_format_id,
    of_weight.scheme_id,
    layer_total(
        tensors,
        case
            when
                parts.bias_id is null
                or combine = 'weightonly'
                or of_bias.divergence is not null
                then
                combined_divergence(
                    combine,
                    of_weight.divergence,
                    of_bias.divergence,
                    parts.weight_count,
                    parts.bias_count
                ) + case correction
                    when 'coherence' then coherent.divergence else 0
                end
        end,
        of_input.divergence
    ) as divergence
from parts
inner join corrected as of_weight on parts.weight_id = of_weight.tensor_id
left join corrected as of_bias
    on
        parts.bias_id = of_bias.tensor_id
        and of_weight.number_format_id = of_bias.number_format_id
        and of_weight.scheme_id = of_bias.scheme_id
left join coherent
    on
        parts.weight_id = coherent.tensor_id
        and of_weight.number_format_id = coherent.number_format_id
        and of_weight.scheme_id = coherent.scheme_id
left join of_inputs as of_input
    on
        parts.input_id = of_input.tensor_id
        and of_weight.number_format_id = of_input.number_format_id
        and of_weight.scheme_id = of_input.scheme_id;

-- Share of each layer in its network.
-- Grain: one layer. Key: layer_id. The shares of a network add up to 1, except those of
-- sensitivity: normalized, they would tell apart the layers of a network, but not a
-- network that small noise disturbs from one that it does not. These are NULL where the
-- sensitivity was not measured.
create or replace macro layer_share(share) as table
select
    layer.layer_id,
    layer.network_id,
    layer.position,
    case share
        when 'sensitivity' then
            margin_noise(
                sensitivity.gradient_square_sum,
                sensitivity.output_square_sum,
                sensitivity.element_count,
                sensitivity.margin_square_sum
            )
        else
            layer_amount(share, layer.params, layer.macs) / nullif(
                sum(layer_amount(share, layer.params, layer.macs)) over (
                    partition by layer.network_id
                    order by layer.position
                    rows between unbounded preceding and unbounded following
                ), 0
            )
    end as share_of_network
from layer
left join layer_sensitivity as sensitivity
    on share = 'sensitivity' and layer.layer_id = sensitivity.layer_id;

-- Divergence and accuracy loss of every network in every number format, for any
-- combination of the study's choices; each named view is one call.
create or replace macro variant(
    rescale := 'fakefreeze',
    combine := 'half',
    share := 'flops',
    mac_weight := 'none',
    correction := 'none',
    measure := 'js',
    bins := 63,
    aggregate := 'sum',
    scope := 'all',
    scheme := null,
    tensors := 'parameters'
) as table
with cell as (
    select * from variant_cell(scope, scheme)
),

aggregated as (
    select
        cell.network_id,
        cell.number_format_id,
        cell.scheme_id,
        aggregated_divergence(
            aggregate,
            shared.share_of_network,
            of_layer.divergence,
            shared.position
        ) as divergence
    from cell
    inner join layer_share(share) as shared
        on cell.network_id = shared.network_id
    left join measured_layer(
        rescale, combine, correction, measure, bins, tensors, scheme
    ) as of_layer
        on
            shared.layer_id = of_layer.layer_id
            and cell.number_format_id = of_layer.number_format_id
            and cell.scheme_id = of_layer.scheme_id
    group by cell.network_id, cell.number_format_id, cell.scheme_id
    having
        count(*) = count(of_layer.divergence)
        and (share != 'sensitivity' or count(*) = count(shared.share_of_network))
),

damaged as (
    select
        aggregated.network_id,
        aggregated.number_format_id,
        aggregated.scheme_id,
        aggregated.divergence * network_factor(
            mac_weight, network.macs, network.quantized_layer_count
        ) as divergence
    from aggregated
    inner join network on aggregated.network_id = network.network_id
    union all
    select
        cell.network_id,
        cell.number_format_id,
        cell.scheme_id,
        probed.divergence
    from cell
    inner join probe_measure(measure) as probed
        on
            cell.network_id = probed.network_id
            and cell.number_format_id = probed.number_format_id
            and cell.scheme_id = probed.scheme_id
    where probed.divergence is not null
),

checked as (
    select words.network
    from variant_check(
        rescale,
        combine,
        share,
        mac_weight,
        correction,
        measure,
        bins,
        aggregate,
        scope,
        scheme,
        tensors
    ) as words
)

select
    network.name as network,
    network.architecture,
    format_name(number_format.name, chosen.name) as number_format,
    chosen.name as scheme,
    number_format.family,
    number_format.bits,
    stored.bits_per_weight,
    number_format.ebits,
    damaged.divergence,
    cell.correct_top1 / cell.image_count as accuracy,
    cell.float_correct_top1 / cell.image_count as float_accuracy,
    1 / dataset.class_count as chance_accuracy,
    accuracy_loss(cell.correct_top1, cell.float_correct_top1) as accuracy_loss,
    accuracy_loss_se(cell.correct_top1, cell.float_correct_top1, cell.correct_both)
        as accuracy_loss_se,
    cell.image_count as images,
    cell.non_finite_count as non_finite_images,
    is_saturated(cell.correct_top1, cell.image_count, dataset.class_count) as saturated,
    min(network.name) over (partition by network.checkpoint_sha256) as weights_of
from cell
inner join damaged
    on
        cell.network_id = damaged.network_id
        and cell.number_format_id = damaged.number_format_id
        and cell.scheme_id = damaged.scheme_id
inner join chosen_scheme(scheme) as chosen on cell.scheme_id = chosen.scheme_id
left join weight_storage() as stored
    on
        cell.network_id = stored.network_id
        and cell.number_format_id = stored.number_format_id
        and cell.scheme_id = stored.scheme_id
inner join network on cell.network_id = network.network_id
inner join dataset on network.dataset_id = dataset.dataset_id
inner join number_format
    on cell.number_format_id = number_format.number_format_id
union all by name
select checked.network
from checked
order by network, family, bits, ebits, number_format;

-- A variant with x capped at the breakpoint, the smallest x past which every point of
-- the pool is saturated; any curve over it is constant there. breakpoint is NULL, and x
-- is not capped, if no point lies past the last unsaturated one or none is unsaturated.
-- Networks without an evaluation are capped but do not affect the breakpoint.
-- Grain and key: those of variant.
create or replace macro segmented_variant(
    rescale := 'fakefreeze',
    combine := 'half',
    share := 'flops',
    mac_weight := 'none',
    correction := 'none',
    measure := 'js',
    bins := 63,
    aggregate := 'sum',
    scope := 'all',
    scheme := null,
    tensors := 'parameters'
) as table
with plain as (
    select *
    from variant(
        rescale := rescale,
        combine := combine,
        share := share,
        mac_weight := mac_weight,
        correction := correction,
        measure := measure,
        bins := bins,
        aggregate := aggregate,
        scope := scope,
        scheme := scheme,
        tensors := tensors
    )
),

evaluated as (
    select
        max(plain.divergence) as largest,
        max(plain.divergence) filter (where not plain.saturated) as last_unsaturated
    from plain
    where plain.saturated is not null
),

pool as (
    select
        case
            when evaluated.largest > evaluated.last_unsaturated
                then evaluated.last_unsaturated
        end as breakpoint
    from evaluated
)

select
    plain.network,
    plain.architecture,
    plain.number_format,
    plain.scheme,
    plain.family,
    plain.bits,
    plain.bits_per_weight,
    plain.ebits,
    case
        when plain.divergence > pool.breakpoint then pool.breakpoint
        else plain.divergence
    end as divergence,
    plain.accuracy,
    plain.float_accuracy,
    plain.chance_accuracy,
    plain.accuracy_loss,
    plain.accuracy_loss_se,
    plain.images,
    plain.non_finite_images,
    plain.saturated,
    plain.weights_of,
    pool.breakpoint
from plain
cross join pool
order by plain.network, plain.family, plain.bits, plain.ebits, plain.number_format;
