-- More measures came: what is materialized of the old ones goes, so that the next
-- materialization brings all of each tensor.

delete from tensor_divergence;
