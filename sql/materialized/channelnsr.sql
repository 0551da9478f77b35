-- Fills tensor_divergence with the missing noise-to-signal ratios: of the median output
-- channel of each quantized weight with measured channels, and of each bias as a whole,
-- which has one element per channel.
-- Grain and key: those of tensor_divergence. Operations after a channel (a
-- nonlinearity, the channel's filter in a depthwise convolution) see its noise relative
-- to its own signal, not to that of the largest channel. The median, not the mean: a
-- dead channel loses everything in every coarse format, without effect. Only for codes
-- times their scale, since L2 norms are per tensor.

insert into tensor_divergence by name
with of_tensor as (
    select
        of_codes.tensor_id,
        of_codes.number_format_id,
        of_codes.scheme_id,
        median(noise_to_signal(
            'fakefreeze', of_codes.squared_error_sum, of_floats.sum_x2, null
        )) as value
    from quantized_tensor_channel as of_codes
    inner join tensor_channel as of_floats
        on
            of_codes.tensor_id = of_floats.tensor_id
            and of_codes.channel = of_floats.channel
    group by of_codes.tensor_id, of_codes.number_format_id, of_codes.scheme_id
    union all
    select
        sums.tensor_id,
        sums.number_format_id,
        sums.scheme_id,
        noise_to_signal(
            'fakefreeze', sums.squared_error_sum, tensor.sum_x2, null
        ) as value
    from quantized_sums() as sums
    inner join tensor
        on sums.tensor_id = tensor.tensor_id and tensor.role = 'bias'
)

select
    of_tensor.tensor_id,
    of_tensor.number_format_id,
    of_tensor.scheme_id,
    'fakefreeze' as rescale,
    'channelnsr' as measure,
    null as bins,
    of_tensor.value
from of_tensor
anti join tensor_divergence
    on
        of_tensor.tensor_id = tensor_divergence.tensor_id
        and of_tensor.number_format_id = tensor_divergence.number_format_id
        and of_tensor.scheme_id = tensor_divergence.scheme_id
        and tensor_divergence.measure = 'channelnsr'
where of_tensor.value is not null
order by of_tensor.tensor_id, of_tensor.scheme_id, of_tensor.number_format_id;
