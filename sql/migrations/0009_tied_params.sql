-- A weight that several layers share is counted once in a network's params, and in the
-- params of each of its layers.

alter table layer add column tied_params bigint default 0;
alter table layer alter column tied_params set not null;
comment on column layer.tied_params is
'How many of its params are those of an earlier layer, too: both share them';
comment on column network.params is
'Params of the float network, each counted once, those of its batch norms too';
