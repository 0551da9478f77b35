"""The formula parameters of a view, and the facts that it needs."""

import csv
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb

from ptqdb.errors import UsageError
from ptqdb.resources import sql_folder

VARIANTS = "variants.csv"
"""The named views, one row each."""
VARIANT_MACROS = ("variant", "segmented_variant")
"""The formula, and its version capped at the breakpoint."""
NAMED_PARAMETERS = (
    *("rescale", "combine", "share", "mac_weight", "correction", "measure"),
    "tensors",
)
"""The formula parameters that a named view sets; others have their defaults."""

_DECLARATION = re.compile(r"create or replace macro (\w+)\(([^()]*)\) as table")


def read_csv(name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file in sql/; do not modify them."""
    path = sql_folder() / name
    return _rows(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _rows(path: Path, _changed_at: int) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def literal(text: str) -> str:
    """Quote a text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def named_call(row: Mapping[str, str]) -> str:
    """Return the call of a row of variants.csv."""
    macro = VARIANT_MACROS[row["segmented"] == "true"]
    words = ", ".join(f"{word} := {literal(row[word])}" for word in NAMED_PARAMETERS)
    return f"{macro}({words})"


def variant_words(view: str) -> dict[str, Any]:
    """Return the value of every formula parameter of a view; empty if it is not a variant.

    DuckDB itself parses the call: arguments may be positional, named or expressions.

    Parameters
    ----------
    view
        The name of a view that ptqdb ships, ``NAME@SCHEME``, or a call of ``variant`` or
        ``segmented_variant``. Views added by a user are not variants.

    Examples
    --------
    >>> words = variant_words("variant('l2', share := 'param')")
    >>> words["rescale"], words["combine"], words["share"], words["bins"]
    ('l2', 'half', 'param', 63)
    >>> variant_words("format_frontier")
    {}
    """
    view = called_view(view)
    path = sql_folder() / "macros" / "variant.sql"
    named = next((row for row in read_csv(VARIANTS) if row["name"] == view), None)
    call = view if named is None else named_call(named)
    if call.partition("(")[0].strip() not in VARIANT_MACROS:
        return {}
    return dict(_words(call, path, path.stat().st_mtime_ns))


@lru_cache(maxsize=1024)
def _words(call: str, path: Path, _changed_at: int) -> tuple[tuple[str, Any], ...]:
    """The parameters of a call, from the declarations in a file."""
    declared = dict(_DECLARATION.findall(path.read_text(encoding="utf-8")))
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        for name in VARIANT_MACROS:
            parameters = re.findall(r"(\w+) :=", declared[name])
            shown = ", ".join(f"{parameter} as {parameter}" for parameter in parameters)
            connection.execute(f"create macro {name}({declared[name]}) as table select {shown}")
        try:
            cursor = connection.execute(f"from {call}")
            row = cursor.fetchone() or ()
        except duckdb.Error:
            return ()  # reading the view reports the error
        columns = [column[0] for column in cursor.description or ()]
        return tuple(zip(columns, row, strict=True)) if row else ()


def layer_call(view: str) -> str:
    """Return the call for the contribution of each layer to a view's divergence.

    For a view capped at the breakpoint: to its uncapped divergence.

    Parameters
    ----------
    view
        See ``variant_words``.

    Raises
    ------
    UsageError
        The view is not a variant, or it is of the whole network: the contributions of its layers
        are unknown.

    Examples
    --------
    >>> layer_call("variant('l2', share := 'param')").partition(", share")[0]
    "layer_divergence(rescale := 'l2', combine := 'half'"
    """
    words = variant_words(view)
    if not words:
        raise UsageError(
            f"expected a view that ptqdb ships or a call of {VARIANT_MACROS[0]}, found {view}: "
            "the contributions of its layers are unknown"
        )
    if uses_probe(view):
        raise UsageError(
            f"expected a view of tensors: {view} is of the whole network and has no layers"
        )
    said = ", ".join(f"{name} := {_value(value)}" for name, value in words.items())
    return f"layer_divergence({said})"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    return literal(value) if isinstance(value, str) else str(value)


def with_scheme(view: str, scheme: str | None) -> str:
    """Return the view under another scheme: a call of ``variant`` or ``segmented_variant``.

    The call names only the parameters that differ from their defaults. A view that has the scheme
    already is returned as it is.

    Parameters
    ----------
    view
        See ``variant_words``.
    scheme
        Name of a scheme, ``*`` for all schemes of the file, or None for the study's.

    Raises
    ------
    UsageError
        The view is not a variant, so its scheme cannot be changed.

    Examples
    --------
    >>> with_scheme("l2_flops_segmented", "*")
    "segmented_variant(rescale := 'l2', scheme := '*')"
    >>> with_scheme("variant('l2', scheme := 'mx32_e8m0')", None)
    "variant(rescale := 'l2')"
    >>> with_scheme("fakefreeze_flops", None)
    'fakefreeze_flops'
    """
    return _with_word(view, "scheme", scheme)


def with_scope(view: str, scope: str) -> str:
    """Return the view with the losses of another scope; see `with_scheme`.

    Examples
    --------
    >>> with_scope("l2_flops", "weight")
    "variant(rescale := 'l2', scope := 'weight')"
    """
    return _with_word(view, "scope", scope)


def _with_word(view: str, name: str, word: str | None) -> str:
    words = variant_words(view)
    if not words:
        raise UsageError(
            f"expected a view that ptqdb ships or a call of {VARIANT_MACROS[0]}, found {view}: "
            f"its {name} cannot be changed"
        )
    if words[name] == word:
        return called_view(view)
    macro = VARIANT_MACROS[_is_segmented(view)]
    defaults = variant_words(f"{macro}()")
    chosen = words | {name: word}
    said = [f"{each} := {_value(chosen[each])}" for each in words if chosen[each] != defaults[each]]
    return f"{macro}({', '.join(said)})"


def called_view(view: str) -> str:
    """Return what to read for a view: for ``NAME@SCHEME`` a call, otherwise the view itself.

    Raises
    ------
    UsageError
        The named view is not a variant.

    Examples
    --------
    >>> called_view("l2_flops@*"), called_view("l2_flops")
    ("variant(rescale := 'l2', scheme := '*')", 'l2_flops')
    """
    name, sign, scheme = view.partition("@")
    return with_scheme(name, scheme) if sign and "(" not in name else view


def _is_segmented(view: str) -> bool:
    view = called_view(view)
    named = {row["name"] for row in read_csv(VARIANTS) if row["segmented"] == "true"}
    return view in named or view.partition("(")[0].strip() == VARIANT_MACROS[1]


def uses_weights_alone(view: str) -> bool:
    """Whether a view's divergences need only facts of weights, not of biases and inputs.

    Such facts can be measured without images.

    Parameters
    ----------
    view
        See ``variant_words``; False of a view that nothing is known of.

    Examples
    --------
    >>> uses_weights_alone("fakefreeze_weightonly_flops"), uses_weights_alone("fakefreeze_flops")
    (True, False)
    """
    words = variant_words(view)
    return (
        words.get("combine") == "weightonly"
        and words["tensors"] in ("parameters", "trained")
        and words["share"] != "sensitivity"
        and not uses_probe(view)
        and not needs_evaluations(view)
    )


def looks_at_losses(view: str) -> bool:
    """Whether a view's divergences depend on the losses of its networks.

    True for views corrected by sensitivity and for segmented ones, whose breakpoint depends on
    where all points are at chance. In such a view, a network left out of a fit still influences it.

    Parameters
    ----------
    view
        See ``variant_words``; False of a view that nothing is known of.

    Examples
    --------
    >>> looks_at_losses("l2_flops_segmented"), looks_at_losses("l2_flops")
    (True, False)
    """
    return _is_segmented(view) or needs_evaluations(view)


def uses_probe(view: str) -> bool:
    """Whether a view's divergences are those of probes: runs of the quantized network.

    Parameters
    ----------
    view
        See ``variant_words``; False of a view that nothing is known of.

    Examples
    --------
    >>> uses_probe("probe_soft"), uses_probe("fakefreeze_flops")
    (True, False)
    """
    return str(variant_words(view).get("measure", "")).startswith("probe_")


def needs_evaluations(view: str) -> bool:
    """Whether a view's divergences need evaluations, as those corrected by sensitivity do.

    They have no rows for a network without evaluation.

    Parameters
    ----------
    view
        See ``variant_words``; False of a view that nothing is known of.

    Examples
    --------
    >>> needs_evaluations("fakefreeze_flops_sensitivity"), needs_evaluations("fakefreeze_flops")
    (True, False)
    """
    return variant_words(view).get("correction") == "sensitivity"
