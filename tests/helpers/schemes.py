"""Facts under an invented scheme: those of the study's, rewritten as dequantized values."""

import duckdb

from ptqdb.database import next_id

NAME = "rewritten"
_CELLS = (
    "number_format_id in (select number_format_id from number_format where name in ({formats})) "
    "and scheme_id in (select scheme_id from chosen_scheme(null))"
)
# The dequantized element is y = scale * code.
_STATEMENTS = (
    """
    insert into scheme by name select {id} as scheme_id, '{name}' as name, 'tensor' as granularity,
        'symmetric' as symmetry, 'max' as range_rule, 'weight,bias,input' as quantized,
        'calibration images' as calibration, 'tensor' as input_granularity,
        'symmetric' as input_symmetry, 'float32' as scale_format, 'study' as bias
    """,
    """
    insert into dequantized_tensor by name
    select tensor_id, number_format_id, {id} as scheme_id, 1 as scale_count,
        scale as min_scale, scale as max_scale, element_count * bits + 32 as storage_bits,
        clipped_count, scale * sum_codes as sum_y, scale ** 2 * sum_codes2 as sum_y2,
        scale * sum_code_x as sum_xy, squared_error_sum, softmax_js_fakefreeze, softmax_js_l2,
        softmax_group_count
    from quantized_tensor join tensor using (tensor_id) join number_format using (number_format_id)
    where role in ('weight', 'bias', 'input') and {cells} and {tensors}
    """,
    """
    insert into dequantized_histogram by name
    select tensor_id, number_format_id, {id} as scheme_id,
        fine_bin(scale * code, max_abs(min_value, max_value))::integer as bin,
        sum(count)::bigint as count
    from code_histogram join quantized_tensor using (tensor_id, number_format_id, scheme_id)
    join tensor using (tensor_id)
    where role in ('weight', 'bias') and {cells} and {tensors}
    group by all
    """,
    """
    insert into quantized_tensor_channel by name
    select * replace ({id} as scheme_id) from quantized_tensor_channel where {cells} and {tensors}
    """,
    """
    insert into evaluation by name
    select * replace ({id} as scheme_id) from evaluation where {cells} and {networks}
    """,
    """
    insert into layer_evaluation by name
    select * replace ({id} as scheme_id) from layer_evaluation where {cells} and {layers}
    """,
    """
    insert into probe by name
    select * replace ({id} as scheme_id) from probe where {cells} and {networks}
    """,
)


def rewrite(connection: duckdb.DuckDBPyConnection, network: str, formats: tuple[str, ...]) -> None:
    """Add the facts of a network in some formats again, under the scheme ``rewritten``."""
    networks = f"network_id in (select network_id from network where name = '{network}')"
    layers = f"layer_id in (select layer_id from layer where {networks})"
    parts = {
        "id": next_id(connection, "scheme"),
        "name": NAME,
        "cells": _CELLS.format(formats=", ".join(f"'{name}'" for name in formats)),
        "networks": networks,
        "layers": layers,
        "tensors": f"tensor_id in (select tensor_id from tensor where {layers})",
    }
    for statement in _STATEMENTS:
        connection.execute(statement.format_map(parts))
