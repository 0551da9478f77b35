-- A layer's tensors as trained contradict the folded ones: there are some although no
-- batch norm was folded into the layer, or their element counts differ.
-- Grain: one tensor as trained that is wrong.

select
    network.name as network,
    layer.name as layer,
    tensor.role,
    layer.is_folded,
    tensor.element_count,
    folded.element_count as folded_count
from tensor
inner join layer on tensor.layer_id = layer.layer_id
left join network on layer.network_id = network.network_id
left join tensor as folded
    on
        tensor.layer_id = folded.layer_id
        and tensor.role = 'trained_' || folded.role
where
    tensor.role in ('trained_weight', 'trained_bias')
    and (
        layer.is_folded is distinct from true
        or tensor.element_count is distinct from folded.element_count
    )
order by network.name, layer.position, tensor.role;
