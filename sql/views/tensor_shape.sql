-- The shape of each weight's and bias's distribution, and how a number format covers
-- it.
-- Grain: one weight or bias in one number format under one scheme. Key: network, layer,
-- role, number_format, scheme.
--     kurtosis = m4 / m2^2 of the central moments (3 for a normal distribution); NULL
--     where the deviations are so small beside the mean that the sums of powers do not
--     hold m4: below 1e-12 of the mean fourth power, m2^2 is near their rounding

create or replace view tensor_shape as
with used as (
    select
        code_histogram.tensor_id,
        code_histogram.number_format_id,
        code_histogram.scheme_id,
        count(*) as codes_used
    from code_histogram
    group by all
),

moments as (
    select
        tensor.*,
        tensor.sum_x / tensor.element_count as mean,
        centred_norm2(
            tensor.element_count,
            population_variance(tensor.element_count, tensor.sum_x, tensor.sum_x2),
            tensor.sum_x2
        ) / tensor.element_count as m2
    from tensor
    where tensor.role in ('weight', 'bias')
)

select
    network.name as network,
    layer.name as layer,
    moments.role,
    format_name(number_format.name, scheme.name) as number_format,
    scheme.name as scheme,
    moments.element_count,
    (
        moments.sum_x4
        - 4 * moments.mean * moments.sum_x3
        + 6 * moments.mean ** 2 * moments.sum_x2
        - 3 * moments.mean ** 4 * moments.element_count
    ) / moments.element_count / case
        when moments.m2 ** 2 > 1e-12 * moments.sum_x4 / moments.element_count
            then moments.m2 ** 2
    end as kurtosis,
    within_mean.share as mean_range_share,
    used.codes_used,
    sums.clipped_count / moments.element_count as clipped_share
from quantized_sums() as sums
inner join moments on sums.tensor_id = moments.tensor_id
inner join mean_range_share() as within_mean
    on moments.tensor_id = within_mean.tensor_id
left join used
    on
        sums.tensor_id = used.tensor_id
        and sums.number_format_id = used.number_format_id
        and sums.scheme_id = used.scheme_id
inner join layer on moments.layer_id = layer.layer_id
inner join network on layer.network_id = network.network_id
inner join number_format
    on sums.number_format_id = number_format.number_format_id
inner join scheme on sums.scheme_id = scheme.scheme_id
where used.codes_used is not null or not sums.has_code_grid
order by
    network.name asc,
    layer.position asc,
    moments.role desc,
    number_format.number_format_id asc,
    scheme.scheme_id asc;

comment on view tensor_shape is
'Grain: one weight or bias in one number format under one scheme. The shape of its
distribution, and how the format covers it.';
comment on column tensor_shape.network is 'Name of the network';
comment on column tensor_shape.layer is 'Name of the layer';
comment on column tensor_shape.role is 'weight or bias';
comment on column tensor_shape.number_format is 'Name of the number format';
comment on column tensor_shape.scheme is 'Name of the scheme';
comment on column tensor_shape.element_count is 'Number of elements';
comment on column tensor_shape.kurtosis is
'Fourth central moment over the squared variance; NULL for a (nearly) constant tensor';
comment on column tensor_shape.mean_range_share is
'Fraction of the elements with |x| at most their mean |x|, by fine bins';
comment on column tensor_shape.codes_used is
'Number of distinct codes that occur; formats with more than 4095 codes are binned; NULL
under schemes other than the study''s, which store no codes';
comment on column tensor_shape.clipped_share is
'Fraction of the elements beyond the largest code; NULL if unknown';
