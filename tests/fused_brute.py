"""Every fused mapping of a small cascade on a hierarchy, costed one by one: the oracle of the fused search.

All partitions into runs, all tensors kept or not, all shared loops and holders between them in every
order, and for each Einsum inside them every body. Bodies are costed by the walk of the single Einsum's
oracle. It shares no code with the search, and no rule that leaves anything out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from archsim._hierarchy import Hierarchy
from tests.mapper_brute import (
    Floats,
    Operand,
    Place,
    _flows,
    _may,
    _metrics,
    _size,
    _spreads,
    _Walk,
    candidates,
    chains,
    operands,
)
from workloads import Cascade

Tile = dict[str, int]
Held = tuple[tuple[str, tuple[tuple[str, int], ...], bool], ...]
"""Tensors that the shared part holds: the tile where it does so, and whether the Einsum pays."""
ADDED = {"latency": (0, 1), "energy": (1, 0), "edp": (1, 0), "traffic": (3, 1)}


@dataclass
class Brute:
    cascade: Cascade
    machine: Hierarchy
    objective: str
    imperfect: tuple[bool, ...]
    level: int = 0
    known: dict[object, Floats] = field(default_factory=dict)

    ops: list[list[Operand]] = field(default_factory=list)
    _users: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for n, einsum in enumerate(self.cascade.einsums):
            self.ops.append(operands(einsum, self.machine))
            for op in self.ops[n]:
                self._users.setdefault(op.access.tensor, []).append(n)

    def users(self, tensor: str) -> list[int]:
        return self._users[tensor]

    def writer(self, tensor: str) -> int | None:
        found = [n for n, e in enumerate(self.cascade.einsums) if e.output.tensor == tensor]
        return found[0] if found else None

    def tensors(self, positions: range) -> list[str]:
        return list(dict.fromkeys(op.access.tensor for n in positions for op in self.ops[n]))

    def operand(self, position: int, tensor: str) -> Operand:
        return next(op for op in self.ops[position] if op.access.tensor == tensor)

    def best(self) -> tuple[float, float] | None:
        """The objective, and what breaks ties; nothing where nothing is legal."""
        self.level = 1
        tables = [self.schedule([range(n, n + 1) for n in range(len(self.ops))], ())]
        for level in self.levels():
            self.level = level
            shared = [t for t in self.tensors(range(len(self.ops))) if len(self.users(t)) > 1]
            for runs in partitions(len(self.ops)):
                for count in range(len(shared) + 1):
                    for kept in itertools.combinations(shared, count):
                        if all(self.may(t, range(len(self.ops))) for t in kept):
                            tables.append(self.schedule(runs, kept))
        values = np.concatenate(tables)
        if not len(values):
            return None
        if self.objective == "edp":
            product = values[:, 0] * values[:, 1]
            return float(product.min()), 0.0
        least = values[:, 0].min()
        return float(least), float(values[values[:, 0] <= least * (1 + 1e-9), 1].min())

    def levels(self) -> list[int]:
        found = []
        for number in range(1, len(self.machine.levels)):
            alone = math.prod(level.fanout for level in self.machine.levels[: number + 1]) == 1
            innermost = number == len(self.machine.levels) - 1
            if alone and not (innermost and self.machine.dataflow not in ("any", "row-stationary")):
                found.append(number)
        return found

    def may(self, tensor: str, positions: range) -> bool:
        level = self.machine.levels[self.level]
        return all(_may(self.operand(n, tensor), level, True) for n in self.users(tensor) if n in positions)

    def schedule(self, runs: list[range], kept: tuple[str, ...]) -> Floats:
        total = np.zeros((1, 2))
        for run in runs:
            live = [t for t in kept if self.users(t)[0] < run.stop and self.users(t)[-1] >= run.start]
            found = [table for prefix in self.prefixes(run, kept) for table in self.run(run, live, prefix)]
            if not found:
                return np.zeros((0, 2))
            total = self.thin(added(total, self.thin(np.concatenate(found))))
        return total

    def thin(self, table: Floats) -> Floats:
        if not len(table):
            return table
        if self.objective != "edp":
            least = table[:, 0].min()
            close = table[table[:, 0] <= least * (1 + 1e-10)]
            return np.asarray(close[[close[:, 1].argmin()]])
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        before = np.minimum.accumulate(np.concatenate([[np.inf], table[:-1, 1]]))
        return table[table[:, 1] < before]

    def made(self, run: range, kept: tuple[str, ...]) -> list[str]:
        return [
            t
            for t in self.tensors(run)
            if t not in kept and self.writer(t) in run and any(n in run for n in self.users(t)[1:])
        ]

    def prefixes(self, run: range, kept: tuple[str, ...]) -> Iterator[list[tuple[str, Tile]]]:
        """Holders of the shared part in order with their tiles; the last, unnamed, has the body's tile."""
        whole = dict(self.cascade.ranks)
        if len(run) == 1:
            yield [("", whole)]
            return
        made = self.made(run, kept)
        if not all(self.may(t, run) for t in made):
            return
        ranks = [r for r in whole if self.shares(run, kept, made, r)]
        others = [t for t in self.tensors(run) if t not in made and t not in kept and self.may(t, run)]
        for count in range(len(others) + 1):
            for order in itertools.permutations(others, count):
                for tiles in itertools.product(
                    *(chains(whole[r], count + 1, candidates(whole[r], False)) for r in ranks)
                ):
                    places = [
                        whole | {r: chain[n] for r, chain in zip(ranks, tiles, strict=True)}
                        for n in range(count + 1)
                    ]
                    holders = list(zip(order, places, strict=False))
                    if places[-1] != whole and self.sums_inside(run, kept, (dict(holders), places[-1])):
                        yield [*holders, *((t, places[-1]) for t in made), ("", places[-1])]

    def count(self) -> int:
        """Shared parts of all runs, times the structures of a body: what an enumeration would take."""
        total = 0
        for level in self.levels():
            self.level = level
            shared = [t for t in self.tensors(range(len(self.ops))) if len(self.users(t)) > 1]
            for run in {run for runs in partitions(len(self.ops)) for run in runs if len(run) > 1}:
                for number in range(len(shared) + 1):
                    for kept in itertools.combinations(shared, number):
                        total += self.prefix_count(run, kept) * len(run)
        return total

    def prefix_count(self, run: range, kept: tuple[str, ...]) -> int:
        made, whole = self.made(run, kept), self.cascade.ranks
        if not all(self.may(t, run) for t in (*made, *kept)):
            return 0
        ranks = [r for r in whole if self.shares(run, kept, made, r)]
        others = [t for t in self.tensors(run) if t not in made and t not in kept and self.may(t, run)]
        return sum(
            math.perm(len(others), count)
            * math.prod(len(chains(whole[r], count + 1, candidates(whole[r], False))) for r in ranks)
            for count in range(len(others) + 1 if ranks else 0)
        )

    def body_count(self) -> int:
        """Structures of all bodies without anything shared."""
        self.level = 1
        return sum(len(list(self.structures(n, set(), True))) for n in range(len(self.ops)))

    def rows(self) -> int:
        """Most sequences of tiles of one structure."""
        found = 0
        for n, einsum in enumerate(self.cascade.einsums):
            longest = max((len(s) for s in self.structures(n, set(), True)), default=0)
            sizes = (self.cascade.ranks[r] for r in einsum.ranks)
            each = (len(chains(size, longest, candidates(size, self.imperfect[n]))) for size in sizes)
            found = max(found, math.prod(each))
        return found

    def shares(self, run: range, kept: tuple[str, ...], made: list[str], rank: str) -> bool:
        """Whether all have the rank, and what is made in the run has it alone in a dimension."""
        if any(rank not in self.cascade.einsums[n].ranks for n in run):
            return False
        inner = [t for t in kept if self.writer(t) in run and any(n in run for n in self.users(t)[1:])]
        for tensor in (*made, *inner):
            accesses = [self.operand(n, tensor).access for n in self.users(tensor) if n in run]
            for first, other in itertools.product(accesses, repeat=2):
                same = [
                    str(a) == rank and str(b) == rank
                    for a, b in zip(first.indices, other.indices, strict=True)
                ]
                if not any(same):
                    return False
        return True

    def sums_inside(self, run: range, kept: tuple[str, ...], where: tuple[Mapping[str, Tile], Tile]) -> bool:
        """Whether each result is held outside the shared loops over what it sums."""
        holders, last = where
        for n in run:
            einsum = self.cascade.einsums[n]
            if einsum.output.tensor in kept:
                continue
            tile = holders.get(einsum.output.tensor, last)
            if any(tile[r] != self.cascade.ranks[r] for r in einsum.reduced_ranks):
                return False
        return True

    def pays(self, run: range, kept: list[str], where: tuple[int, str]) -> bool:
        position, tensor = where
        users = self.users(tensor)
        if self.writer(tensor) == position:
            return tensor not in kept and (len(users) == 1 or any(n not in run for n in users))
        if tensor in kept:
            return self.writer(tensor) is None and users[0] == position
        if self.writer(tensor) in run:
            return False
        return next(n for n in users if n in run) == position

    def bits(self, tensor: str, tile: Tile, positions: range) -> int:
        """Bits of a held tile: the most that any user asks for."""
        shape = self.cascade.shapes.get(tensor)
        level = self.machine.levels[self.level]
        here = [self.operand(n, tensor) for n in self.users(tensor) if n in positions]
        sizes = [int(_size(op.access, arrays(tile), shape)[0]) for op in here]
        widths = [op.bits * (2 if {tensor, op.kind} & set(level.double_buffer) else 1) for op in here]
        return max(sizes) * max(widths)

    def run(self, run: range, live: list[str], prefix: list[tuple[str, Tile]]) -> Iterator[Floats]:
        whole, everyone = dict(self.cascade.ranks), range(len(self.ops))
        total = np.zeros((1, 2))
        last = prefix[-1][1]
        always = sum(self.bits(t, whole, everyone) for t in live)
        for n in run:
            held = always
            mine: list[tuple[str, tuple[tuple[str, int], ...], bool]] = [
                (t, tuple(whole.items()), self.pays(run, live, (n, t))) for t in live if n in self.users(t)
            ]
            for tensor, tile in prefix[:-1]:
                users = [u for u in self.users(tensor) if u in run]
                if tensor not in self.made(run, tuple(live)) or users[0] <= n <= users[-1]:
                    held += self.bits(tensor, tile, run)
                if n in users:
                    mine.append((tensor, tuple(tile.items()), self.pays(run, live, (n, tensor))))
            table = self.bodies(n, tuple(mine), (last, held, len(run) == 1 and not mine))
            if not len(table):
                return
            total = self.thin(added(total, table))
        yield total

    def bodies(self, position: int, mine: Held, rest: tuple[Tile, int, bool]) -> Floats:
        """The two metrics of every body, thinned."""
        last, held, between = rest
        key = (self.level, position, mine, tuple(last.items()), held, between)
        if key not in self.known:
            tables = [
                self.structure(position, mine, (last, held), places)
                for places in self.structures(position, {t for t, _, _ in mine}, between)
            ]
            found = np.concatenate(tables) if tables else np.zeros((0, 5))
            self.known[key] = self.thin(found[:, ADDED[self.objective]])
        return self.known[key]

    def structures(self, position: int, inside: set[str], between: bool) -> Iterator[list[Place]]:
        ops = self.ops[position]
        options = []
        for number, level in enumerate(self.machine.levels[1:], start=1):
            sides: list[Place] = [("side", number, d) for d in range(len(level.spatial))]
            found = []
            for count in range(len(ops) + 1):
                for chosen in itertools.permutations(range(len(ops)), count):
                    names = {ops[t].access.tensor for t in chosen}
                    if number == self.level and names & inside:
                        continue
                    if number < self.level and names and not between:
                        continue
                    held = names | (inside if number == self.level else set())
                    if all(_may(op, level, op.access.tensor in held) for op in ops) and _flows(
                        self.machine, ops, number, chosen
                    ):
                        found.append([("top", number, 0), *sides, *(("hold", number, t) for t in chosen)])
            options.append(found)
        for parts in itertools.product(*options):
            yield list(itertools.chain.from_iterable(parts))

    def structure(self, position: int, mine: Held, where: tuple[Tile, int], places: list[Place]) -> Floats:
        last, held = where
        einsum, sizes = self.cascade.einsums[position], self.cascade.ranks
        names = einsum.ranks
        ragged = [self.imperfect[position] and last[r] == sizes[r] for r in names]
        each = [
            np.array(chains(last[r], len(places), candidates(last[r], imperfect)))
            for r, imperfect in zip(names, ragged, strict=True)
        ]
        grid = np.meshgrid(*(np.arange(len(options)) for options in each), indexing="ij")
        tile = {
            r: each[n][grid[n].reshape(-1)].astype(float).reshape(-1, len(places))
            for n, r in enumerate(names)
        }
        legal = np.ones(len(grid[0].reshape(-1)), bool)
        for number, (what, level, dimension) in enumerate(places):
            if what == "side":
                side = self.machine.levels[level].spatial[dimension]
                used = np.ones(len(legal))
                for r in names:
                    used *= np.ceil(tile[r][:, number - 1] / tile[r][:, number])
                    legal &= tile[r][:, number - 1] % tile[r][:, number] == 0
                    if not _spreads(einsum, self.machine, (side.ranks, dimension), r):
                        legal &= tile[r][:, number - 1] == tile[r][:, number]
                legal &= used <= side.size
        tile = {r: t[legal] for r, t in tile.items()}
        return self.walk(position, mine, (last, held), (places, tile))

    def walk(
        self,
        position: int,
        mine: Held,
        where: tuple[Tile, int],
        mapping: tuple[list[Place], dict[str, Floats]],
    ) -> Floats:
        last, held = where
        places, tile = mapping
        einsum = self.cascade.einsums[position]
        n = len(next(iter(tile.values())))
        ranks = {r: self.cascade.ranks[r] for r in einsum.ranks}
        walk = _Walk(einsum, ranks, self.machine, self.cascade.shapes, n)
        numbers = {op.access.tensor: t for t, op in enumerate(walk.tensors)}
        for tensor, at, pays in mine:
            for r in einsum.ranks:
                walk.cut(r, np.full(n, float(dict(at)[r])), None)
            if pays:
                walk.move(numbers[tensor], self.level)
            else:
                walk.visited[numbers[tensor]] = (self.level, dict(walk.space))
        for r in einsum.ranks:
            walk.cut(r, np.full(n, float(last[r])), None)
        walk.held[self.level] = held
        for number, (what, level, which) in enumerate(places):
            for r in einsum.ranks:
                walk.cut(r, tile[r][:, number], level if what == "side" else None)
            if what == "hold":
                walk.move(which, level)
        for r in einsum.ranks:
            walk.cut(r, np.ones(n), None)
        for t in range(len(walk.tensors)):
            walk.move(t, walk.depth)
        points = math.prod(ranks.values())
        traffic = (walk.read, walk.written, walk.held)
        return _metrics(self.machine, traffic, (walk.lanes, walk.whole), (points / walk.lanes[-1], points))


def partitions(count: int) -> Iterator[list[range]]:
    for cuts in itertools.product((False, True), repeat=count - 1):
        starts = [0, *(n + 1 for n, cut in enumerate(cuts) if cut), count]
        yield [range(a, b) for a, b in itertools.pairwise(starts)]


def added(one: Floats, other: Floats) -> Floats:
    return (one[:, None, :] + other[None, :, :]).reshape(-1, 2)


def arrays(tile: Tile) -> dict[str, Floats]:
    return {r: np.array([float(t)]) for r, t in tile.items()}
