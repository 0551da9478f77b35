-- How the pixels become the input of a network: without it the same checkpoint, fed
-- otherwise, would pass for the same network.

alter table network add column preprocessing varchar;

comment on column network.preprocessing is
'JSON of mean and std per channel, in units of the full range 0..1, and of the geometry;
NULL where older versions did not store it';
