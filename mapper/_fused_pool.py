"""Values of bodies, from a bound to the exact front, refined only where the search asks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from mapper._exact_arrays import Floats, Ints
from mapper._exact_problem import Problem
from mapper._fused_body import Body, Solution, lower_bound, signature, solve, visits
from mapper._fused_space import Space


@dataclass(slots=True, eq=False)
class Entry:
    """A body's best knowledge."""

    position: int
    body: Body
    points: Floats
    """Values that no mapping betters, a row each; none where nothing fits."""
    tier: int = 0
    """0 a bound, 1 what it costs with all the room and no shared loops, 2 exact."""
    solutions: tuple[Solution, ...] = ()


@dataclass(slots=True, eq=False)
class Pool:
    """Bodies of a space, by number."""

    space: Space
    metrics: tuple[int, ...]
    front: bool
    evaluated: int = 0
    version: int = 0
    """Changes whenever an entry does."""
    entries: list[Entry] = field(default_factory=list)
    _table: tuple[tuple[int, int], tuple[Floats, Ints, Ints]] | None = None
    _numbers: dict[tuple[int, Body], int] = field(default_factory=dict)
    _shapes: list[int] = field(default_factory=list)
    _best: dict[int, Floats] = field(default_factory=dict)
    _solved: dict[tuple[int, Body], list[tuple[int | None, tuple[Solution, ...]]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        known: dict[tuple[object, ...], int] = {}
        for base in self.space.problems:
            self._shapes.append(known.setdefault(signature(base), len(known)))

    def number(self, position: int, body: Body) -> int:
        """The body's number: equal for equal bodies of Einsums of equal shape."""
        key = (self._shapes[position], body)
        if key not in self._numbers:
            self._numbers[key] = len(self.entries)
            self.entries.append(Entry(position, body, self._bound(position, body)))
        return self._numbers[key]

    def exact(self, number: int) -> bool:
        """Whether the body's points are mappings."""
        return self.entries[number].tier == 2

    def table(self) -> tuple[Floats, Ints, Ints]:
        """Each body's first point, infinite where it has none; how many points; and its tier."""
        if self._table is None or self._table[0] != (self.version, len(self.entries)):
            none = np.full(len(self.metrics), math.inf)
            first = np.array([entry.points[0] if len(entry.points) else none for entry in self.entries])
            counts = np.array([len(entry.points) for entry in self.entries], np.int64)
            tiers = np.array([entry.tier for entry in self.entries], np.int64)
            self._table = (self.version, len(self.entries)), (first, counts, tiers)
        return self._table[1]

    def refine(self, number: int) -> None:
        """Learn more of one body."""
        entry = self.entries[number]
        base = self.space.problems[entry.position]
        free = entry.body.free(base.sizes, self.space.size)
        self.version += 1
        if entry.tier == 0 and entry.body != free:
            entry.points = self._relaxed(entry, free)
            entry.tier = 1 if len(entry.points) else 2
            return
        entry.solutions = self._solve(entry.position, entry.body, _single(entry.points))
        entry.points = self._values(entry.solutions)
        entry.tier = 2

    def _values(self, found: tuple[Solution, ...]) -> Floats:
        return np.array([each.values for each in found]).reshape(-1, len(self.metrics))

    def _bound(self, position: int, body: Body) -> Floats:
        """What the Einsum costs at best anywhere, and what ``body`` has more than that."""
        base, space = self.space.problems[position], self.space
        least = lower_bound(base, body)[list(self.metrics)]
        if position not in self._best:
            free = Body(base.sizes, frozenset(), space.size, maybe=space.free(position))
            self._best[position] = self._values(self._solve(position, free, None))
        best = self._best[position] + self._added(*body.surplus)
        return np.maximum(self._apart(base, body, best, space.free(position)), least)

    def _apart(self, base: Problem, body: Body, best: Floats, free: frozenset[int]) -> Floats:
        """The bound raised by what tensors move that could have been on chip and are not.

        Had they been, the level of fusion might have had more to do: time is not compared.
        """
        outermost, level = self.space.hierarchy.levels[0], self.space.hierarchy.levels[self.space.level]
        energy, bits = 0.0, 0.0
        for tensor in free - body.inside - body.maybe:
            moved = visits(base, body)[tensor] * base.tensors[tensor].bits
            rates = outermost.read_pj_per_bit - level.read_pj_per_bit
            if base.tensors[tensor].kind == "output":
                rates = outermost.write_pj_per_bit - level.write_pj_per_bit
            energy, bits = energy + moved * max(0.0, rates), bits + moved
        if not bits or not len(best) or self.metrics[0] == 0:
            return best
        raised = best + self._added(energy, bits)
        if 0 not in self.metrics:
            return raised
        return np.array([[raised[:, 0].min(), best[:, 1].min() if self.front else 0.0]])

    def _added(self, energy: float, bits: float) -> Floats:
        added = {0: 0.0, 1: energy, 3: bits}
        return np.array([added[metric] for metric in self.metrics])

    def _relaxed(self, entry: Entry, free: Body) -> Floats:
        """The front without shared loops, above what the body adds and what it has at least."""
        bound = _single(self._bound(entry.position, free))
        added = self._added(entry.body.energy, entry.body.bits[0])
        found = self._solve(entry.position, free, bound)
        least = entry.points.min(axis=0) if len(entry.points) else np.zeros(len(self.metrics))
        return np.maximum(self._values(found) + added, least)

    def _solve(self, position: int, body: Body, bound: Floats | None) -> tuple[Solution, ...]:
        """Solved with more room and found to use no more than there is: solved."""
        key = replace(body, room=None, surplus=(0.0, 0.0))
        known = self._solved.setdefault((self._shapes[position], key), [])
        for room, found in known:
            used = max((each.used for each in found), default=0)
            if _at_most(body.room, room) and (body.room is None or used <= body.room):
                return found
        base = self.space.problems[position]
        found, count = solve(base, self.space.level, body, self.metrics, front=self.front, bound=bound)
        self.evaluated += count
        known.append((body.room, found))
        return found


def _single(points: Floats) -> Floats | None:
    return points[0] if len(points) == 1 else None


def _at_most(room: int | None, other: int | None) -> bool:
    return (math.inf if room is None else room) <= (math.inf if other is None else other)
