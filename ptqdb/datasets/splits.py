"""Splits of a dataset: the names for training and test images."""

from collections.abc import Collection

# Substitutes for each other, in this order.
STAND_INS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "validation", "valid", "val"),
    "validation": ("validation", "valid", "val"),
}
SPLIT_WORDS = tuple(dict.fromkeys(word for words in STAND_INS.values() for word in words))
EVERY_SPLIT = "all"


def stand_ins(split: str, present: Collection[str]) -> list[str]:
    """Return the available splits that can be read for the requested one, the best first.

    Examples
    --------
    >>> stand_ins("test", ["train", "val"])
    ['val']
    >>> stand_ins("train", ["all"])
    ['all']
    """
    words = (*STAND_INS.get(split, (split,)), EVERY_SPLIT)
    return [word for word in words if word in present]


def notes_on(asked: str, taken: str, source: object) -> tuple[str, ...]:
    """Return a note if another split was read than requested."""
    if taken == asked:
        return ()
    if taken == EVERY_SPLIT:
        return (f"{source} has no splits: its images are used for {asked}",)
    return (f"{source}: {taken!r} replaces {asked!r}, which is absent or has no labels",)
