"""Problems of Timeloop, as cascades of one Einsum.

A file has the key ``problem`` with ``shape`` (a mapping, or the name of a known one) and ``instance``
(sizes and coefficients by name; version 0.3 also wrote them beside ``shape``). Keys may be spelt as in
version 0.3 (``data-spaces``, ``read-write``) or 0.4 (``data_spaces``, ``read_write``). Other keys of the
file, such as ``architecture``, are not read. The format is documented at timeloop.csail.mit.edu.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import yaml

from workloads._analyze import VerificationError, verify
from workloads._cascade_file import Mark, Reader, read_cascade, read_file
from workloads._einsum import Access, Cascade, Einsum, Index

_Entries = Mapping[str, tuple[Mark, yaml.Node]]

_CONVOLUTION = """
name: CNN-Layer
dimensions: [R, S, P, Q, C, K, N]
coefficients:
  - {name: Wstride, default: 1}
  - {name: Hstride, default: 1}
  - {name: Wdilation, default: 1}
  - {name: Hdilation, default: 1}
data_spaces:
  - {name: Weights, projection: [[[C]], [[K]], [[R]], [[S]]]}
  - name: Inputs
    projection: [[[N]], [[C]], [[R, Wdilation], [P, Wstride]], [[S, Hdilation], [Q, Hstride]]]
  - {name: Outputs, projection: [[[N]], [[K]], [[Q]], [[P]]], read_write: true}
"""
_PRODUCT = """
name: GEMM
dimensions: [M, N, K]
data_spaces:
  - {name: A, projection: [[[M]], [[K]]]}
  - {name: B, projection: [[[N]], [[K]]]}
  - {name: Z, projection: [[[M]], [[N]]], read_write: true}
"""
SHAPES: Mapping[str, str] = MappingProxyType({"cnn_layer": _CONVOLUTION, "gemm_ABZ": _PRODUCT})
"""Shapes that a problem may name; a hyphen may stand for the underscore."""

_UNREAD = frozenset({"name", "type", "H", "W", "Hpad", "Wpad"})
"""Keys of published instances that change nothing here: the input is as large as the indices reach."""
_DENSE = frozenset({"densities", "commonDensities"})
_INTEGER = re.compile(r"[1-9][0-9]{0,12}\Z")


@dataclass(frozen=True, slots=True)
class _Space:
    """A data space: its access, and whether it is the result."""

    access: Access
    written: bool
    mark: Mark


def read_timeloop_problem(path: str | Path) -> Cascade:
    """The cascade of the Timeloop problem in a YAML file.

    A data space whose name says weight or filter comes after the other operands, as weights do here.
    Raises :class:`WorkloadError` with file, line and key path where the file has no problem that can be
    read, and OSError where it cannot be opened.
    """
    return parse_timeloop_problem(read_file(path), source=str(path))


def parse_timeloop_problem(text: str, *, source: str = "<text>") -> Cascade:
    """The cascade of the Timeloop problem in YAML text; ``source`` names the file in errors."""
    reader = _ProblemReader(source)
    return reader.problem(reader.mapping(reader.root(text), "the file"))


def load_written(path: str | Path) -> Cascade:
    """The cascade of a YAML file: one written as such, or a Timeloop problem.

    Raises as :func:`read_timeloop_problem` does.
    """
    text, source = read_file(path), str(path)
    root = Reader(source).root(text)
    keys = [key.value for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    return (parse_timeloop_problem if "problem" in keys else read_cascade)(text, source=source)


class _ProblemReader(Reader):
    """Reads a problem; knows its file's name, for errors."""

    def problem(self, file: _Entries) -> Cascade:
        """The verified cascade of the key ``problem``."""
        mark, node = self._needed(file, "problem", None, "")
        problem = self._spelt(self.mapping(node, "problem"))
        shape_mark, shape = self._needed(problem, "shape", mark, "problem.")
        entries = self._shape_of(shape)
        known = {"shape", "instance", "version", *_UNREAD, *_DENSE}
        if "instance" in problem:
            instance = self.mapping(problem["instance"][1], "problem.instance")
            self._known(problem, known, "problem")
        else:
            instance = {key: value for key, value in problem.items() if key not in known or key in _DENSE}
        return self._cascade(entries, instance, (mark, shape_mark))

    def _shape_of(self, node: yaml.Node) -> _Entries:
        if isinstance(node, yaml.MappingNode):
            return self._spelt(self.mapping(node, "problem.shape"))
        name = self.scalar(node, "problem.shape")
        text = SHAPES.get(name.replace("-", "_"))
        if text is None:
            raise self.error(
                node.start_mark,
                f"problem.shape must be a mapping or one of {', '.join(SHAPES)}, not {name!r}",
            )
        reader = _ProblemReader(name)
        return reader.mapping(reader.root(text), "shape")

    def _cascade(self, shape: _Entries, instance: _Entries, marks: tuple[Mark, Mark]) -> Cascade:
        mark, shape_mark = marks
        self._known(shape, {"name", "dimensions", "coefficients", "data_spaces"}, "problem.shape")
        dimensions = self._dimensions(shape, shape_mark)
        factors = self._coefficients(shape)
        sizes = self._sizes_of(instance, dimensions, factors)
        for dimension in dimensions:
            if dimension not in sizes:
                raise self.error(mark, f"problem.instance.{dimension} must be given, not left out")
        given = {name: sizes.get(name, default) for name, default in factors.items()}
        spaces = self._spaces(shape, (dimensions, given), shape_mark)
        einsum = self._einsum_of(spaces, shape_mark)
        name = self.scalar(shape["name"][1], "problem.shape.name") if "name" in shape else "problem"
        title = re.sub(r"[\s#]+", "-", name) or "problem"
        ranks = {rank: sizes[rank] for rank in dimensions}
        cascade = self.at(shape_mark, "problem.shape", lambda: Cascade(title, ranks, (einsum,)))
        try:
            verify(cascade)
        except VerificationError as error:
            raise self.error(shape_mark, f"problem.shape: {error}") from None
        return cascade

    def _dimensions(self, shape: _Entries, mark: Mark) -> list[str]:
        _, node = self._needed(shape, "dimensions", mark, "problem.shape.")
        where = "problem.shape.dimensions"
        names = [self.scalar(item, where) for item in self.sequence(node, where)]
        if len(set(names)) != len(names) or not names:
            raise self.error(
                node.start_mark, f"{where} must be different names, not {', '.join(names) or 'none'}"
            )
        return names

    def _coefficients(self, shape: _Entries) -> dict[str, int]:
        if "coefficients" not in shape:
            return {}
        factors: dict[str, int] = {}
        for number, node in enumerate(self.sequence(shape["coefficients"][1], "problem.shape.coefficients")):
            where = f"problem.shape.coefficients[{number}]"
            entries = self.mapping(node, where)
            self._known(entries, {"name", "default"}, where)
            _, name = self._needed(entries, "name", node.start_mark, f"{where}.")
            default = self._integer(entries["default"][1], f"{where}.default") if "default" in entries else 1
            factors[self.scalar(name, f"{where}.name")] = default
        return factors

    def _sizes_of(
        self, instance: _Entries, dimensions: list[str], factors: Mapping[str, int]
    ) -> dict[str, int]:
        """Sizes of dimensions, and coefficients that the instance gives."""
        sizes: dict[str, int] = {}
        for key, (mark, node) in instance.items():
            where = f"problem.instance.{key}"
            if key in dimensions or key in factors:
                sizes[key] = self._integer(node, where)
            elif key in _DENSE:
                self._dense(node, where)
            elif key not in _UNREAD:
                known = ", ".join([*dimensions, *factors])
                raise self.error(mark, f"{where} must be one of {known}")
        return sizes

    def _dense(self, node: yaml.Node, where: str) -> None:
        if isinstance(node, yaml.MappingNode) and node.value:
            raise self.error(node.start_mark, f"{where} must be empty (tensors are dense), not given")

    def _spaces(
        self, shape: _Entries, names: tuple[list[str], Mapping[str, int]], mark: Mark
    ) -> list[_Space]:
        _, node = self._needed(shape, "data_spaces", mark, "problem.shape.")
        where = "problem.shape.data_spaces"
        return [
            self._space(item, f"{where}[{number}]", names)
            for number, item in enumerate(self.sequence(node, where))
        ]

    def _space(self, node: yaml.Node, where: str, names: tuple[list[str], Mapping[str, int]]) -> _Space:
        entries = self._spelt(self.mapping(node, where))
        self._known(entries, {"name", "projection", "read_write"}, where)
        mark, name = self._needed(entries, "name", node.start_mark, f"{where}.")
        _, projection = self._needed(entries, "projection", node.start_mark, f"{where}.")
        indices = tuple(
            self._index(item, f"{where}.projection[{number}]", names)
            for number, item in enumerate(self.sequence(projection, f"{where}.projection"))
        )
        title = self.scalar(name, f"{where}.name")
        access = self.at(mark, where, lambda: Access(title, indices))
        written = entries.get("read_write")
        truth = "false" if written is None else self.scalar(written[1], f"{where}.read_write").lower()
        if truth not in ("true", "false", "1", "0"):
            raise self.error(node.start_mark, f"{where}.read_write must be true or false, not {truth!r}")
        return _Space(access, truth in ("true", "1"), mark)

    def _index(self, node: yaml.Node, where: str, names: tuple[list[str], Mapping[str, int]]) -> Index:
        """A sum of products: a list of ``[D]`` or ``[D, coefficient]``."""
        dimensions, factors = names
        terms = []
        for number, item in enumerate(self.sequence(node, where)):
            parts = [
                self.scalar(part, f"{where}[{number}]") for part in self.sequence(item, f"{where}[{number}]")
            ]
            if not 1 <= len(parts) <= 2 or parts[0] not in dimensions or not set(parts[1:]) <= set(factors):
                raise self.error(
                    item.start_mark,
                    f"{where}[{number}] must be [D] or [D, coefficient] of the names above,"
                    f" not [{', '.join(parts)}]",
                )
            terms.append((parts[0], factors[parts[1]] if len(parts) > 1 else 1))
        return self.at(node.start_mark, where, lambda: Index(tuple(terms)))

    def _einsum_of(self, spaces: list[_Space], mark: Mark) -> Einsum:
        written = [space for space in spaces if space.written]
        operands = [space.access for space in spaces if not space.written]
        if len(written) != 1 or not 1 <= len(operands) <= 8:
            raise self.error(
                mark,
                "problem.shape.data_spaces must have one with read_write: true and 1 to 8 without,"
                f" not {len(written)} and {len(operands)}",
            )
        output = written[0].access
        inputs = tuple(
            sorted(operands, key=lambda access: bool(re.search("weight|filter", access.tensor, re.I)))
        )
        reduced = {rank for access in inputs for rank in access.ranks} - set(output.ranks)
        return self.at(
            written[0].mark,
            "problem.shape.data_spaces",
            lambda: Einsum(
                output, inputs, "mul" if len(inputs) > 1 else "identity", "add" if reduced else None
            ),
        )

    def _needed(self, entries: _Entries, key: str, mark: Mark | None, prefix: str) -> tuple[Mark, yaml.Node]:
        if key not in entries:
            raise self.error(mark, f"{prefix}{key} must be given, not left out")
        return entries[key]

    def _known(self, entries: _Entries, known: set[str], where: str) -> None:
        for key, (mark, _) in entries.items():
            if key not in known:
                raise self.error(mark, f"{where}.{key} must be one of {', '.join(sorted(known))}")

    def _spelt(self, entries: _Entries) -> _Entries:
        """The entries with the names of version 0.4."""
        return {key.replace("-", "_"): value for key, value in entries.items()}

    def _integer(self, node: yaml.Node, where: str) -> int:
        text = self.scalar(node, where)
        if not _INTEGER.match(text):
            raise self.error(node.start_mark, f"{where} must be an integer of at least 1, not {text[:40]!r}")
        return int(text)
