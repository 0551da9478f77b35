-- A number format may break a network: its outputs become NaN, or its own code raises
-- an error. Images without a prediction are counted, and so are the images that each
-- sum of losses covers; a cell that cannot be evaluated has a row that says why.
-- Older versions stored a NaN as the sum and took class 0 for the prediction: such
-- cells go, to be evaluated again. Of the floating-point network, which is not
-- evaluated again, the counts stay and the sums cover no image.
-- Squared errors of channels become double precision: in single precision the square
-- of 1e-24 is 0.

create table evaluation_before as from evaluation;

drop table evaluation;

create table evaluation (
    network_id integer not null,
    number_format_id smallint,
    scheme_id smallint,
    scope varchar not null
    check (scope in ('none', 'all', 'weight', 'bias', 'input')),
    precision varchar not null,
    image_count integer not null,
    correct_top1 integer not null,
    correct_top5 integer not null,
    correct_both integer not null,
    same_prediction integer not null,
    non_finite_count integer not null,
    cross_entropy_sum double not null,
    cross_entropy_count integer not null,
    kl_sum double not null,
    kl_count integer not null,
    unique (network_id, number_format_id, scheme_id, scope)
);

insert into evaluation by name
select
    network_id,
    number_format_id,
    scheme_id,
    scope,
    precision,
    image_count,
    correct_top1,
    correct_top5,
    correct_both,
    same_prediction,
    0 as non_finite_count,
    case when isfinite(cross_entropy_sum) then cross_entropy_sum else 0 end
        as cross_entropy_sum,
    case when isfinite(cross_entropy_sum) then image_count else 0 end
        as cross_entropy_count,
    case when isfinite(kl_sum) then kl_sum else 0 end as kl_sum,
    case when isfinite(kl_sum) then image_count else 0 end as kl_count
from evaluation_before
where scope = 'none' or (isfinite(cross_entropy_sum) and isfinite(kl_sum));

drop table evaluation_before;

comment on table evaluation is
'Grain: one evaluation of a network: in one number format under one scheme with one
scope, or in floating point (scope none, format and scheme NULL). Key: network_id,
number_format_id, scheme_id, scope.';
comment on column evaluation.network_id is 'The network';
comment on column evaluation.number_format_id is
'The number format; NULL in floating point';
comment on column evaluation.scheme_id is 'The scheme; NULL in floating point';
comment on column evaluation.scope is
'What was quantized: all, weight, bias or input; none in floating point';
comment on column evaluation.precision is 'How the products were computed';
comment on column evaluation.image_count is 'Number of images evaluated';
comment on column evaluation.correct_top1 is 'Images whose label was predicted';
comment on column evaluation.correct_top5 is
'Images whose label was among the five most likely; of equal outputs the class of lower
index comes first';
comment on column evaluation.correct_both is
'Images whose label was predicted here and by the floating-point network';
comment on column evaluation.same_prediction is
'Images with the prediction of the floating-point network, right or wrong';
comment on column evaluation.non_finite_count is
'Images without a prediction, counted as wrong: an output is NaN or +infinity, or none
is finite; an output of -infinity masks its class and is allowed';
comment on column evaluation.cross_entropy_sum is
'Sum over the images of the cross-entropy to the label, in nats';
comment on column evaluation.cross_entropy_count is
'Images that cross_entropy_sum covers: those with a prediction, less those whose label
the network masks';
comment on column evaluation.kl_sum is
'Sum over the images of KL(floating-point outputs, these outputs), in nats';
comment on column evaluation.kl_count is
'Images that kl_sum covers: those with a prediction here and in floating point, less
those where a class is masked here alone';

create table failed_cell (
    network_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    scope varchar not null check (scope in ('all', 'weight', 'bias', 'input')),
    layer varchar,
    reason varchar not null,
    unique (network_id, number_format_id, scheme_id, scope)
);
comment on table failed_cell is
'Grain: one cell that cannot be evaluated: the network''s own code raises an error in
that number format. Key: network_id, number_format_id, scheme_id, scope. It is tried
again when the network is collected anew.';
comment on column failed_cell.network_id is 'The network';
comment on column failed_cell.number_format_id is 'The number format';
comment on column failed_cell.scheme_id is 'The scheme';
comment on column failed_cell.scope is
'What was quantized: all, weight, bias or input';
comment on column failed_cell.layer is
'The last quantized layer that started before the error; NULL where none is known';
comment on column failed_cell.reason is 'Kind and message of the error, in one line';

comment on column collection_run.outcome is
'running, done, failed or interrupted; done too where cells could not be evaluated and
failed_cell says so';
comment on column collection_run.failures is
'The networks that failed as a whole, each with the reason';

alter table quantized_tensor_channel
alter column squared_error_sum set data type double;
comment on table quantized_tensor_channel is
'Grain: one output channel of a weight quantized in one number format under one
scheme. Key: tensor_id, number_format_id, scheme_id, channel (not enforced).';
