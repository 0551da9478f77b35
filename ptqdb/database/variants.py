"""What a view asks of the formula behind it, and so which facts it can do without."""

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
"""The named views, a row each."""
VARIANT_MACROS = ("variant", "segmented_variant")
"""The formula, and the same capped at the breakpoint."""
NAMED_PARAMETERS = ("rescale", "combine", "share", "mac_weight", "correction", "measure")
"""The parameters of the formula that a named view chooses; it has the others' defaults."""

_DECLARATION = re.compile(r"create or replace macro (\w+)\(([^()]*)\) as table")


def read_csv(name: str) -> list[dict[str, str]]:
    """The rows of a file of sql/; nobody may change them."""
    path = sql_folder() / name
    return _rows(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _rows(path: Path, _changed_at: int) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def named_call(row: Mapping[str, str]) -> str:
    """The call that a row of variants.csv stands for."""
    macro = VARIANT_MACROS[row["segmented"] == "true"]
    words = ", ".join(f"{word} := {literal(row[word])}" for word in NAMED_PARAMETERS)
    return f"{macro}({words})"


def variant_words(view: str) -> dict[str, Any]:
    """The value of every parameter of the formula in a view; empty where it is no variant.

    DuckDB itself reads the call: words may stand by place, by name or as expressions.

    Parameters
    ----------
    view
        The name of a view that ptqdb ships, or a call of ``variant`` or ``segmented_variant``. Of
        views that a user has added nothing is known.

    Examples
    --------
    >>> words = variant_words("variant('l2', share := 'param')")
    >>> words["rescale"], words["combine"], words["share"], words["bins"]
    ('l2', 'half', 'param', 63)
    >>> variant_words("format_frontier")
    {}
    """
    path = sql_folder() / "macros" / "variant.sql"
    named = next((row for row in read_csv(VARIANTS) if row["name"] == view), None)
    call = view if named is None else named_call(named)
    if call.partition("(")[0].strip() not in VARIANT_MACROS:
        return {}
    return dict(_words(call, path, path.stat().st_mtime_ns))


@lru_cache(maxsize=1024)
def _words(call: str, path: Path, _changed_at: int) -> tuple[tuple[str, Any], ...]:
    """The parameters of a call, by the declarations in a file."""
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
            return ()  # whoever reads the view is told what is wrong with it
        columns = [column[0] for column in cursor.description or ()]
        return tuple(zip(columns, row, strict=True)) if row else ()


def layer_call(view: str) -> str:
    """The call that has what each layer adds to a view's divergence.

    Of a view that is capped at the breakpoint: to its divergence before that.

    Parameters
    ----------
    view
        See ``variant_words``.

    Raises
    ------
    UsageError
        The view is no variant: nothing says what its layers add.

    Examples
    --------
    >>> layer_call("variant('l2', share := 'param')").partition(", share")[0]
    "layer_divergence(rescale := 'l2', combine := 'half'"
    """
    words = variant_words(view)
    if not words:
        raise UsageError(
            f"expected a view that ptqdb ships or a call of {VARIANT_MACROS[0]}, found {view}: "
            "nothing says what each layer adds to it"
        )
    said = ", ".join(f"{name} := {_value(value)}" for name, value in words.items())
    return f"layer_divergence({said})"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    return literal(value) if isinstance(value, str) else str(value)


def uses_weights_alone(view: str) -> bool:
    """Whether a view's divergences follow from the weights' facts, without biases and inputs.

    Such facts can be measured without any image.

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
        and words["tensors"] == "parameters"
        and not needs_evaluations(view)
    )


def looks_at_losses(view: str) -> bool:
    """Whether a view's divergences depend on what its networks lost.

    Those corrected by sensitivity do, and the segmented ones: the breakpoint is where every point
    of the pool is at chance. A network that is left out of a fit over such a view was looked at.

    Parameters
    ----------
    view
        See ``variant_words``; False of a view that nothing is known of.

    Examples
    --------
    >>> looks_at_losses("l2_flops_segmented"), looks_at_losses("l2_flops")
    (True, False)
    """
    named = {row["name"] for row in read_csv(VARIANTS) if row["segmented"] == "true"}
    is_segmented = view in named or view.partition("(")[0].strip() == VARIANT_MACROS[1]
    return is_segmented or needs_evaluations(view)


def needs_evaluations(view: str) -> bool:
    """Whether a view's divergences need the network evaluated: those corrected by sensitivity.

    They have no rows of a network that was never evaluated.

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
