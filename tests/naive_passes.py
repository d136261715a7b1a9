"""Passes by definition: every scalar operation of a small cascade, what it needs, and nothing symbolic.

A visit is what an Einsum does at one coordinate of a rank, for one element of its output. It is in a later
pass than visits of the same fiber at all other coordinates, if it needs them all, for each coordinate alike.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import networkx as nx

from workloads._analyze import tensor_shapes
from workloads._einsum import Access, Cascade

Element = tuple[str, tuple[int, ...]]
Place = tuple[int, str]
Fiber = tuple[str, int, tuple[int, ...]]
"""Tensor, dimension, the index along all other dimensions."""


@dataclass(frozen=True)
class Point:
    """One scalar operation; ``at`` gives its ranks."""

    number: int
    einsum: int
    at: tuple[tuple[str, int], ...]


class NaivePasses:
    """Passes and trips of a cascade, by enumeration."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.shapes = tensor_shapes(cascade)
        self.points = [Point(n, e, at) for n, (e, at) in enumerate(self._points())]
        self.writers: dict[Element, list[Point]] = {}
        for p in self.points:
            self.writers.setdefault(self.element(cascade.einsums[p.einsum].output, p), []).append(p)
        self.parts = self._recurrences()
        self.needs = functools.cache(self.needs)  # type: ignore[method-assign]
        self.lineage = functools.cache(self.lineage)  # type: ignore[method-assign]
        self.places = [(e, rank) for e, einsum in enumerate(cascade.einsums) for rank in einsum.ranks]

    def _points(self) -> Iterator[tuple[int, tuple[tuple[str, int], ...]]]:
        for e, einsum in enumerate(self.cascade.einsums):
            for values in itertools.product(*(range(self.cascade.ranks[rank]) for rank in einsum.ranks)):
                yield e, tuple(zip(einsum.ranks, values, strict=True))

    def _recurrences(self) -> dict[int, tuple[int, frozenset[str]]]:
        """Einsum -> the number of its recurrence, and the ranks that all of that one's outputs have."""
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from(range(len(self.cascade.einsums)))
        for p in self.points:
            for _, element in self.reads(p):
                graph.add_edges_from((q.einsum, p.einsum) for q in self.writers.get(element, ()))
        parts = {}
        for number, members in enumerate(nx.strongly_connected_components(graph)):
            outputs = [set(self.cascade.einsums[e].output.ranks) for e in members]
            parts.update(dict.fromkeys(members, (number, frozenset(set.intersection(*outputs)))))
        return parts

    def element(self, access: Access, p: Point) -> Element:
        at = dict(p.at)
        return access.tensor, tuple(i.offset + sum(c * at[r] for r, c in i.terms) for i in access.indices)

    def reads(self, p: Point) -> Iterator[tuple[Access, Element]]:
        for access in self.cascade.einsums[p.einsum].inputs:
            tensor, place = self.element(access, p)
            if all(0 <= i < size for i, size in zip(place, self.shapes[tensor], strict=True)):
                yield access, (tensor, place)

    def sources(self, p: Point, element: Element, rank: str) -> Iterator[Point]:
        """Writers of ``element``, but for those in another iteration of a recurrence along another rank."""
        number, ranks = self.parts[p.einsum]
        for q in self.writers.get(element, ()):
            here, there = dict(p.at), dict(q.at)
            steps = (
                any(here[t] != there[t] for t in ranks - {rank}) if self.parts[q.einsum][0] == number else 0
            )
            if not steps:
                yield q

    def needs(self, p: Point, rank: str) -> int:
        """Points that ``p`` needs, as a set of bits."""
        found = 0
        for _, element in self.reads(p):
            for q in self.sources(p, element, rank):
                found |= 1 << q.number | self.needs(q, rank)
        return found

    def lineage(self, p: Point, rank: str, steps: bool = True) -> frozenset[tuple[Fiber, int]]:
        """Fibers that ``p`` carries along ``rank``, with coordinates; without ``steps``, in one iteration."""
        found: set[tuple[Fiber, int]] = set()
        for access, (tensor, place) in self.reads(p):
            for axis, index in enumerate(access.indices):
                if rank in index.ranks:
                    found.add(((tensor, axis, place[:axis] + place[axis + 1 :]), place[axis]))
                    for q in self.sources(p, (tensor, place), rank if steps else ""):
                        for name in self.cascade.einsums[q.einsum].output.indices[axis].ranks:
                            found |= self.lineage(q, name, steps)
        return frozenset(found)

    def written(self, p: Point, rank: str) -> frozenset[tuple[Fiber, int]]:
        """The fiber along ``rank`` to which ``p`` adds an element, with the coordinate."""
        output = self.cascade.einsums[p.einsum].output
        tensor, place = self.element(output, p)
        axes = [axis for axis, index in enumerate(output.indices) if rank in index.ranks]
        return frozenset(((tensor, a, place[:a] + place[a + 1 :]), place[a]) for a in axes)

    def lanes(self, place: Place) -> list[list[list[Point]]]:
        """For each element of the output apart from the rank, for each coordinate, the points."""
        e, rank = place
        kept = [name for name in self.cascade.einsums[e].output.ranks if name != rank]
        lanes: dict[tuple[int, ...], list[list[Point]]] = {}
        for p in self.points:
            if p.einsum == e:
                at = dict(p.at)
                rows = lanes.setdefault(
                    tuple(at[name] for name in kept), [[] for _ in range(self.cascade.ranks[rank])]
                )
                rows[at[rank]].append(p)
        return list(lanes.values())

    def passes(self) -> dict[Place, int]:
        """The least pass of each Einsum over each of its ranks."""
        visitors: dict[Fiber, list[tuple[int, int, Place]]] = {}
        for p in self.points:
            for rank in self.cascade.einsums[p.einsum].ranks:
                for fiber, coordinate in self.lineage(p, rank, False) | self.written(p, rank):
                    visitors.setdefault(fiber, []).append((coordinate, p.number, (p.einsum, rank)))
        level = dict.fromkeys(self.places, 1)
        while True:
            new = {place: self._pass(place, level, visitors) for place in self.places}
            if new == level:
                return level
            level = new

    def _pass(
        self, place: Place, level: dict[Place, int], visitors: dict[Fiber, list[tuple[int, int, Place]]]
    ) -> int:
        rank = place[1]
        if self.cascade.ranks[rank] == 1:
            return 1
        best = max([level[place], *(level[c] for c in self._carriers(place))])
        for lanes in self.lanes(place):
            needs = [functools.reduce(int.__or__, (self.needs(p, rank) for p in lane)) for lane in lanes]
            seen: dict[Fiber, list[set[int]]] = {}
            for i, lane in enumerate(lanes):
                for fiber, coordinate in {item for p in lane for item in self.lineage(p, rank)}:
                    seen.setdefault(fiber, [set() for _ in lanes])[i].add(coordinate)
            for fiber, coordinates in seen.items():
                inner = self.inner(rank)
                if len(set[int]().union(*(coordinates[i] for i in inner))) < 2:
                    continue
                while all(
                    set[int]().union(*(coordinates[j] for j in inner if j != i))
                    <= {
                        coordinate
                        for coordinate, n, by in visitors[fiber]
                        if needs[i] >> n & 1 and level[by] >= best and not self._inside(n, by[1], rank, i)
                    }
                    for i in inner
                ):
                    best += 1
        return best

    def inner(self, rank: str) -> range:
        """The coordinates that count: those at the ends of a longer rank do not."""
        size = self.cascade.ranks[rank]
        return range(size // 4, size - size // 4)

    def _inside(self, number: int, along: str, rank: str, lane: int) -> bool:
        """Whether a visit along another rank belongs to this coordinate of ``rank``."""
        return along != rank and dict(self.points[number].at).get(rank) == lane

    def _carriers(self, place: Place) -> set[Place]:
        e, rank = place
        found = set()
        for p in self.points:
            if p.einsum == e:
                for access, element in self.reads(p):
                    for axis, index in enumerate(access.indices):
                        if rank in index.ranks:
                            for q in self.sources(p, element, rank):
                                names = self.cascade.einsums[q.einsum].output.indices[axis].ranks
                                found |= {(q.einsum, name) for name in names}
        return found

    def trips(self, rank: str) -> dict[int, int]:
        """For each Einsum with ``rank``, the earliest of a series of loops over it in which it can run."""
        level = {place: number for place, number in self.passes().items() if place[1] == rank}
        if self.cascade.ranks[rank] == 1:
            return {e: 1 for e, _ in level}
        while True:
            new = {place: self._trip(place, level) for place in level}
            if new == level:
                return {e: number for (e, _), number in level.items()}
            level = new

    def _trip(self, place: Place, level: dict[Place, int]) -> int:
        rank, best = place[1], level[place]
        for lanes in self.lanes(place):
            before: list[dict[int, set[int]]] = []
            for lane in lanes:
                needs = functools.reduce(int.__or__, (self.needs(p, rank) for p in lane))
                before.append({})
                for q in self.points:
                    if needs >> q.number & 1 and rank in dict(q.at) and any(_alike(p, q, rank) for p in lane):
                        before[-1].setdefault(q.einsum, set()).add(dict(q.at)[rank])
            best = max([best, *(level[e, rank] for found in before for e in found)])
            inner = self.inner(rank)
            while all(
                set(inner) - {i}
                <= {j for e, found in before[i].items() if level[e, rank] >= best for j in found}
                for i in inner
            ):
                best += 1
        return best


def _alike(p: Point, q: Point, rank: str) -> bool:
    """Whether two points agree on all ranks that both have but ``rank``."""
    here = dict(p.at)
    return all(here.get(name, value) == value for name, value in q.at if name != rank)
