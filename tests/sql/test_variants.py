"""Which facts a view needs, by its words, and by what is left of it without those facts."""

import duckdb
import pytest

from ptqdb.database import needs_evaluations, query, read_view, uses_weights_alone
from ptqdb.database.variants import NAMED_PARAMETERS, variant_words

VIEWS = (
    "fakefreeze_flops",
    "fakefreeze_flops_depth_sensitivity",
    "fakefreeze_flops_log_segmented",
    "l2_flops_sensitivity",
    "l2_nodiv_param_log",
    "l2_weightonly_flops_rootdepth",
    "fakefreeze_weightonly_param",
    "variant()",
    "variant(combine := 'weightonly', measure := 'nsr', bins := 21)",
    "variant(combine => 'weightonly')",
    "variant('l2', 'weightonly')",
    "segmented_variant(combine := 'weightonly', correction := 'cosine')",
    "variant(combine := 'weightonly', correction := 'sensitivity')",
    "channelnsr_weightonly_layer_coherence",
    "channelnsr_nodiv_layer_coherence",
    "variant(combine := 'weightonly', measure := 'nsr', tensors := 'inputs')",
    "variant(combine := 'weightonly', measure := 'nsr', tensors := 'both')",
)


@pytest.mark.slow
def test_the_predicates_tell_which_views_keep_their_rows(study: duckdb.DuckDBPyConnection) -> None:
    """Two networks with biases; nothing of inputs is in the synthetic study."""
    keep = "network <> 'Small'"
    study.execute("begin")
    study.execute("delete from evaluation")
    unevaluated = {view: len(read_view(study, view, keep)) for view in VIEWS}
    for table in ("quantized_tensor", "tensor_divergence"):
        study.execute(
            f"delete from {table} where tensor_id in "
            "(select tensor_id from tensor where role = 'bias')"
        )
    of_weights = {view: len(read_view(study, view, keep)) for view in VIEWS}
    study.execute("rollback")
    assert set(unevaluated.values()) == set(of_weights.values()) == {0, 10}
    assert {view: uses_weights_alone(view) for view in VIEWS} == {
        view: count == 10 for view, count in of_weights.items()
    }
    with_inputs = VIEWS[-2:]
    assert {view: needs_evaluations(view) for view in VIEWS if view not in with_inputs} == {
        view: count == 0 for view, count in unevaluated.items() if view not in with_inputs
    }
    assert not any(map(needs_evaluations, with_inputs))


def test_the_words_of_a_named_view_stand_in_its_name(study: duckdb.DuckDBPyConnection) -> None:
    words = variant_words("l2_weightratio_flops_sqrt")
    assert [words[name] for name in NAMED_PARAMETERS] == [
        "l2", "weightratio", "flops", "sqrt", "none", "js", "parameters",
    ]  # fmt: skip
    parameters = query(
        study,
        "select unnest(parameters) as name from duckdb_functions() "
        "where function_name = 'variant' and not internal",
    )["name"]
    assert list(words) == parameters.to_list()


@pytest.mark.parametrize(
    "view",
    ["format_frontier", "my_weightonly", "variant(", "variant(foo := 1)", "variant() limit 0"],
)
def test_of_other_views_nothing_is_known(view: str) -> None:
    assert variant_words(view) == {}
    assert not uses_weights_alone(view)
    assert not needs_evaluations(view)
