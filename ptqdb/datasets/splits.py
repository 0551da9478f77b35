"""Which part of a dataset is meant: the words for training and test images."""

from collections.abc import Collection

# In the order in which one stands in for another.
STAND_INS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "validation", "valid", "val"),
    "validation": ("validation", "valid", "val"),
}
SPLIT_WORDS = tuple(dict.fromkeys(word for words in STAND_INS.values() for word in words))
EVERY_SPLIT = "all"


def stand_ins(split: str, present: Collection[str]) -> list[str]:
    """Those of the present splits that may be read when this one is asked for, the best first.

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
    """What is to be said where another split was taken than was asked for."""
    if taken == asked:
        return ()
    if taken == EVERY_SPLIT:
        return (f"{source} has no splits: its images are taken for {asked}",)
    return (f"{source}: {taken!r} stands in for {asked!r}, which is absent or has no labels",)
