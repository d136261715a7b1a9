"""What a loop nest costs on a hierarchy: the definition, in exact arithmetic, one node after the other.

``docs/mapping.md`` states the same in words. Nothing here is tuned for speed: the mapper's search has
arithmetic of its own and is held to this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from archsim._errors import ArchsimError
from archsim._hierarchy import Hierarchy, Level
from archsim._nest import Holder, Nest, SpatialLoop, TemporalLoop, extents, moved, tensors_of
from workloads import Access


@dataclass(frozen=True, slots=True)
class LevelCost:
    """What one level does over the whole run, all of its instances together."""

    level: str
    read_bits: Fraction
    write_bits: Fraction
    energy_pj: float
    cycles: float
    """Bits over the bandwidth of the instances in use; 0 where it is unlimited."""
    held_bits: int
    """Bits that one instance must hold at once."""


@dataclass(frozen=True, slots=True)
class NestCost:
    """Energy and time of one Einsum."""

    levels: tuple[LevelCost, ...]
    mac_pj: float
    array_cycles: float
    """Steps of the array: the product of the temporal trips, on average over a ragged rank's tiles."""
    buffer_bits: int
    """Bits held at once by all instances in use of all levels but the outermost."""

    @property
    def energy_pj(self) -> float:
        """Energy of every level and of the arithmetic."""
        return math.fsum([self.mac_pj, *(level.energy_pj for level in self.levels)])

    @property
    def cycles(self) -> float:
        """The largest of the array's steps and of each level's time."""
        return max(self.array_cycles, *(level.cycles for level in self.levels))

    @property
    def edp(self) -> float:
        """Energy times cycles, in pJ cycles."""
        return self.energy_pj * self.cycles

    @property
    def dram_bits(self) -> float:
        """Bits that the outermost level reads and writes."""
        return float(self.levels[0].read_bits + self.levels[0].write_bits)


@dataclass(frozen=True, slots=True)
class _Place:
    """A holder, or compute at the bottom: what encloses it."""

    level: int
    """Number of the level; that of no level at compute."""
    elements: int
    """Elements of the tensor's tile here."""
    moved: int
    """Elements of all the tensor's tiles here, each taken once."""
    temporal: Mapping[str, Fraction]
    spatial: Mapping[str, Fraction]
    """Trips of each rank in the loops that enclose it."""


def evaluate_nest(nest: Nest, hierarchy: Hierarchy) -> NestCost:
    """The cost of ``nest`` on ``hierarchy``.

    A loop that cuts tiles of T into tiles of t makes as many trips as there are of these for one of
    those, on average: N ranks in tiles of T are ceil(N/T) tiles. Raises ArchsimError where the nest
    is not legal: order of levels, sizes of tiles, lanes, capacity.
    """
    places = _places(nest, hierarchy)
    reads, writes = _traffic(places, nest, hierarchy)
    held = _held_bits(places, nest, hierarchy)
    _check_capacity(held, hierarchy)
    costs, buffered = [], 0
    for number, level in enumerate(hierarchy.levels):
        lanes, whole = _instances(nest, hierarchy, number)
        costs.append(_level_cost(level, (reads[number], writes[number]), lanes, held[number]))
        buffered += held[number] * whole if number else 0
    operations = math.prod(size for _, size in nest.sizes)
    steps = operations / _instances(nest, hierarchy, len(hierarchy.levels))[0]
    return NestCost(tuple(costs), operations * hierarchy.mac_pj, float(steps), buffered)


def _level_cost(level: Level, bits: tuple[Fraction, Fraction], instances: Fraction, held: int) -> LevelCost:
    read, write = bits
    energy = float(read) * level.read_pj_per_bit + float(write) * level.write_pj_per_bit
    bandwidth = level.bandwidth_bits_per_cycle
    cycles = 0.0 if bandwidth is None else float((read + write) / instances) / bandwidth
    return LevelCost(level.name, read, write, energy, cycles, held)


def _traffic(
    places: Mapping[str, list[_Place]], nest: Nest, hierarchy: Hierarchy
) -> tuple[list[Fraction], list[Fraction]]:
    """Bits read from and written to each level."""
    reads = [Fraction(0) for _ in hierarchy.levels]
    writes = [Fraction(0) for _ in hierarchy.levels]
    for tensor, (access, kind) in tensors_of(nest.einsum).items():
        bits = hierarchy.bits(kind)
        for parent, child in zip(places[tensor], places[tensor][1:], strict=False):
            is_level = child.level < len(hierarchy.levels)
            # Ranks that the tensor has take it apart; the others visit all of it again.
            again = _irrelevant(child.temporal, access) * _irrelevant(child.spatial, access)
            every = again * child.moved * bits
            # One read of the parent serves every instance that wants the same elements.
            shared = _irrelevant(child.spatial, access) / _irrelevant(parent.spatial, access)
            if kind != "output":
                reads[parent.level] += every / shared
                if is_level:
                    writes[child.level] += every
                continue
            # The first visit of an element finds nothing to add to: it is neither read nor filled.
            first = every / _irrelevant(child.temporal, access)
            writes[parent.level] += every / shared
            reads[parent.level] += (every - first) / shared
            if is_level:
                writes[child.level] += every - first
                reads[child.level] += every
    return reads, writes


def _irrelevant(trips: Mapping[str, Fraction], access: Access) -> Fraction:
    """Trips of the ranks that the tensor lacks."""
    return math.prod((n for rank, n in trips.items() if rank not in access.ranks), start=Fraction(1))


def _places(nest: Nest, hierarchy: Hierarchy) -> dict[str, list[_Place]]:
    """Each tensor's holders from the outermost on, then compute; checks the order of the nodes."""
    tensors, shapes = tensors_of(nest.einsum), dict(nest.shapes)
    numbers = {level.name: number for number, level in enumerate(hierarchy.levels)}
    order = _Order(hierarchy)
    sizes = dict(nest.sizes)
    tiles = dict(sizes)
    temporal = {rank: Fraction(1) for rank in tiles}
    spatial = dict(temporal)
    places: dict[str, list[_Place]] = {tensor: [] for tensor in tensors}

    def place(tensor: str, level: int) -> None:
        access, shape = tensors[tensor][0], shapes.get(tensor)
        elements, total = math.prod(extents(access, tiles, shape)), moved(access, tiles, sizes, shape)
        places[tensor].append(_Place(level, elements, total, dict(temporal), dict(spatial)))

    for node in nest.nodes:
        match node:
            case Holder():
                if node.level not in numbers:
                    known = ", ".join(numbers)
                    raise ArchsimError(f"a holder's level must be one of {known}, not {node.level!r}")
                level = numbers[node.level]
                order.hold(level, node.tensor, [seen.level for seen in places[node.tensor]])
                place(node.tensor, level)
            case SpatialLoop() | TemporalLoop():
                size, outer = sizes[node.rank], tiles[node.rank]
                _check_tile(size, outer, node)
                trips = Fraction(-(-size // node.tile), -(-size // outer))
                if isinstance(node, SpatialLoop):
                    order.spread(node, -(-outer // node.tile))
                target = spatial if isinstance(node, SpatialLoop) else temporal
                target[node.rank] *= trips
                tiles[node.rank] = node.tile
    for rank, tile in tiles.items():
        if tile != 1:
            raise ArchsimError(f"the innermost loop over {rank} must have tiles of 1, not {tile}")
    for tensor in tensors:
        order.finish(tensor, [seen.level for seen in places[tensor]])
        place(tensor, len(hierarchy.levels))
    return places


def _check_tile(size: int, outer: int, loop: TemporalLoop | SpatialLoop) -> None:
    if not 1 <= loop.tile <= outer:
        raise ArchsimError(f"a tile of {loop.rank} must be 1 to {outer} here, not {loop.tile}")
    if outer % loop.tile and (outer != size or isinstance(loop, SpatialLoop)):
        raise ArchsimError(
            f"a tile of {loop.rank} must divide the tile of {outer} that it is cut from, not {loop.tile}"
        )


class _Order:
    """Checks that nodes come in the hierarchy's order, and that spatial dimensions are wide enough."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self._reached = 0
        self._used: dict[str, int] = {}

    def hold(self, level: int, tensor: str, outside: list[int]) -> None:
        name = self._hierarchy.levels[level].name
        if level < self._reached:
            raise ArchsimError(f"{name} must hold {tensor} outside whatever belongs to a level further in")
        if level in outside:
            raise ArchsimError(f"{name} must hold {tensor} once, not twice")
        if not outside and level:
            first = self._hierarchy.levels[0].name
            raise ArchsimError(f"{tensor} must be held by {first} outside {name}")
        self._reached = level

    def spread(self, loop: SpatialLoop, trips: int) -> None:
        for number, level in enumerate(self._hierarchy.levels):
            for dimension in level.spatial:
                if dimension.name == loop.dimension:
                    self._spread(number, loop, trips)
                    return
        raise ArchsimError(
            f"a spatial dimension must be one of {self._hierarchy.name}'s, not {loop.dimension!r}"
        )

    def _spread(self, level: int, loop: SpatialLoop, trips: int) -> None:
        dimension = next(d for d in self._hierarchy.levels[level].spatial if d.name == loop.dimension)
        if level < self._reached:
            raise ArchsimError(f"{dimension.name} must be spread over outside the levels further in")
        self._reached = level
        self._used[dimension.name] = self._used.get(dimension.name, 1) * trips
        if self._used[dimension.name] > dimension.size:
            raise ArchsimError(
                f"spatial dimension {dimension.name} must take at most {dimension.size},"
                f" not {self._used[dimension.name]}"
            )
        if dimension.ranks is not None and loop.rank not in dimension.ranks:
            raise ArchsimError(
                f"a rank spread over {dimension.name} must be one of {', '.join(dimension.ranks)},"
                f" not {loop.rank!r}"
            )

    def finish(self, tensor: str, levels: list[int]) -> None:
        if not levels or levels[0]:
            raise ArchsimError(f"{self._hierarchy.levels[0].name} must hold {tensor}")


def _instances(nest: Nest, hierarchy: Hierarchy, level: int) -> tuple[Fraction, int]:
    """Instances of ``level`` in use: on average as time counts them, and in all."""
    dimensions = {d.name for outer in hierarchy.levels[: level + 1] for d in outer.spatial}
    sizes = dict(nest.sizes)
    tiles, lanes, whole = dict(sizes), Fraction(1), 1
    for node in nest.nodes:
        if isinstance(node, Holder):
            continue
        outer, size = tiles[node.rank], sizes[node.rank]
        if isinstance(node, SpatialLoop) and node.dimension in dimensions:
            whole *= -(-outer // node.tile)
            if hierarchy.ragged_steps == "share":
                lanes *= Fraction(outer, node.tile)
            else:
                lanes *= Fraction(-(-size // node.tile), -(-size // outer))
        tiles[node.rank] = node.tile
    return lanes, whole


def _held_bits(places: Mapping[str, list[_Place]], nest: Nest, hierarchy: Hierarchy) -> list[int]:
    held = [0 for _ in hierarchy.levels]
    for tensor, (_, kind) in tensors_of(nest.einsum).items():
        for place in places[tensor][:-1]:
            twice = {tensor, kind} & set(hierarchy.levels[place.level].double_buffer)
            held[place.level] += place.elements * hierarchy.bits(kind) * (2 if twice else 1)
    return held


def _check_capacity(held: list[int], hierarchy: Hierarchy) -> None:
    for bits, level in zip(held, hierarchy.levels, strict=True):
        if level.size_bits is not None and bits > level.size_bits:
            raise ArchsimError(f"{level.name} must hold at most {level.size_bits} bits, not {bits}")
