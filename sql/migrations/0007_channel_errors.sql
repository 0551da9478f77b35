-- What a format does to each output channel of a weight: channels of one tensor share a
-- scale, and those of small weights drown in an error that the whole tensor hardly
-- notices. Facts collected before have no rows here until they are collected again,
-- which evaluates nothing anew.

create table quantized_tensor_channel (
    tensor_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    channel integer not null,
    squared_error_sum float not null
);
comment on table quantized_tensor_channel is
'Grain: one output channel of a weight quantized in one number format under one
scheme. Key: tensor_id, number_format_id, scheme_id, channel (not enforced). In single
precision, since it has millions of rows.';
comment on column quantized_tensor_channel.tensor_id is 'The weight';
comment on column quantized_tensor_channel.number_format_id is 'The number format';
comment on column quantized_tensor_channel.scheme_id is 'The scheme';
comment on column quantized_tensor_channel.channel is
'Index of the output channel, from 0, as in tensor_channel';
comment on column quantized_tensor_channel.squared_error_sum is
'Sum of (code * scale - element) squared over the channel''s elements';
