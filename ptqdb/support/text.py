"""Handle untrusted text: check names, and display any text safely."""

import re
from collections.abc import Iterable, Sequence

# Control characters including escape codes (categories Cc, Zl, Zp, Cs), bidirectional overrides,
# and the two others that XML forbids: some programs fail on them.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
# Characters with a meaning in Markdown; an underscore within a word has none.
_MARKDOWN = re.compile(r"[\\`*~|\[\]]|(?<!\w)_|_(?!\w)")


def is_harmless(text: str) -> bool:
    r"""Whether a text has no control character, no bidirectional override and no lone surrogate.

    Examples
    --------
    >>> is_harmless("ResNet 18 (Zürich)"), is_harmless("ResNet\n18"), is_harmless("\x1b[31mred")
    (True, False, False)
    """
    return _HARMFUL.search(text) is None


def visible(text: str, keep: str = "") -> str:
    r"""Replace each harmful character by its Python escape.

    Parameters
    ----------
    keep
        Characters that stay, such as line breaks.

    Examples
    --------
    >>> print(visible("\x1b[31mred\n\u202e"))
    \x1b[31mred\n\u202e
    """
    return _HARMFUL.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def markdown_cell(text: str) -> str:
    r"""Escape a text for a cell of a Markdown table.

    Examples
    --------
    >>> print(markdown_cell("<b>|INT_*|_x_"))
    &lt;b&gt;\|INT\_\*\|\_x\_
    """
    escaped = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(lambda found: "\\" + found[0], escaped)


def markdown_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool] = ()
) -> str:
    """A Markdown table of cells that are Markdown already.

    Parameters
    ----------
    numeric
        Whether each column is aligned to the right; none: no column is.

    Examples
    --------
    >>> print(markdown_table(["name", "bits"], [["INT_8", "8"]], [False, True]))
    | name | bits |
    | --- | ---: |
    | INT_8 | 8 |
    """
    is_right = numeric or [False] * len(columns)
    rule = ["---:" if right else "---" for right in is_right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, rule, *rows])
