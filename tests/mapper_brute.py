"""Every mapping of a small Einsum on a hierarchy, costed one by one: the oracle of the exact mapper.

It enumerates more than the search does: loops of every rank before every holder and around every
spatial dimension, whether or not a holder gains from them. It shares the values that describe the
problem with the mapper, and none of the code that searches or bounds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim._hierarchy import Hierarchy
from workloads import Access, Einsum

Floats = NDArray[np.float64]

COLUMNS = ("latency", "energy", "edp", "traffic", "buffer")


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as the enumeration sees it."""

    access: Access
    kind: str
    bits: int


def operands(einsum: Einsum, machine: Hierarchy) -> list[Operand]:
    kinds = ["input", *["weight"] * (len(einsum.inputs) - 1), "output"]
    accesses = [*einsum.inputs, einsum.output]
    return [Operand(a, k, machine.bits(k)) for a, k in zip(accesses, kinds, strict=True)]  # type: ignore[arg-type]


Place = tuple[str, int, int]
"""("top", level, 0), ("side", level, dimension), ("hold", level, tensor): where a tile is known."""


def structures(einsum: Einsum, machine: Hierarchy) -> Iterator[list[Place]]:
    """Every sequence of places: for each level a choice of tensors and an order of its holders."""
    tensors = operands(einsum, machine)
    options = []
    for number, level in enumerate(machine.levels[1:], start=1):
        sides: list[Place] = [("side", number, d) for d in range(len(level.spatial))]
        found = []
        for count in range(len(tensors) + 1):
            for chosen in itertools.permutations(range(len(tensors)), count):
                if all(_may(tensors[t], level, t in chosen) for t in range(len(tensors))) and _flows(
                    machine, tensors, number, chosen
                ):
                    found.append([("top", number, 0), *sides, *(("hold", number, t) for t in chosen)])
        options.append(found)
    for parts in itertools.product(*options):
        yield list(itertools.chain.from_iterable(parts))


def _may(tensor: Operand, level: object, held: bool) -> bool:
    names = {tensor.access.tensor, tensor.kind}
    if names & set(level.hold):  # type: ignore[attr-defined]
        return held
    return not (held and names & set(level.bypass))  # type: ignore[attr-defined]


def _flows(machine: Hierarchy, tensors: list[Operand], level: int, chosen: tuple[int, ...]) -> bool:
    if machine.dataflow in ("any", "row-stationary") or level != len(machine.levels) - 1:
        return True
    return bool(chosen) and tensors[chosen[0]].kind == machine.dataflow.removesuffix("-stationary")


def _spreads(einsum: Einsum, machine: Hierarchy, side: tuple[tuple[str, ...] | None, int], rank: str) -> bool:
    """Whether a rank may lie along a dimension: by its list, and by row-stationarity."""
    named, dimension = side
    if named is not None and rank not in named:
        return False
    sums = [index.ranks for access in einsum.inputs for index in access.indices if len(index.terms) > 1]
    if machine.dataflow != "row-stationary" or not any(rank in each for each in sums):
        return True
    filter_row = [r for r in sums[0] if r not in einsum.output.ranks]
    output_row = [r for r in sums[0] if r in einsum.output.ranks]
    return rank in (output_row if dimension == 1 else filter_row)


def chains(size: int, points: int, tiles: list[int]) -> list[tuple[int, ...]]:
    """Every sequence of nested tiles at ``points`` places."""
    found: list[tuple[int, ...]] = [()]
    for _ in range(points):
        found = [
            (*chain, tile)
            for chain in found
            for tile in tiles
            if tile <= (last := chain[-1] if chain else size) and (last == size or last % tile == 0)
        ]
    return found


def candidates(size: int, imperfect: bool) -> list[int]:
    if imperfect:
        return list(range(1, size + 1))
    return [tile for tile in range(1, size + 1) if size % tile == 0]


def costs(
    einsum: Einsum,
    ranks: Mapping[str, int],
    machine: Hierarchy,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    imperfect: bool,
) -> Floats:
    """The five metrics of every legal mapping, one a row; columns as in ``COLUMNS``."""
    rows = [
        _structure_costs(einsum, ranks, machine, places, (shapes, imperfect))
        for places in structures(einsum, machine)
    ]
    return np.concatenate(rows)


def count(einsum: Einsum, ranks: Mapping[str, int], machine: Hierarchy, *, imperfect: bool) -> int:
    """Sequences of tiles before capacity is looked at: what an enumeration would take."""
    total = 0
    known: dict[int, int] = {}
    for places in structures(einsum, machine):
        if len(places) not in known:
            known[len(places)] = math.prod(
                len(chains(ranks[rank], len(places), candidates(ranks[rank], imperfect)))
                for rank in einsum.ranks
            )
        total += known[len(places)]
    return total


def _structure_costs(
    einsum: Einsum,
    ranks: Mapping[str, int],
    machine: Hierarchy,
    places: list[Place],
    options: tuple[Mapping[str, tuple[int, ...]], bool],
) -> Floats:
    shapes, imperfect = options
    names = einsum.ranks
    each = [np.array(chains(ranks[r], len(places), candidates(ranks[r], imperfect))) for r in names]
    grid = np.meshgrid(*(np.arange(len(options)) for options in each), indexing="ij")
    tile = {
        r: each[n][grid[n].reshape(-1)].astype(float).reshape(-1, len(places)) for n, r in enumerate(names)
    }
    legal = np.ones(len(grid[0].reshape(-1)), bool)
    for position, (what, level, dimension) in enumerate(places):
        if what == "side":
            side = machine.levels[level].spatial[dimension]
            used = np.ones(len(legal))
            for r in names:
                ways = np.ceil(tile[r][:, position - 1] / tile[r][:, position])
                used *= ways
                legal &= tile[r][:, position - 1] % tile[r][:, position] == 0
                if not _spreads(einsum, machine, (side.ranks, dimension), r):
                    legal &= ways == 1
            legal &= used <= side.size
    return _evaluate(einsum, ranks, machine, (places, {r: t[legal] for r, t in tile.items()}), shapes)


class _Walk:
    """A walk from the outermost place inwards: trips so far, tiles now, bits moved and held."""

    def __init__(
        self,
        einsum: Einsum,
        ranks: Mapping[str, int],
        machine: Hierarchy,
        shapes: Mapping[str, tuple[int, ...]],
        n: int,
    ) -> None:
        self.einsum, self.ranks, self.machine, self.shapes, self.n = einsum, ranks, machine, shapes, n
        self.tensors, self.depth = operands(einsum, machine), len(machine.levels)
        self.time = {r: np.ones(n) for r in einsum.ranks}
        self.space = {r: np.ones(n) for r in einsum.ranks}
        self.now = {r: np.ones(n) * ranks[r] for r in einsum.ranks}
        self.read, self.written, self.held = (np.zeros((self.depth, n)) for _ in range(3))
        self.lanes, self.whole = np.ones((self.depth, n)), np.ones((self.depth, n))
        self.visited = [(0, dict(self.space)) for _ in self.tensors]

    def cut(self, rank: str, inner: Floats, side: int | None) -> None:
        """A loop over a rank in tiles of ``inner``, along a dimension of level ``side`` or in time."""
        outer, size = self.now[rank], self.ranks[rank]
        ways = np.ceil(size / inner) / np.ceil(size / outer)
        self.now[rank] = inner
        if side is None:
            self.time[rank] = self.time[rank] * ways
            return
        self.space[rank] = self.space[rank] * ways
        self.lanes[side:] *= outer / inner if self.machine.ragged_steps == "share" else ways
        self.whole[side:] *= np.ceil(outer / inner)

    def move(self, t: int, level: int) -> None:
        """The tensor's tile is fetched here on every visit, from where it was held last."""
        parent, space_out = self.visited[t]
        op, lacks = self.tensors[t], [r for r in self.einsum.ranks if r not in self.tensors[t].access.ranks]
        shape = self.shapes.get(op.access.tensor)
        again = _prod((self.time[r] * self.space[r] for r in lacks), self.n)
        every = _all_tiles(op.access, self.now, self.ranks, shape) * op.bits * again
        share = _prod((self.space[r] / space_out[r] for r in lacks), self.n)
        result = op.kind == "output"
        fresh = every / _prod((self.time[r] for r in lacks), self.n) if result else 0 * every
        self.read[parent] += (every - fresh) / share
        self.written[parent] += every / share if result else 0
        if level == self.depth:
            return
        self.written[level] += every - fresh
        self.read[level] += every if result else 0
        twice = {op.access.tensor, op.kind} & set(self.machine.levels[level].double_buffer)
        self.held[level] += _size(op.access, self.now, shape) * op.bits * (2 if twice else 1)
        self.visited[t] = (level, dict(self.space))


def _evaluate(
    einsum: Einsum,
    ranks: Mapping[str, int],
    machine: Hierarchy,
    mapping: tuple[list[Place], dict[str, Floats]],
    shapes: Mapping[str, tuple[int, ...]],
) -> Floats:
    places, tile = mapping
    n = len(next(iter(tile.values())))
    walk = _Walk(einsum, ranks, machine, shapes, n)
    for position, (what, level, which) in enumerate(places):
        for r in einsum.ranks:
            walk.cut(r, tile[r][:, position], level if what == "side" else None)
        if what == "hold":
            walk.move(which, level)
    for r in einsum.ranks:
        walk.cut(r, np.ones(n), None)
    for t in range(len(walk.tensors)):
        walk.move(t, walk.depth)
    points = math.prod(ranks[r] for r in einsum.ranks)
    traffic = (walk.read, walk.written, walk.held)
    return _metrics(machine, traffic, (walk.lanes, walk.whole), (points / walk.lanes[-1], points))


def _metrics(
    machine: Hierarchy,
    traffic: tuple[Floats, Floats, Floats],
    instances: tuple[Floats, Floats],
    work: tuple[Floats, int],
) -> Floats:
    read, written, held = traffic
    lanes, whole = instances
    latency, operations = work
    fits = np.ones(len(latency), bool)
    energy = np.full(len(latency), operations * machine.mac_pj)
    latency = latency.copy()
    for number, level in enumerate(machine.levels):
        energy += read[number] * level.read_pj_per_bit + written[number] * level.write_pj_per_bit
        if level.bandwidth_bits_per_cycle is not None:
            bits = (read[number] + written[number]) / lanes[number]
            latency = np.maximum(latency, bits / level.bandwidth_bits_per_cycle)
        if level.size_bits is not None:
            fits &= held[number] <= level.size_bits
    buffered = (held[1:] * whole[1:]).sum(axis=0)
    table = np.stack([latency, energy, latency * energy, read[0] + written[0], buffered], axis=1)
    return table[fits]


def _size(access: Access, now: Mapping[str, Floats], shape: tuple[int, ...] | None) -> Floats:
    total = np.ones(len(next(iter(now.values()))))
    for position, index in enumerate(access.indices):
        reach = 1 + sum((abs(f) * (now[r] - 1) for r, f in index.terms), start=np.zeros(len(total)))
        each = np.minimum(reach, _prod((now[r] for r in index.ranks), len(total)))
        total *= each if shape is None else np.minimum(each, shape[position])
    return total


def _all_tiles(
    access: Access, now: Mapping[str, Floats], ranks: Mapping[str, int], shape: tuple[int, ...] | None
) -> Floats:
    """Elements of all tiles: each rank cut by its tile, from the first on."""
    one = np.ones(len(next(iter(now.values()))))
    total = one.copy()
    for position, index in enumerate(access.indices):
        part = 0 * one
        for lasts in itertools.product((False, True), repeat=len(index.ranks)):
            pieces, cut = one.copy(), dict(now)
            for r, last in zip(index.ranks, lasts, strict=True):
                rest = ranks[r] % now[r]
                pieces = pieces * (np.where(rest > 0, 1, 0) if last else ranks[r] // now[r])
                cut[r] = np.where(last, rest, now[r])
            clip = None if shape is None else (shape[position],)
            part += np.where(pieces > 0, pieces * _size(Access(access.tensor, (index,)), cut, clip), 0)
        total = total * part
    return total


def _prod(values: object, n: int) -> Floats:
    result = np.ones(n)
    for value in values:  # type: ignore[attr-defined]
        result = result * value
    return result


def optimum(table: Floats, metric: str, then: str) -> tuple[float, float]:
    """The least of one metric, and of the other among those."""
    first, second = table[:, COLUMNS.index(metric)], table[:, COLUMNS.index(then)]
    best = float(first.min())
    return best, float(second[first <= best * (1 + 1e-9)].min())


def front(table: Floats, metrics: tuple[str, ...]) -> Floats:
    """The points that no other betters or matches, sorted."""
    chosen = table[:, [COLUMNS.index(metric) for metric in metrics]]
    digits = 10.0 ** (9 - np.floor(np.log10(np.maximum(chosen, 1e-30))))
    points = np.unique(np.round(chosen * digits) / digits, axis=0)
    kept: list[Floats] = []
    for point in points:
        if not any((other <= point * (1 + 1e-9)).all() for other in kept):
            kept.append(point)
    return np.array(kept)
