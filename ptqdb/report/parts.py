"""Charts as JSON that holds what they share only once: a page has hundreds of them."""

import json
from typing import Any

from ptqdb.charts.saving import short

# Shorter JSON costs less than the reference that would take its place.
LEAST_LENGTH = 48


class Parts:
    """A list of parts, and charts that refer to them.

    A reference ``{"$": 3}`` stands for part 3; ``{"$rows": {...}}`` for rows given as columns.
    Parts refer to parts before them. The page's script puts them together again.

    Attributes
    ----------
    parts
        Each once, in the order of their numbers.
    """

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self._numbers: dict[str, int] = {}
        # Rows that many charts have, by identity: they are held so that no other gets their id.
        self._rows: dict[int, tuple[list[Any], Any]] = {}

    def put(self, value: Any) -> Any:
        """Replace by references whatever is long or was there already.

        Examples
        --------
        >>> parts = Parts()
        >>> long = "the name of a network that is long"
        >>> parts.put([long, long]), parts.put({"x": 1.23456789, "names": [long, long]})
        ({'$': 0}, {'x': 1.2346, 'names': {'$': 0}})
        """
        if isinstance(value, dict):
            return self._shared({key: self.put(item) for key, item in value.items()})
        if isinstance(value, list):
            if id(value) in self._rows:
                return self._rows[id(value)][1]
            if _is_rows(value):
                columns = {
                    name: self._shared([short(row[name]) for row in value]) for name in value[0]
                }
                reference = self._shared({"$rows": columns})
                self._rows[id(value)] = value, reference
                return reference
            return self._shared([self.put(item) for item in value])
        return short(value)

    def _shared(self, value: Any) -> Any:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if len(text) < LEAST_LENGTH:
            return value
        if text not in self._numbers:
            self._numbers[text] = len(self.parts)
            self.parts.append(value)
        return {"$": self._numbers[text]}


def _is_rows(value: list[Any]) -> bool:
    """Whether it is a table: objects of the same plain columns."""
    return (
        len(value) > 1
        and all(isinstance(row, dict) and row.keys() == value[0].keys() for row in value)
        and not any(isinstance(cell, dict | list) for row in value for cell in row.values())
    )
