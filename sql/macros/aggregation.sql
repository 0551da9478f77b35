-- Aggregate the divergences of tensors to one number per network.

-- Divergence of a layer from those of its weight and bias: 0.5 : 0.5 (half), 1 : 1
-- (nodiv), by element count (weightratio), weight only (weightonly). Without a bias
-- (bias_count NULL) the weight counts 1 in every case.
create or replace macro combined_divergence(
    combine, weight, bias, weight_count, bias_count
) as
    case
        when not list_contains(combine_words(), combine) then
            unknown_word('combine', combine, combine_words())
        when bias_count is null then weight
        when combine = 'half' then 0.5 * weight + 0.5 * bias
        when combine = 'nodiv' then weight + bias
        when combine = 'weightratio' then
            (weight * weight_count + bias * bias_count) / (weight_count + bias_count)
        when combine = 'weightonly' then weight
    end;

-- Divergence of a layer: that of its weight and bias combined (parameters, trained),
-- that of its input (inputs) or their sum (both).
create or replace macro layer_total(tensors, of_parameters, of_input) as
    case tensors
        when 'parameters' then of_parameters
        when 'trained' then of_parameters
        when 'inputs' then of_input
        when 'both' then of_parameters + of_input
        else unknown_word('tensors', tensors, tensors_words())
    end;

-- Unnormalized share of a layer; its share is this value over the network's sum. NULL
-- for sensitivity, which is not normalized: see margin_noise.
create or replace macro layer_amount(share, params, macs) as
    case share
        when 'param' then params
        when 'flops' then macs
        when 'layer' then 1
        when 'sensitivity' then null
        else unknown_word('share', share, share_words())
    end::double;

-- Mean squared change of the margin over the mean squared margin, if white noise with
-- the power of the layer's output is added to that output: for small noise, the mean
-- squared gradient norm times the noise per element, with means over the images. White
-- noise of x times that power changes it by x times as much, and the changes of
-- independent noise in several layers add up.
create or replace macro margin_noise(
    gradient_square_sum, output_square_sum, element_count, margin_square_sum
) as
    gradient_square_sum * output_square_sum
    / nullif(element_count * margin_square_sum, 0);

-- Factor on a network's divergence: log10(MMAC), NULL up to 1 MMAC (log); MMAC^(1/3)
-- (cuberoot); MMAC^(1/2) (sqrt); the number of quantized layers (depth); its square
-- root (rootdepth).
create or replace macro network_factor(mac_weight, macs, depth) as
    case mac_weight
        when 'none' then 1
        when 'log' then case when macs > 1e6 then log10(macs / 1e6) end
        when 'cuberoot' then cbrt(macs / 1e6)
        when 'sqrt' then sqrt(macs / 1e6)
        when 'depth' then depth
        when 'rootdepth' then sqrt(depth)
        else unknown_word('mac_weight', mac_weight, mac_weight_words())
    end::double;

-- Aggregate over the layers of a network, in their order: the sum of share times
-- divergence (sum), or without shares the maximum (max), the sum (plainsum) or the
-- mean, which equals the sum with share layer.
create or replace macro aggregated_divergence(aggregate, share, divergence, place) as
    case aggregate
        when 'sum' then sum(share * divergence order by place)
        when 'max' then max(divergence)
        when 'plainsum' then sum(divergence order by place)
        when 'mean' then sum(divergence order by place) / count(*)
        else unknown_word('aggregate', aggregate, aggregate_words())
    end;
