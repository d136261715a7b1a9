"""Which array runs which Einsum, and what that takes: the binding of a cascade to a spatial machine.

The 2D array spreads two ranks, keys over its rows and queries over its columns. An Einsum with both
ranks runs there if an element has its operators; every other one runs on the lanes, which spread one.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from archsim._errors import ArchsimError
from archsim._spatial import OPERATORS, Spatial, Unit
from workloads import Cascade, Einsum, passes

_NAMES = {"mul": "mac", "sub": "add", "div": "divide"}


@dataclass(frozen=True, slots=True)
class Work:
    """One Einsum on one array."""

    einsum: Einsum
    unit: Unit
    points: int
    """Points of its iteration space."""
    operators: Mapping[str, int]
    """Operations of one point."""
    cycles: int
    """Cycles for which it keeps its array busy."""
    trip: int
    """The trip over the spread keys in which it runs, counted from 1; 0 where it has none of them."""

    @property
    def tensor(self) -> str:
        """The tensor that it writes."""
        return self.einsum.output.tensor


@dataclass(frozen=True, slots=True)
class Binding:
    """A cascade on a machine: one head of one sequence."""

    cascade: Cascade
    machine: Spatial
    keys: str
    """The rank over the array's rows."""
    queries: str
    """The rank over its columns."""
    tiles: str | None
    """The rank that counts tiles of keys, one after another; None where no recurrence runs over it."""
    works: tuple[Work, ...]

    def size(self, ranks: Iterable[str]) -> int:
        """Points of these ranks together."""
        return math.prod(self.cascade.ranks[rank] for rank in ranks)

    def cycles(self, unit: Unit) -> int:
        """Cycles for which ``unit`` is busy."""
        return sum(work.cycles for work in self.works if work.unit == unit)

    def readers(self, tensor: str) -> list[Work]:
        """Who reads ``tensor``."""
        return [w for w in self.works if any(access.tensor == tensor for access in w.einsum.inputs)]

    @property
    def made(self) -> frozenset[str]:
        """Tensors that the cascade computes."""
        return frozenset(einsum.output.tensor for einsum in self.cascade.einsums)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its sums of products."""
        return sum(work.points for work in self.works if work.einsum.is_product)


def _trips(cascade: Cascade, rank: str) -> Mapping[int, int]:
    """The earliest trip over ``rank`` of each Einsum that has it, by position."""
    held = _held(cascade.einsums)
    sizes = tuple((name, size if name in held else min(size, 2)) for name, size in cascade.ranks.items())
    return _found_trips(cascade.einsums, sizes, rank)


@functools.lru_cache(maxsize=256)
def _held(einsums: tuple[Einsum, ...]) -> frozenset[str]:
    """Ranks whose size dependences may turn on: those that are not an index by themselves everywhere.

    Dependences along any other rank are the same for any two coordinates or more, and so are its trips.
    """
    accesses = [access for einsum in einsums for access in (einsum.output, *einsum.inputs)]
    indices = [index for access in accesses for index in access.indices]
    held = {rank for index in indices if index.offset or len(index.terms) != 1 for rank in index.ranks}
    fixed = {(a.tensor, axis) for a in accesses for axis, index in enumerate(a.indices) if not index.terms}
    for access in accesses:
        for axis, index in enumerate(access.indices):
            held |= set(index.ranks) if (access.tensor, axis) in fixed else set()
    return frozenset(held)


@functools.lru_cache(maxsize=1024)
def _found_trips(
    einsums: tuple[Einsum, ...], sizes: tuple[tuple[str, int], ...], rank: str
) -> Mapping[int, int]:
    found = passes(Cascade("small", dict(sizes), einsums), rank).trips
    return MappingProxyType({e: number for number, trip in enumerate(found, 1) for e in trip})


def bind(cascade: Cascade, machine: Spatial) -> Binding:
    """The binding of ``cascade`` to ``machine``; raises ArchsimError where no array has an operator."""
    stepped = _recurrences(cascade)
    tiles = next(iter(stepped), None)
    keys, queries = _spread(cascade, stepped)
    trips = _trips(cascade, keys)
    works = tuple(
        _work(einsum, cascade, machine, spread=(keys, queries), trip=trips.get(position, 0))
        for position, einsum in enumerate(cascade.einsums)
        if not einsum.is_constant
    )
    return Binding(cascade, machine, keys, queries, tiles, works)


def _recurrences(cascade: Cascade) -> tuple[str, ...]:
    """The ranks that an output advances, as ``RM[m1 + 1, p]`` does, in the order of their Einsums."""
    outputs = (index for einsum in cascade.einsums for index in einsum.output.indices)
    return tuple(dict.fromkeys(index.ranks[0] for index in outputs if index.terms and index.offset))


def _spread(cascade: Cascade, stepped: tuple[str, ...]) -> tuple[str, str]:
    """The ranks of the first sum of products' result that do not count tiles or splits."""
    product = next((einsum for einsum in cascade.einsums if einsum.is_product), None)
    ranks = () if product is None else tuple(rank for rank in product.output.ranks if rank not in stepped)
    if len(ranks) != 2:
        raise ArchsimError(
            f"the first product of {cascade.name} must have two ranks to spread over an array,"
            f" not {len(ranks)}"
        )
    return ranks[0], ranks[1]


def _work(einsum: Einsum, cascade: Cascade, machine: Spatial, *, spread: tuple[str, str], trip: int) -> Work:
    operators = operators_of(einsum)
    unit: Unit = "vector"
    if set(spread) <= set(einsum.ranks) and machine.can("array", operators):
        unit = "array"
    elif not machine.can("vector", operators):
        missing = sorted(operators.keys() - machine.lane_operators)
        raise ArchsimError(f"vector.operators must have {missing[0]} for {einsum}, not {machine.name}'s")
    points = math.prod(cascade.ranks[rank] for rank in einsum.ranks)
    steps = _steps(einsum, cascade, machine, spread=spread, unit=unit)
    return Work(einsum, unit, points, operators, steps * machine.cycles(operators), trip)


def _steps(einsum: Einsum, cascade: Cascade, machine: Spatial, *, spread: tuple[str, str], unit: Unit) -> int:
    """Points that one element or lane does, the busiest of them."""
    keys, queries = spread
    lanes = {keys: machine.rows, queries: machine.cols}
    if unit == "vector":
        lanes = {queries if queries in einsum.ranks else einsum.ranks[0]: machine.lanes}
    return math.prod(-(-cascade.ranks[rank] // lanes.get(rank, 1)) for rank in einsum.ranks)


def operators_of(einsum: Einsum) -> dict[str, int]:
    """The operations of one point: a product that is summed is one multiply-accumulate.

    Raises ArchsimError for an operator that spatial machines do not price.
    """
    found: Counter[str] = Counter()
    if einsum.map != "identity":
        found[_NAMES.get(einsum.map, einsum.map)] += len(einsum.inputs) - 1
    if einsum.reduce and not einsum.is_product:
        found[einsum.reduce] += 1
    if einsum.unary:
        found[einsum.unary] += 1
    if unknown := sorted(found.keys() - set(OPERATORS)):
        raise ArchsimError(
            f"an operator must be one of {', '.join(OPERATORS)}, not {unknown[0]!r} in {einsum}"
        )
    return dict(found)
