-- Which layers contribute most to the divergence of VGG_16 in POT_4?
-- `contribution` is the part of the layer in the divergence of fakefreeze_flops.
select
    layer,
    kind,
    share,
    divergence,
    contribution,
    contribution / sum(contribution) over () as part
from layer_divergence
where network = 'VGG_16' and number_format = 'POT_4'
order by contribution desc
limit 6;
