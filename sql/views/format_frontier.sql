-- The best number format of each width: the benefit of each additional bit.
-- Grain: one width of a network. Key: network, bits. The best format has the smallest
-- loss; ties go to the first by family and exponent bits.

create or replace view format_frontier as
with points as (
    select
        network.name as network,
        number_format.name as number_format,
        number_format.bits,
        accuracy_loss(cell.correct_top1, cell.float_correct_top1) as accuracy_loss,
        accuracy_loss_se(
            cell.correct_top1, cell.float_correct_top1, cell.correct_both
        ) as accuracy_loss_se,
        row_number() over (
            partition by cell.network_id, number_format.bits
            order by
                cell.correct_top1 desc,
                number_format.family asc,
                number_format.ebits asc,
                number_format.name asc
        ) as place
    from paired_evaluation('all', null) as cell
    inner join network on cell.network_id = network.network_id
    inner join number_format
        on cell.number_format_id = number_format.number_format_id
)

select
    points.network,
    points.bits,
    points.number_format,
    points.accuracy_loss,
    points.accuracy_loss_se,
    coalesce(
        points.accuracy_loss < min(points.accuracy_loss) over (
            partition by points.network
            order by points.bits
            rows between unbounded preceding and 1 preceding
        ),
        true
    ) as on_frontier
from points
where points.place = 1
order by points.network, points.bits;

comment on view format_frontier is
'Grain: one width of a network. The number format with the smallest loss, and whether no
narrower one is as good.';
comment on column format_frontier.network is 'Name of the network';
comment on column format_frontier.bits is 'Width of one code in bits';
comment on column format_frontier.number_format is
'The format of this width with the smallest loss';
comment on column format_frontier.accuracy_loss is
'Its loss: (float_accuracy - accuracy) / float_accuracy';
comment on column format_frontier.accuracy_loss_se is 'Standard error of the loss';
comment on column format_frontier.on_frontier is
'Whether it loses less than every narrower format';
