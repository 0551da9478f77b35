-- A run announced a cell that has no evaluation.
-- Grain: one cell that is missing, with the last run that announced it and its outcome:
-- a run that is done lost the cell, a failed or interrupted run never filled it.

with announced as (
    select
        collection_run.run_id,
        collection_run.outcome,
        unnest(collection_run.cells) as cell
    from collection_run
)

select
    missing_cell.network,
    missing_cell.number_format,
    missing_cell.scheme,
    missing_cell.scope,
    max(announced.run_id) as run_id,
    arg_max(announced.outcome, announced.run_id) as run_outcome
from missing_cell
inner join announced
    on
        missing_cell.network = announced.cell.network
        and missing_cell.number_format
        = format_name(announced.cell.number_format, announced.cell.scheme)
        and missing_cell.scheme = announced.cell.scheme
        and missing_cell.scope = announced.cell.scope
group by all
order by all;
