"""Cascades written by hand, in YAML.

A file has the keys ``name``, ``ranks`` (rank to size), ``tensors`` (tensor to declared shape,
optional) and ``einsums`` (a list of statements of the Einsum text). Nothing is computed in the
file: no expressions, anchors, aliases or tags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import yaml

from workloads._analyze import VerificationError, verify
from workloads._einsum import MAX_RANK_SIZE, Cascade, Einsum
from workloads._errors import WorkloadError
from workloads._parse import MAX_EINSUMS, ParseError, parse_einsum

MAX_FILE_BYTES = 1 << 20
"""Largest file that is read."""
MAX_RANKS = 1000
"""Most ranks, and most declared shapes."""
MAX_DEPTH = 8
"""Deepest nesting that is read."""

_KEYS = ("name", "ranks", "tensors", "einsums")
_REQUIRED = ("name", "einsums")
_SIZE = re.compile(r"[1-9][0-9]{0,12}\Z")
_T = TypeVar("_T")


class Mark(Protocol):
    """A place in the file; the parser has two types of it."""

    @property
    def line(self) -> int:
        """Counted from 0."""


def load_cascade(path: str | Path) -> Cascade:
    """The verified cascade of a YAML file.

    Raises :class:`WorkloadError` with file, line and key path where the file is not one, and
    OSError where it cannot be read.
    """
    return read_cascade(read_file(path), source=str(path))


def read_file(path: str | Path) -> str:
    """The text of a model's YAML file; refuses what is too large or not text."""
    with Path(path).open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise WorkloadError(f"{path}: a cascade's file must have at most {MAX_FILE_BYTES} bytes, not more")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}: a cascade's file must be UTF-8 text, not bytes: {error}") from None


def read_cascade(text: str, *, source: str = "<text>") -> Cascade:
    """The verified cascade of YAML text; ``source`` names the file in errors."""
    return Reader(source).cascade(text)


class Reader:
    """Reads one file; knows its name, for errors."""

    def __init__(self, source: str) -> None:
        self._source = source

    def cascade(self, text: str) -> Cascade:
        """The verified cascade of ``text``."""
        entries = self.mapping(self.root(text), "the file")
        for key, (mark, _) in entries.items():
            if key not in _KEYS:
                raise self.error(mark, f"a key must be one of {', '.join(_KEYS)}, not {key!r}")
        for key in _REQUIRED:
            if key not in entries:
                raise WorkloadError(f"{self._source}:1: key {key!r} must be given, not left out")
        ranks = self._sizes(entries, "ranks", self.size)
        shapes = self._sizes(entries, "tensors", self._shape)
        nodes = self._statements(entries["einsums"][1])
        einsums = tuple(self._einsum(node, f"einsums[{i}]") for i, node in enumerate(nodes))
        name_mark, name = entries["name"]
        title = self.scalar(name, "name")
        cascade = self.at(name_mark, "name", lambda: Cascade(title, ranks, einsums, shapes))
        try:
            verify(cascade)
        except VerificationError as error:
            mark, where = name_mark, "einsums"
            if error.einsum is not None:
                mark, where = nodes[error.einsum].start_mark, f"einsums[{error.einsum}]"
            raise self.error(mark, f"{where}: {error}") from None
        return cascade

    def error(self, mark: Mark | None, message: str) -> WorkloadError:
        """An error that begins with file and line."""
        return WorkloadError(f"{self._source}:{mark.line + 1 if mark else 1}: {message}")

    def at(self, mark: Mark, where: str, build: Callable[[], _T]) -> _T:
        """What ``build`` makes; its error gets the file, line and key."""
        try:
            return build()
        except WorkloadError as error:
            raise self.error(mark, f"{where}: {error}") from None

    def root(self, text: str) -> yaml.Node:
        """The tree of ``text``, in which nothing is shared or deep."""
        try:
            self._refuse_events(text)
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            problem = error.problem or error.context
            raise WorkloadError(f"{self._source}:{line}: the file must be YAML: {problem}") from None
        except yaml.YAMLError as error:
            problem = " ".join(str(error).split())
            raise WorkloadError(f"{self._source}:1: the file must be YAML: {problem}") from None
        if root is None:
            raise WorkloadError(
                f"{self._source}:1: the file must have the keys {', '.join(_KEYS)}, not be empty"
            )
        return root

    def _refuse_events(self, text: str) -> None:
        """Refuse what makes a small file large or its reading deep, before any tree is built."""
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise self.error(event.start_mark, "the file must have no anchors or aliases, not one")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise self.error(event.start_mark, f"nesting must be at most {MAX_DEPTH} deep, not deeper")

    def mapping(self, node: yaml.Node, where: str) -> dict[str, tuple[Mark, yaml.Node]]:
        """Each key's place and value; no key is given twice."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node.start_mark, f"{where} must be a mapping, not {_kind(node)}")
        entries: dict[str, tuple[Mark, yaml.Node]] = {}
        for key, value in node.value:
            name = self.scalar(key, f"a key of {where}")
            if name in entries:
                raise self.error(key.start_mark, f"key {name!r} of {where} must be given once, not again")
            entries[name] = (key.start_mark, value)
        return entries

    def sequence(self, node: yaml.Node, where: str) -> list[yaml.Node]:
        """The items of a list."""
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node.start_mark, f"{where} must be a list, not {_kind(node)}")
        return list(node.value)

    def scalar(self, node: yaml.Node, where: str) -> str:
        """The text of a value that is neither a list nor a mapping."""
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node.start_mark, f"{where} must be text, not {_kind(node)}")
        return str(node.value)

    def _sizes(
        self,
        entries: Mapping[str, tuple[Mark, yaml.Node]],
        key: str,
        read: Callable[[yaml.Node, str], _T],
    ) -> dict[str, _T]:
        if key not in entries:
            return {}
        sizes = self.mapping(entries[key][1], key)
        if len(sizes) > MAX_RANKS:
            raise self.error(
                entries[key][0], f"{key} must have at most {MAX_RANKS} entries, not {len(sizes)}"
            )
        return {name: read(node, f"{key}.{name}") for name, (_, node) in sizes.items()}

    def size(self, node: yaml.Node, where: str) -> int:
        """A rank's size."""
        text = self.scalar(node, where)
        if not _SIZE.match(text) or int(text) > MAX_RANK_SIZE:
            wanted = f"an integer from 1 to {MAX_RANK_SIZE}"
            raise self.error(node.start_mark, f"{where} must be {wanted}, not {text[:40]!r}")
        return int(text)

    def _shape(self, node: yaml.Node, where: str) -> tuple[int, ...]:
        return tuple(self.size(item, f"{where}[{i}]") for i, item in enumerate(self.sequence(node, where)))

    def _statements(self, node: yaml.Node) -> list[yaml.Node]:
        nodes = self.sequence(node, "einsums")
        if not 1 <= len(nodes) <= MAX_EINSUMS:
            raise self.error(
                node.start_mark, f"einsums must have 1 to {MAX_EINSUMS} entries, not {len(nodes)}"
            )
        return nodes

    def _einsum(self, node: yaml.Node, where: str) -> Einsum:
        text = self.scalar(node, where)
        try:
            return parse_einsum(text)
        except ParseError as error:
            message = f"{where}, column {error.column} of {text[:80]!r}: {error.message}"
            raise self.error(node.start_mark, message) from None


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(str(node.value)[:40])
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
