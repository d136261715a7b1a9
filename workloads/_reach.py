"""What an Einsum depends on through the whole cascade: its ancestors, and the fibers it descends from."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from workloads._analyze import Loop, Step, _distance, schedule, writers
from workloads._einsum import Access, Cascade
from workloads._span import Span, at, every, point

MAX_WAYS = 64
"""Ways in which one Einsum may reach another that are told apart; further ones are left out."""

Loops = tuple[tuple[int, str], ...]
"""Loops around an Einsum: (number, rank), outermost first."""

Ranks = Mapping[str, Span]
"""The ranks of an ancestor, seen from the point that depends on it."""


@dataclass(frozen=True, slots=True)
class Fiber:
    """Elements of ``tensor`` along dimension ``axis``, as a point reaches them."""

    tensor: str
    spans: tuple[Span, ...]
    """Index values along each dimension."""
    axis: int


@dataclass(frozen=True, slots=True)
class Edge:
    """One Einsum that writes what another reads."""

    writer: int
    ranks: Ranks
    """The writer's ranks, seen from the point at which the search began."""
    loop: str | None
    """The rank of the innermost recurrence that this dependence steps along, or None."""


@dataclass(slots=True)
class _Known:
    """What was found of one cascade before: a search from each of its Einsums meets the same readers again.

    A reader with its ranks has a number, so that the same one is told by comparing two integers.
    """

    numbers: dict[tuple[int, tuple[tuple[str, Span], ...]], int] = field(default_factory=dict)
    readers: list[tuple[int, Ranks]] = field(default_factory=list)
    edges: dict[int, tuple[tuple[Access, tuple[Edge, ...]], ...]] = field(default_factory=dict)
    """Reader -> for each of its accesses the edges to what wrote that."""
    leads: dict[int, tuple[tuple[int, str | None], ...]] = field(default_factory=dict)
    """Reader -> the writers of what it reads, and the loops that the dependences step along."""
    within: dict[tuple[int, int], bool] = field(default_factory=dict)

    def number(self, position: int, ranks: Ranks) -> int:
        """The number of the Einsum at ``position`` with these ranks."""
        number = self.numbers.setdefault((position, tuple(ranks.items())), len(self.readers))
        if number == len(self.readers):
            self.readers.append((position, ranks))
        return number

    def is_within(self, inner: int, outer: int) -> bool:
        """Whether the points of ``outer`` hold those of ``inner``, both of one Einsum."""
        pair = inner, outer
        if pair not in self.within:
            self.within[pair] = _within(self.readers[inner][1], self.readers[outer][1])
        return self.within[pair]


@dataclass(frozen=True, slots=True)
class Reach:
    """Dependences of one cascade, with the loops of its recurrences known; :func:`reach` makes it."""

    cascade: Cascade
    written: Mapping[str, tuple[int, ...]]
    """Tensor -> the Einsums that write it."""
    loops: Mapping[int, Loops]
    """Einsum -> the loops that it is in, outermost first."""
    strides: Mapping[int, int]
    """Loop's number -> greatest common divisor of the steps that its dependences make."""
    _known: _Known = field(default_factory=_Known, init=False, repr=False, compare=False)

    def start(self, position: int, rank: str) -> dict[str, Span]:
        """The ranks of one visit: a coordinate of ``rank`` and of the output's ranks, all of the others."""
        einsum, sizes = self.cascade.einsums[position], self.cascade.ranks
        rest = {name: every(sizes[name]) for name in einsum.reduced_ranks if name != rank}
        return point(einsum.ranks) | rest

    def ancestors(self, position: int, rank: str) -> dict[int, list[Ranks]]:
        """Every Einsum of which a visit along ``rank`` needs points, with the points that it needs.

        Only those within the same iteration of any recurrence along another rank.
        """
        known, found = self._known, dict[int, list[int]]()
        pending = deque([known.number(position, self.start(position, rank))])
        while pending:
            for number, loop in self._leads(pending.popleft()):
                ways = found.setdefault(known.readers[number][0], [])
                if loop not in (None, rank) or len(ways) >= MAX_WAYS:
                    continue
                if not any(known.is_within(number, way) for way in ways):
                    ways.append(number)
                    pending.append(number)
        return {writer: [known.readers[way][1] for way in ways] for writer, ways in found.items()}

    def _leads(self, number: int) -> tuple[tuple[int, str | None], ...]:
        """The numbers of the writers of all that a reader reads, and the loops of the dependences."""
        known = self._known
        if number not in known.leads:
            edges = (edge for _, found in self._edges(number) for edge in found)
            known.leads[number] = tuple((known.number(e.writer, e.ranks), e.loop) for e in edges)
        return known.leads[number]

    def _edges(self, number: int) -> tuple[tuple[Access, tuple[Edge, ...]], ...]:
        """The edges of each access of a reader."""
        known = self._known
        if number not in known.edges:
            reader, ranks = known.readers[number]
            inputs = self.cascade.einsums[reader].inputs
            known.edges[number] = tuple((a, tuple(self.edges(reader, a, ranks))) for a in inputs)
        return known.edges[number]

    def lineage(self, start: int, rank: str) -> tuple[Fiber, ...]:
        """The fibers whose elements a point of ``start`` carries along ``rank``, nearest first.

        From an access that ``rank`` indexes the way goes on to what wrote that element, along the rank
        that stands in the same place there; a reduction ends it. It stays within one iteration of any
        recurrence along another rank, since another iteration has fibers of its own.
        """
        found: list[Fiber] = []
        own = point(self.cascade.einsums[start].ranks)
        pending = deque([(self._known.number(start, own), rank)])
        while pending and len(found) < MAX_WAYS:
            number, along = pending.popleft()
            ranks = self._known.readers[number][1]
            for access, edges in self._edges(number):
                for axis in _axes(access, along):
                    fiber = Fiber(access.tensor, tuple(at(index, ranks) for index in access.indices), axis)
                    if len(found) >= MAX_WAYS or any(_same(fiber, item) for item in found):
                        continue
                    found.append(fiber)
                    for edge, name in self._carriers(edges, axis=axis, along=along):
                        pending.append((self._known.number(edge.writer, edge.ranks), name))
        return tuple(found)

    def written_fibers(self, position: int, rank: str) -> tuple[Fiber, ...]:
        """The fiber along ``rank`` to which a point of the Einsum adds an element; none where it reduces."""
        einsum = self.cascade.einsums[position]
        spans = tuple(at(index, point(einsum.ranks)) for index in einsum.output.indices)
        return tuple(Fiber(einsum.output.tensor, spans, axis) for axis in _axes(einsum.output, rank))

    def carriers(self, start: int, rank: str) -> set[tuple[int, str]]:
        """(Einsum, its rank) that hand ``start`` an element along ``rank`` within the same iteration."""
        number = self._known.number(start, point(self.cascade.einsums[start].ranks))
        return {
            (edge.writer, name)
            for access, edges in self._edges(number)
            for axis in _axes(access, rank)
            for edge, name in self._carriers(edges, axis=axis, along=rank)
        }

    def _carriers(self, edges: Iterable[Edge], *, axis: int, along: str) -> Iterator[tuple[Edge, str]]:
        for edge in edges:
            for name in self.cascade.einsums[edge.writer].output.indices[axis].ranks:
                if edge.loop in (None, along):
                    yield edge, name

    def edges(self, reader: int, access: Access, ranks: Ranks) -> Iterator[Edge]:
        """The Einsums that write what ``reader`` reads by ``access`` where its ranks are ``ranks``."""
        spans = [at(index, ranks) for index in access.indices]
        for writer in self.written.get(access.tensor, ()):
            loop = self._step(writer, reader, access)
            reached = self._reached(writer, spans)
            if reached is None:
                continue
            if loop is not None:
                number, rank = loop
                single = self.strides[number] == 1
                reached[rank] = replace(reached[rank], low=-math.inf, dense=reached[rank].dense and single)
            yield Edge(writer, reached, None if loop is None else loop[1])

    def _reached(self, writer: int, spans: list[Span]) -> dict[str, Span] | None:
        """The writer's ranks where it writes ``spans`` of its tensor; None where it writes none of them."""
        einsum, sizes = self.cascade.einsums[writer], self.cascade.ranks
        ranks = {rank: every(sizes[rank]) for rank in einsum.reduced_ranks}
        for index, span in zip(einsum.output.indices, spans, strict=True):
            low, high = span.range(sizes)
            first, last = index.range(sizes)
            if high < first or last < low:
                return None
            for rank in index.ranks:
                ranks[rank] = _clipped(span.shifted(-index.offset), sizes[rank])
        return ranks

    def _step(self, writer: int, reader: int, access: Access) -> tuple[int, str] | None:
        """The innermost loop of both of which the dependence crosses an iteration, and its rank."""
        shared = [loop for loop in self.loops[reader] if loop in self.loops[writer]]
        output = self.cascade.einsums[writer].output
        return next((loop for loop in reversed(shared) if _distance(output, access, loop[1])), None)


def reach(cascade: Cascade) -> Reach:
    """The dependences of ``cascade``, which ``verify`` accepts."""
    loops = dict(_loops(schedule(cascade), (), itertools.count()))
    written = writers(cascade)
    strides: dict[int, int] = {}
    for reader, einsum in enumerate(cascade.einsums):
        for access in einsum.inputs:
            for writer in written.get(access.tensor, ()):
                for number, rank in set(loops[reader]) & set(loops[writer]):
                    distance = _distance(cascade.einsums[writer].output, access, rank)
                    strides[number] = math.gcd(strides.get(number, 0), distance or 0)
    return Reach(cascade, written, loops, strides)


def _loops(steps: Iterable[Step], outer: Loops, numbers: Iterator[int]) -> Iterator[tuple[int, Loops]]:
    for step in steps:
        if isinstance(step, Loop):
            yield from _loops(step.body, (*outer, (next(numbers), step.rank)), numbers)
        else:
            yield step, outer


def _axes(access: Access, rank: str) -> Iterator[int]:
    """The dimensions that ``rank`` indexes."""
    return (axis for axis, index in enumerate(access.indices) if rank in index.ranks)


def _clipped(span: Span, size: int) -> Span:
    if span.terms or (span.low >= 0 and span.high < size):
        return span
    return replace(span, low=max(span.low, 0), high=min(span.high, size - 1))


def _within(inner: Ranks, outer: Ranks) -> bool:
    return all(span.within(outer[rank]) for rank, span in inner.items())


def _same(one: Fiber, other: Fiber) -> bool:
    """Whether two ways lead to the same elements, wherever along the fiber."""
    if (one.tensor, one.axis) != (other.tensor, other.axis):
        return False
    pairs = enumerate(zip(one.spans, other.spans, strict=True))
    return all(a.terms == b.terms if axis == one.axis else a.within(b) for axis, (a, b) in pairs)
