-- Which layers make up the divergence of VGG_16 in POT_4?
-- `contribution` is what the layer adds to the divergence of fakefreeze_flops.
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
