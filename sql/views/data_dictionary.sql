-- The meaning of every table, view, column and macro of this file.
-- Grain: one object, or one column of a table or view. Key: kind, object, column_index
-- (0 for the object itself). Source: the comments of the definitions.

create or replace view data_dictionary as
with objects as (
    select
        'table' as kind,
        table_name as object,
        null as type,
        comment
    from duckdb_tables()
    where not internal and database_name = current_database()
    union all by name
    select
        'view' as kind,
        view_name as object,
        comment
    from duckdb_views()
    where not internal and database_name = current_database()
    union all by name
    select
        replace(function_type, '_', ' ') as kind,
        function_name as object,
        '(' || array_to_string(parameters, ', ') || ')' as type,
        comment
    from duckdb_functions()
    where not internal and database_name = current_database()
),

members as (
    select
        objects.kind,
        objects.object,
        columns.column_index,
        columns.column_name,
        columns.data_type as type,
        columns.comment
    from duckdb_columns() as columns
    inner join objects
        on columns.table_name = objects.object and objects.kind in ('table', 'view')
    where not columns.internal and columns.database_name = current_database()
)

select
    objects.kind,
    objects.object,
    0 as column_index,
    null as column_name,
    objects.type,
    objects.comment
from objects
union all by name
select *
from members
order by kind, object, column_index;

comment on view data_dictionary is
'Grain: one table, view or macro, or one column of a table or view. What each means.';
comment on column data_dictionary.kind is 'table, view, macro or table macro';
comment on column data_dictionary.object is 'Name of the table, view or macro';
comment on column data_dictionary.column_index is
'Place of the column, from 1; 0 for the object itself';
comment on column data_dictionary.column_name is
'Name of the column; NULL for the object itself';
comment on column data_dictionary.type is
'Type of the column; of a macro its parameters; NULL for tables and views';
comment on column data_dictionary.comment is 'Meaning, unit and grain';
