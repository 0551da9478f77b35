-- The facts: raw measurements, stored without interpretation. Each table's comment
-- states its grain and key. Small tables enforce their keys; histograms do not, since
-- keys would quadruple their time and size. Foreign keys stop at dataset: DuckDB
-- refuses to delete a row that another referenced earlier in the same transaction, and
-- a network is replaced in one. The writer assigns ids. Counts and sums are stored,
-- never rates or means, so SQL can combine them exactly.

create table migration (
    version integer primary key,
    name varchar not null,
    applied_at timestamp not null
);
comment on table migration is
'Grain: one schema migration applied to this file. Key: version.';
comment on column migration.version is 'Number of the migration, from 1 without gaps';
comment on column migration.name is 'Name of the migration''s file, without .sql';
comment on column migration.applied_at is 'When it was applied, UTC';

create table definition (
    name varchar not null,
    kind varchar not null,
    sha256 varchar not null,
    primary key (name, kind)
);
comment on table definition is
'Grain: one macro or view that ptqdb created in this file. Key: name, kind.
Distinguishes the definitions of ptqdb from those of the user.';
comment on column definition.name is 'Name of the macro or view';
comment on column definition.kind is 'macro, table macro or view';
comment on column definition.sha256 is
'SHA-256 of its defining SQL text, hexadecimal';

create table dataset (
    dataset_id integer primary key,
    name varchar not null,
    split varchar not null,
    class_count integer not null,
    image_count integer not null,
    content_sha256 varchar not null unique
);
comment on table dataset is
'Grain: one split of a dataset, as used. Key: dataset_id, content_sha256.';
comment on column dataset.dataset_id is 'Id of the dataset split';
comment on column dataset.name is 'Name of the dataset';
comment on column dataset.split is 'Split of the dataset: train, test, ...';
comment on column dataset.class_count is 'Number of classes';
comment on column dataset.image_count is 'Number of images used';
comment on column dataset.content_sha256 is
'SHA-256 of the images and labels used, hexadecimal';

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
    unfolded_batch_norm_count integer,
    preprocessing varchar
);
comment on table network is
'Grain: one trained network with its evaluation images. Key: network_id, name.';
comment on column network.network_id is 'Id of the network';
comment on column network.name is 'Name of the network';
comment on column network.architecture is
'Family: networks with and without batch norm are one architecture';
comment on column network.checkpoint_sha256 is
'SHA-256 of the trained weights, hexadecimal';
comment on column network.dataset_id is 'The dataset split for evaluation';
comment on column network.calibration_dataset_id is
'The dataset split for calibration, the source of its activation ranges';
comment on column network.quantized_layer_count is
'Number of quantized layers: the depth';
comment on column network.params is
'Params of the float network, each counted once, including batch norms';
comment on column network.macs is
'Multiply-accumulates of the quantized layers for one image';
comment on column network.unfolded_batch_norm_count is
'Batch norms that could not be folded and stay in floating point';
comment on column network.preprocessing is
'JSON of mean and std per channel, in units of the full range 0..1, and of the geometry;
NULL if written by older versions';

create table unquantized_part (
    network_id integer not null,
    name varchar not null,
    kind varchar not null,
    params bigint not null check (params >= 0),
    macs bigint check (macs >= 0),
    reason varchar not null,
    primary key (network_id, name)
);
comment on table unquantized_part is
'Grain: one part of a network that is computed in floating point in every number format.
Key: network_id, name.';
comment on column unquantized_part.network_id is 'The network it belongs to';
comment on column unquantized_part.name is
'Name of the module, or of the parameter if the module has submodules';
comment on column unquantized_part.kind is
'Type of the module, such as LayerNorm, or Parameter';
comment on column unquantized_part.params is
'Its params; 0 for products of activations';
comment on column unquantized_part.macs is
'Its multiply-accumulates for one image, 0 for norms; NULL if not counted, as for a
recurrent layer';
comment on column unquantized_part.reason is 'Why it is not quantized';

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
comment on column number_format.name is
'Name, such as INT_8, POT_4, FLOAT_8_E4, FLOAT_8_E4M3FN or NF_4';
comment on column number_format.family is 'INT, POT, FLOAT or NF';
comment on column number_format.bits is 'Width of one code in bits, including the sign';
comment on column number_format.ebits is 'Exponent bits; NULL except for FLOAT';
comment on column number_format.mbits is 'Mantissa bits; NULL except for FLOAT';
comment on column number_format.max_code is 'Largest code, in units of the scale';
comment on column number_format.code_count is 'Number of distinct codes';
comment on column number_format.in_study_grid is
'Whether it is one of the 43 formats of the study; bias formats are not';

create table number_format_code (
    number_format_id smallint not null,
    code_index smallint not null,
    code double not null,
    primary key (number_format_id, code_index)
);
comment on table number_format_code is
'Grain: one code of a number format of up to 8 bits. Key: number_format_id,
code_index.';
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
    calibration varchar not null,
    input_granularity varchar,
    input_symmetry varchar,
    block_size integer,
    block_order varchar,
    scale_format varchar,
    bias varchar,
    source_sha256 varchar
);
comment on table scheme is
'Grain: one quantization scheme: which values share a scale, how it is found and stored,
and which tensors are quantized. Key: scheme_id, name. The study''s scheme is
per_tensor_symmetric_max; in its row the columns from input_granularity on are NULL.';
comment on column scheme.scheme_id is 'Id of the scheme';
comment on column scheme.name is 'Name of the scheme';
comment on column scheme.granularity is
'Which values of a weight share one scale: tensor, channel, block or other';
comment on column scheme.symmetry is
'Whether the range of a weight is symmetric around zero: symmetric or zero_point';
comment on column scheme.range_rule is 'How the range is computed from the values';
comment on column scheme.quantized is 'Which tensors are quantized';
comment on column scheme.calibration is 'Source of the input ranges';
comment on column scheme.input_granularity is
'Which values of an input share one scale: float (not quantized), tensor, token or
block; NULL in the study''s scheme: tensor';
comment on column scheme.input_symmetry is
'Whether the range of an input is symmetric around zero: symmetric or zero_point; NULL
in the study''s scheme: symmetric';
comment on column scheme.block_size is
'Number of values that share a scale; NULL without blocks';
comment on column scheme.block_order is
'Order in which a weight''s fan-in is cut into blocks: channel_first, as it lies in
memory; NULL without blocks';
comment on column scheme.scale_format is
'Format of the stored scales: float32, float16, E8M0, E4M3 or 6-bit; NULL in the
study''s scheme: float32';
comment on column scheme.bias is
'How a bias is quantized: study (the wide format of its family), float32 (not at all) or
INT32; NULL in the study''s scheme: study';
comment on column scheme.source_sha256 is
'SHA-256 of the file of a user''s own function, hexadecimal; NULL otherwise';

create table layer (
    layer_id integer primary key,
    network_id integer not null,
    position integer not null,
    name varchar not null,
    kind varchar not null,
    params bigint not null,
    macs bigint not null,
    uncounted_params bigint not null default 0,
    is_folded boolean,
    unique (network_id, position)
);
comment on table layer is
'Grain: one quantized layer of a network. Key: layer_id; network_id and position.';
comment on column layer.layer_id is 'Id of the layer';
comment on column layer.network_id is 'The network it belongs to';
comment on column layer.position is 'Position of the layer in the order of execution';
comment on column layer.name is 'Name of the module in the network';
comment on column layer.kind is 'Type of the layer, such as Conv2d or Linear';
comment on column layer.params is 'Elements of its weight and bias';
comment on column layer.macs is 'Its multiply-accumulates for one image';
comment on column layer.uncounted_params is
'Params not counted in the network''s params: those shared with an earlier layer, and
those of a bias created by folding';
comment on column layer.is_folded is
'Whether a batch norm was folded into it, so that its weight and bias as trained are
others; NULL if written by older versions';

create table layer_sensitivity (
    layer_id integer primary key,
    image_count integer not null check (image_count > 0),
    margin_square_sum double not null check (margin_square_sum >= 0),
    element_count bigint not null check (element_count >= 0),
    gradient_square_sum double not null check (gradient_square_sum >= 0),
    output_square_sum double not null check (output_square_sum >= 0)
);
comment on table layer_sensitivity is
'Grain: one layer of a network collected with --sensitivity. Key: layer_id. How the
decision of the float network depends on the layer''s output, summed over calibration
images, without labels. The margin is the largest output minus the second largest.';
comment on column layer_sensitivity.layer_id is 'The layer';
comment on column layer_sensitivity.image_count is
'Number of calibration images in the sums: of the first 64 in the order of image_at,
those with a finite margin and finite gradients';
comment on column layer_sensitivity.margin_square_sum is
'Sum over the images of the squared margin; the same for every layer of a network';
comment on column layer_sensitivity.element_count is
'Number of elements of the layer''s output, over all images';
comment on column layer_sensitivity.gradient_square_sum is
'Sum over these elements of the squared gradient of the margin';
comment on column layer_sensitivity.output_square_sum is
'Sum over these elements of the squared output';

create table tensor (
    tensor_id integer primary key,
    layer_id integer not null,
    role varchar not null
    check (role in ('weight', 'bias', 'input', 'trained_weight', 'trained_bias')),
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
'Grain: one tensor of a quantized layer, in floating point, after folding batch norm,
or (roles trained_*) before. Key: tensor_id; layer_id and role.';
comment on column tensor.tensor_id is 'Id of the tensor';
comment on column tensor.layer_id is 'The layer it belongs to';
comment on column tensor.role is
'weight, bias or input; trained_weight and trained_bias of a layer that a batch norm was
folded into: before folding';
comment on column tensor.element_count is
'Number of elements; for an input, over all calibration images';
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
'Grain: one tensor quantized in one number format under the study''s scheme, where one
scale turns all its codes into values; for the other schemes see dequantized_tensor.
Key: tensor_id, number_format_id, scheme_id (not enforced). A bias is listed under the
format of its layer''s weight, not of its own codes.';
comment on column quantized_tensor.tensor_id is 'The tensor';
comment on column quantized_tensor.number_format_id is 'The number format';
comment on column quantized_tensor.scheme_id is 'The scheme';
comment on column quantized_tensor.scale is
'Value of code 1: the dequantized element is code * scale';
comment on column quantized_tensor.clipped_count is
'Elements beyond the largest code, saturated';
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
'The same with the factor that equalizes the L2 norms; NULL for inputs';
comment on column quantized_tensor.softmax_group_count is
'Number of softmax groups in the sums; NULL for inputs';

create table dequantized_tensor (
    tensor_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    scale_count bigint not null,
    min_scale double,
    max_scale double,
    storage_bits bigint,
    clipped_count bigint,
    sum_y double not null,
    sum_y2 double not null,
    sum_xy double not null,
    squared_error_sum double not null,
    softmax_js_fakefreeze double,
    softmax_js_l2 double,
    softmax_group_count bigint
);
comment on table dequantized_tensor is
'Grain: one weight, bias or input quantized in one number format under a scheme other
than the study''s, where a tensor may have many scales. Key: tensor_id,
number_format_id, scheme_id (not enforced). The sums are of the dequantized elements
y and the floating-point elements x. A tensor that the scheme leaves in floating point
has a row, too, without scales and with error 0.';
comment on column dequantized_tensor.tensor_id is 'The tensor';
comment on column dequantized_tensor.number_format_id is
'The number format of the layer''s weight';
comment on column dequantized_tensor.scheme_id is 'The scheme';
comment on column dequantized_tensor.scale_count is
'Number of its scales; 0 if it is left in floating point, or if they are unknown';
comment on column dequantized_tensor.min_scale is
'Smallest scale (absolute value of code 1); NULL if scale_count is 0';
comment on column dequantized_tensor.max_scale is
'Largest scale; NULL if scale_count is 0';
comment on column dequantized_tensor.storage_bits is
'Bits of its codes, scales and zero points; NULL if unknown';
comment on column dequantized_tensor.clipped_count is
'Elements beyond the largest code, saturated; NULL if unknown';
comment on column dequantized_tensor.sum_y is 'Sum of the dequantized elements';
comment on column dequantized_tensor.sum_y2 is 'Sum of their squares';
comment on column dequantized_tensor.sum_xy is
'Sum of dequantized element times floating-point element';
comment on column dequantized_tensor.squared_error_sum is
'Sum of (dequantized element - floating-point element) squared';
comment on column dequantized_tensor.softmax_js_fakefreeze is
'Sum over the groups of JS(softmax(x), softmax(y)), base 2; NULL for inputs';
comment on column dequantized_tensor.softmax_js_l2 is
'The same with the factor on y that equalizes the L2 norms; NULL for inputs';
comment on column dequantized_tensor.softmax_group_count is
'Number of softmax groups in the sums; NULL for inputs';

create table dequantized_histogram (
    tensor_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    bin integer not null,
    count bigint not null
);
comment on table dequantized_histogram is
'Grain: one occupied bin of a weight or bias of dequantized_tensor. Key: tensor_id,
number_format_id, scheme_id, bin (not enforced). The bins are those of the
floating-point tensor: bin = fine_bin(y, max_abs).';
comment on column dequantized_histogram.tensor_id is 'The tensor';
comment on column dequantized_histogram.number_format_id is 'The number format';
comment on column dequantized_histogram.scheme_id is 'The scheme';
comment on column dequantized_histogram.bin is
'Index of the bin; beyond 2047 or -2047 for elements outside the tensor''s range';
comment on column dequantized_histogram.count is
'Number of dequantized elements in the bin, at least 1';

create table quantized_checkpoint (
    network_id integer not null,
    scheme_id smallint not null,
    checkpoint_sha256 varchar not null,
    unique (network_id, scheme_id)
);
comment on table quantized_checkpoint is
'Grain: one checkpoint with weights of a network that another method has already
rounded, collected with --quantized. Key: network_id, scheme_id.';
comment on column quantized_checkpoint.network_id is 'The network';
comment on column quantized_checkpoint.scheme_id is
'The scheme, whose name was given with the checkpoint';
comment on column quantized_checkpoint.checkpoint_sha256 is
'SHA-256 of the rounded weights, hexadecimal';

create table quantized_tensor_channel (
    tensor_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    channel integer not null,
    squared_error_sum double not null
);
comment on table quantized_tensor_channel is
'Grain: one output channel of a weight quantized in one number format under one
scheme. Key: tensor_id, number_format_id, scheme_id, channel (not enforced).';
comment on column quantized_tensor_channel.tensor_id is 'The weight';
comment on column quantized_tensor_channel.number_format_id is 'The number format';
comment on column quantized_tensor_channel.scheme_id is 'The scheme';
comment on column quantized_tensor_channel.channel is
'Index of the output channel, from 0, as in tensor_channel';
comment on column quantized_tensor_channel.squared_error_sum is
'Sum of (dequantized element - element) squared over the channel''s elements';

create table code_histogram (
    tensor_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    code double not null,
    count bigint not null
);
comment on table code_histogram is
'Grain: one occupied code of a quantized weight or bias. Key: tensor_id,
number_format_id, scheme_id, code (not enforced). For weights in formats with more than
4095 codes, codes are binned: code = bin * max code / 2047, the centre of the bin.';
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
    non_finite_count integer not null,
    cross_entropy_sum double not null,
    cross_entropy_count integer not null,
    kl_sum double not null,
    kl_count integer not null,
    correct_images bit,
    same_images bit,
    unique (network_id, number_format_id, scheme_id, scope)
);
comment on table evaluation is
'Grain: one evaluation of a network: in one number format under one scheme with one
scope, or in floating point (scope none; format and scheme NULL). Key: network_id,
number_format_id, scheme_id, scope.';
comment on column evaluation.network_id is 'The network';
comment on column evaluation.number_format_id is
'The number format; NULL in floating point';
comment on column evaluation.scheme_id is 'The scheme; NULL in floating point';
comment on column evaluation.scope is
'What was quantized: all, weight, bias or input; none in floating point';
comment on column evaluation.precision is
'Precision of the products: int8 (sums in int32), bfloat16 or float32';
comment on column evaluation.image_count is
'Number of images evaluated: the first ones in the order of image_at';
comment on column evaluation.correct_top1 is 'Images with a correct prediction';
comment on column evaluation.correct_top5 is
'Images whose label is among the five most likely; among equal outputs the class with
the lower index comes first';
comment on column evaluation.correct_both is
'Images with a correct prediction here and in floating point';
comment on column evaluation.same_prediction is
'Images with the same prediction as in floating point, right or wrong';
comment on column evaluation.non_finite_count is
'Images without a prediction, counted as wrong: an output is NaN or +infinity, or none
is finite; an output of -infinity masks its class and is allowed';
comment on column evaluation.cross_entropy_sum is
'Sum over the images of the cross-entropy to the label, in nats';
comment on column evaluation.cross_entropy_count is
'Images in cross_entropy_sum: those with a prediction, except those whose label the
network masks';
comment on column evaluation.kl_sum is
'Sum over the images of KL(floating-point outputs, these outputs), in nats';
comment on column evaluation.kl_count is
'Images in kl_sum: those with a prediction here and in floating point, except those
where a class is masked only here';
comment on column evaluation.correct_images is
'The images counted in correct_top1: bit p, from the left and from 0, is that of the
image image_at(p, image count of the dataset); NULL if written by older versions';
comment on column evaluation.same_images is
'The images counted in same_prediction, in the same order; NULL if written by older
versions';

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
that number format. Key: network_id, number_format_id, scheme_id, scope. It is retried
when the network is collected again.';
comment on column failed_cell.network_id is 'The network';
comment on column failed_cell.number_format_id is 'The number format';
comment on column failed_cell.scheme_id is 'The scheme';
comment on column failed_cell.scope is
'What was quantized: all, weight, bias or input';
comment on column failed_cell.layer is
'The last quantized layer that started before the error; NULL if unknown';
comment on column failed_cell.reason is 'Type and message of the error, in one line';

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
    correct_images bit,
    same_images bit,
    unique (layer_id, number_format_id, scheme_id)
);
comment on table layer_evaluation is
'Grain: one evaluation of a network with a single layer quantized (weight, bias and
input) and all others in floating point. Key: layer_id, number_format_id, scheme_id.
Columns as in evaluation.';
comment on column layer_evaluation.layer_id is 'The quantized layer';
comment on column layer_evaluation.number_format_id is 'The number format';
comment on column layer_evaluation.scheme_id is 'The scheme';
comment on column layer_evaluation.precision is
'Precision of the products, as in evaluation';
comment on column layer_evaluation.image_count is 'Number of images evaluated';
comment on column layer_evaluation.correct_top1 is 'Images with a correct prediction';
comment on column layer_evaluation.correct_top5 is
'Images whose label is among the five most likely; among equal outputs the class with
the lower index comes first';
comment on column layer_evaluation.correct_both is
'Images with a correct prediction here and in floating point';
comment on column layer_evaluation.same_prediction is
'Images with the same prediction as in floating point, right or wrong';
comment on column layer_evaluation.non_finite_count is
'Images without a prediction, counted as wrong';
comment on column layer_evaluation.cross_entropy_sum is
'Sum over the images of the cross-entropy to the label, in nats';
comment on column layer_evaluation.cross_entropy_count is
'Images in cross_entropy_sum';
comment on column layer_evaluation.kl_sum is
'Sum over the images of KL(floating-point outputs, these outputs), in nats';
comment on column layer_evaluation.kl_count is 'Images in kl_sum';
comment on column layer_evaluation.correct_images is
'The images counted in correct_top1, one bit per image';
comment on column layer_evaluation.same_images is
'The images counted in same_prediction, one bit per image';

create table failed_layer_cell (
    layer_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    layer varchar,
    reason varchar not null,
    unique (layer_id, number_format_id, scheme_id)
);
comment on table failed_layer_cell is
'Grain: one single-layer evaluation that is impossible: the network''s own code raises
an error in that number format. Key: layer_id, number_format_id, scheme_id. It is
retried when the network is collected again.';
comment on column failed_layer_cell.layer_id is 'The quantized layer';
comment on column failed_layer_cell.number_format_id is 'The number format';
comment on column failed_layer_cell.scheme_id is 'The scheme';
comment on column failed_layer_cell.layer is
'The last quantized layer that started before the error; NULL if unknown';
comment on column failed_layer_cell.reason is
'Type and message of the error, in one line';

create table probe (
    network_id integer not null,
    number_format_id smallint not null,
    scheme_id smallint not null,
    precision varchar not null,
    image_count integer not null,
    same_prediction integer not null,
    non_finite_count integer not null,
    float_probability_sum double not null,
    chosen_probability_sum double not null,
    kl_sum double not null,
    kl_count integer not null,
    logit_squared_error_sum double not null,
    float_logit_variance_sum double not null,
    logit_count integer not null,
    same_images bit not null,
    unique (network_id, number_format_id, scheme_id)
);
comment on table probe is
'Grain: one network with everything quantized in one number format under one scheme,
run on a few calibration images and compared with the float network, without labels.
Key: network_id, number_format_id, scheme_id.';
comment on column probe.network_id is 'The network';
comment on column probe.number_format_id is 'The number format';
comment on column probe.scheme_id is 'The scheme';
comment on column probe.precision is 'Precision of the products';
comment on column probe.image_count is
'Number of calibration images used: the first ones in the order of image_at';
comment on column probe.same_prediction is
'Images with the same prediction as in floating point';
comment on column probe.non_finite_count is
'Images without a prediction: an output is NaN or +infinity, or none is finite';
comment on column probe.float_probability_sum is
'Sum over the images of the probability that the float network gives its own
prediction';
comment on column probe.chosen_probability_sum is
'Sum over the images of the probability that the float network gives the prediction of
the quantized network; 0 for an image without a prediction';
comment on column probe.kl_sum is
'Sum over the images of KL(floating-point outputs, these outputs), in nats';
comment on column probe.kl_count is
'Images in kl_sum: those with a prediction here and in floating point, except those
where a class is masked only here';
comment on column probe.logit_squared_error_sum is
'Sum over the images of the variance, over the classes, of this output minus the
floating-point output: a shift common to all classes changes no probability';
comment on column probe.float_logit_variance_sum is
'Sum over the same images of the variance, over the classes, of the floating-point
outputs';
comment on column probe.logit_count is
'Images in logit_squared_error_sum: those with a prediction here and in floating point,
except those where a class is masked in only one of the two';
comment on column probe.same_images is
'The images counted in same_prediction: bit p, from the left and from 0, is that of the
image image_at(p, image count of the calibration dataset)';

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
comment on column collection_run.device is 'Device used';
comment on column collection_run.seed is 'Seed of its random numbers';
comment on column collection_run.started_at is 'When it started, UTC';
comment on column collection_run.ended_at is 'When it ended, UTC; NULL until then';
comment on column collection_run.cells is
'The planned cells, written before the first is evaluated; one cell with scope layer
stands for all single layers of the network';
comment on column collection_run.outcome is
'running, done, failed or interrupted; also done if some cells could not be evaluated
(see failed_cell)';
comment on column collection_run.failures is
'The networks that failed entirely, with reasons';

-- Derived from the facts and costly enough to store: filled by the queries in
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
number_format_id, scheme_id, rescale, measure, bins (not enforced). Derived: when
deleting rows of quantized_tensor or dequantized_tensor, delete the matching rows here
and materialize again.';
comment on column tensor_divergence.tensor_id is 'The tensor';
comment on column tensor_divergence.number_format_id is 'The number format';
comment on column tensor_divergence.scheme_id is 'The scheme';
comment on column tensor_divergence.rescale is
'Factor on the codes: fakefreeze (their scale) or l2 (equal L2 norms); under schemes
other than the study''s on the dequantized elements: 1 or the same';
comment on column tensor_divergence.measure is 'Name of the measure, such as js';
comment on column tensor_divergence.bins is
'Number of bins of the histograms; NULL for measures without bins';
comment on column tensor_divergence.value is
'Value of the measure; larger means more damage';

-- Results of ptqdb compare: derived from the facts, and emptied when facts are added.

create table fit (
    fit_id integer primary key,
    view varchar not null,
    curve varchar not null,
    leave_out varchar not null check (leave_out in ('network', 'architecture')),
    fingerprint varchar not null,
    fitted_at timestamp not null,
    points integer not null,
    r_squared double,
    adjusted_r_squared double,
    rmse double,
    aic double,
    bic double,
    ceiling_r_squared double,
    held_out_r_squared double,
    held_out_rmse double,
    held_out_median_error double,
    monotone boolean,
    params double[] not null,
    error varchar,
    unique (view, curve, leave_out)
);
comment on table fit is
'Grain: one curve fitted over all points of one view. Key: fit_id; view, curve and
leave_out. Written by ptqdb compare and emptied when facts are added.';
comment on column fit.fit_id is 'Id of the fit';
comment on column fit.view is 'Name of the view, or the call of variant';
comment on column fit.curve is 'Name of the curve, such as rational2';
comment on column fit.leave_out is
'Unit left out at a time for the held-out figures: network or architecture';
comment on column fit.fingerprint is
'SHA-256 of the points, the curve and the version of ptqdb, hexadecimal';
comment on column fit.fitted_at is 'When it was fitted, UTC';
comment on column fit.points is 'Rows of the view with a finite divergence and loss';
comment on column fit.r_squared is
'1 - (sum of squared residuals) / (sum of squares about the mean); NULL without a fit';
comment on column fit.adjusted_r_squared is
'r_squared adjusted for the degrees of freedom of the curve';
comment on column fit.rmse is
'Root of the mean squared residual, a fraction of the float accuracy';
comment on column fit.aic is 'Akaike''s criterion; NULL without a likelihood';
comment on column fit.bic is 'Schwarz''s criterion; NULL without a likelihood';
comment on column fit.ceiling_r_squared is
'r_squared of isotonic regression, the upper bound for any monotone curve';
comment on column fit.held_out_r_squared is
'1 - (sum of squared errors) / (sum of squares about the mean), each point predicted by
a curve that never saw its network or architecture';
comment on column fit.held_out_rmse is
'Root of the mean squared held-out error, a fraction of the float accuracy';
comment on column fit.held_out_median_error is
'Median absolute held-out error, a fraction of the float accuracy';
comment on column fit.monotone is
'Whether the curve is proven non-decreasing over the points';
comment on column fit.params is 'Parameters of the curve, in the order of its model';
comment on column fit.error is 'Why the fit failed; NULL otherwise';

create table fit_fold (
    fit_id integer not null,
    left_out varchar not null,
    points integer not null,
    sse double,
    inner_r_squared double
);
comment on table fit_fold is
'Grain: one network (or architecture) left out of one fit. Key: fit_id, left_out (not
enforced).';
comment on column fit_fold.fit_id is 'The fit';
comment on column fit_fold.left_out is 'The network or architecture that was left out';
comment on column fit_fold.points is 'Number of its points';
comment on column fit_fold.sse is
'Sum of its squared errors, predicted by the curve fitted to all others; NULL if these
are too few to fit the curve';
comment on column fit_fold.inner_r_squared is
'Held-out R squared among the others only, as if this one did not exist: for choosing
view and curve without looking at this one';
