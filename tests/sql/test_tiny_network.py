"""A network small enough for a pencil, and what must not come out of the views."""

import duckdb
import numpy as np
import pytest
import synthetic

from ptqdb.database import query, read_view
from ptqdb.errors import UsageError


# Shares by MACs: 3/4 and 1/4; by params: 2/7 and 5/7.
# Layer 1: floats in the bins of 1 and 0.25, codes in those of 1 and 0: half of each side's mass
#   is shared with equal shares (term 0), half is outside: JS = 0.5 * 0.5 + 0.5 * 0.5 = 0.5.
# Layer 2: the weight is exact (0), the bias's 0.5 becomes 0, nothing shared: 1.
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("variant()", 0.75 * 0.5 + 0.25 * (0 + 1) / 2),
        ("variant(share := 'param')", 2 / 7 * 0.5 + 5 / 7 * 0.5),
        ("variant(share := 'layer', combine := 'nodiv')", 0.5 * 0.5 + 0.5 * 1),
        ("variant(combine := 'weightratio')", 0.75 * 0.5 + 0.25 * (0 * 4 + 1 * 1) / 5),
        ("variant(combine := 'weightonly')", 0.75 * 0.5),
        # 4 MMAC, two layers.
        ("variant(mac_weight := 'sqrt')", 2 * 0.5),
        ("variant(mac_weight := 'log')", np.log10(4) * 0.5),
        ("variant(mac_weight := 'cuberoot')", 4 ** (1 / 3) * 0.5),
        ("variant(mac_weight := 'depth')", 2 * 0.5),
        ("variant(mac_weight := 'rootdepth')", 2**0.5 * 0.5),
        # L2 of layer 1: sqrt((1 + 1/16) / 1) = 1.031 is the bin of 1 no more at 63 bins
        # (2047 * 1.031 = 2110 -> (2110 + 32) // 65 = 32, past the last, 31): nothing shared, 1.
        ("variant(rescale := 'l2')", 0.75 * 1 + 0.25 * 0.5),
        # At 3 bins too: (2110 + 682) // 1365 = 2. But 0.25 and 0 are both in the middle bin.
        ("variant(rescale := 'l2', bins := 3)", 0.75 * 0.5 + 0.25 * 0.5),
    ],
)  # fmt: skip
def test_tiny_network_by_hand(tiny: duckdb.DuckDBPyConnection, call: str, expected: float) -> None:
    assert read_view(tiny, call)["divergence"].to_list() == [pytest.approx(expected, abs=1e-15)]


def test_tiny_accuracies_by_hand(tiny: duckdb.DuckDBPyConnection) -> None:
    row = read_view(tiny, "variant()").row(0, named=True)
    # F = 4, Q = 3, B = 2 of 6 images.
    assert row["accuracy"] == 0.5
    assert row["float_accuracy"] == pytest.approx(4 / 6)
    assert row["chance_accuracy"] == 0.1
    assert row["accuracy_loss"] == 0.25
    # sqrt(Q / F * (Q + F - 2 B)) / F = sqrt(3 / 4 * 3) / 4 = 1.5 / 4 is below 1.645 / F.
    assert row["accuracy_loss_se"] == pytest.approx(1.645 / 4)
    # Chance is 0.6 of 6 images, 3 standard errors are 3 * sqrt(0.54) = 2.2: 2.8 < 3.
    assert row["saturated"] is False
    tiny.execute("begin")
    tiny.execute("update evaluation set correct_top1 = 2 where scope = 'all'")
    is_saturated = read_view(tiny, "variant()")["saturated"].item()
    tiny.execute("rollback")
    assert is_saturated is True


# What must not come out.


BOTH_COMBINES = (
    "select words.combine from (values ('half'), ('weightonly')) as words(combine), "
    "lateral (from variant(combine := words.combine)) as found order by all"
)


def combines_after(tiny: duckdb.DuckDBPyConnection, statement: str) -> list[str]:
    """Which combines have a row once the statement has run; it is undone."""
    tiny.execute("begin")
    tiny.execute(statement)
    left = query(tiny, BOTH_COMBINES)
    tiny.execute("rollback")
    return left["combine"].to_list()


def test_a_missing_weight_or_evaluation_leaves_the_row_out(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    assert query(tiny, BOTH_COMBINES)["combine"].to_list() == ["half", "weightonly"]
    for statement in (
        "delete from code_histogram where tensor_id = 1",
        "delete from tensor_histogram where tensor_id = 2",
        "delete from quantized_tensor where tensor_id = 2",
        "delete from evaluation where scope = 'none'",
        "delete from evaluation where scope = 'all'",
        "update evaluation set image_count = 5 where scope = 'none'",
    ):
        assert combines_after(tiny, statement) == [], statement


def test_a_missing_bias_leaves_the_row_out_where_it_counts(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    for table in ("code_histogram", "tensor_histogram", "quantized_tensor"):
        statement = f"delete from {table} where tensor_id = 3"
        assert combines_after(tiny, statement) == ["weightonly"], statement


# A network without any evaluation.


def test_a_network_that_was_never_evaluated_has_its_divergences(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    calls = ("variant()", "variant(scope := 'bias')", "segmented_variant()")
    evaluated = read_view(tiny, "variant()").row(0, named=True)
    tiny.execute("begin")
    tiny.execute("delete from evaluation")
    found = [read_view(tiny, call) for call in calls]
    refused = read_view(tiny, "variant(correction := 'sensitivity')")
    tiny.execute("delete from quantized_tensor where tensor_id = 3")
    partial = read_view(tiny, "variant()")
    tiny.execute("rollback")
    of_images = ("accuracy", "float_accuracy", "accuracy_loss", "accuracy_loss_se")
    expected = evaluated | dict.fromkeys((*of_images, "images", "saturated", "non_finite_images"))
    for frame, call in zip(found, calls, strict=True):
        extra = {"breakpoint": None} if call.startswith("segmented") else {}
        assert frame.to_dicts() == [expected | extra], call
    assert evaluated["divergence"] == 0.5
    # Sensitivity is known from evaluations alone; a bias without facts is no part of a sum.
    assert (len(refused), len(partial)) == (0, 0)


def test_cells_without_the_scope_get_no_row(tiny: duckdb.DuckDBPyConnection) -> None:
    """A network that has been evaluated at all has only the rows of its evaluations."""
    assert read_view(tiny, "variant(scope := 'weight')").is_empty()
    assert combines_after(tiny, "update evaluation set scope = 'weight' where scope = 'all'") == []


@pytest.mark.parametrize(
    ("argument", "valid"),
    [
        ("rescale := 'foo'", "fakefreeze, l2"),
        ("combine := 'foo'", "half, nodiv, weightratio, weightonly"),
        ("share := 'foo'", "param, flops, layer"),
        ("mac_weight := 'foo'", "none, log, cuberoot, sqrt, depth, rootdepth"),
        ("correction := 'foo'", "none"),
        ("measure := 'foo'", "js"),
        ("aggregate := 'foo'", "sum"),
        ("scope := 'foo'", "all, weight, bias, input"),
        ("scheme := 'foo'", synthetic.SCHEME),
        ("rescale := null", "fakefreeze, l2"),
        ("bins := 64", "divisor of 4095"),
        ("bins := 4095", "divisor of 4095"),
        ("bins := 1", "divisor of 4095"),
    ],
)
def test_an_invalid_word_names_the_valid_ones(
    study: duckdb.DuckDBPyConnection, argument: str, valid: str
) -> None:
    found = "NULL" if argument.endswith("null") else argument.split()[-1].strip("'")
    with pytest.raises(UsageError, match=rf"^variant: .*{valid}.*; found {found}$"):
        # Behind a filter, which must not spare the check.
        read_view(study, f"variant({argument})", "network = 'Plain'")


@pytest.mark.parametrize("argument", ["share := 'foo'", "scheme := 'foo'", "bins := 64"])
def test_an_invalid_word_is_found_without_facts(
    formulas: duckdb.DuckDBPyConnection, argument: str
) -> None:
    """Where no row could raise it."""
    with pytest.raises(UsageError, match=r"^variant: .*; found (foo|64)$"):
        read_view(formulas, f"variant({argument})")


def test_scheme_by_name(study: duckdb.DuckDBPyConnection) -> None:
    named = read_view(study, f"variant(scheme := '{synthetic.SCHEME}')")
    assert len(named) == 15
    assert named.equals(read_view(study, "variant()"))


def test_all_zero_tensors_have_no_divergence(tiny: duckdb.DuckDBPyConnection) -> None:
    tiny.execute("begin")
    for table in ("tensor", "tensor_histogram", "quantized_tensor", "code_histogram"):
        tiny.execute(f"delete from {table} where tensor_id = 1")
    zeros = np.zeros(2)
    tensor_id = synthetic.write_tensor(tiny, 1, "weight", zeros)
    synthetic.write_codes(tiny, tensor_id, 1, synthetic.FORMATS[0], 1.0, zeros, zeros)
    call = "from tensor_measure('{}', 'js', null, 63) where tensor_id = {}"
    found = [query(tiny, call.format(rescale, tensor_id)) for rescale in ("fakefreeze", "l2")]
    tiny.execute("rollback")
    assert [frame["divergence"].to_list() for frame in found] == [[0.0], [0.0]]
