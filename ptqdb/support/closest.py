"""Sort names by their similarity to a misspelled one."""

import difflib
from collections.abc import Iterable


def closest_first(name: str, valid: Iterable[str]) -> list[str]:
    """Return all valid names, the most similar first; case does not matter.

    Examples
    --------
    >>> closest_first("chekpoint", ["spec", "weights", "checkpoint"])[0]
    'checkpoint'
    """

    def similarity(known: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), known.lower()).ratio()

    return sorted(valid, key=similarity, reverse=True)
