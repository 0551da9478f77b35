-- The best number format of each width: the benefit of each additional bit.
-- Grain: one width of a network, under the study's scheme, where bits per weight follow
-- from the width. Key: network, bits. The macro of the same name takes a scheme.

create or replace view format_frontier as
select
    best.network,
    best.bits,
    best.bits_per_weight,
    best.number_format,
    best.scheme,
    best.accuracy_loss,
    best.accuracy_loss_se,
    best.on_frontier
from format_frontier() as best;

comment on view format_frontier is
'Grain: one width of a network. The number format with the smallest loss, and whether no
narrower one is as good. Under every scheme, by bits per weight: from
format_frontier(scheme := ''*'').';
comment on column format_frontier.network is 'Name of the network';
comment on column format_frontier.bits is 'Width of one code in bits';
comment on column format_frontier.bits_per_weight is
'Bits that the weights take with their scales and zero points, per weight element; NULL
if unknown';
comment on column format_frontier.number_format is
'The format of this size with the smallest loss';
comment on column format_frontier.scheme is 'Name of its scheme';
comment on column format_frontier.accuracy_loss is
'Its loss: (float_accuracy - accuracy) / float_accuracy';
comment on column format_frontier.accuracy_loss_se is 'Standard error of the loss';
comment on column format_frontier.on_frontier is
'Whether it loses less than every format with fewer bits per weight; NULL if these are
unknown';
