-- The facts: what was measured, never interpreted while it is written.
-- Grain and key stand in each table's comment. The small tables carry their keys;
-- the histograms carry none, since keys cost them four times the time and the size.
-- Foreign keys end at dataset: DuckDB refuses to delete a row that another referenced
-- earlier in the same transaction, and a network is replaced in one.
-- Ids are assigned by the writer. Counts and sums are stored, never rates or means,
-- so that SQL combines them exactly.

create table migration (
    version integer primary key,
    name varchar not null,
    applied_at timestamp not null
);
comment on table migration is
'Grain: one migration of the schema that this file went through. Key: version.';
comment on column migration.version is 'Number of the migration, from 1 without gaps';
comment on column migration.name is 'Name of the migration''s file, without .sql';
comment on column migration.applied_at is 'When it was applied, UTC';

create table definition (
    name varchar primary key,
    kind varchar not null,
    sha256 varchar not null
);
comment on table definition is
'Grain: one macro or view that ptqdb put into this file. Key: name. Tells the
definitions that ptqdb owns from those that a user added.';
comment on column definition.name is 'Name of the macro or view';
comment on column definition.kind is 'macro, table macro or view';
comment on column definition.sha256 is
'SHA-256 of the SQL text that defined it, hexadecimal';

create table dataset (
    dataset_id integer primary key,
    name varchar not null,
    split varchar not null,
    class_count integer not null,
    image_count integer not null,
    content_sha256 varchar not null unique
);
comment on table dataset is
'Grain: one split of a dataset, as it was used. Key: dataset_id, content_sha256.';
comment on column dataset.dataset_id is 'Id of the dataset split';
comment on column dataset.name is 'Name of the dataset';
comment on column dataset.split is 'Which part of the dataset: train, test, ...';
comment on column dataset.class_count is 'Number of classes to tell apart';
comment on column dataset.image_count is 'Number of images used';
comment on column dataset.content_sha256 is
'SHA-256 over the images and labels used, hexadecimal';

create table network (
    network_id integer primary key,
    name varchar not null unique,
    architecture varchar not null,
    checkpoint_sha256 varchar not null,
    dataset_id integer not null references dataset (dataset_id),
    calibration_dataset_id integer references dataset (dataset_id),
    quantized_layer_count integer not null,
    params bigint not null,
    macs bigint not null,
    unfolded_batch_norm_count integer
);
comment on table network is
'Grain: one trained network with the images it is evaluated on. Key: network_id, name.';
comment on column network.network_id is 'Id of the network';
comment on column network.name is 'Name of the network';
comment on column network.architecture is
'Kin: networks with and without batch norm are one architecture';
comment on column network.checkpoint_sha256 is
'SHA-256 of the trained weights, hexadecimal';
comment on column network.dataset_id is 'The dataset split it is evaluated on';
comment on column network.calibration_dataset_id is
'The dataset split that its activation ranges come from';
comment on column network.quantized_layer_count is
'Number of quantized layers: the depth';
comment on column network.params is
'Params of the float network, those of its batch norms too';
comment on column network.macs is
'Multiply-accumulates of the quantized layers for one image';
comment on column network.unfolded_batch_norm_count is
'Batch norms that follow no quantized layer and stay in floating point';

create table number_format (
    number_format_id smallint primary key,
    name varchar not null unique,
    family varchar not null,
    bits smallint not null,
    ebits smallint,
    mbits smallint,
    max_code double not null,
    code_count double not null,
    in_study_grid boolean not null
);
comment on table number_format is
'Grain: one number format. Key: number_format_id, name.';
comment on column number_format.number_format_id is 'Id of the number format';
comment on column number_format.name is 'Name, such as INT_8, POT_4 or FLOAT_8_E4';
comment on column number_format.family is 'INT, POT or FLOAT';
comment on column number_format.bits is 'Width of one code in bits, sign included';
comment on column number_format.ebits is 'Exponent bits; NULL except for FLOAT';
comment on column number_format.mbits is 'Mantissa bits; NULL except for FLOAT';
comment on column number_format.max_code is 'Largest code, in units of the scale';
comment on column number_format.code_count is 'Number of different codes';
comment on column number_format.in_study_grid is
'Whether it is one of the 43 formats of the study; the formats of biases are not';

create table number_format_code (
    number_format_id smallint not null,
    code_index smallint not null,
    code double not null,
    primary key (number_format_id, code_index)
);
comment on table number_format_code is
'Grain: one code of a number format of up to 8 bits: the grid itself.
Key: number_format_id, code_index.';
comment on column number_format_code.number_format_id is 'The number format';
comment on column number_format_code.code_index is
'Signed index of the code''s magnitude; 0 is zero';
comment on column number_format_code.code is
'Value of the code, in units of the scale';

create table scheme (
    scheme_id smallint primary key,
    name varchar not null unique,
    granularity varchar not null,
    symmetry varchar not null,
    range_rule varchar not null,
    quantized varchar not null,
    calibration varchar not null
);
comment on table scheme is
'Grain: one way of quantizing a network. Key: scheme_id, name.';
comment on column scheme.scheme_id is 'Id of the scheme';
comment on column scheme.name is 'Name of the scheme';
comment on column scheme.granularity is 'What shares one scale, such as the tensor';
comment on column scheme.symmetry is 'Whether the range is symmetric around zero';
comment on column scheme.range_rule is 'How the range follows from the values';
comment on column scheme.quantized is 'Which tensors are quantized';
comment on column scheme.calibration is 'Where the ranges of the inputs come from';

create table layer (
    layer_id integer primary key,
    network_id integer not null,
    position integer not null,
    name varchar not null,
    kind varchar not null,
    params bigint not null,
    macs bigint not null,
    unique (network_id, position)
);
comment on table layer is
'Grain: one quantized layer of a network. Key: layer_id; network_id and position.';
comment on column layer.layer_id is 'Id of the layer';
comment on column layer.network_id is 'The network it belongs to';
comment on column layer.position is 'Place of the layer in the order of execution';
comment on column layer.name is 'Name of the module in the network';
comment on column layer.kind is 'Kind of layer, such as Conv2d or Linear';
comment on column layer.params is 'Elements of its weight and bias';
comment on column layer.macs is 'Its multiply-accumulates for one image';

create table tensor (
    tensor_id integer primary key,
    layer_id integer not null,
    role varchar not null check (role in ('weight', 'bias', 'input')),
    element_count bigint not null,
    min_value double not null,
    max_value double not null,
    sum_x double not null,
    sum_abs double not null,
    sum_x2 double not null,
    sum_x3 double not null,
    sum_x4 double not null,
    unique (layer_id, role)
);
comment on table tensor is
'Grain: one tensor of a quantized layer, in floating point, with any batch norm folded
in. Key: tensor_id; layer_id and role.';
comment on column tensor.tensor_id is 'Id of the tensor';
comment on column tensor.layer_id is 'The layer it belongs to';
comment on column tensor.role is 'weight, bias or input';
comment on column tensor.element_count is
'Number of elements; of an input: over all calibration images';
comment on column tensor.min_value is 'Smallest element';
comment on column tensor.max_value is 'Largest element';
comment on column tensor.sum_x is 'Sum of the elements';
comment on column tensor.sum_abs is 'Sum of the elements'' absolute values';
comment on column tensor.sum_x2 is 'Sum of the elements'' squares';
comment on column tensor.sum_x3 is 'Sum of the elements'' third powers';
comment on column tensor.sum_x4 is 'Sum of the elements'' fourth powers';

create table tensor_channel (
    tensor_id integer not null,
    channel integer not null,
    min_value double not null,
    max_value double not null,
    sum_x2 double not null
);
comment on table tensor_channel is
'Grain: one output channel of a weight. Key: tensor_id, channel (not enforced).';
comment on column tensor_channel.tensor_id is 'The weight';
comment on column tensor_channel.channel is 'Index of the output channel, from 0';
comment on column tensor_channel.min_value is 'Smallest element of the channel';
comment on column tensor_channel.max_value is 'Largest element of the channel';
comment on column tensor_channel.sum_x2 is 'Sum of the channel''s squared elements';

create table tensor_histogram (
    tensor_id integer not null,
    bin smallint not null,
    count bigint not null
);
comment on table tensor_histogram is
'Grain: one occupied bin of a floating-point tensor. Key: tensor_id, bin (not
enforced). bin = round(x * 2047 / max abs), ties toward zero: macro fine_bin.';
comment on column tensor_histogram.tensor_id is 'The tensor';
comment on column tensor_histogram.bin is 'Index of the bin, -2047 to 2047';
comment on column tensor_histogram.count is 'Number of elements in the bin, at least 1';

create table quantized_tensor (
    tensor_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    scale double not null,
    clipped_count bigint not null,
    sum_codes double not null,
    sum_codes2 double not null,
    sum_code_x double not null,
    squared_error_sum double not null,
    softmax_js_fakefreeze double,
    softmax_js_l2 double,
    softmax_group_count bigint
);
comment on table quantized_tensor is
'Grain: one tensor quantized in one number format under one scheme. Key: tensor_id,
number_format_id, scheme_id (not enforced). A bias belongs to the format of its layer''s
weight, whatever the format of its own codes.';
comment on column quantized_tensor.tensor_id is 'The tensor';
comment on column quantized_tensor.number_format_id is 'The number format';
comment on column quantized_tensor.scheme_id is 'The scheme';
comment on column quantized_tensor.scale is
'Value of code 1: the dequantized element is code * scale';
comment on column quantized_tensor.clipped_count is
'Elements past the largest code, saturated';
comment on column quantized_tensor.sum_codes is 'Sum of the codes';
comment on column quantized_tensor.sum_codes2 is 'Sum of the codes'' squares';
comment on column quantized_tensor.sum_code_x is
'Sum of code times floating-point element';
comment on column quantized_tensor.squared_error_sum is
'Sum of (code * scale - element) squared';
comment on column quantized_tensor.softmax_js_fakefreeze is
'Sum over the groups of JS(softmax(x), softmax(codes * scale)), base 2; NULL for
inputs';
comment on column quantized_tensor.softmax_js_l2 is
'The same with the factor that makes both L2 norms equal; NULL for inputs';
comment on column quantized_tensor.softmax_group_count is
'Number of softmax groups that were summed; NULL for inputs';

create table code_histogram (
    tensor_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    code double not null,
    count bigint not null
);
comment on table code_histogram is
'Grain: one occupied code of a quantized weight or bias. Key: tensor_id,
number_format_id, scheme_id, code (not enforced). The codes of weights in formats of
more than 4095 codes are binned: code = bin * max code / 2047, the centre of the bin.';
comment on column code_histogram.tensor_id is 'The tensor';
comment on column code_histogram.number_format_id is 'The number format';
comment on column code_histogram.scheme_id is 'The scheme';
comment on column code_histogram.code is 'The code, in units of the scale';
comment on column code_histogram.count is
'Number of elements with this code, at least 1';

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
    cross_entropy_sum double not null,
    kl_sum double not null,
    unique (network_id, number_format_id, scheme_id, scope)
);
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
'Images whose label was among the five most likely';
comment on column evaluation.correct_both is
'Images whose label was predicted here and by the floating-point network';
comment on column evaluation.same_prediction is
'Images with the prediction of the floating-point network, right or wrong';
comment on column evaluation.cross_entropy_sum is
'Sum over the images of the cross-entropy to the label, in nats';
comment on column evaluation.kl_sum is
'Sum over the images of KL(floating-point outputs, these outputs), in nats';

create table collection_run (
    run_id integer primary key,
    version varchar not null,
    arguments varchar not null,
    device varchar not null,
    seed integer not null,
    started_at timestamp not null,
    ended_at timestamp,
    cells struct(
        network varchar, number_format varchar, scheme varchar, scope varchar
    )[] not null,
    outcome varchar not null,
    failures struct(network varchar, reason varchar)[] not null
);
comment on table collection_run is
'Grain: one run that collected facts. Key: run_id.';
comment on column collection_run.run_id is 'Id of the run';
comment on column collection_run.version is 'Version of ptqdb';
comment on column collection_run.arguments is 'Arguments of the run, as JSON';
comment on column collection_run.device is 'Device that it ran on';
comment on column collection_run.seed is 'Seed of its random numbers';
comment on column collection_run.started_at is 'When it started, UTC';
comment on column collection_run.ended_at is 'When it ended, UTC; NULL until then';
comment on column collection_run.cells is
'The cells that it was to fill, written before the first of them';
comment on column collection_run.outcome is 'running, done, failed or interrupted';
comment on column collection_run.failures is
'The networks that failed, each with the reason';
