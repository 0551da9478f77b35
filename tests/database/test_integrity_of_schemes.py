"""Each check passes on good facts of another scheme, and fails once on corrupt ones."""

import duckdb
import pytest
import schemes
import synthetic

from ptqdb.database import materialize
from ptqdb.database.checks import check

# Check, how to corrupt the facts, and columns of the first row that is found; how many there are.
# Of Plain, in INT_2 and INT_8 (formats 1 and 2): tensors 1 and 2 are the first layer's weight, of
# 900 elements, and bias, of 12.
SECOND = "tensor_id = 2 and number_format_id = 2"
CORRUPTIONS = [
    (
        "dequantized_histogram_count",
        f"delete from dequantized_histogram where {SECOND}",
        {"role": "bias", "number_format": "INT_8", "dequantized_histogram_count": None},
        1,
    ),
    (
        "dequantized_histogram_count",
        "insert into dequantized_histogram values (2, 2, 2, 9999, 5)",
        {"element_count": 12, "dequantized_histogram_count": 17},
        1,
    ),
    (
        # 12 elements deviate by half a bin each, 12 * width / 2, at most.
        "dequantized_sums",
        "update dequantized_tensor set sum_y = sum_y + 13 * max_abs(min_value, max_value) / 2047 "
        f"from tensor where tensor.tensor_id = 2 and dequantized_tensor.{SECOND}",
        {"tensor_id": 2, "number_format": "INT_8"},
        1,
    ),
    (
        "dequantized_sums",
        f"update dequantized_tensor set sum_y2 = 1.01 * sum_y2 where {SECOND}",
        {"tensor_id": 2, "number_format": "INT_8"},
        1,
    ),
    (
        "dequantized_sums",
        "update dequantized_histogram set bin = -bin where tensor_id = 1",
        {"tensor_id": 1, "number_format": "INT_2"},
        2,
    ),
    *(
        (
            "dequantized_tensor_values",
            f"update dequantized_tensor set {values} where {SECOND}",
            {},
            1,
        )
        for values in (
            "min_scale = -0.1",
            "min_scale = 2 * max_scale",
            "min_scale = null",
            "scale_count = 0",
            "scale_count = -1, min_scale = null, max_scale = null",
            "storage_bits = -1",
            "clipped_count = 13",
            "clipped_count = -1",
            "sum_y2 = -1",
            "sum_xy = 1.01 * sum_xy",
            "squared_error_sum = -1e-9",
            "squared_error_sum = squared_error_sum + 0.01 * sum_y2",
            "softmax_js_l2 = 4, softmax_group_count = 3",
            "softmax_js_fakefreeze = 0",
        )
    ),
    (
        "wrong_table",
        f"update dequantized_tensor set scheme_id = 1 where {SECOND}",
        {"table_name": "dequantized_tensor", "scheme": synthetic.SCHEME, "role": "bias"},
        1,
    ),
    (
        "wrong_table",
        f"update quantized_tensor set scheme_id = 2 where {SECOND}",
        {"table_name": "quantized_tensor", "scheme": schemes.NAME, "row_count": 1},
        1,
    ),
    (
        "wrong_table",
        "update tensor set role = 'trained_bias' where tensor_id = 2",
        {"table_name": "dequantized_tensor", "role": "trained_bias", "row_count": 2},
        1,
    ),
    (
        "channel_sums",
        "update quantized_tensor_channel set squared_error_sum = 1.001 * squared_error_sum "
        "where tensor_id = 1 and number_format_id = 2 and scheme_id = 2",
        {"tensor_id": 1, "number_format": "INT_8", "scheme_id": 2},
        1,
    ),
    (
        "missing_channels",
        "delete from quantized_tensor_channel where scheme_id = 2 and tensor_id = 1",
        {"network": "Plain", "number_format": "INT_2", "scheme_id": 2, "weight_count": 1},
        2,
    ),
    (
        "evaluation_without_facts",
        f"delete from dequantized_tensor where {SECOND}",
        {"number_format": "INT_8", "scheme_id": 2, "missing_count": 1},
        None,
    ),
    (
        "facts_without_evaluation",
        "delete from evaluation where scheme_id = 2 and number_format_id = 2",
        {"number_format": "INT_8", "scheme_id": 2, "tensor_count": 5},
        1,
    ),
    (
        "histogram_bin",
        "update dequantized_histogram set count = 0 where tensor_id = 2 and bin = "
        f"(select min(bin) from dequantized_histogram where {SECOND}) and number_format_id = 2",
        {"table_name": "dequantized_histogram", "tensor_id": 2, "number_format_id": 2, "count": 0},
        1,
    ),
    *(
        (
            "non_finite",
            f"update dequantized_tensor set {column} = 'nan'::double where {SECOND}",
            {"table_name": "dequantized_tensor", "column_name": column, "row_key": "2, 2, 2"},
            1,
        )
        for column in (
            *("min_scale", "max_scale", "sum_y", "sum_y2", "sum_xy", "squared_error_sum"),
            *("softmax_js_fakefreeze", "softmax_js_l2"),
        )
    ),
    (
        "duplicate_key",
        f"insert into dequantized_tensor from dequantized_tensor where {SECOND}",
        {"table_name": "dequantized_tensor", "row_key": "2, 2, 2", "row_count": 2},
        1,
    ),
    (
        "duplicate_key",
        "insert into dequantized_histogram "
        f"from dequantized_histogram where {SECOND} order by bin limit 1",
        {"table_name": "dequantized_histogram", "row_count": 2},
        1,
    ),
    (
        "orphan",
        f"update dequantized_tensor set tensor_id = 99 where {SECOND}",
        {"table_name": "dequantized_histogram", "absent": "dequantized tensor 2, 2, 2"},
        3,  # its histogram, itself, and its divergences
    ),
    (
        "orphan",
        f"update dequantized_tensor set scheme_id = 9 where {SECOND}",
        {"table_name": "dequantized_histogram"},
        3,
    ),
    (
        "orphan",
        "delete from dequantized_tensor where tensor_id = 1 and number_format_id = 2",
        {"table_name": "dequantized_histogram"},
        3,  # its histogram, its channels, and its divergences
    ),
    (
        "orphan",
        "insert into quantized_checkpoint values (77, 2, 'a')",
        {"table_name": "quantized_checkpoint", "absent": "network 77", "row_count": 1},
        1,
    ),
    (
        "orphan",
        "insert into quantized_checkpoint values (1, 77, 'a')",
        {"table_name": "quantized_checkpoint", "absent": "scheme 77", "row_count": 1},
        1,
    ),
    (
        "unknown_format",
        "update dequantized_tensor set number_format_id = 77 where tensor_id = 1",
        {"table_name": "dequantized_tensor", "number_format": "77"},
        1,
    ),
    (
        "unknown_format",
        "update dequantized_histogram set number_format_id = 77 where tensor_id = 1",
        {"table_name": "dequantized_histogram", "number_format": "77"},
        1,
    ),
]
KNOWN = (
    "('FLOAT_8_E4M3FN', 'FLOAT', 8, 4, 3, 448, 253)",
    "('FLOAT_8_E5M2', 'FLOAT', 8, 5, 2, 57344, 247)",
    "('NF_4', 'NF', 4, null, null, 1, 16)",
    "('FLOAT_32_E8', 'FLOAT', 32, 8, 23, 1, 1)",
)
UNKNOWN = (
    "('FLOAT_8_E4M3', 'FLOAT', 8, 4, 3, 448, 253)",
    "('FLOAT_8_E5M2FN', 'FLOAT', 8, 5, 2, 448, 253)",
    "('FLOAT_8_E5M3', 'FLOAT', 8, 5, 2, 448, 253)",
    "('NF_4', 'NF', 4, 2, 1, 1, 16)",
    "('NF_4', 'FLOAT', 4, null, null, 1, 16)",
    "('FLOAT_6_E3M2', 'FLOAT', 6, 3, 2, 1, 1)",
)


@pytest.fixture(scope="module")
def facts(module_database: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Plain in two formats, under the study's scheme and under another."""
    plain, formats = synthetic.NETWORKS[:1], synthetic.FORMATS[:2]
    synthetic.fill(module_database, networks=plain, formats=formats, scopes=("all", "layer"))
    schemes.rewrite(module_database, "Plain", ("INT_2", "INT_8"))
    module_database.execute("insert into quantized_checkpoint values (1, 2, 'a')")
    materialize(module_database)
    return module_database


def test_good_facts_pass_every_check(facts: duckdb.DuckDBPyConnection) -> None:
    assert [result.name for result in check(facts) if not result.has_passed] == []


@pytest.mark.parametrize(("name", "corruption", "first", "count"), CORRUPTIONS)
def test_a_corruption_is_found(
    facts: duckdb.DuckDBPyConnection,
    name: str,
    corruption: str,
    first: dict[str, object],
    count: int | None,
) -> None:
    facts.execute("begin")
    try:
        facts.execute(corruption)
        (result,) = check(facts, name, quick=False)
    finally:
        facts.execute("rollback")
    assert not result.has_passed
    found = result.rows.row(0, named=True)
    assert {column: found[column] for column in first} == first
    assert count is None or len(result.rows) == count


@pytest.mark.parametrize("known", [*KNOWN, *UNKNOWN])
def test_names_of_number_formats(facts: duckdb.DuckDBPyConnection, known: str) -> None:
    facts.execute("begin")
    try:
        facts.execute(
            "insert into number_format (name, family, bits, "
            "ebits, mbits, max_code, code_count, number_format_id, in_study_grid) "
            f"values {known[:-1]}, 99, false)"
        )
        (result,) = check(facts, "format_name")
    finally:
        facts.execute("rollback")
    assert result.has_passed == (known in KNOWN)
