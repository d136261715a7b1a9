"""The shared parts that a run of Einsums can have, and what each leaves to the Einsums.

A loop is useful only just inside a holder that lacks its rank, and outside the next one only if that has
it: elsewhere it can be moved to where a tile is smaller or a tensor fetched less often at no cost.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from archsim._fused import Uses, element_bits, shareable, tile_elements
from archsim._hierarchy import Hierarchy
from archsim._nest import Holder, TemporalLoop, moved
from mapper._exact_problem import Problem, _candidates
from mapper._fused_body import Body
from workloads import Cascade

SharedNode = TemporalLoop | Holder
Tile = dict[str, int]


@dataclass(frozen=True, slots=True)
class Option:
    """One shared part of one run, and what it leaves to each Einsum."""

    shared: tuple[SharedNode, ...]
    bodies: tuple[Body, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """Shared loops and holders without the tensors that the run makes, and the tile at each holder."""

    nodes: tuple[SharedNode, ...]
    places: tuple[tuple[str, Tile], ...]
    tile: Tile
    """Below all loops."""


@dataclass(slots=True, eq=False)
class Space:
    """A cascade on a hierarchy with one level of fusion."""

    cascade: Cascade
    hierarchy: Hierarchy
    level: int
    found: Uses
    problems: tuple[Problem, ...]
    fuse: bool = True
    """Whether anything may stay on chip between Einsums."""
    _ranks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _free: dict[int, frozenset[int]] = field(default_factory=dict)
    _elements: dict[tuple[str, tuple[int, ...], range], int] = field(default_factory=dict)

    @property
    def everyone(self) -> range:
        """Positions of all Einsums."""
        return range(len(self.problems))

    @property
    def size(self) -> int | None:
        """Bits of the level of fusion."""
        return self.hierarchy.levels[self.level].size_bits

    def held_bits(self, tensor: str, tile: Tile, positions: range) -> int:
        """Bits of the largest tile of a tensor among those that Einsums at ``positions`` touch."""
        if tensor not in self._ranks:
            self._ranks[tensor] = self.found.tensors[self.found.users(tensor)[0]][tensor][0].ranks
        key = (tensor, tuple([tile[rank] for rank in self._ranks[tensor]]), positions)
        if key not in self._elements:
            elements = tile_elements(self.found, tensor, tile, self.cascade, positions)
            bits = element_bits(self.found, tensor, self.hierarchy, self.level, positions)
            self._elements[key] = elements * bits
        return self._elements[key]

    def holdable(self, tensor: str, positions: range) -> bool:
        """Whether the level of fusion may hold the tensor for all its users at ``positions``."""
        bypass = set(self.hierarchy.levels[self.level].bypass)
        users = (n for n in self.found.users(tensor) if n in positions)
        return not any({tensor, self.found.tensors[n][tensor][1]} & bypass for n in users)

    def free(self, position: int) -> frozenset[int]:
        """Tensors of an Einsum that may be on chip before it or stay there after it, at no cost of its own.

        Whoever uses an input of the cascade first pays for it, and so does the writer of a result.
        """
        if position not in self._free:
            names = [tensor.name for tensor in self.problems[position].tensors]
            self._free[position] = frozenset(
                n
                for n, tensor in enumerate(names)
                if self.fuse
                and len(users := self.found.users(tensor)) > 1
                and (tensor in self.found.writer or users[0] != position)
                and self.holdable(tensor, range(position, position + 1))
            )
        return self._free[position]

    def keepable(self) -> tuple[str, ...]:
        """Tensors that may stay whole on chip from their first user to their last."""
        tensors = dict.fromkeys(tensor for accesses in self.found.tensors for tensor in accesses)
        whole = dict(self.cascade.ranks)
        return tuple(
            tensor
            for tensor in tensors
            if len(self.found.users(tensor)) > 1
            and self.holdable(tensor, self.everyone)
            and (self.size is None or self.held_bits(tensor, whole, self.everyone) <= self.size)
        )


def single(space: Space, position: int, kept: frozenset[str], taken: int) -> Option | None:
    """An Einsum alone with what is kept; ``taken`` bits hold tensors kept for others."""
    chain = Chain((), (), dict(space.cascade.ranks))
    return option(space, range(position, position + 1), chain, (kept, taken))


def options(space: Space, positions: range, kept: frozenset[str], taken: int) -> Iterator[Option]:
    """Every useful shared part of several Einsums, those of large tiles first."""
    allowed = shareable(space.found, positions)
    made = tuple(
        tensor
        for tensor in space.found.writer
        if space.found.made_in(tensor, positions) and tensor not in kept
    )
    if not allowed or not all(space.holdable(tensor, positions) for tensor in made):
        return
    sizes = dict(space.cascade.ranks)
    for tiles in itertools.product(*(_candidates(sizes[rank], False)[::-1] for rank in allowed)):
        tile = {rank: each for rank, each in zip(allowed, tiles, strict=True) if each < sizes[rank]}
        if not tile or not _fits(space, positions, sizes | tile, (made, kept, taken)):
            continue
        for chain in _chains(space, positions, tile, (made, kept, taken)):
            holders = tuple(Holder(space.hierarchy.levels[space.level].name, tensor) for tensor in made)
            places = (*chain.places, *((tensor, chain.tile) for tensor in made))
            whole = Chain((*chain.nodes, *holders), places, chain.tile)
            if found := option(space, positions, whole, (kept, taken)):
                yield found


def relaxed(space: Space, positions: range, kept: frozenset[str]) -> tuple[Body, ...] | None:
    """What every shared part of several Einsums leaves at most; nothing where there is none."""
    made = [t for t in space.found.writer if space.found.made_in(t, positions) and t not in kept]
    if not shareable(space.found, positions) or not all(space.holdable(t, positions) for t in made):
        return None
    whole = dict(space.cascade.ranks)
    chain = Chain((), tuple((tensor, whole) for tensor in made), whole)
    bodies = []
    for position in positions:
        body = _body(space, (positions, position), chain, (kept, space.size))
        base = space.problems[position]
        maybe = frozenset(
            n
            for n, tensor in enumerate(base.tensors)
            if n not in body.inside
            and space.holdable(tensor.name, positions)
            and any(user in positions and user < position for user in space.found.users(tensor.name))
        )
        bodies.append(replace(body, between=True, maybe=maybe))
    return tuple(bodies)


def _fits(
    space: Space, positions: range, tile: Tile, held: tuple[tuple[str, ...], frozenset[str], int]
) -> bool:
    """Whether tiles of what a run makes and of what is kept for it are not too large already."""
    made, kept, taken = held
    if space.size is None:
        return True
    whole = dict(space.cascade.ranks)
    taken += sum(space.held_bits(tensor, whole, space.everyone) for tensor in kept)
    bits = {tensor: space.held_bits(tensor, tile, positions) for tensor in made}
    return all(
        taken + sum(bits[t] for t in made if _lives(space, positions, t, n)) <= space.size for n in positions
    )


def _chains(
    space: Space, positions: range, tile: Tile, held: tuple[tuple[str, ...], frozenset[str], int]
) -> Iterator[Chain]:
    """Every useful order of shared loops and of tensors held between them."""
    made, kept, taken = held
    forced, free = _across(space, positions, tile, frozenset(made) | kept)
    last = dict(space.cascade.ranks) | tile
    for count in range(len(free) + 1):
        for chosen in itertools.combinations(free, count):
            least = sum(space.held_bits(tensor, last, positions) for tensor in (*forced, *chosen))
            if _fits(space, positions, last, (made, kept, taken + least)):
                for order in itertools.permutations((*forced, *chosen)):
                    yield from _ordered(space, positions, tile, order)


def _across(
    space: Space, positions: range, tile: Tile, settled: frozenset[str]
) -> tuple[list[str], list[str]]:
    """Tensors that must be, and may be, held outside shared loops or for several Einsums."""
    forced, free = [], []
    for tensor in dict.fromkeys(t for n in positions for t in space.found.tensors[n]):
        if tensor in settled:
            continue
        users = [n for n in space.found.users(tensor) if n in positions]
        lacks = not set(tile) <= set(space.found.tensors[users[0]][tensor][0].ranks)
        if lacks and space.found.writer.get(tensor) in positions:
            forced.append(tensor)
        elif (lacks or len(users) > 1) and space.holdable(tensor, positions):
            free.append(tensor)
    return forced, free


def _ordered(space: Space, positions: range, tile: Tile, order: tuple[str, ...]) -> Iterator[Chain]:
    has = [_ranks(space, positions, tensor) for tensor in order]
    result = [space.found.writer.get(tensor) in positions for tensor in order]
    if not all(space.holdable(tensor, positions) for tensor in order):
        return
    if any(
        one > other and a == b for (one, a), (other, b) in itertools.pairwise(zip(order, has, strict=True))
    ):
        return  # Nothing can lie between tensors of the same ranks: they have one order.
    ways = []
    for rank, last in tile.items():
        segments = [
            k
            for k in range(len(order) + 1)
            if (k == 0 or rank not in has[k - 1])
            and (k == len(order) or rank in has[k])
            and not any(written and rank not in has[n] for n, written in enumerate(result) if n >= k)
        ]
        ways.append(list(_cuts(space.cascade.ranks[rank], last, segments, len(order) + 1)))
    name = space.hierarchy.levels[space.level].name
    for cuts in itertools.product(*ways):
        tiles = dict(space.cascade.ranks)
        nodes: list[SharedNode] = []
        places: list[tuple[str, Tile]] = []
        for k in range(len(order) + 1):
            loops = []
            for rank, cut in zip(tile, cuts, strict=True):
                if cut[k] < tiles[rank]:
                    tiles[rank] = cut[k]
                    loops.append(TemporalLoop(rank, cut[k]))
            if not loops and 0 < k < len(order) and order[k - 1] > order[k]:
                break  # Neighbours without a loop between them have one order.
            nodes += loops
            if k < len(order):
                nodes.append(Holder(name, order[k]))
                places.append((order[k], dict(tiles)))
        else:
            yield Chain(tuple(nodes), tuple(places), tiles)


def _cuts(size: int, last: int, segments: list[int], count: int) -> Iterator[tuple[int, ...]]:
    """Tiles after each of ``count`` segments, from ``size`` down to ``last``, cut in some of them."""
    if not segments:
        return
    between = [tile for tile in _candidates(size, False) if tile % last == 0]
    for picks in itertools.product(between, repeat=len(segments) - 1):
        chain = (size, *picks, last)
        if any(a % b for a, b in itertools.pairwise(chain)):
            continue
        after, now = [], size
        ends = dict(zip(segments, chain[1:], strict=True))
        for k in range(count):
            now = ends.get(k, now)
            after.append(now)
        yield tuple(after)


def _ranks(space: Space, positions: range, tensor: str) -> frozenset[str]:
    users = (n for n in space.found.users(tensor) if n in positions)
    return frozenset(rank for n in users for rank in space.found.tensors[n][tensor][0].ranks)


def option(
    space: Space, positions: range, chain: Chain, keeping: tuple[frozenset[str], int]
) -> Option | None:
    """What a shared part leaves to each Einsum; nothing where it does not fit."""
    kept, taken = keeping
    whole = dict(space.cascade.ranks)
    taken += sum(space.held_bits(tensor, whole, space.everyone) for tensor in kept)
    bits = {tensor: space.held_bits(tensor, tile, positions) for tensor, tile in chain.places}
    bodies = []
    for position in positions:
        held = taken + sum(
            size for tensor, size in bits.items() if _lives(space, positions, tensor, position)
        )
        if space.size is not None and held > space.size:
            return None
        room = None if space.size is None else space.size - held
        bodies.append(_body(space, (positions, position), chain, (kept, room)))
    return Option(chain.nodes, tuple(bodies))


def _lives(space: Space, positions: range, tensor: str, position: int) -> bool:
    """Whether a tile takes room: one that the run makes does so from its writer to its last reader."""
    if not space.found.made_in(tensor, positions):
        return True
    users = [n for n in space.found.users(tensor) if n in positions]
    return users[0] <= position <= users[-1]


def _body(
    space: Space, where: tuple[range, int], chain: Chain, keeping: tuple[frozenset[str], int | None]
) -> Body:
    positions, position = where
    kept, room = keeping
    base, places = space.problems[position], dict(chain.places)
    inside, energy, bits, surplus = [], 0.0, [0.0, 0.0], [0.0, 0.0]
    for number, tensor in enumerate(base.tensors):
        if tensor.name not in kept and tensor.name not in places:
            continue
        inside.append(number)
        if not _pays(space, positions, (position, tensor.name), kept):
            continue
        tile = places.get(tensor.name, space.cascade.ranks)
        cost = _moves(space, base, number, tile)
        energy, bits = energy + cost[0], [bits[0] + cost[1], bits[1] + cost[2]]
        if number in space.free(position):
            surplus = [surplus[0] + cost[0], surplus[1] + cost[1]]
    return Body(
        tuple(chain.tile[rank] for rank in base.ranks),
        frozenset(inside),
        room,
        between=len(positions) == 1 and not inside,
        energy=energy,
        bits=(bits[0], bits[1]),
        surplus=(surplus[0], surplus[1]),
    )


def _pays(space: Space, positions: range, where: tuple[int, str], kept: frozenset[str]) -> bool:
    """Whether the Einsum is charged for the tensor's way from or to the outermost level."""
    position, tensor = where
    users, writer = space.found.users(tensor), space.found.writer.get(tensor)
    if writer == position:
        return tensor not in kept and space.found.drained(tensor, positions)
    if tensor in kept:
        return writer is None and users[0] == position
    return writer not in positions and next(n for n in users if n in positions) == position


def _moves(space: Space, base: Problem, number: int, tile: Mapping[str, int]) -> tuple[float, float, float]:
    """Energy, bits of the outermost level and of the level of fusion of one way between them."""
    tensor = base.tensors[number]
    sizes = dict(zip(base.ranks, base.sizes, strict=True))
    elements = moved(tensor.access, tile, sizes, dict(base.shapes).get(tensor.name))
    lacks = [rank for rank in base.ranks if rank not in tensor.access.ranks]
    again = 1 if tensor.kind == "output" else math.prod(-(-sizes[rank] // tile[rank]) for rank in lacks)
    outermost, inner = space.hierarchy.levels[0], space.hierarchy.levels[space.level]
    bits = float(elements * again * tensor.bits)
    if tensor.kind == "output":
        return bits * (inner.read_pj_per_bit + outermost.write_pj_per_bit), bits, bits
    return bits * (outermost.read_pj_per_bit + inner.write_pj_per_bit), bits, bits
