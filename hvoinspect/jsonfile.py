"""Reads a JSON file that anyone may have written: bounded, every member checked before it is used.

A file that is not what it should be raises HvoinspectError; no other error leaves these functions,
whatever the file holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

from hvoinspect.errors import HvoinspectError

MAX_COUNT = 2**64 - 1
"""Kernel counters are u64."""

MAX_PARTS = 1 << 18
"""Most lists and objects of a file: Python takes 20 bytes and more for each byte of them."""

MAX_TEXT = 4096
"""PATH_MAX; KSYM_NAME_LEN, the longest name of a function, is 512 (include/linux/kallsyms.h)."""

Value = TypeVar("Value")
Word = TypeVar("Word", bound=str)


class Members:
    """The members of one object of a file; `where` names it in errors, as in "counts[3]"."""

    def __init__(self, path: Path, values: dict[str, object], remedy: str, where: str = "") -> None:
        self.path = path
        self.values = values
        self.remedy = remedy
        self.where = where

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return a string of at most MAX_TEXT characters, not empty unless `empty`."""
        value = self.values.get(name)
        if not isinstance(value, str) or len(value) > MAX_TEXT or not (value or empty):
            self.refuse(name, "is no text" if value != "" else "is empty")
        return value

    def count(self, name: str) -> int:
        """Return a whole number from 0 to MAX_COUNT."""
        return self.whole(name, 0, MAX_COUNT)

    def whole(self, name: str, least: int, most: int) -> int:
        """Return a whole number from `least` to `most`."""
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(name, "is no count" if least >= 0 else "is no whole number")
        if not least <= value <= most:
            self.refuse(name, "is no count" if least == 0 else "is out of range")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self.values.get(name)
        if not isinstance(value, bool):
            self.refuse(name, "is neither true nor false")
        return value

    def word(self, name: str, words: Collection[Word]) -> Word:
        """Return the one of `words` that is there."""
        value = self.values.get(name)
        found = next((word for word in words if word == value), None)
        if found is None:
            self.refuse(name, f"is none of {', '.join(words)}")
        return found

    def number(self, name: str) -> float:
        """Return a finite number that is not negative."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, "is no number")
        if not 0 <= value <= MAX_COUNT:  # not so for a NaN either
            self.refuse(name, "is out of range")
        return float(value)

    def texts(self, name: str) -> list[str]:
        """Return a list of strings."""
        value = self.values.get(name)
        if not isinstance(value, list):
            self.refuse(name, "is no list")
        texts = [text for text in value if isinstance(text, str)]
        if len(texts) < len(value):
            self.refuse(name, "is no list of texts")
        return texts

    def object(self, name: str) -> Members:
        """Return the members of an object."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            self.refuse(name, "is no object")
        return Members(self.path, value, self.remedy, self._place(name))

    def objects(self, name: str) -> Iterator[Members]:
        """Yield the members of each object of a list."""
        value = self.values.get(name)
        if not isinstance(value, list):
            self.refuse(name, "is no list")
        for index, item in enumerate(value):
            where = self._place(f"{name}[{index}]")
            if not isinstance(item, dict):
                raise HvoinspectError(f'{self.path}: "{where}" is no object', self.remedy)
            yield Members(self.path, item, self.remedy, where)

    def known(self, name: str) -> bool:
        """Whether the member is there and not null, which says unknown."""
        return self.values.get(name) is not None

    def unless_null(self, name: str, read: Callable[[str], Value]) -> Value | None:
        """Return what `read` makes of a member that must be there, None if it is null."""
        if name not in self.values:
            self.refuse(name, "is missing")
        return read(name) if self.known(name) else None

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise HvoinspectError for the member `name`."""
        if name not in self.values:
            why = "is missing"
        raise HvoinspectError(f'{self.path}: "{self._place(name)}" {why}', self.remedy)

    def _place(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name


def read_members(path: Path, schema: str, remedy: str, max_bytes: int) -> Members:
    """Read the object in `path`, whose member "schema" must be `schema`.

    Raises HvoinspectError with `remedy` if the file cannot be read, is larger than `max_bytes`, has
    more than MAX_PARTS, is no JSON or of another schema.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise HvoinspectError(f"{path} cannot be read: {reason}", remedy) from error
    return parse_members(path, data, schema, remedy, max_bytes)


def parse_members(path: Path, data: bytes, schema: str, remedy: str, max_bytes: int) -> Members:
    """Read the object in `data`, which is from `path`, as `read_members` does. Raises the same."""
    if len(data) > max_bytes:
        raise HvoinspectError(f"{path} is larger than {max_bytes >> 20} MiB", remedy)
    if data.count(b"[") + data.count(b"{") > MAX_PARTS:
        raise HvoinspectError(f"{path} has more than {MAX_PARTS} lists and objects", remedy)
    try:
        values = json.loads(data, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise HvoinspectError(f"{path} is no JSON, or damaged", remedy) from error
    if not isinstance(values, dict) or not isinstance(values.get("schema"), str):
        raise HvoinspectError(f'{path} is JSON of something else: it has no "schema"', remedy)
    if values["schema"] != schema:
        told = values["schema"][:60]
        raise HvoinspectError(f"{path} holds {told}, not {schema}", remedy)
    return Members(path, values, remedy)


def _finite(text: str) -> float:
    """Parse a number, or "NaN" and "Infinity", which JSON does not have but Python's reader takes.

    Raises ValueError for what is not finite, 1e999 among it.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
