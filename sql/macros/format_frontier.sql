-- The best number format of each size: the benefit of each additional bit.

-- The number format with the smallest loss at each number of bits per weight (see
-- weight_storage) of a network; ties go to the first by family and exponent bits.
-- scheme is that of variant. A format whose bits per weight are unknown has a row of
-- its own, with on_frontier NULL.
-- Grain: one number of bits per weight of a network. Key: network, bits_per_weight;
-- also number_format where that is NULL.
create or replace macro format_frontier(scheme := null) as table
with points as (
    select
        network.name as network,
        number_format.bits,
        stored.bits_per_weight,
        format_name(number_format.name, chosen.name) as number_format,
        chosen.name as scheme,
        accuracy_loss(cell.correct_top1, cell.float_correct_top1) as accuracy_loss,
        accuracy_loss_se(
            cell.correct_top1, cell.float_correct_top1, cell.correct_both
        ) as accuracy_loss_se,
        row_number() over (
            partition by cell.network_id, stored.bits_per_weight
            order by
                cell.correct_top1 desc,
                number_format.family asc,
                number_format.ebits asc,
                number_format.name asc,
                cell.scheme_id asc
        ) as place
    from paired_evaluation('all', scheme) as cell
    inner join chosen_scheme(scheme) as chosen on cell.scheme_id = chosen.scheme_id
    inner join network on cell.network_id = network.network_id
    inner join number_format
        on cell.number_format_id = number_format.number_format_id
    left join weight_storage() as stored
        on
            cell.network_id = stored.network_id
            and cell.number_format_id = stored.number_format_id
            and cell.scheme_id = stored.scheme_id
),

best as (
    select
        points.* exclude (place),
        case
            when points.bits_per_weight is not null then
                coalesce(
                    points.accuracy_loss < min(points.accuracy_loss) over (
                        partition by points.network
                        order by points.bits_per_weight
                        rows between unbounded preceding and 1 preceding
                    ),
                    true
                )
        end as on_frontier
    from points
    where points.place = 1 or points.bits_per_weight is null
    union all by name
    select checked.network
    from scheme_check(scheme) as checked
)

select best.*
from best
order by best.network, best.bits_per_weight, best.number_format;
