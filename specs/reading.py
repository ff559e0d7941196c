"""Reading YAML strictly: safe types, a closed list of keys, errors that name file and key."""

import difflib
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml


def suggest(word: str, valid: Iterable[str]) -> str:
    """Say which valid word was probably meant, or nothing."""
    near = difflib.get_close_matches(word, list(valid), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def tell(value: Any) -> str:
    """Show a value that was found, briefly: a few lines of YAML can stand for gigabytes."""
    show = reprlib.Repr()
    show.maxstring = show.maxother = 200
    show.maxlist = show.maxdict = show.maxset = show.maxtuple = 8
    show.maxlevel = 3
    return "nothing" if value is None else show.repr(value)


def read_yaml(path: Path) -> Any:
    """Read a YAML file with safe types only; a syntax error names file, line and column."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 (safe loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{path}: {place}{getattr(error, 'problem', error)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: found bytes that are not UTF-8, expected a text file") from error
    except (ValueError, RecursionError) as error:  # a date of month 13, endless digits, depth
        raise ValueError(f"{path}: {error}") from error


class StrictMapping:
    """A mapping from YAML that knows its place and which of its keys were asked for.

    Each question names the key and what is acceptable; ``finish`` refuses the keys that nobody
    asked for.
    """

    def __init__(self, data: Any, *, file: Path, key: str) -> None:
        self.file, self.key, self._asked = file, key, set[str]()
        if not isinstance(data, dict):
            self._data: dict[str, Any] = {}
            self.fail("", data, "a mapping")
        for name in data:
            if not isinstance(name, str):
                self.fail("", name, "text as key (quote it)")
        self._data = data

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def keys(self) -> Iterable[str]:
        """List the keys, asked for or not."""
        return self._data.keys()

    def fail(self, key: str, found: Any, expected: str) -> None:
        """Raise ValueError: file, key, what was found, what was expected."""
        place = ".".join(part for part in (self.key, key) if part)
        place = place or "top level"
        raise ValueError(f"{self.file}: {place}: found {tell(found)}, expected {expected}")

    def take(self, key: str, default: Any = ...) -> Any:
        """Return a key's value; without a default it must be there."""
        self._asked.add(key)
        if key not in self._data and default is ...:
            self.fail(key, None, "a value")
        return self._data.get(key, default)

    def text(self, key: str, default: Any = ...) -> str:
        """Return a text, not empty unless a default is given."""
        value = self.take(key, default)
        if not isinstance(value, str) or (default is ... and not value):
            self.fail(key, value, "text")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of words; none if the key is absent."""
        value = self.take(key, default=[])
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            self.fail(key, value, "a list of words")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false; false if the key is absent."""
        value = self.take(key, default=False)
        if not isinstance(value, bool):
            self.fail(key, value, "true or false")
        return value

    def choice(self, key: str, valid: tuple[str, ...]) -> str:
        """Return one of the valid words."""
        value = self.take(key)
        if value not in valid:
            near = suggest(str(value), valid)
            self.fail(key, value, f"one of {', '.join(valid)}{near}")
        return value

    def number(self, key: str, default: Any, *, least: float) -> Any:
        """Return a number of the default's kind, at least ``least``."""
        value = self.take(key, default=default)
        kinds = (int,) if isinstance(default, int) else (int, float)
        if type(value) not in kinds or not least <= value < float("inf"):
            word = "a whole number" if kinds == (int,) else "a number"
            self.fail(key, value, f"{word} ≥ {least}")
        return value

    def child(self, key: str) -> "StrictMapping":
        """Return a key's value as a mapping that knows its place."""
        key_path = ".".join(part for part in (self.key, key) if part)
        return StrictMapping(self.take(key), file=self.file, key=key_path)

    def children(self, key: str, *, needed: bool = False) -> list[tuple[str, "StrictMapping"]]:
        """Return the entries of a mapping of mappings, by name."""
        if key not in self._data:
            if needed:
                self.fail(key, None, "a mapping with at least one entry")
            return []
        parent = self.child(key)
        return [(name, parent.child(name)) for name in parent._data]

    def plain(self) -> dict[str, Any]:
        """Return the mapping as it is; all its keys count as asked for."""
        self._asked.update(self._data)
        return dict(self._data)

    def finish(self) -> None:
        """Refuse keys that nobody asked for: the key list is closed."""
        for key in self._data:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked))
                self.fail(key, key, f"one of {known}{suggest(key, self._asked)}")
