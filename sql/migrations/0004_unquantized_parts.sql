-- What of a network no number format quantizes: norms, tables, recurrent layers,
-- products of activations with each other. A network without rows here is quantized
-- as a whole.

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
'Grain: one part of a network that is computed in floating point whatever the number
format. Key: network_id, name.';
comment on column unquantized_part.network_id is 'The network it belongs to';
comment on column unquantized_part.name is
'Name of the module, or of the parameter where the module has others inside';
comment on column unquantized_part.kind is
'Kind of module, such as LayerNorm, or Parameter';
comment on column unquantized_part.params is
'Its params; 0 where activations are multiplied with each other';
comment on column unquantized_part.macs is
'Its multiply-accumulates for one image, 0 for norms; NULL where they are not
counted, as those of a recurrent layer';
comment on column unquantized_part.reason is 'Why it is not quantized';
