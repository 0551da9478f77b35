"""Each check passes on a good study, and fails once on a corrupt one."""

import json
import math
import shutil
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
import synthetic

from ptqdb.cli import main
from ptqdb.database import connect, materialize
from ptqdb.database.checks import CheckResult, check
from ptqdb.errors import QueryError
from ptqdb.resources import sql_folder

# Shown to fail in test_integrity_of_schemes.
CHECKS_OF_OTHER_SCHEMES = {
    *("dequantized_histogram_count", "dequantized_sums", "dequantized_tensor_values"),
    "wrong_table",
}

RUN = (
    "insert into collection_run values (1, '0', '{{}}', 'cpu', 0, '2026-01-01', null, "
    "[{{network: 'Plain', number_format: '{}', scheme: 'per_tensor_symmetric_max', "
    "scope: '{}'}}], 'done', [])"
)
SECOND_TENSOR = "tensor_id = 2 and number_format_id = 2"
# As many bits as before, each a place further on.
MOVED = "({0} << 1) | ({0} >> 999)"

# Check, how to corrupt the study, and columns of the first row that is found; how many there are.
# Tensors 1 and 2 are weight and bias of Plain's first layer, formats 1 to 5 INT_2 (codes -1, 0
# and 1), INT_8, INT_14 (binned), POT_4, FLOAT_6_E3.
CORRUPTIONS = [
    # A network without MACs has no shares; Small has one layer.
    ("layer_shares", "update layer set macs = 0 where network_id = 3", {"share": "flops"}, 1),
    ("layer_shares", "delete from layer where network_id = 3", {"share": None}, 1),
    ("network_totals", "update network set macs = macs + 1 where network_id = 3", {}, 1),
    ("network_totals", "update network set params = 399 where network_id = 3", {"params": 399}, 1),
    ("network_totals", "delete from layer where network_id = 3", {"layer_count": None}, 1),
    ("layer_params", "delete from tensor where tensor_id = 2", {"element_count": 900}, 1),
    ("layer_params", "delete from tensor where layer_id = 6", {"weight_count": 0}, 1),
    (
        "tensor_histogram_count",
        "delete from tensor_histogram where tensor_id = 2",
        {"tensor_id": 2, "element_count": 12, "histogram_count": None},
        1,
    ),
    (
        "tensor_histogram_count",
        "insert into tensor_histogram values (2, 1, 7)",
        {"element_count": 12, "histogram_count": 19},
        1,
    ),
    (
        "code_histogram_count",
        "insert into code_histogram values (2, 2, 1, 0, 5)",
        {"number_format": "INT_8", "element_count": 12, "code_histogram_count": 17},
        1,
    ),
    (
        "code_histogram_count",
        f"delete from code_histogram where {SECOND_TENSOR}",
        {"role": "bias", "code_histogram_count": None},
        1,
    ),
    (
        "code_sums",
        f"update quantized_tensor set sum_codes = sum_codes + 1 where {SECOND_TENSOR}",
        {"tensor_id": 2, "number_format": "INT_8"},
        1,
    ),
    (
        "code_sums",
        f"update quantized_tensor set sum_codes2 = 1.01 * sum_codes2 where {SECOND_TENSOR}",
        {"tensor_id": 2, "number_format": "INT_8"},
        1,
    ),
    (
        "code_outside_format",
        "insert into code_histogram values (1, 2, 1, -128, 1)",
        {"number_format": "INT_8", "code": -128, "max_code": 127},
        1,
    ),
    (
        "code_outside_format",
        "insert into number_format_code values (1, -1, -1), (1, 0, 0), (1, 1, 1); "
        "insert into code_histogram values (1, 1, 1, 0.5, 1)",
        {"number_format": "INT_2", "code": 0.5, "max_code": 1},
        1,
    ),
    (
        "histogram_bin",
        "insert into tensor_histogram values (1, 2048, 1), (1, 2047, 0)",
        {"table_name": "tensor_histogram", "tensor_id": 1},
        2,
    ),
    (
        "histogram_bin",
        "insert into code_histogram values (1, 2, 1, 3, 0)",
        {"table_name": "code_histogram", "bin_or_code": 3},
        1,
    ),
    ("tensor_sums", "update tensor set sum_x = 2 * sum_abs where tensor_id = 1", {}, 1),
    ("tensor_sums", "update tensor set max_value = 2 * min_value where tensor_id = 1", {}, 1),
    ("tensor_sums", "update tensor set sum_x2 = 'nan' where tensor_id = 1", {}, 1),
    (
        "quantized_tensor_values",
        f"update quantized_tensor set scale = 0 where {SECOND_TENSOR}",
        {"scale": 0},
        1,
    ),
    (
        "quantized_tensor_values",
        f"update quantized_tensor set clipped_count = 13 where {SECOND_TENSOR}",
        {"element_count": 12, "clipped_count": 13},
        1,
    ),
    (
        "quantized_tensor_values",
        "update quantized_tensor set softmax_js_l2 = 4, softmax_group_count = 3 "
        f"where {SECOND_TENSOR}",
        {"softmax_js_l2": 4},
        1,
    ),
    (
        # A divergence without the number of its groups.
        "quantized_tensor_values",
        f"update quantized_tensor set softmax_js_fakefreeze = 0 where {SECOND_TENSOR}",
        {"softmax_group_count": None},
        1,
    ),
    (
        # Plain has three weights and two biases; scopes all and weight, and each layer alone.
        "evaluation_without_facts",
        f"delete from quantized_tensor where {SECOND_TENSOR}",
        {"network": "Plain", "number_format": "INT_8", "tensor_count": 5, "missing_count": 1},
        5,
    ),
    (
        "evaluation_without_facts",
        "delete from layer where network_id = 3",
        {"network": "Small", "tensor_count": 0},
        15,
    ),
    (
        "evaluation_without_facts",
        "insert into layer_evaluation from (select * replace (6 as number_format_id) "
        "from layer_evaluation where layer_id = 2 and number_format_id = 1)",
        {"network": "Plain", "scope": "layer", "layer_id": 2, "missing_count": 5},
        1,
    ),
    (
        "evaluation_images",
        "update layer_evaluation set image_count = 1001 "
        "where layer_id = 2 and number_format_id = 4",
        {"network": "Plain", "scope": "layer", "layer_id": 2, "image_count": 1001},
        1,
    ),
    (
        "evaluation_counts",
        "update layer_evaluation set correct_top1 = 1001, correct_top5 = 1001 "
        "where layer_id = 2 and number_format_id = 4",
        {"network": "Plain", "scope": "layer", "layer_id": 2, "correct_top1": 1001},
        1,
    ),
    *(
        (
            "evaluation_bits",
            f"update {table} set {change} where {row} and number_format_id = 4",
            {"number_format": "POT_4"} | found,
            1,
        )
        for table, row in (
            ("evaluation", "network_id = 1 and scope = 'weight'"),
            ("layer_evaluation", "layer_id = 2"),
        )
        for change, found in (
            ("correct_images = ~correct_images", {"correct_length": 1000}),
            # Another image is correct, or the same, but not another number of images.
            (f"correct_images = {MOVED.format('correct_images')}", {}),
            ("correct_top1 = correct_top1 - 1", {"correct_length": 1000}),
            ("same_images = ~same_images", {}),
            ("same_images = null", {"same_length": None}),
            ("correct_images = null", {"correct_length": None}),
            ("same_images = bitstring(same_images, 1001)", {"same_length": 1001}),
            ("correct_images = bitstring(correct_images, 1001)", {"correct_length": 1001}),
        )
    ),
    (
        # In floating point, and so of each of its evaluations that counts these images.
        "evaluation_bits",
        f"update evaluation set correct_images = {MOVED.format('correct_images')} "
        "where network_id = 3 and scope = 'none'",
        {"network": "Small"},
        None,
    ),
    (
        # Fewer images, and it is unknown which.
        "evaluation_images",
        "update evaluation set image_count = 900, correct_images = null, same_images = null "
        "where network_id = 1 and number_format_id = 4 and scope = 'all'",
        {"network": "Plain", "image_count": 900, "float_image_count": 1000},
        1,
    ),
    (
        # Fewer images, and the floating-point network does not tell what it did on them.
        "evaluation_images",
        "update evaluation set image_count = 900 where network_id = 1 and number_format_id = 4 "
        "and scope = 'all'; update evaluation set correct_images = null, same_images = null "
        "where network_id = 1 and scope = 'none'",
        {"network": "Plain", "image_count": 900, "float_image_count": 1000},
        1,
    ),
    (
        # Right in an image more, both times, than the floating-point network is.
        "evaluation_counts",
        "update layer_evaluation set correct_both = (select correct_top1 + 1 from evaluation "
        "where network_id = 3 and scope = 'none'), correct_top1 = 1000, correct_top5 = 1000, "
        "same_prediction = 1000 where layer_id = 6 and number_format_id = 3",
        {"network": "Small", "number_format": "INT_14", "layer_id": 6},
        1,
    ),
    (
        "non_finite",
        "update layer_evaluation set kl_sum = 'nan' where layer_id = 2 and number_format_id = 4",
        {"table_name": "layer_evaluation", "column_name": "kl_sum", "row_key": "2, 4, 1"},
        1,
    ),
    (
        "unknown_format",
        "update layer_evaluation set number_format_id = 76 "
        "where layer_id = 2 and number_format_id = 4",
        {"table_name": "layer_evaluation", "number_format": "76"},
        1,
    ),
    (
        "trained_tensors",
        "update layer set is_folded = false where layer_id = 1; "
        "insert into tensor from (select * replace (99 as tensor_id, 'trained_bias' as role) "
        "from tensor where tensor_id = 2)",
        {"role": "trained_bias", "is_folded": False, "element_count": 12, "folded_count": 12},
        1,
    ),
    (
        "trained_tensors",
        "update layer set is_folded = true where layer_id = 1; "
        "insert into tensor from (select * replace (99 as tensor_id, 'trained_bias' as role) "
        "from tensor where tensor_id = 1)",
        {"is_folded": True, "element_count": 900, "folded_count": 12},
        1,
    ),
    (
        "orphan",
        "insert into layer_sensitivity values (99, 1, 1, 1, 1, 1)",
        {"table_name": "layer_sensitivity", "absent": "layer 99"},
        1,
    ),
    (
        "non_finite",
        "insert into layer_sensitivity values (1, 1, 1, 1, 'inf', 1)",
        {"table_name": "layer_sensitivity", "column_name": "gradient_square_sum"},
        1,
    ),
    (
        "unknown_format",
        "insert into failed_layer_cell values (2, 75, 1, null, 'ValueError')",
        {"table_name": "failed_layer_cell", "number_format": "75"},
        1,
    ),
    *(
        (
            "orphan",
            f"insert into {table} from (select * replace ({identity} as {what}_id) from {source})",
            {"table_name": table, "absent": f"{what} {identity}", "row_count": 1},
            1,
        )
        for table, source in (
            ("layer_evaluation", "layer_evaluation limit 1"),
            (
                "failed_layer_cell",
                "(select 2 as layer_id, 4 as number_format_id, 1 as scheme_id, "
                "null as layer, 'ValueError' as reason)",
            ),
        )
        for what, identity in (("layer", 99), ("scheme", 98))
    ),
    *(
        (
            "orphan",
            f"insert into probe from (select * replace ({identity} as {what}_id) "
            "from probe limit 1)",
            {"table_name": "probe", "absent": f"{what} {identity}", "row_count": 1},
            1,
        )
        for what, identity in (("network", 99), ("scheme", 98))
    ),
    (
        "unknown_format",
        "update probe set number_format_id = 77 where network_id = 1 and number_format_id = 4",
        {"table_name": "probe", "number_format": "77"},
        1,
    ),
    (
        "non_finite",
        "update probe set kl_sum = 'inf' where network_id = 1 and number_format_id = 4",
        {"table_name": "probe", "column_name": "kl_sum", "row_key": "1, 4, 1"},
        1,
    ),
    (
        "probe_without_evaluation",
        "delete from evaluation where network_id = 1 and number_format_id = 4 and scope = 'all'",
        {"network": "Plain", "number_format": "POT_4"},
        1,
    ),
    *(
        (
            "probe_counts",
            f"update probe set {change} where network_id = 1 and number_format_id = 2",
            {"network": "Plain", "number_format": "INT_8"},
            1,
        )
        for change in (
            "same_prediction = same_prediction - 1",
            f"same_images = {MOVED.replace('999', '49').format('same_images')}, "
            "same_prediction = 0",
            "image_count = image_count + 1",
            "image_count = 1001",
            "non_finite_count = image_count",
            "kl_count = image_count + 1",
            "logit_count = -1",
            "kl_sum = -1",
            "logit_squared_error_sum = -1e-3",
            "float_logit_variance_sum = -1",
            "chosen_probability_sum = float_probability_sum + 1e-3",
            "chosen_probability_sum = -1e-3",
            "float_probability_sum = 0.9 * float_probability_sum, chosen_probability_sum = 0",
            "same_prediction = 50, same_images = repeat('1', 50)::bit, "
            "chosen_probability_sum = 0.9 * float_probability_sum",
        )
    ),
    (
        # A sum of probabilities above the number of images, in all five formats.
        "probe_counts",
        "update probe set float_probability_sum = image_count + 1 where network_id = 1",
        {"network": "Plain", "number_format": "FLOAT_6_E3"},
        5,
    ),
    (
        "failed_and_evaluated",
        "insert into failed_layer_cell values (2, 4, 1, null, 'ValueError')",
        {"network": "Plain", "number_format": "POT_4", "scope": "layer"},
        1,
    ),
    (
        "missing_announced_cell",
        "delete from layer_evaluation where layer_id = 2 and number_format_id = 2; "
        + RUN.format("INT_8", "layer"),
        {"network": "Plain", "number_format": "INT_8", "scope": "layer", "run_outcome": "done"},
        1,
    ),
    (
        "facts_without_evaluation",
        "delete from evaluation where network_id = 1 and number_format_id = 4",
        {"network": "Plain", "number_format": "POT_4", "tensor_count": 5},
        1,
    ),
    (
        "evaluation_images",
        "update evaluation set image_count = 1001 where network_id = 1 and number_format_id = 4",
        {"network": "Plain", "image_count": 1001, "float_image_count": 1000},
        2,
    ),
    (
        "evaluation_images",
        "delete from evaluation where network_id = 3",
        {"network": "Small", "float_image_count": None},
        5,
    ),
    (
        "evaluation_counts",
        "update evaluation set correct_top1 = 1001, correct_top5 = 1001 "
        "where network_id = 1 and number_format_id = 4 and scope = 'all'",
        {"correct_top1": 1001},
        1,
    ),
    (
        "evaluation_counts",
        "update evaluation set correct_both = correct_top1 + 1, same_prediction = 1000 "
        "where network_id = 1 and number_format_id = 1 and scope = 'all'",
        {"number_format": "INT_2", "scope": "all"},
        1,
    ),
    (
        # Right in most of the images both times, and yet never in the same ones.
        "evaluation_counts",
        "update evaluation set correct_both = 0 "
        "where network_id = 1 and number_format_id = 3 and scope = 'all'",
        {"number_format": "INT_14", "correct_both": 0},
        1,
    ),
    (
        "evaluation_counts",
        "update evaluation set same_prediction = 999 where network_id = 1 and scope = 'none'",
        {"scope": "none", "same_prediction": 999},
        1,
    ),
    (
        # Correct in more images than have a prediction.
        "evaluation_counts",
        "update evaluation set non_finite_count = 10, correct_top5 = 991, kl_count = 990, "
        "same_prediction = correct_both, cross_entropy_count = 990 "
        "where network_id = 1 and number_format_id = 4 and scope = 'all'",
        {"number_format": "POT_4", "scope": "all"},
        1,
    ),
    (
        "evaluation_counts",
        "update evaluation set non_finite_count = 1000 - correct_both + 1, correct_top5 = 0, "
        "correct_top1 = 0, correct_both = 0, kl_count = 0, cross_entropy_count = 0, "
        "same_prediction = correct_both where network_id = 1 and number_format_id = 4 "
        "and scope = 'all'",
        {"number_format": "POT_4", "correct_top5": 0},
        1,
    ),
    (
        "evaluation_counts",
        "update evaluation set kl_count = image_count + 1 "
        "where network_id = 1 and number_format_id = 4 and scope = 'all'",
        {"number_format": "POT_4", "kl_count": 1001},
        1,
    ),
    (
        "evaluation_counts",
        "update evaluation set cross_entropy_count = -1 "
        "where network_id = 1 and number_format_id = 4 and scope = 'all'",
        {"number_format": "POT_4", "cross_entropy_count": -1},
        1,
    ),
    (
        "failed_and_evaluated",
        "insert into failed_cell values (1, 4, 1, 'all', 'conv', 'ValueError')",
        {"network": "Plain", "number_format": "POT_4", "scope": "all"},
        1,
    ),
    (
        "unknown_format",
        "insert into failed_cell values (1, 79, 1, 'all', null, 'ValueError')",
        {"table_name": "failed_cell", "number_format": "79"},
        1,
    ),
    (
        "orphan",
        "insert into failed_cell values (99, 4, 1, 'all', null, 'ValueError')",
        {"table_name": "failed_cell", "absent": "network 99"},
        1,
    ),
    (
        "orphan",
        "insert into failed_cell values (1, 4, 98, 'all', null, 'ValueError')",
        {"table_name": "failed_cell", "absent": "scheme 98"},
        1,
    ),
    (
        "evaluation_scope",
        "update evaluation set scope = 'bias' where network_id = 3 and scope = 'none'",
        {"network": "Small", "scope": "bias"},
        1,
    ),
    (
        "evaluation_scope",
        "insert into evaluation from evaluation where network_id = 3 and scope = 'none'",
        {"network": "Small", "copy_count": 2},
        2,
    ),
    (
        "divergence_range",
        "update tensor_divergence set value = 1.01 where tensor_id = 2 and measure = 'js'",
        {"measure": "js"},
        10,
    ),
    (
        "divergence_range",
        "update tensor_divergence set value = -0.01 where tensor_id = 2 and measure = 'kl'",
        {"measure": "kl"},
        10,
    ),
    (
        "divergence_range",
        "insert into tensor_divergence values (1, 1, 1, 'l2', 'hellinger', 63, 1.1), "
        "(1, 1, 1, 'l2', 'total_variation', 63, 1.1), (1, 1, 1, 'l2', 'kl', 63, 1.1)",
        {"measure": "hellinger"},
        2,
    ),
    (
        "non_finite",
        "update tensor set sum_x3 = 'inf' where tensor_id = 1; "
        "update evaluation set kl_sum = 'nan' where network_id = 1 and number_format_id = 1",
        {"table_name": "evaluation", "column_name": "kl_sum", "row_key": "1, 1, 1, all"},
        3,
    ),
    (
        "non_finite",
        "insert into tensor_divergence values (1, 1, 1, 'l2', 'nsr', null, 'inf')",
        {"column_name": "value", "found": math.inf},
        1,
    ),
    (
        "unknown_format",
        "update quantized_tensor set number_format_id = 77 where tensor_id = 1",
        {"table_name": "quantized_tensor", "number_format": "77"},
        1,
    ),
    (
        "unknown_format",
        "insert into quantized_tensor_channel values (1, 78, 1, 0, 0)",
        {"table_name": "quantized_tensor_channel", "number_format": "78"},
        1,
    ),
    (
        "non_finite",
        "update quantized_tensor_channel set squared_error_sum = 'inf' "
        "where tensor_id = 1 and number_format_id = 2 and channel = 3",
        {"table_name": "quantized_tensor_channel", "row_key": "1, 2, 1, 3"},
        1,
    ),
    ("unknown_format", RUN.format("INT_99", "all"), {"number_format": "INT_99"}, 1),
    (
        "format_name",
        "update number_format set bits = 9 where name in ('INT_8', 'FLOAT_6_E3')",
        {"number_format": "FLOAT_6_E3", "bits": 9},
        2,
    ),
    (
        "missing_announced_cell",
        RUN.format("INT_8", "input"),
        {"network": "Plain", "number_format": "INT_8", "scope": "input", "run_outcome": "done"},
        1,
    ),
    ("duplicate_key", "insert into tensor_histogram from tensor_histogram", {}, None),
    ("duplicate_key", "insert into tensor_divergence from tensor_divergence", {}, None),
    (
        "duplicate_key",
        "insert into tensor_channel values (1, 0, -2, 2, 4)",
        {"table_name": "tensor_channel", "row_key": "1, 0", "row_count": 2},
        1,
    ),
    (
        "orphan",
        "insert into tensor_channel values (99, 0, 0, 0, 0)",
        {"table_name": "tensor_channel", "absent": "tensor 99", "row_count": 1},
        1,
    ),
    (
        "duplicate_key",
        "insert into quantized_tensor_channel values (1, 2, 1, 3, 0)",
        {"table_name": "quantized_tensor_channel", "row_key": "1, 2, 1, 3", "row_count": 2},
        1,
    ),
    (
        "missing_channels",
        "delete from quantized_tensor_channel where tensor_id = 1 and number_format_id = 2",
        {"network": "Plain", "number_format": "INT_8", "weight_count": 1},
        1,
    ),
    (
        "orphan",
        "insert into quantized_tensor_channel values (99, 2, 1, 0, 0)",
        {"table_name": "quantized_tensor_channel", "absent": "quantized tensor 99, 2, 1"},
        1,
    ),
    (
        "channel_sums",
        "update tensor_channel set sum_x2 = 1.001 * sum_x2 where tensor_id = 1",
        {"tensor_id": 1, "number_format": None, "channel_count": 4},
        1,
    ),
    (
        "channel_sums",
        "update quantized_tensor_channel set squared_error_sum = 1.001 * squared_error_sum "
        "where tensor_id = 1 and number_format_id = 2",
        {"tensor_id": 1, "number_format": "INT_8", "channel_count": 4},
        1,
    ),
    (
        "channel_sums",
        "delete from quantized_tensor_channel "
        "where tensor_id = 1 and number_format_id = 2 and channel = 3",
        {"number_format": "INT_8", "channel_count": 3, "expected_count": 4},
        1,
    ),
    (
        "orphan",
        f"delete from quantized_tensor where {SECOND_TENSOR}",
        {"table_name": "code_histogram", "absent": "quantized tensor 2, 2, 1"},
        2,
    ),
]


def of_check(connection: duckdb.DuckDBPyConnection, name: str) -> CheckResult:
    (result,) = check(connection, name)
    return result


def test_a_good_study_passes_every_check(study: duckdb.DuckDBPyConnection) -> None:
    results = check(study)
    files = sorted(file.stem for file in (sql_folder() / "checks").glob("*.sql"))
    assert [result.name for result in results] == files
    assert [result.name for result in results if not result.has_passed] == []
    assert all(result.meaning and result.rows.is_empty() for result in results)
    # No check goes without a corruption that it finds.
    assert sorted({name for name, *_ in CORRUPTIONS} | CHECKS_OF_OTHER_SCHEMES) == files


def test_a_database_without_facts_passes_every_check(
    database: duckdb.DuckDBPyConnection,
) -> None:
    assert all(result.has_passed for result in check(database))


@pytest.mark.parametrize(("name", "corruption", "first", "count"), CORRUPTIONS)
def test_a_corruption_is_found(
    study: duckdb.DuckDBPyConnection,
    name: str,
    corruption: str,
    first: dict[str, object],
    count: int | None,
) -> None:
    study.execute("begin")
    try:
        study.execute(corruption)
        result = of_check(study, name)
    finally:
        study.execute("rollback")
    assert not result.has_passed
    found = result.rows.row(0, named=True)
    assert {column: found[column] for column in first} == first
    assert count is None or len(result.rows) == count
    assert of_check(study, name).has_passed


def test_a_file_without_the_tables_is_an_error() -> None:
    with duckdb.connect() as connection, pytest.raises(QueryError, match="does not exist"):
        check(connection)


def test_the_command_prints_what_it_found(
    empty_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Path(shutil.copy(empty_file, tmp_path / "study.duckdb"))
    with connect(path, read_only=False) as connection:
        synthetic.fill(connection, networks=synthetic.NETWORKS[2:])
        materialize(connection)

    def run(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["ptqdb", "check", "--db", str(path), *arguments])
        code: int | str | None = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    total = len(list((sql_folder() / "checks").glob("*.sql")))
    assert run() == (0, "", f"{total} checks: nothing is wrong\n")
    assert run("--format", "json") == (0, "[]\n", f"{total} checks: nothing is wrong\n")
    with connect(path, read_only=False) as connection:
        connection.execute("insert into tensor_histogram values (1, 2048, 1), (1, 2047, 0)")
    code, out, err = run("--format", "json", "--limit", "1")
    assert (code, err) == (1, f"{total} checks: 2 failed\n")
    found = json.loads(out)
    assert [row["check"] for row in found] == ["histogram_bin", "tensor_histogram_count"]
    assert [(row["wrong_rows"], len(row["rows"])) for row in found] == [(2, 1), (1, 1)]
    assert found[1]["rows"][0]["histogram_count"] == 401
    code, out, _ = run()
    assert code == 1
    assert "element_count 400, histogram_count 401" in out
    code, out, _ = run("--format", "csv")
    assert pl.read_csv(out.encode())["wrong_rows"].to_list() == [2, 1]
    assert run("orph*") == (0, "", "1 check: nothing is wrong\n")
    code, _, err = run("orphans")
    assert (code, "no check 'orphans'" in err, "orphan" in err) == (2, True, True)
