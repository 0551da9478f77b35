-- A network's params are those of the network as it was given, each counted once. A
-- weight that several layers share, and a bias that folding made, are in the params of
-- a layer all the same.

alter table layer add column uncounted_params bigint default 0;
alter table layer alter column uncounted_params set not null;
comment on column layer.uncounted_params is
'How many of its params the network''s params do not count: those of an earlier layer,
too, and those of a bias that it has only from folding';
comment on column network.params is
'Params of the float network, each counted once, those of its batch norms too';
