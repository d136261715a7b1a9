"""The fused search: the best way to run a cascade, over all partitions into fused runs.

``docs/mapping.md`` defines the space. A cascade's cost is a sum over its Einsums, each a search of its own
once the shared part of its run and what is kept on chip are given. So the best way is a shortest path:
nodes are the places between Einsums with what is kept there, edges are runs with their shared parts. An
edge's value begins as a bound and is made exact only where the best path takes it; a best path of exact
edges alone is the optimum.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from archsim._fused import FusedNest, FusedRun, uses
from archsim._fused_cost import FusedCost, evaluate_fused, fusion_levels
from archsim._hierarchy import Hierarchy
from archsim._nest import TemporalLoop
from mapper._errors import MapperError
from mapper._exact_arrays import Floats, Ints
from mapper._exact_problem import Factors, problem
from mapper._fused_body import Body, body_nodes
from mapper._fused_pool import Pool
from mapper._fused_space import Option, Space, options, relaxed, single
from workloads import Cascade

FusedMetric = Literal["latency", "energy", "edp", "traffic"]
_ADDED: dict[str, tuple[int, int]] = {"latency": (0, 1), "energy": (1, 0), "edp": (1, 0), "traffic": (3, 1)}
"""The metrics, by their number in the exact search, that are added up: the first decides, then the other."""

UNSEEN = 100
"""How far from exact a run's bounds count; a body's count 1."""
CHUNK = 64
"""Shared parts that are looked at first."""
EQUAL = 1e-11
"""Relative rounding of two sums of the same terms in another order."""

Kept = frozenset[str]


@dataclass(frozen=True, slots=True)
class FusedResult:
    """The best way to run a cascade."""

    mapping: FusedNest
    cost: FusedCost
    proved_optimal: bool
    """Whether nothing better exists in the space."""
    gap: float
    """How much lower the metric may still be, relative to the result; 0 where proved."""
    evaluated: int
    """Partial mappings whose cost was computed."""


def fused_search(
    cascade: Cascade,
    hierarchy: Hierarchy,
    objective: FusedMetric = "edp",
    *,
    level: str | None = None,
    fuse: bool = True,
    longest: int | None = None,
    factors: Factors = "auto",
    budget: int | None = None,
) -> FusedResult:
    """The best mapping of ``cascade`` on ``hierarchy``, over all partitions into fused runs.

    ``level`` names the level of fusion; all that can be are tried where it is None. Without ``fuse`` every
    Einsum is mapped alone and nothing is kept. ``longest`` is the most Einsums of a run. ``budget`` ends the
    search after that many partial mappings. ``factors`` is of the bodies; shared loops cut evenly.
    Raises MapperError where nothing fits or a choice is unknown.
    """
    if objective not in _ADDED:
        raise MapperError(f"objective must be one of {', '.join(_ADDED)}, not {objective!r}")
    possible = fusion_levels(hierarchy) if fuse else ()
    if level is not None and level not in possible:
        raise MapperError(f"level must be one of {', '.join(possible) or 'none here'}, not {level!r}")
    chosen = possible if level is None else (level,)
    tries = [(name, fuse) for name in chosen] or [(hierarchy.levels[1].name, False)]
    found = [
        _search_level(cascade, hierarchy, (objective, name, each), longest, factors, budget)
        for name, each in tries
    ]
    known = [result for result in found if result is not None]
    if not known:
        raise MapperError(f"{cascade.name} must have a mapping that fits {hierarchy.name}; none does")
    best = min(known, key=lambda result: _metrics(result.cost, objective))
    bound = min(_metrics(result.cost, objective)[0] * (1 - result.gap) for result in known)
    proved = all(result.proved_optimal for result in known)
    value = _metrics(best.cost, objective)[0]
    gap = 0.0 if proved or value <= 0 else max(0.0, 1 - bound / value)
    return FusedResult(best.mapping, best.cost, proved, gap, sum(result.evaluated for result in known))


def _metrics(cost: FusedCost, objective: FusedMetric) -> tuple[float, float]:
    return {
        "latency": (cost.cycles, cost.energy_pj),
        "energy": (cost.energy_pj, cost.cycles),
        "edp": (cost.edp, cost.energy_pj),
        "traffic": (cost.dram_bits, cost.energy_pj),
    }[objective]


def _search_level(
    cascade: Cascade,
    hierarchy: Hierarchy,
    choice: tuple[FusedMetric, str, bool],
    longest: int | None,
    factors: Factors,
    budget: int | None,
) -> FusedResult | None:
    objective, level, fuse = choice
    found = uses(cascade)
    problems = tuple(
        problem(einsum, cascade.ranks, hierarchy, shapes=cascade.shapes, factors=factors)
        for einsum in found.einsums
    )
    number = [each.name for each in hierarchy.levels].index(level)
    space = Space(cascade, hierarchy, number, found, problems, fuse)
    pool = Pool(space, _ADDED[objective], objective == "edp")
    paths = Paths(space, pool, longest or len(problems))
    path, bound = paths.best(budget)
    if path is None:
        return None
    mapping = _mapping(space, paths, path)
    cost = evaluate_fused(mapping, hierarchy)
    value = _metrics(cost, objective)[0]
    proved = bound is None
    gap = 0.0 if bound is None or value <= 0 else max(0.0, 1 - bound / value)
    return FusedResult(mapping, cost, proved, gap, pool.evaluated)


@dataclass(slots=True, eq=False)
class Edges:
    """One run with what is kept: its shared parts, as bodies' numbers, and what the others have at least."""

    bodies: Ints
    """A row for each shared part, a column for each Einsum."""
    options: list[Option]
    bounds: tuple[int, ...] = ()
    """Bodies that no shared part still to come betters; row -1 where one is chosen."""
    rest: Iterator[Option] | None = None
    """Shared parts still to come."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Values of one run: a row of its edges, and which point of each body."""

    values: tuple[float, ...]
    unknown: int
    """How far from exact it is; 0 where it is."""
    row: int
    picks: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """One way to have run the Einsums up to a place."""

    values: tuple[float, ...]
    unknown: int
    previous: Label | None = None
    run: tuple[int, int] = (0, 0)
    kept: Kept = frozenset()
    """What is kept while the run runs."""
    edges: Edges | None = None
    choice: Choice | None = None

    def path(self) -> list[Label]:
        """The labels of all runs, first to last."""
        return [] if self.previous is None else [*self.previous.path(), self]

    def bodies(self) -> list[int]:
        """Numbers of the run's bodies."""
        assert self.edges is not None
        assert self.choice is not None
        if self.choice.row < 0:
            return list(self.edges.bounds)
        return [int(n) for n in self.edges.bodies[self.choice.row]]


@dataclass(slots=True, eq=False)
class Paths:
    """Shortest paths through the places between Einsums."""

    space: Space
    pool: Pool
    longest: int
    keepable: tuple[str, ...] = ()
    _edges: dict[tuple[int, int, Kept, int], Edges] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keepable = self.space.keepable() if self.space.fuse else ()

    def best(self, budget: int | None) -> tuple[list[Label] | None, float | None]:
        """The best path, and a bound of its first value where a budget ended the search."""
        while True:
            label = self._shortest(exact=False)
            if label is None:
                return None, None
            if not label.unknown:
                return label.path(), None
            if budget is not None and self.pool.evaluated >= budget:
                return self._stopped(), self._value(label)
            for step in label.path():
                self._learn(step)

    def _learn(self, step: Label) -> None:
        """Replace bounds of one run by something nearer to the truth."""
        assert step.choice is not None
        bounds = step.choice.row < 0
        wanted = [n for n in step.bodies() if self.pool.entries[n].tier < (1 if bounds else 2)]
        for number in dict.fromkeys(wanted):
            self.pool.refine(number)
        if bounds and not wanted:
            self._expand(step)

    def _expand(self, step: Label) -> None:
        """Take more of a run's shared parts, as many as there are already."""
        edges = step.edges
        assert edges is not None
        assert edges.rest is not None
        wanted = max(CHUNK, len(edges.options))
        found = list(itertools.islice(edges.rest, wanted))
        rows = self._rows(range(*step.run), [each.bodies for each in found])
        edges.options += found
        edges.bodies = np.concatenate([edges.bodies, rows])
        if len(found) < wanted:
            edges.rest = None

    def _stopped(self) -> list[Label] | None:
        """The best path of what is exact, with each Einsum alone as the last resort."""
        for position in self.space.everyone:
            edges = self._edge(range(position, position + 1), frozenset(), 0)
            for number in edges.bodies.reshape(-1):
                while not self.pool.exact(int(number)):
                    self.pool.refine(int(number))
        label = self._shortest(exact=True)
        return None if label is None else label.path()

    def _value(self, label: Label) -> float:
        return math.prod(label.values) if self.pool.front else label.values[0]

    def _shortest(self, *, exact: bool) -> Label | None:
        count = len(self.space.problems)
        places: list[dict[Kept, list[Label]]] = [{} for _ in range(count + 1)]
        places[0][frozenset()] = [Label((0.0, 0.0), 0)]
        for first in range(count):
            for state, labels in places[first].items():
                for last in range(
                    first + 1, min(count, first + self.longest) + 1 if self.space.fuse else first + 2
                ):
                    for kept in self._keeps(first, last, state):
                        self._step(places, labels, (first, last, kept), exact)
        final = [label for labels in places[count].values() for label in labels]
        if not final:
            return None
        return min(final, key=lambda label: (_rounded(self._value(label)), *_key(label)))

    def _keeps(self, first: int, last: int, state: Kept) -> Iterator[Kept]:
        """What may be kept during a run: what was, and any choice of what it is the first to use."""
        found = self.space.found
        new = [
            tensor
            for tensor in self.keepable
            if first <= found.users(tensor)[0] < last <= found.users(tensor)[-1]
        ]
        for count in range(len(new) + 1):
            for chosen in itertools.combinations(new, count):
                yield state | frozenset(chosen)

    def _step(
        self,
        places: list[dict[Kept, list[Label]]],
        labels: list[Label],
        run: tuple[int, int, Kept],
        exact: bool,
    ) -> None:
        first, last, kept = run
        found = self.space.found
        edges = self._edge(range(first, last), *self._keeping(range(first, last), kept))
        after = frozenset(tensor for tensor in kept if found.users(tensor)[-1] >= last)
        known = [
            Label(
                tuple(a + b for a, b in zip(label.values, choice.values, strict=True)),
                label.unknown + choice.unknown,
                label,
                (first, last),
                kept,
                edges,
                choice,
            )
            for choice in self._choices(edges, exact)
            for label in labels
        ]
        if known:
            places[last][after] = self._thinned([*places[last].get(after, []), *known])

    def _keeping(self, positions: range, kept: Kept) -> tuple[Kept, int]:
        """What a run uses of what is kept, and the bits that the rest takes."""
        here = {tensor for position in positions for tensor in self.space.found.tensors[position]}
        whole, everyone = dict(self.space.cascade.ranks), self.space.everyone
        used = frozenset(kept & here)
        return used, sum(self.space.held_bits(tensor, whole, everyone) for tensor in kept - used)

    def _edge(self, positions: range, used: Kept, taken: int) -> Edges:
        key = (positions.start, positions.stop, used, taken)
        if key not in self._edges:
            if len(positions) == 1:
                alone = single(self.space, positions.start, used, taken)
                found = [] if alone is None else [alone]
                self._edges[key] = Edges(self._rows(positions, [each.bodies for each in found]), found)
            else:
                bounds = relaxed(self.space, positions, used)
                rows = self._rows(positions, [] if bounds is None else [bounds])
                rest = None if bounds is None else options(self.space, positions, used, taken)
                numbers = tuple(int(n) for n in rows[0]) if len(rows) else ()
                self._edges[key] = Edges(rows[:0], [], numbers, rest)
        return self._edges[key]

    def _rows(self, positions: range, rows: list[tuple[Body, ...]]) -> Ints:
        numbers = [
            [self.pool.number(p, body) for p, body in zip(positions, row, strict=True)] for row in rows
        ]
        return np.array(numbers, np.int64).reshape(-1, len(positions))

    def _choices(self, edges: Edges, exact: bool) -> list[Choice]:
        """The best values of a run over all its shared parts."""
        found = self._chosen(edges, exact) if len(edges.bodies) else []
        if edges.rest is not None and not exact:
            found += self._picked(edges.bounds, -1, UNSEEN * len(edges.bounds))
        return _undominated(found, self.pool.front)

    def _chosen(self, edges: Edges, exact: bool) -> list[Choice]:
        """Values of the shared parts that are known."""
        first, counts, tiers = self.pool.table()
        unknown = (tiers[edges.bodies] < 2).sum(axis=1)
        usable = (counts[edges.bodies] > 0).all(axis=1)
        if exact:
            usable &= unknown == 0
        many = (counts[edges.bodies] > 1).any(axis=1)
        sums = first[edges.bodies].sum(axis=1)
        plain = np.flatnonzero(usable & ~many)
        if len(plain):
            plain = plain[_promising(sums[plain], self.pool.front)]
        none = (0,) * edges.bodies.shape[1]
        found = [
            Choice(tuple(float(v) for v in sums[row]), int(unknown[row]), int(row), none) for row in plain
        ]
        for row in np.flatnonzero(usable & many):
            found += self._picked(tuple(int(n) for n in edges.bodies[row]), int(row), int(unknown[row]))
        return found

    def _picked(self, bodies: tuple[int, ...], row: int, unknown: int) -> list[Choice]:
        """A choice for each combination of the bodies' points."""
        found = []
        entries = [self.pool.entries[n] for n in bodies]
        for picks in itertools.product(*(range(len(entry.points)) for entry in entries)):
            points = [entry.points[pick] for entry, pick in zip(entries, picks, strict=True)]
            found.append(Choice(tuple(float(v) for v in np.sum(points, axis=0)), unknown, row, picks))
        return found

    def _thinned(self, labels: list[Label]) -> list[Label]:
        return _undominated(labels, self.pool.front)


_Valued = TypeVar("_Valued", Choice, Label)


def _promising(sums: Floats, front: bool) -> Ints:
    """Rows that may be the least, or on the front."""
    if not front:
        return np.flatnonzero(sums[:, 0] <= sums[:, 0].min() * (1 + EQUAL))
    order = np.lexsort((sums[:, 1], sums[:, 0]))
    before = np.concatenate([[math.inf], np.minimum.accumulate(sums[order, 1])[:-1]])
    return np.asarray(order[sums[order, 1] <= before * (1 + EQUAL)])


def _rounded(value: float) -> float:
    return float(f"{value:.11g}")


def _key(item: Choice | Label) -> tuple[float, ...]:
    return (*(_rounded(value) for value in item.values), item.unknown)


def _undominated(items: list[_Valued], front: bool) -> list[_Valued]:
    """The least, of equal ones the best known; or the front where metrics are multiplied."""
    if not front:
        return [min(items, key=_key)] if items else []
    kept: list[_Valued] = []
    for item in sorted(items, key=_key):
        if not kept or item.values[1] < kept[-1].values[1] * (1 - EQUAL):
            kept.append(item)
    return kept


def _mapping(space: Space, paths: Paths, path: list[Label]) -> FusedNest:
    runs, kept = [], dict[str, None]()
    for label in path:
        assert label.edges is not None
        assert label.choice is not None
        kept.update(dict.fromkeys(tensor for tensor in paths.keepable if tensor in label.kept))
        shared = label.edges.options[label.choice.row].shared
        tile = dict(space.cascade.ranks)
        tile.update((node.rank, node.tile) for node in shared if isinstance(node, TemporalLoop))
        bodies = []
        for position, number, pick in zip(range(*label.run), label.bodies(), label.choice.picks, strict=True):
            solution = paths.pool.entries[number].solutions[pick]
            bodies.append(body_nodes(space.problems[position], solution, tile))
        runs.append(FusedRun(label.run[0], shared, tuple(bodies)))
    name = space.hierarchy.levels[space.level].name
    return FusedNest(space.cascade, name, tuple(kept), tuple(runs))
