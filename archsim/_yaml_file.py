"""YAML at the file edge: text to plain values that still know their lines, then to a typed model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from archsim._errors import ArchsimError

MAX_BYTES = 1 << 20
"""Largest file that is read."""
MAX_DEPTH = 16
"""Deepest nesting: the constructor recurses, so a hostile file must not choose the depth."""

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
"""The dialect of the schemas that editors read."""

Path = tuple[str | int, ...]
"""Keys and list positions from the top of a file to a value."""
Model = TypeVar("Model", bound=BaseModel)

_TAG = "tag:yaml.org,2002:"
_NUMBER = re.compile(r"[-+]?[0-9][0-9_]{0,30}")


@dataclass(frozen=True, slots=True)
class Document:
    """A file's value with the line of each of its keys."""

    source: str
    """The file's name, for messages."""
    value: object
    lines: Mapping[Path, int]
    """Line of each key or list item, counted from 1; the empty path is the whole file."""

    def error(self, path: Path, message: str) -> ArchsimError:
        """An error that starts with the file, the line and the path of a key."""
        line = next(self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines)
        return ArchsimError(f"{self.source}:{line}: {message}")


def read_text(path: FilePath) -> str:
    """The text of a file a user named; raises ArchsimError where it cannot be read as UTF-8 text."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        return content.decode("utf-8")
    except OSError as error:
        raise ArchsimError(f"{path} must be a readable file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArchsimError(f"{path} must be UTF-8 text, not byte {error.object[error.start]:#04x}") from error


def read_document(text: str, *, source: str) -> Document:
    """Parse ``text`` as one YAML document of mappings, lists, strings, numbers and booleans.

    Anchors, aliases, tags, duplicate keys, deep nesting and large files are refused with ArchsimError.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ArchsimError(f"{source}: the file must be at most {MAX_BYTES} bytes, not larger")
    try:
        _check_events(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ArchsimError(f"{source}:{line}: the file must be YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        raise ArchsimError(f"{source}: the file must be YAML: {error.reason}") from error
    lines: dict[Path, int] = {(): 1}
    value = None if node is None else _value(node, (), lines, source)
    return Document(source, value, lines)


def _check_events(text: str, source: str) -> None:
    """Refuse what the reader has no use for, before anything recurses over it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ArchsimError(f"{source}:{line}: the file must not use anchors or aliases")
        if getattr(event, "tag", None):
            raise ArchsimError(f"{source}:{line}: the file must not use tags")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ArchsimError(f"{source}:{line}: the file must nest at most {MAX_DEPTH} levels deep")


def _value(node: yaml.Node, path: Path, lines: dict[Path, int], source: str) -> object:
    """The plain value of ``node``; records the lines of everything below it."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, source)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), lines, source) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node, source)


def _mapping(node: yaml.MappingNode, path: Path, lines: dict[Path, int], source: str) -> dict[str, object]:
    """A mapping with string keys, each given once."""
    result: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ArchsimError(f"{source}:{line}: {dotted(path)} must have words as keys, not a collection")
        key = str(key_node.value)
        if key in result:
            first = lines[(*path, key)]
            raise ArchsimError(
                f"{source}:{line}: {dotted((*path, key))} must be given once, not again after line {first}"
            )
        lines[(*path, key)] = line
        result[key] = _value(value_node, (*path, key), lines, source)
    return result


def _scalar(node: yaml.ScalarNode, source: str) -> object:
    """A string, integer, float, boolean or None."""
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("yes", "true", "on")
    if kind == "int" and _NUMBER.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text):
        return int(text)
    if kind == "float" and ":" not in text and len(text) < 64:
        return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    if kind == "int":
        line = node.start_mark.line + 1
        raise ArchsimError(f"{source}:{line}: a number must be decimal and short, not {_short(text)}")
    return text


def validate(document: Document, model: type[Model]) -> Model:
    """The document's value as a ``model``; raises one ArchsimError with a line for each mistake."""
    try:
        return model.model_validate(document.value, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        messages = [str(_explain(document, detail, model)) for detail in details]
        raise ArchsimError("\n".join(dict.fromkeys(messages))) from error


def _explain(document: Document, detail: ErrorDetails, model: type[BaseModel]) -> ArchsimError:
    """One mistake in the user's words: file, line, path, what was wanted, what was found."""
    path = detail["loc"]
    found = detail["input"]
    match detail["type"]:
        case "missing":
            message = f"{dotted(path)} must be given"
        case "extra_forbidden":
            known = _known_keys(model, path[:-1])
            message = f"{dotted(path)} must be one of {', '.join(known)}{suggestion(str(path[-1]), known)}"
        case _:
            message = f"{dotted(path)} must be {_wanted(detail)}, not {_short(found)}"
    return document.error(path, message)


_WANTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "finite_number": "a finite number",
}


def _wanted(detail: ErrorDetails) -> str:
    """What the schema asks for, from pydantic's error."""
    context: Mapping[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "greater_than_equal":
            return f"at least {context['ge']:g}"
        case "greater_than":
            return f"more than {context['gt']:g}"
        case "less_than_equal":
            return f"at most {context['le']:g}"
        case "literal_error":
            return str(context["expected"])
        case "value_error":
            return str(context["error"])
        case "string_pattern_mismatch":
            return f"text that matches {context['pattern']}"
        case "string_too_short" | "too_short":
            return f"at least {context['min_length']} long"
        case "string_too_long" | "too_long":
            return f"at most {context['max_length']} long"
        case other:
            return _WANTED.get(other, detail["msg"])


def _known_keys(model: type[BaseModel], path: Path) -> list[str]:
    """Keys that the mapping at ``path`` may have."""
    current = model
    for key in path:
        annotation = current.model_fields[key].annotation if isinstance(key, str) else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            current = annotation
        elif nested := [t for t in getattr(annotation, "__args__", ()) if hasattr(t, "model_fields")]:
            current = nested[0]
    return list(current.model_fields)


def dotted(path: Path) -> str:
    """A path as people write it: ``array.rows``, ``entries[3].pj``; the whole file if it is empty."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{_clip(key)}" for key in path)
    return text.removeprefix(".") or "the file"


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where one of ``known`` is close to ``word``, else nothing."""
    close = difflib.get_close_matches(word[:100], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _clip(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _short(value: object) -> str:
    """A value as it is shown in a message."""
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case _:
            return _clip(repr(value))
