-- The distribution of each weight and bias over 63 bins, in floating point and in every
-- number format: the input of the Jensen-Shannon divergence of the named views.
-- Grain: one occupied bin of a weight or bias, in floating point or in one number
-- format under one scheme. Key: network, layer, role, number_format, scheme, bin.
--     bin = coarse_bin(fine_bin(x, max_abs), 63), of the dequantized element where
--     quantized

create or replace view tensor_distribution as
with parameter as (
    select
        tensor.tensor_id,
        tensor.role,
        tensor.element_count,
        network.name as network,
        layer.name as layer,
        max_abs(tensor.min_value, tensor.max_value) as max_abs
    from tensor
    inner join layer on tensor.layer_id = layer.layer_id
    inner join network on layer.network_id = network.network_id
    where tensor.role in ('weight', 'bias')
),

float_bin as (
    select
        parameter.network,
        parameter.layer,
        parameter.role,
        parameter.max_abs,
        parameter.element_count,
        coarse_bin(tensor_histogram.bin, 63)::integer as bin,
        sum(tensor_histogram.count)::bigint as count
    from tensor_histogram
    inner join parameter on tensor_histogram.tensor_id = parameter.tensor_id
    group by all
),

code_bin as (
    select
        parameter.network,
        parameter.layer,
        parameter.role,
        parameter.max_abs,
        parameter.element_count,
        format_name(number_format.name, scheme.name) as number_format,
        scheme.name as scheme,
        coarse_bin(
            fine_bin(coded.code * sums.scale, parameter.max_abs), 63
        )::integer as bin,
        sum(coded.count)::bigint as count
    from quantized_histogram() as coded
    inner join quantized_sums() as sums
        on
            coded.tensor_id = sums.tensor_id
            and coded.number_format_id = sums.number_format_id
            and coded.scheme_id = sums.scheme_id
    inner join parameter on coded.tensor_id = parameter.tensor_id
    inner join number_format
        on coded.number_format_id = number_format.number_format_id
    inner join scheme on coded.scheme_id = scheme.scheme_id
    group by all
),

every_bin as (
    select * from float_bin
    union all by name
    select * from code_bin
)

select
    every_bin.network,
    every_bin.layer,
    every_bin.role,
    every_bin.number_format,
    every_bin.scheme,
    every_bin.bin,
    every_bin.bin * (4095 // 63) * every_bin.max_abs / 2047 as value,
    every_bin.count,
    every_bin.count / every_bin.element_count as share
from every_bin
order by
    every_bin.network asc,
    every_bin.layer asc,
    every_bin.role desc,
    every_bin.number_format asc nulls first,
    every_bin.scheme asc,
    every_bin.bin asc;

comment on view tensor_distribution is
'Grain: one occupied bin of a weight or bias, in floating point or in one number format
under one scheme. Its distribution over the 63 bins of the named views.';
comment on column tensor_distribution.network is 'Name of the network';
comment on column tensor_distribution.layer is 'Name of the layer';
comment on column tensor_distribution.role is 'weight or bias';
comment on column tensor_distribution.number_format is
'Name of the number format; NULL in floating point';
comment on column tensor_distribution.scheme is
'Name of the scheme; NULL in floating point';
comment on column tensor_distribution.bin is
'Index of the bin, 0 in the middle; beyond 31 or -31 for codes outside the range';
comment on column tensor_distribution.value is
'Centre of the bin, in units of the tensor';
comment on column tensor_distribution.count is 'Number of elements in the bin';
comment on column tensor_distribution.share is 'The same as a fraction of all elements';
