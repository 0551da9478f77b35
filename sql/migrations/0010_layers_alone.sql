-- A network may be evaluated with one of its layers quantized and all others in
-- floating point, which tells how much the layer alone costs. Such evaluations have a
-- table of their own: their key is a layer, not a network. A macro and a view may share
-- a name, as layer_divergence with and without words does.

create table layer_evaluation (
    layer_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
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
    unique (layer_id, number_format_id, scheme_id)
);
comment on table layer_evaluation is
'Grain: one evaluation of a network with one layer quantized, its weight, bias and
input, and all others in floating point. Key: layer_id, number_format_id, scheme_id.
The columns are those of evaluation.';
comment on column layer_evaluation.layer_id is 'The layer that is quantized';
comment on column layer_evaluation.number_format_id is 'The number format';
comment on column layer_evaluation.scheme_id is 'The scheme';
comment on column layer_evaluation.precision is 'How the products were computed';
comment on column layer_evaluation.image_count is 'Number of images evaluated';
comment on column layer_evaluation.correct_top1 is 'Images whose label was predicted';
comment on column layer_evaluation.correct_top5 is
'Images whose label was among the five most likely; of equal outputs the class of lower
index comes first';
comment on column layer_evaluation.correct_both is
'Images whose label was predicted here and by the floating-point network';
comment on column layer_evaluation.same_prediction is
'Images with the prediction of the floating-point network, right or wrong';
comment on column layer_evaluation.non_finite_count is
'Images without a prediction, counted as wrong';
comment on column layer_evaluation.cross_entropy_sum is
'Sum over the images of the cross-entropy to the label, in nats';
comment on column layer_evaluation.cross_entropy_count is
'Images that cross_entropy_sum covers';
comment on column layer_evaluation.kl_sum is
'Sum over the images of KL(floating-point outputs, these outputs), in nats';
comment on column layer_evaluation.kl_count is 'Images that kl_sum covers';

create table failed_layer_cell (
    layer_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    layer varchar,
    reason varchar not null,
    unique (layer_id, number_format_id, scheme_id)
);
comment on table failed_layer_cell is
'Grain: one evaluation of a single layer that is impossible: the network''s own code
raises an error in that number format. Key: layer_id, number_format_id, scheme_id. It
is tried again when the network is collected anew.';
comment on column failed_layer_cell.layer_id is 'The layer that is quantized';
comment on column failed_layer_cell.number_format_id is 'The number format';
comment on column failed_layer_cell.scheme_id is 'The scheme';
comment on column failed_layer_cell.layer is
'The last quantized layer that started before the error; NULL where none is known';
comment on column failed_layer_cell.reason is
'Kind and message of the error, in one line';

comment on column collection_run.cells is
'The cells that it was to fill, written before the first of them; one of the scope
layer stands for each layer of the network alone';

create table definition_before as from definition;

drop table definition;

create table definition (
    name varchar not null,
    kind varchar not null,
    sha256 varchar not null,
    primary key (name, kind)
);

insert into definition from definition_before;

drop table definition_before;

comment on table definition is
'Grain: one macro or view that ptqdb put into this file. Key: name, kind. Tells the
definitions that ptqdb owns from those that a user added.';
comment on column definition.name is 'Name of the macro or view';
comment on column definition.kind is 'macro, table macro or view';
comment on column definition.sha256 is
'SHA-256 of the SQL text that defined it, hexadecimal';
