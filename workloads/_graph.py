"""A cascade under construction, from operators on shaped tensors that are views of its tensors."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from workloads._analyze import tensor_shapes
from workloads._einsum import RESERVED, Access, Cascade, Einsum, Index
from workloads._errors import WorkloadError
from workloads._model import HostWork, Part
from workloads._view import Digit, Ranks, View, read, refine, reshape, take, whole

MAX_EINSUMS = 20_000
MAX_DIMENSION = 1 << 32
MAX_PIECES = 256
"""Most Einsums that one change of layout is made of; beyond them it is host work."""


@dataclass(frozen=True, slots=True)
class Window:
    """A dimension read at an affine sum of labels: a convolution's pixels."""

    terms: tuple[tuple[str, int], ...]
    """(label, coefficient)."""
    offset: int = 0


Dim = str | Window | None
"""What indexes a dimension of an operand: a label, a window, or nothing (index zero)."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A view, and what indexes each of its dimensions."""

    view: View
    dims: tuple[Dim, ...]


@dataclass(slots=True)
class Graph:
    """Collects the Einsums, ranks and roles of tensors of one part.

    A rank is named for its role and its size (``c64``), so that a name has one size throughout.
    """

    einsums: list[Einsum] = field(default_factory=list)
    ranks: dict[str, int] = field(default_factory=dict)
    bases: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Shape of every tensor of the cascade."""
    padded: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Those that are read outside their shape."""
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Ranks of the dimensions of tensors that one Einsum writes."""
    inputs: set[str] = field(default_factory=set)
    constants: dict[str, float] = field(default_factory=dict)
    nonnegative: set[str] = field(default_factory=set)
    """Tensors without negative elements, of which a padded maximum may read zeros."""
    host: list[HostWork] = field(default_factory=list)

    def part(self, name: str) -> Part:
        """What was collected."""
        used = {access.tensor for einsum in self.einsums for access in (einsum.output, *einsum.inputs)}
        einsums = tuple(self.einsums)
        read = tensor_shapes(Cascade(name, self.ranks, einsums))
        partly = {t: self.bases[t] for t, shape in read.items() if t in self.padded or shape != self.bases[t]}
        built = Cascade(name, self.ranks, einsums, partly)
        constants = {tensor: value for tensor, value in self.constants.items() if tensor in used}
        return Part(built, 1, frozenset(self.inputs & used), constants)

    def declare(self, name: str, shape: Sequence[int]) -> View:
        """A new tensor of ``shape``, called ``name`` as far as an Einsum may."""
        stem = re.sub(r"[^A-Za-z0-9_]", "_", name)[:80]
        if not stem or stem[0].isdigit() or stem in RESERVED:
            stem = f"t_{stem}"
        numbered = (f"{stem}.{i}" for i in itertools.count(1))
        unique = next(name for name in itertools.chain([stem], numbered) if name not in self.bases)
        for size in shape:
            if not 1 <= size <= MAX_DIMENSION:
                raise WorkloadError(f"a dimension of {name} must be 1 to {MAX_DIMENSION}, not {size}")
        self.bases[unique] = tuple(shape)
        return whole(unique, shape)

    def given(self, name: str, shape: Sequence[int]) -> View:
        """A new input."""
        view = self.declare(name, shape)
        self.inputs.add(view.tensor)
        return view

    def constant(self, name: str, value: float, shape: Sequence[int] = ()) -> View:
        """A new tensor of which each element is ``value``."""
        view = self.declare(name, shape)
        self.constants[view.tensor] = value
        if value >= 0:
            self.nonnegative.add(view.tensor)
        return view

    def on_host(self, name: str, what: str, shape: Sequence[int]) -> View:
        """A tensor that the host makes, priced by its elements."""
        self.host.append(HostWork(what, math.prod(shape)))
        return self.given(name, shape)

    def reshaped(self, view: View, shape: Sequence[int]) -> View:
        """``view`` under ``shape``, through a copy where its digits do not allow it."""
        result = reshape(view, shape)
        if result is None and any(len(dim) > 1 for dim in view.dims):
            result = reshape(self.copied(view), shape)
        if result is None:
            flat = reshape(view, (view.size,))
            assert flat is not None
            result = reshape(self.copied(flat), shape)
        assert result is not None
        return result

    def taken(self, view: View, axis: int, *, start: int, count: int, step: int = 1) -> View:
        """A slice of ``view``, through a copy where its digits do not allow it."""
        result = take(view, axis, start=start, count=count, step=step)
        if result is None:
            result = take(self.copied(view), axis, start=start, count=count, step=step)
        assert result is not None
        return result

    def copied(self, view: View) -> View:
        """A copy of ``view`` whose dimensions have one digit each."""
        target = self.declare(f"{view.tensor}_copy", view.shape)
        if view.tensor in self.nonnegative:
            self.nonnegative.add(target.tensor)
        if self._pieces(view, range(len(view.dims))) > MAX_PIECES:
            self.host.append(HostWork(f"layout of {view.tensor}", view.size))
            self.inputs.add(target.tensor)
            return target
        self.write(target, view, at=(0,) * len(view.dims))
        return target

    def write(self, target: View, source: View, *, at: Sequence[int]) -> None:
        """Copy ``source`` into ``target`` from index ``at`` on, in as many pieces as its digits need."""
        for start, piece in _runs(source):
            names = [((self._rank("i" * (k + 1), size), size),) for k, size in enumerate(piece.shape)]
            indices = tuple(
                Index(((rank, 1),), offset + first)
                for ((rank, _),), offset, first in zip(names, at, start, strict=True)
            )
            self._append(Einsum(Access(target.tensor, indices), (read(piece, names),), "identity"))
        if source.tensor not in self.nonnegative:
            self.nonnegative.discard(target.tensor)

    @staticmethod
    def _pieces(view: View, axes: Sequence[int]) -> int:
        return math.prod(digit.size for axis in axes for digit in view.dims[axis][:-1])

    def emit(
        self,
        name: str,
        labels: Sequence[str],
        operands: Sequence[Operand],
        *,
        map: str = "identity",  # noqa: A002 (the Einsum's own word)
        reduce: str | None = None,
        unary: str | None = None,
        sizes: Mapping[str, int] = MappingProxyType({}),
    ) -> View:
        """One Einsum whose result ``name`` has a dimension for each of ``labels``.

        Labels index every operand dimension that bears them; those that the result lacks are reduced.
        ``sizes`` are of labels that only windows bear. Operands are copied first where their digits do
        not fit together.
        """
        sizes = _sizes(operands) | dict(sizes)
        operands = [self._windowed(operand, sizes) for operand in operands]
        digits, operands = self._digits(operands, sizes, labels)
        chained = map != "mul" or reduce is None
        ranks = self._ranks(digits, labels, sizes, self._known(operands) if chained else {})
        shape = [size for label in labels for _, size in ranks[label]]
        result = self.declare(name, shape)
        names = [rank for label in labels for rank, _ in ranks[label]]
        self.written[result.tensor] = tuple(names)
        output = Access(result.tensor, tuple(Index(((rank, 1),)) for rank in names))
        inputs = tuple(self._access(operand, ranks) for operand in operands)
        kept = set(names)
        lost = any(rank not in kept for access in inputs for rank in access.ranks)
        self._append(Einsum(output, inputs, map, reduce if lost else None, unary))
        regrouped = reshape(result, [sizes[label] for label in labels])
        assert regrouped is not None
        return result if len(shape) == len(labels) else regrouped

    def _append(self, einsum: Einsum) -> None:
        if len(self.einsums) >= MAX_EINSUMS:
            raise WorkloadError(f"a model must have at most {MAX_EINSUMS} Einsums, not more")
        self.einsums.append(einsum)

    def _windowed(self, operand: Operand, sizes: Mapping[str, int]) -> Operand:
        """The operand with its windowed dimensions fit for an affine index, and declared if padded."""
        windows = [(i, dim) for i, dim in enumerate(operand.dims) if isinstance(dim, Window)]
        view = operand.view
        if any(len(view.dims[i]) > 1 for i, _ in windows):
            view = self.copied(view)
        if any(_outside(dim, view.shape[i], sizes) for i, dim in windows):
            if not all(_plain(view, i, self.bases[view.tensor]) for i, _ in windows):
                view = self.copied(view)
            self.padded[view.tensor] = self.bases[view.tensor]
        return Operand(view, operand.dims)

    def _digits(
        self, operands: Sequence[Operand], sizes: Mapping[str, int], labels: Sequence[str]
    ) -> tuple[dict[str, tuple[int, ...]], Sequence[Operand]]:
        """Digits of each label; one digit for those in windows, for which operands may need a copy."""
        in_windows = {t for o in operands for d in o.dims if isinstance(d, Window) for t, _ in d.terms}
        found: dict[str, tuple[int, ...]] = {}
        for label, size in sizes.items():
            users = [o.view.dims[i] for o in operands for i, dim in enumerate(o.dims) if dim == label]
            digits = refine(users, size)
            if digits is None or (label in in_windows and len(digits) > 1):
                copies = [
                    Operand(self.copied(o.view) if label in o.dims else o.view, o.dims) for o in operands
                ]
                return self._digits(copies, sizes, labels)
            found[label] = digits
        return found, operands

    def _ranks(
        self,
        digits: Mapping[str, tuple[int, ...]],
        labels: Sequence[str],
        sizes: Mapping[str, int],
        known: Mapping[str, tuple[str, ...]],
    ) -> dict[str, Ranks]:
        """Names for the digits: those that operands already bear, else of label and size.

        A reduced label of size one has none, unless nothing else is reduced.
        """
        reduced = [label for label in sizes if label not in labels]
        idle = {label for label in reduced if sizes[label] == 1}
        if idle and len(idle) == len(reduced):
            idle.remove(reduced[0])
        ranks: dict[str, Ranks] = {}
        used: set[str] = set()
        for label, factors in digits.items():
            names = known.get(label, ())
            if len(names) != len(factors) or used & set(names):
                names = tuple(self._fresh(label, size, used) for size in factors)
            used.update(names)
            ranks[label] = () if label in idle else tuple(zip(names, factors, strict=True))
            self.ranks.update(ranks[label])
        return ranks

    @staticmethod
    def _fresh(label: str, size: int, used: set[str]) -> str:
        names = itertools.chain([f"{label}{size}"], (f"{label}{size}_{i}" for i in itertools.count(1)))
        name = next(name for name in names if name not in used)
        used.add(name)
        return name

    def _known(self, operands: Sequence[Operand]) -> dict[str, tuple[str, ...]]:
        """Ranks by which a label's digits were written where they lie, so that a chain keeps its names."""
        found: dict[str, tuple[str, ...]] = {}
        for operand in operands:
            written = self.written.get(operand.view.tensor)
            for dim, digits in zip(operand.dims, operand.view.dims, strict=True):
                if written is not None and isinstance(dim, str) and dim not in found:
                    names = [_rank_of(digit, written, self.bases[operand.view.tensor]) for digit in digits]
                    if names and all(names):
                        found[dim] = tuple(filter(None, names))
        return found

    def _rank(self, label: str, size: int) -> str:
        self.ranks[f"{label}{size}"] = size
        return f"{label}{size}"

    def _access(self, operand: Operand, ranks: Mapping[str, Ranks]) -> Access:
        """The operand's access: windows are read as one virtual rank each, then replaced by their sum."""
        names: list[Ranks] = []
        sums: dict[str, Window] = {}
        for position, dim in enumerate(operand.dims):
            if isinstance(dim, Window):
                virtual = f"window.{position}"
                sums[virtual] = dim
                names.append(((virtual, operand.view.shape[position]),))
            else:
                names.append(ranks[dim] if dim is not None else ())
        plain = read(operand.view, names)
        return Access(plain.tensor, tuple(_substituted(index, sums, ranks) for index in plain.indices))


def _rank_of(digit: Digit, written: Sequence[str], base: Sequence[int]) -> str | None:
    """The rank that wrote the one dimension that ``digit`` runs over in whole."""
    if sorted(digit.strides) != [0] * (len(base) - 1) + [1]:
        return None
    under = digit.strides.index(1)
    return written[under] if base[under] == digit.size else None


def _sizes(operands: Sequence[Operand]) -> dict[str, int]:
    """Size of each label, of the plain dimensions that bear it."""
    sizes: dict[str, int] = {}
    for operand in operands:
        for dim, size in zip(operand.dims, operand.view.shape, strict=True):
            if isinstance(dim, str):
                assert sizes.setdefault(dim, size) == size
    return sizes


def _outside(window: Window, size: int, sizes: Mapping[str, int]) -> bool:
    reach = [coefficient * (sizes[label] - 1) for label, coefficient in window.terms]
    return window.offset < 0 or window.offset + sum(reach) >= size


def _plain(view: View, axis: int, base: tuple[int, ...]) -> bool:
    """Whether ``axis`` runs over all of one dimension underneath, and alone."""
    if len(view.dims[axis]) != 1:
        return False
    digit = view.dims[axis][0]
    if sorted(digit.strides) != [0] * (len(base) - 1) + [1]:
        return False
    under = digit.strides.index(1)
    alone = sum(bool(d.strides[under]) for dim in view.dims for d in dim) == 1
    return alone and view.offsets[under] == 0 and base[under] == digit.size


def _substituted(index: Index, sums: Mapping[str, Window], ranks: Mapping[str, Ranks]) -> Index:
    terms: dict[str, int] = {}
    offset = index.offset
    for rank, coefficient in index.terms:
        if rank not in sums:
            terms[rank] = terms.get(rank, 0) + coefficient
            continue
        offset += coefficient * sums[rank].offset
        for label, factor in sums[rank].terms:
            for name, _ in ranks[label]:
                terms[name] = terms.get(name, 0) + coefficient * factor
    return Index(tuple((rank, coefficient) for rank, coefficient in terms.items() if coefficient), offset)


def _runs(view: View) -> Iterator[tuple[tuple[int, ...], View]]:
    """(first index, piece) of the pieces of ``view`` that have at most one digit in each dimension."""
    lows = [dim[-1].size if dim else 1 for dim in view.dims]
    starts = [range(0, size, low) for size, low in zip(view.shape, lows, strict=True)]
    for start in itertools.product(*starts):
        piece: View | None = view
        for axis, (first, low) in enumerate(zip(start, lows, strict=True)):
            piece = take(piece, axis, start=first, count=low) if piece is not None else None
        assert piece is not None
        yield start, piece


def broadcast(views: Sequence[View], letters: str) -> tuple[list[str], list[Operand]]:
    """Labels of the broadcast shape, and operands whose dimensions of size one index nothing."""
    shape = broadcast_shape([view.shape for view in views])
    labels = [letters[i] for i in range(len(shape))]
    operands = []
    for view in views:
        own = labels[len(labels) - len(view.shape) :]
        sizes = shape[len(labels) - len(view.shape) :]
        dims = [
            label if have == want else None for label, have, want in zip(own, view.shape, sizes, strict=True)
        ]
        operands.append(Operand(view, tuple(dims)))
    return labels, operands


def broadcast_shape(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The shape that all of ``shapes`` stretch to."""
    rank = max(len(shape) for shape in shapes)
    result = []
    for column in zip(*([1] * (rank - len(shape)) + list(shape) for shape in shapes), strict=True):
        wide = {size for size in column if size != 1} or {1}
        if len(wide) > 1:
            raise WorkloadError(f"shapes must broadcast, not {' and '.join(str(tuple(s)) for s in shapes)}")
        result.append(wide.pop())
    return tuple(result)
