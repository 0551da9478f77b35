-- The schemes of a file, and the names of number formats under them. A number format
-- says which codes there are; a scheme, which values share a scale, how the scale is
-- found and stored, and which tensors are quantized.

-- Name of the study's scheme: one scale per tensor, from its largest absolute value.
-- Its facts are codes (quantized_tensor); those of all others are dequantized values
-- (dequantized_tensor).
create or replace macro study_scheme() as 'per_tensor_symmetric_max';

-- The word for every scheme of the file.
create or replace macro every_scheme() as '*';

-- Name of a deployed format, from number format and scheme joined by @; NULL for other
-- pairs.
create or replace macro preset_name(pair) as
    case pair
        when 'INT_8@channel_tensor_zp' then 'int8'
        when 'INT_8@channel_token' then 'int8_dynamic'
        when 'INT_4@group128' then 'int4_g128'
        when 'INT_4@group128_zp' then 'int4_g128_zp'
        when 'INT_4@group32' then 'int4_g32'
        when 'FLOAT_8_E4M3FN@tensor_tensor' then 'fp8'
        when 'FLOAT_8_E4M3FN@channel_token' then 'fp8_rowwise'
        when 'FLOAT_8_E5M2@tensor_tensor' then 'fp8_e5m2'
        when 'FLOAT_8_E4M3FN@mx32_e8m0' then 'mxfp8_e4m3'
        when 'FLOAT_8_E5M2@mx32_e8m0' then 'mxfp8_e5m2'
        when 'FLOAT_6_E2@mx32_e8m0' then 'mxfp6_e2m3'
        when 'FLOAT_6_E3@mx32_e8m0' then 'mxfp6_e3m2'
        when 'FLOAT_4_E2@mx32_e8m0' then 'mxfp4'
        when 'INT_8@mx32_e8m0' then 'mxint8'
        when 'FLOAT_4_E2@nv16_e4m3' then 'nvfp4'
        when 'NF_4@absmax64' then 'nf4'
        when 'INT_8@gguf_q8_0' then 'q8_0'
        when 'INT_4@gguf_q4_0' then 'q4_0'
        when 'INT_4@gguf_q4_k' then 'q4_K'
    end;

-- Name of a number format under a scheme, as --number-formats takes it: under the
-- study's scheme its own name, such as INT_8; else the preset's, such as mxfp4, or
-- number format and scheme, such as INT_6@channel. A user's function or checkpoint
-- (number format FLOAT_32_E8) has the name of its scheme.
create or replace macro format_name(number_format, scheme) as
    case
        when scheme = study_scheme() then number_format
        when number_format = 'FLOAT_32_E8' then scheme
        else
            coalesce(
                preset_name(number_format || '@' || scheme),
                number_format || '@' || scheme
            )
    end;

-- NULL for NULL (the study's scheme), every_scheme or the name of a scheme of this
-- file; otherwise a message that lists the valid names.
create or replace macro scheme_message(the_scheme) as
    case
        when the_scheme is not null then
            (
                select
                    word_message(
                        'scheme',
                        the_scheme,
                        list_concat(
                            list(known.name order by known.scheme_id), [every_scheme()]
                        )
                    )
                from scheme as known
            )
    end;

-- The scheme with this name; for NULL, the study's; for every_scheme, each of the file.
-- Grain: one scheme. Key: scheme_id. No row if the file lacks it.
create or replace macro chosen_scheme(the_scheme) as table
select
    known.scheme_id,
    known.name
from scheme as known
where
    the_scheme = every_scheme() or known.name = coalesce(the_scheme, study_scheme());

-- No row if a scheme is valid; otherwise an error that lists the valid ones, as in
-- variant_check.
create or replace macro scheme_check(the_scheme) as table
select error(problem.message)::varchar as network
from (select scheme_message(the_scheme) as message) as problem
where problem.message is not null;
