-- The loss when only one layer is quantized, beside its contribution to the divergence.

-- Loss of each network with a single layer quantized, and the layer's contribution to
-- fakefreeze_flops. scheme is that of variant. For contributions to another divergence,
-- join layer_divergence(...) using (network, number_format, scheme, layer).
-- Grain: one layer in one number format under one of the chosen schemes. Key: network,
-- number_format, scheme, layer. One row for each row of layer_evaluation whose network
-- was evaluated in floating point on the same images and maybe more.
create or replace macro layer_loss(scheme := null) as table
with alone as (
    select
        network.name as network,
        format_name(number_format.name, chosen.name) as number_format,
        chosen.name as scheme,
        layer.position,
        layer.name as layer,
        layer.kind,
        compared.image_count as images,
        compared.non_finite_count as non_finite_images,
        compared.correct_top1 as correct,
        compared.correct_top1 / compared.image_count as accuracy,
        compared.float_correct_top1 / compared.image_count as float_accuracy,
        accuracy_loss(compared.correct_top1, compared.float_correct_top1)
            as accuracy_loss,
        accuracy_loss_se(
            compared.correct_top1, compared.float_correct_top1, compared.correct_both
        ) as accuracy_loss_se,
        compared.number_format_id,
        compared.scheme_id
    from compared_evaluation() as compared
    inner join chosen_scheme(scheme) as chosen
        on compared.scheme_id = chosen.scheme_id
    inner join layer on compared.layer_id = layer.layer_id
    inner join network on layer.network_id = network.network_id
    inner join number_format
        on compared.number_format_id = number_format.number_format_id
    where compared.scope = 'layer' and compared.float_correct_top1 is not null
    union all by name
    select checked.network
    from scheme_check(scheme) as checked
)

select
    alone.* exclude (number_format_id, scheme_id),
    added.contribution
from alone
left join layer_divergence(scheme := scheme) as added
    on
        alone.network = added.network
        and alone.number_format = added.number_format
        and alone.scheme = added.scheme
        and alone.layer = added.layer
order by
    alone.network asc,
    alone.number_format_id asc,
    alone.scheme_id asc,
    alone.accuracy_loss desc,
    alone.position asc;
