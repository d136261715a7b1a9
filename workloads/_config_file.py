"""A ``config.json`` read with types: each field that is missing or wrong is an error that names it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from workloads._errors import WorkloadError

_T = TypeVar("_T")

MAX_CONFIG_BYTES = 1 << 20
MAX_DIMENSION = 1 << 24


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of a configuration, and the file's name for messages."""

    fields: Mapping[str, Any]
    source: str
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of each field, where the file's text is known."""

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer; ``default`` where the field is absent or null."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_DIMENSION:
            raise self.error(key, f"an integer from 1 to {MAX_DIMENSION}", value)
        return value

    def number(self, key: str, default: float) -> float:
        """A positive finite number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self.error(key, "a positive number", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "a string", value)
        return value

    def choice(self, key: str, known: Mapping[str, _T], default: str | None = None) -> _T:
        """The value in ``known`` under the field's string."""
        value = self.text(key, default)
        if value not in known:
            raise self.error(key, f"one of {', '.join(sorted(known))}", value)
        return known[value]

    def same(self, key: str, expected: int, what: str) -> None:
        """Refuse a field that is present and contradicts what others say."""
        if key in self.fields and self.fields[key] is not None and self.fields[key] != expected:
            raise self.error(key, f"{expected}, {what}", self.fields[key])

    def error(self, key: str, wanted: str, found: object) -> WorkloadError:
        """The error for field ``key``."""
        return WorkloadError(f"{self._place(key)}: {key} must be {wanted}, not {found!r:.80}")

    def _place(self, key: str) -> str:
        return f"{self.source}:{self.lines[key]}" if key in self.lines else self.source

    def _get(self, key: str, default: object) -> object:
        value = self.fields.get(key)
        if value is not None:
            return value
        if default is None:
            found = "null" if key in self.fields else "missing"
            raise WorkloadError(f"{self._place(key)}: {key} must be given, not {found}")
        return default


def read_config(path: Path) -> Config:
    """Read ``path``, a JSON object of at most a mebibyte."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise WorkloadError(f"{path} must be a readable file: {error.strerror}") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise WorkloadError(f"{path} must be at most {MAX_CONFIG_BYTES} bytes, not larger")
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        where = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise WorkloadError(f"{path}{where}: a configuration must be JSON: {error}") from error
    if not isinstance(fields, dict):
        raise WorkloadError(f"{path}: a configuration must be an object, not {type(fields).__name__}")
    return Config(fields, str(path), _lines(raw.decode(json.detect_encoding(raw), "surrogatepass")))


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?:\s*(:))?|[{}\[\]]', re.DOTALL)


def _lines(text: str) -> dict[str, int]:
    """Line of each field of the outermost object of ``text``, which is JSON."""
    found: dict[str, int] = {}
    depth, line, last = 0, 1, 0
    for token in _TOKEN.finditer(text):
        line, last = line + text.count("\n", last, token.start()), token.start()
        depth += (token[0] in "{[") - (token[0] in "}]")
        if token[1] and depth == 1:
            found[json.loads(token[0].rstrip(": \t\r\n"))] = line
    return found
