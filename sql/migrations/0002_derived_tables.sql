-- What is derived from the facts and costly enough to keep: filled by the queries in
-- sql/materialized, read by the macro tensor_measure.

create table tensor_divergence (
    tensor_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    rescale varchar not null,
    measure varchar not null,
    bins integer,
    value double not null
);
comment on table tensor_divergence is
'Grain: one measure of the damage to one quantized weight or bias. Key: tensor_id,
number_format_id, scheme_id, rescale, measure, bins (not enforced). Derived: whoever
deletes rows of quantized_tensor deletes theirs here, and materializes again.';
comment on column tensor_divergence.tensor_id is 'The tensor';
comment on column tensor_divergence.number_format_id is 'The number format';
comment on column tensor_divergence.scheme_id is 'The scheme';
comment on column tensor_divergence.rescale is
'What the codes are multiplied by: fakefreeze (their scale) or l2 (equal L2 norms)';
comment on column tensor_divergence.measure is 'Name of the measure, such as js';
comment on column tensor_divergence.bins is
'Number of bins of the histograms; NULL for measures without bins';
comment on column tensor_divergence.value is
'Value of the measure; larger is more damage';
