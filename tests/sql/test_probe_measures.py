"""The measures of a probe: by hand, in the named views, and what they ignore and refuse."""

from typing import Any

import duckdb
import pytest
import synthetic

from ptqdb.database import materialize, query, read_view
from ptqdb.database.variants import layer_call
from ptqdb.errors import UsageError

WORDS = ("probe_soft", "probe_agreement", "probe_kl", "probe_logit")
FACTS = {
    "precision": "float32",
    "image_count": 10,
    "same_prediction": 6,
    "non_finite_count": 1,
    "float_probability_sum": 8.0,
    "chosen_probability_sum": 5.0,
    "kl_sum": 3.6,
    "kl_count": 9,
    "logit_squared_error_sum": 4.5,
    "float_logit_variance_sum": 18.0,
    "logit_count": 9,
    "same_images": "1111110000",
}
BY_HAND = {
    "probe_soft": 1 - 5 / 8,
    "probe_agreement": 4 / 10,
    "probe_kl": 3.6 / 9,
    "probe_logit": 4.5 / 18,
}


def write(connection: duckdb.DuckDBPyConnection, **changes: Any) -> None:
    values = {"network_id": 1, "number_format_id": 1, "scheme_id": 1} | FACTS | changes
    synthetic._append(connection, "probe", **values)


@pytest.fixture
def probed(database: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """One network in INT_2, 4 MMAC, two layers."""
    synthetic.write_tiny(database)
    materialize(database)
    return database


@pytest.mark.parametrize("view", WORDS)
def test_measures_by_hand(probed: duckdb.DuckDBPyConnection, view: str) -> None:
    assert read_view(probed, view).height == 0
    write(probed)
    plain, row = read_view(probed, "variant()"), read_view(probed, view)
    assert row["divergence"].to_list() == [pytest.approx(BY_HAND[view], rel=1e-15)]
    # All else is that of any other view.
    assert row.drop("divergence").equals(plain.drop("divergence"))


@pytest.mark.parametrize("view", WORDS)
def test_words_of_tensors_and_layers_have_no_effect(
    probed: duckdb.DuckDBPyConnection, view: str
) -> None:
    write(probed)
    words = {
        "rescale": "l2",
        "combine": "nodiv",
        "share": "param",
        "mac_weight": "depth",
        "correction": "fanin",
        "aggregate": "max",
        "bins": 21,
    }
    for name, word in words.items():
        given = word if isinstance(word, int) else f"'{word}'"
        found = read_view(probed, f"variant(measure := '{view}', {name} := {given})")
        assert found["divergence"].to_list() == [pytest.approx(BY_HAND[view], rel=1e-15)], name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("scope := 'weight'", "scope with a probe is one of all; found weight"),
        ("tensors := 'both'", "measure with inputs is one of"),
        ("mac_weight := 'cubed'", "mac_weight is one of"),
        ("scheme := 'none'", "scheme is one of"),
    ],
)
def test_what_contradicts_a_probe_is_refused(
    probed: duckdb.DuckDBPyConnection, words: str, said: str
) -> None:
    write(probed)
    with pytest.raises(UsageError, match=said):
        read_view(probed, f"variant(measure := 'probe_soft', {words})")


def test_sums_over_no_image_give_no_row(probed: duckdb.DuckDBPyConnection) -> None:
    lost = {
        "same_prediction": 0,
        "non_finite_count": 10,
        "chosen_probability_sum": 0.0,
        **dict.fromkeys(("kl_sum", "logit_squared_error_sum", "float_logit_variance_sum"), 0.0),
        **dict.fromkeys(("kl_count", "logit_count"), 0),
        "same_images": "0" * 10,
    }
    write(probed, **lost)
    found = {view: read_view(probed, view)["divergence"].to_list() for view in WORDS}
    assert found == {"probe_soft": [1], "probe_agreement": [1], "probe_kl": [], "probe_logit": []}


def test_rounding_makes_no_negative_measure(probed: duckdb.DuckDBPyConnection) -> None:
    write(probed, chosen_probability_sum=8.0 + 1e-15, kl_sum=-1e-9)
    assert read_view(probed, "probe_soft")["divergence"].to_list() == [0]
    assert read_view(probed, "probe_kl")["divergence"].to_list() == [0]


def test_a_network_that_is_only_predicted_has_rows(probed: duckdb.DuckDBPyConnection) -> None:
    write(probed)
    probed.execute("delete from evaluation")
    row = read_view(probed, "probe_soft").row(0, named=True)
    assert (row["divergence"], row["accuracy_loss"]) == (pytest.approx(3 / 8), None)


def test_every_probe_of_a_study_is_in_the_views(study: duckdb.DuckDBPyConnection) -> None:
    count = query(study, "select count(*) as n from probe")["n"].item()
    assert count == 15
    for view in WORDS:
        assert read_view(study, view).height == count


def test_a_probe_has_no_layers() -> None:
    with pytest.raises(UsageError, match="probe_soft is of the whole network"):
        layer_call("probe_soft")
