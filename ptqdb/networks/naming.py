"""Which of the valid names a misspelled one is close to."""

import difflib
from collections.abc import Iterable


def closest(name: str, valid: Iterable[str], count: int | None = None) -> list[str]:
    """The valid names, the closest first; the first so many, or all.

    >>> closest("vgg16", ["AlexNet", "VGG_19", "VGG_16"])
    ['VGG_16', 'VGG_19', 'AlexNet']
    """

    def likeness(known: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), known.lower()).ratio()

    return sorted(valid, key=likeness, reverse=True)[:count]
