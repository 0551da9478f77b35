-- What costs more: the weights, the biases or the inputs of the layers?
-- Losses in INT_4 with each of them quantized alone; `all` is everything together.
with losses as (
    select
        network,
        'all' as scope,
        accuracy_loss
    from variant(scope := 'all')
    where number_format = 'INT_4'
    union all by name
    select
        network,
        'weight' as scope,
        accuracy_loss
    from variant(scope := 'weight')
    where number_format = 'INT_4'
    union all by name
    select
        network,
        'bias' as scope,
        accuracy_loss
    from variant(scope := 'bias')
    where number_format = 'INT_4'
    union all by name
    select
        network,
        'input' as scope,
        accuracy_loss
    from variant(scope := 'input')
    where number_format = 'INT_4'
)

pivot losses on scope in ('all', 'weight', 'bias', 'input') using first(accuracy_loss)
group by network
order by network;
