-- A run announced a cell that has no evaluation.
-- Grain: one cell that is missing, with the last run that announced it and how that
-- run ended: a run that is done has lost it, one that failed or was interrupted never
-- filled it.

with announced as (
    select
        collection_run.run_id,
        collection_run.outcome,
        unnest(collection_run.cells) as cell
    from collection_run
),

last_announced as (
    select
        announced.cell.network,
        announced.cell.number_format,
        announced.cell.scheme,
        announced.cell.scope,
        max(announced.run_id) as run_id,
        arg_max(announced.outcome, announced.run_id) as run_outcome
    from announced
    group by all
),

evaluated as (
    select
        network.name as network,
        number_format.name as number_format,
        scheme.name as scheme,
        evaluation.scope
    from evaluation
    inner join network on evaluation.network_id = network.network_id
    inner join number_format
        on evaluation.number_format_id = number_format.number_format_id
    inner join scheme on evaluation.scheme_id = scheme.scheme_id
)

select
    last_announced.network,
    last_announced.number_format,
    last_announced.scheme,
    last_announced.scope,
    last_announced.run_id,
    last_announced.run_outcome
from last_announced
anti join evaluated
    on
        last_announced.network = evaluated.network
        and last_announced.number_format = evaluated.number_format
        and last_announced.scheme = evaluated.scheme
        and last_announced.scope = evaluated.scope
order by all;
