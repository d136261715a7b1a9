"""What a fused mapping costs: the definition, one Einsum's whole nest after the other.

``docs/mapping.md`` states the same in words. An Einsum of a run costs what its nest costs, without what
a tensor that stays on chip does not move.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from archsim._errors import ArchsimError
from archsim._fused import (
    FusedNest,
    FusedRun,
    Uses,
    element_bits,
    shareable,
    tile_elements,
    uses,
    whole_nest,
)
from archsim._hierarchy import Hierarchy
from archsim._nest import Holder, Nest, TemporalLoop
from archsim._nest_cost import NestCost, _instances, _level_cost, _places, _traffic


@dataclass(frozen=True, slots=True)
class FusedCost:
    """Energy and time of a cascade whose Einsums take turns."""

    einsums: tuple[NestCost, ...]
    """Each mapped Einsum's; a level's ``held_bits`` has what stays there meanwhile for others too."""

    @property
    def energy_pj(self) -> float:
        """Energy of all Einsums."""
        return math.fsum(cost.energy_pj for cost in self.einsums)

    @property
    def cycles(self) -> float:
        """Cycles of all Einsums, one after the other."""
        return math.fsum(cost.cycles for cost in self.einsums)

    @property
    def edp(self) -> float:
        """Energy times cycles, in pJ cycles."""
        return self.energy_pj * self.cycles

    @property
    def dram_bits(self) -> float:
        """Bits that the outermost level reads and writes."""
        return math.fsum(cost.dram_bits for cost in self.einsums)

    @property
    def buffer_bits(self) -> int:
        """Most bits held at once on chip."""
        return max(cost.buffer_bits for cost in self.einsums)


def evaluate_fused(mapping: FusedNest, hierarchy: Hierarchy) -> FusedCost:
    """The cost of ``mapping`` on ``hierarchy``; raises ArchsimError where it is not legal."""
    found = uses(mapping.cascade)
    level = _level(mapping, hierarchy)
    covered = [position for run in mapping.runs for position in run.positions]
    if covered != list(range(len(found.einsums))):
        raise ArchsimError("the runs of a fused mapping must cover the cascade's Einsums once, in order")
    for run in mapping.runs:
        _check_run(mapping, found, hierarchy, run)
    costs = [
        _einsum_cost(mapping, found, hierarchy, (level, run, position))
        for run in mapping.runs
        for position in run.positions
    ]
    return FusedCost(tuple(costs))


def _level(mapping: FusedNest, hierarchy: Hierarchy) -> int:
    names = [level.name for level in hierarchy.levels]
    fused = bool(mapping.kept) or any(run.shared for run in mapping.runs)
    possible = fusion_levels(hierarchy) if fused else tuple(names)
    if mapping.level not in possible:
        raise ArchsimError(
            f"the level of fusion must be one of {', '.join(possible) or 'none here'}, not {mapping.level!r}"
        )
    return names.index(mapping.level)


def fusion_levels(hierarchy: Hierarchy) -> tuple[str, ...]:
    """Levels below the outermost of which there is one instance, outermost first.

    The innermost is none where a dataflow says what it holds outermost.
    """
    found, instances = [], 1
    for number, level in enumerate(hierarchy.levels[1:], start=1):
        instances *= level.fanout
        last = number == len(hierarchy.levels) - 1
        if instances == 1 and not (last and hierarchy.dataflow not in ("any", "row-stationary")):
            found.append(level.name)
    return tuple(found)


def _check_run(mapping: FusedNest, found: Uses, hierarchy: Hierarchy, run: FusedRun) -> None:
    loops = [node for node in run.shared if isinstance(node, TemporalLoop)]
    if bool(loops) != (len(run.bodies) > 1) or (run.shared and not loops):
        raise ArchsimError("a run of several Einsums must have shared loops, and one Einsum alone none")
    allowed = shareable(found, run.positions)
    for loop in loops:
        if loop.rank not in allowed:
            raise ArchsimError(
                f"a shared loop must be over {', '.join(allowed) or 'no rank here'}, not {loop.rank!r}"
            )
    held = [node.tensor for node in run.shared if isinstance(node, Holder)]
    for tensor in found.writer:
        if found.made_in(tensor, run.positions) and tensor not in mapping.kept:
            _check_made(tensor, run)
    if len(set(held) | set(mapping.kept)) != len(held) + len(mapping.kept):
        raise ArchsimError(f"{mapping.level} must hold each tensor of a run once: {', '.join(held)}")
    _check_results(mapping, found, run)
    between = [level.name for level in hierarchy.levels[1:]]
    between = between[: between.index(mapping.level)]
    for body in run.bodies if loops else ():
        if any(isinstance(node, Holder) and node.level in between for node in body):
            raise ArchsimError(f"a fused run must leave the levels outside {mapping.level} empty")


def _check_made(tensor: str, run: FusedRun) -> None:
    """What is made and read in the run is held below all of its loops."""
    after: list[str] = []
    for node in run.shared:
        after = [*after, node.tensor] if isinstance(node, Holder) else []
    if tensor not in after:
        raise ArchsimError(
            f"{tensor} must be held inside the shared loops of the run that makes and reads it"
        )


def _check_results(mapping: FusedNest, found: Uses, run: FusedRun) -> None:
    """A result is held outside the shared loops that sum it up."""
    for position in run.positions:
        output = found.einsums[position].output
        holders = [n for n, node in enumerate(run.shared) if node == Holder(mapping.level, output.tensor)]
        place = -1 if output.tensor in mapping.kept else holders[0] if holders else len(run.shared)
        for node in run.shared[: place + 1]:
            if isinstance(node, TemporalLoop) and node.rank not in output.ranks:
                raise ArchsimError(f"{output.tensor} must be held outside the shared loop over {node.rank}")


def _einsum_cost(
    mapping: FusedNest, found: Uses, hierarchy: Hierarchy, where: tuple[int, FusedRun, int]
) -> NestCost:
    level, run, position = where
    nest = whole_nest(mapping, found, hierarchy, position)
    places = _places(nest, hierarchy)
    shared = {node.tensor for node in run.shared if isinstance(node, Holder)} | set(mapping.kept)
    bodies = [
        sum(
            place.elements * _bits(nest, tensor, hierarchy, number)
            for tensor, each in places.items()
            for place in each
            if place.level == number and not (number == level and tensor in shared)
        )
        for number in range(len(hierarchy.levels))
    ]
    bodies[level] += _live_bits(mapping, found, hierarchy, where)
    for bits, each in zip(bodies, hierarchy.levels, strict=True):
        if each.size_bits is not None and bits > each.size_bits:
            raise ArchsimError(f"{each.name} must hold at most {each.size_bits} bits, not {bits}")
    charged = {
        tensor: each[1:] if tensor in shared and not pays(mapping, found, run, (position, tensor)) else each
        for tensor, each in places.items()
    }
    return _cost(nest, hierarchy, _traffic(charged, nest, hierarchy), bodies)


def _bits(nest: Nest, tensor: str, hierarchy: Hierarchy, level: int) -> int:
    inputs = [access.tensor for access in nest.einsum.inputs]
    kind = "output" if tensor not in inputs else "input" if tensor == inputs[0] else "weight"
    doubled = {tensor, kind} & set(hierarchy.levels[level].double_buffer)
    bits = {"input": hierarchy.input_bits, "weight": hierarchy.weight_bits, "output": hierarchy.output_bits}
    return bits[kind] * (2 if doubled else 1)


def _cost(
    nest: Nest, hierarchy: Hierarchy, traffic: tuple[list[Fraction], list[Fraction]], held: list[int]
) -> NestCost:
    reads, writes = traffic
    costs, buffered = [], 0
    for number, level in enumerate(hierarchy.levels):
        lanes, whole = _instances(nest, hierarchy, number)
        costs.append(_level_cost(level, (reads[number], writes[number]), lanes, held[number]))
        buffered += held[number] * whole if number else 0
    operations = math.prod(size for _, size in nest.sizes)
    steps = operations / _instances(nest, hierarchy, len(hierarchy.levels))[0]
    return NestCost(tuple(costs), operations * hierarchy.mac_pj, float(steps), buffered)


def pays(mapping: FusedNest, found: Uses, run: FusedRun, where: tuple[int, str]) -> bool:
    """Whether the Einsum is charged for a shared tensor's way from or to the outermost level.

    The writer is where somebody outside the run reads it from there; of readers of what comes from
    there, the first of the run, or of all where the tensor is kept.
    """
    position, tensor = where
    if found.writer.get(tensor) == position:
        return tensor not in mapping.kept and found.drained(tensor, run.positions)
    if tensor in mapping.kept:
        return tensor not in found.writer and found.users(tensor)[0] == position
    if found.writer.get(tensor, -1) in run.positions:
        return False
    return next(n for n in found.users(tensor) if n in run.positions) == position


def _live_bits(
    mapping: FusedNest, found: Uses, hierarchy: Hierarchy, where: tuple[int, FusedRun, int]
) -> int:
    """Bits of the fusion level that are taken while an Einsum runs, other than by its own body."""
    level, run, position = where
    return sum(
        elements * element_bits(found, tensor, hierarchy, level, users)
        for tensor, elements, users in _live(mapping, found, run, position)
    )


def _live(mapping: FusedNest, found: Uses, run: FusedRun, position: int) -> Iterator[tuple[str, int, range]]:
    """Tensors on chip with the elements of their tile and the Einsums that it serves."""
    cascade = mapping.cascade
    everyone = range(len(found.einsums))
    for tensor in mapping.kept:
        users = found.users(tensor)
        if users[0] < run.positions.stop and users[-1] >= run.first:
            yield tensor, tile_elements(found, tensor, cascade.ranks, cascade, everyone), everyone
    tiles = dict(cascade.ranks)
    for node in run.shared:
        if isinstance(node, TemporalLoop):
            tiles[node.rank] = node.tile
            continue
        users = tuple(n for n in found.users(node.tensor) if n in run.positions)
        made = found.made_in(node.tensor, run.positions)
        if not made or users[0] <= position <= users[-1]:
            yield (
                node.tensor,
                tile_elements(found, node.tensor, tiles, cascade, run.positions),
                run.positions,
            )
