"""A table of a TOML file, read strictly: every key is known and every value of its kind."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqdb.errors import UsageError
from ptqdb.support.closest import closest_first

MOST = 2**31 - 1
LARGEST = sys.float_info.max
LONGEST_SHOWN = 200


@dataclass(frozen=True)
class TomlTable:
    """A table, its file and its heading; what is wrong raises a ``UsageError`` that names them.

    Attributes
    ----------
    heading
        As it stands in the file, such as ``[dataset.cifar10]``; empty for the top.
    """

    path: Path
    heading: str
    values: Mapping[str, Any]

    def child(self, heading: str, values: object) -> "TomlTable":
        """A table below this one."""
        if not isinstance(values, Mapping):
            raise self.error(f"expected the table {heading}, found {values!r}")
        return TomlTable(self.path, heading, values)

    def error(self, message: str) -> UsageError:
        """A fault of this table, with the file and the heading before it."""
        place = f"{self.path}: {self.heading}" if self.heading else str(self.path)
        return UsageError(f"{place}: {message}")

    def refuse_others(self, valid: list[str]) -> None:
        """Refuse keys that mean nothing, with the valid one that is closest."""
        for key in self.values:
            if key not in valid:
                choices = closest_first(key, valid)
                raise self.error(
                    f"unknown key {key!r}; did you mean {choices[0]!r}? "
                    f"Valid are {', '.join(choices)}"
                )

    def tables(self, key: str) -> Mapping[str, Any]:
        """Tables ``[KEY.NAME]`` by name; none where there is no such key."""
        found = self.values.get(key, {})
        if not isinstance(found, Mapping):
            raise self.error(f"expected tables [{key}.NAME], found {_shown(found)}")
        return found

    def array_of_tables(self, key: str) -> list[Mapping[str, Any]]:
        """Tables ``[[KEY]]`` in order."""
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
            raise self.error(f"expected tables [[{key}]] in double brackets, found {_shown(found)}")
        return found

    def text(self, key: str, valid: tuple[str, ...] = ()) -> str | None:
        """A text that is not blank, and valid where choices are given; None if absent."""
        found = self.values.get(key)
        if found is None:
            return None
        if not isinstance(found, str) or not found.strip():
            raise self.error(f"{key}: expected a text, found {_shown(found)}")
        if valid and found not in valid:
            raise self.error(
                f"{key}: expected one of {', '.join(closest_first(found, valid))}, found {found!r}"
            )
        return found

    def needed_text(self, key: str) -> str:
        """A text that must be there."""
        found = self.text(key)
        if found is None:
            raise self.error(f"expected the key {key}, found none")
        return found

    def texts(self, key: str, valid: tuple[str, ...]) -> tuple[str, ...]:
        """A list of valid texts, each once; empty if absent."""
        found = self.values.get(key, [])
        if not isinstance(found, list):
            raise self.error(f"{key}: expected a list of texts, found {_shown(found)}")
        for entry in found:
            if entry not in valid:
                choices = closest_first(str(entry), valid)
                raise self.error(
                    f"{key}: expected any of {', '.join(choices)}, found {_shown(entry)}"
                )
        return tuple(dict.fromkeys(found))

    def count(self, key: str, most: int = MOST) -> int | None:
        """A whole number from 1 to `most`; None if absent."""
        found = self.values.get(key)
        if found is None:
            return None
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise self.error(f"{key}: expected a whole number from 1 up, found {_shown(found)}")
        if found > most:
            raise self.error(f"{key}: expected at most {most}, found {_shown(found)}")
        return found

    def flag(self, key: str) -> bool:
        """Whether ``true`` stands under the key."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"{key}: expected true or false, found {_shown(value)}")
        return value

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """A list of finite numbers that is not empty; None if absent."""
        found = self.values.get(key)
        if found is None:
            return None
        entries = found if isinstance(found, list) else []
        numeric = all(
            isinstance(entry, int | float) and not isinstance(entry, bool) for entry in entries
        )
        # Not math.isfinite, which fails on whole numbers that no float holds.
        if not entries or not numeric or not all(abs(entry) <= LARGEST for entry in entries):
            raise self.error(
                f"{key}: expected a list of one number per channel, found {_shown(found)}"
            )
        return tuple(float(entry) for entry in entries)


def _shown(value: object) -> str:
    """As TOML has it, and no longer than a line."""
    if isinstance(value, bool):
        return {True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to print"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
