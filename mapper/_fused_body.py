"""One Einsum inside a fused run: the exact search with the shared loops given.

Trips and elements of the kernels count over whole ranks, so that a body's search is the search of the
whole nest in which every tile divides the shared one. A tensor that the shared part holds is asked of the
level of fusion and moves nothing further out, but for what ``Body`` adds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from archsim._hierarchy import Hierarchy
from archsim._nest import Holder, Node, TemporalLoop
from mapper._exact import BEAM, _Search
from mapper._exact_arrays import Floats
from mapper._exact_kernel import tile_elements
from mapper._exact_nest import nest_of
from mapper._exact_problem import (
    _NO_SIDE,
    Pattern,
    Problem,
    _around,
    _beside,
    _candidates,
    _lists,
    _padded,
    _subsets,
    orders,
    sides_of,
)
from mapper._exact_stages import Incumbent, Run, Stage, _fill, _rates, _stage, _start

CLOSE = 1e-12
"""Relative rounding within which a value is its bound."""


@dataclass(frozen=True, slots=True)
class Body:
    """What the shared part leaves to an Einsum."""

    tile: tuple[int, ...]
    """What the shared loops leave of each rank."""
    inside: frozenset[int]
    """Tensors that the shared part holds."""
    room: int | None
    """Bits of the level of fusion that are left; None without limit."""
    between: bool = True
    """Whether levels outside the level of fusion may be used."""
    energy: float = 0.0
    """Energy of what the shared part moves for this Einsum."""
    bits: tuple[float, float] = (0.0, 0.0)
    """Bits that it moves at the outermost level and at the level of fusion."""
    surplus: tuple[float, float] = (0.0, 0.0)
    """Energy and outermost bits of that for tensors that another Einsum could have brought or kept."""
    maybe: frozenset[int] = frozenset()
    """Tensors that may be held by the shared part at no cost: of bounds, not of mappings."""

    def free(self, sizes: tuple[int, ...], room: int | None) -> Body:
        """The same without shared loops, with all the room, and nothing to add."""
        return Body(sizes, self.inside, room, maybe=self.maybe)


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A mapping of a body."""

    values: tuple[float, ...]
    """The metrics that the search adds up."""
    item: Problem
    run: Run
    used: int
    """Bits of the level of fusion that it holds itself."""


def solve(
    base: Problem, level: int, body: Body, metrics: tuple[int, ...], *, front: bool, bound: Floats | None
) -> tuple[tuple[Solution, ...], int]:
    """The best of one body, nothing where none fits, and how many partial mappings were evaluated.

    ``bound`` are values that nothing can better: a quick pass that reaches them is the proof.
    """
    item = body_problem(base, level, body)
    known = [
        (_stages(item, (level, each), pattern, metrics), pattern)
        for each in _settled(body)
        for pattern in _patterns(item, level, each)
    ]
    best = Incumbent.empty(metrics, front)
    known.sort(key=lambda pair: float(pair[0][0].least[metrics[0]]))
    search = _Search(item, known, best, None)
    search.sweep(relaxed=not front and metrics[0] == 0, beam=BEAM)
    if not _reaches(best, bound):
        search.prove(front)
    runs = best.chosen() if best.runs else []
    found = (Solution(run_values(run, metrics), item, run, _used(item, run, level)) for run in runs)
    return tuple(found), search.evaluated


def _settled(body: Body) -> Iterator[Body]:
    """The body with every choice of what may be held."""
    for count in range(len(body.maybe) + 1):
        for chosen in itertools.combinations(sorted(body.maybe), count):
            yield replace(body, inside=body.inside | set(chosen), maybe=frozenset())


def run_values(run: Run, metrics: tuple[int, ...]) -> tuple[float, ...]:
    """The wanted metrics of a complete mapping."""
    return tuple(run.metrics[metric] for metric in metrics)


def _reaches(best: Incumbent, bound: Floats | None) -> bool:
    if bound is None or len(best.runs) != 1:
        return False
    return bool((best.values[0] <= bound * (1 + CLOSE)).all())


def body_problem(base: Problem, level: int, body: Body) -> Problem:
    """The Einsum's tables with no tile larger than the shared one, on what is left of the hierarchy."""
    levels = list(base.hierarchy.levels)
    levels[level] = replace(levels[level], size_bits=body.room)
    hierarchy = replace(base.hierarchy, levels=tuple(levels))
    if body.tile == base.sizes:
        return replace(base, hierarchy=hierarchy)
    ragged = [base.imperfect and v == size for v, size in zip(body.tile, base.sizes, strict=True)]
    options = [_candidates(tile, each) for tile, each in zip(body.tile, ragged, strict=True)]
    tiles = np.maximum(_padded(options), 1)
    shares = np.array(base.sizes, np.float64)[:, None] / tiles
    widest = _widest(hierarchy)
    outer = _lists([_around(option, each) for option, each in zip(options, ragged, strict=True)])
    side = _lists([_beside(option, widest) for option in options])
    tables = base.tables._replace(
        tiles=tiles,
        trips=np.ceil(shares),
        steps=shares if hierarchy.ragged_steps == "share" else np.ceil(shares),
        outer_start=outer[0],
        outer_list=outer[1],
        side_start=side[0],
        side_list=side[1],
        least=visits(base, body),
    )
    return replace(base, hierarchy=hierarchy, tables=tables)


def visits(base: Problem, body: Body) -> Floats:
    """Fewest elements of each tensor that a holder of the body fetches: all, on each shared iteration."""
    again = np.ceil(np.array(base.sizes) / np.array(body.tile))
    least = base.tables.least.copy()
    for number, tensor in enumerate(base.tensors):
        if tensor.kind != "output":
            least[number] *= np.prod(again, where=~base.tables.relevant[number])
    return least


def _widest(hierarchy: Hierarchy) -> int:
    return max(d.size for level in hierarchy.levels for d in (*level.spatial, _NO_SIDE))


def _patterns(item: Problem, level: int, body: Body) -> Iterator[Pattern]:
    """Which level holds which tensors; the level of fusion those of the shared part too."""
    everything = tuple(range(len(item.tensors)))
    options = []
    for number, each in enumerate(item.hierarchy.levels[1:], start=1):
        found = list(_subsets(item, each))
        if number < level:
            found = [
                chosen for chosen in found if not chosen or (body.between and not body.inside & set(chosen))
            ]
        if number == level:
            found = [chosen for chosen in found if body.inside <= set(chosen)]
        options.append(found)
    for chosen in itertools.product(*options):
        if chosen[-1] or item.hierarchy.dataflow in ("any", "row-stationary"):
            pattern = (everything, *chosen)
            own = [_own(pattern, number, (level, body)) for number in range(1, len(pattern))]
            if all(any(orders(item, n, held)) or not held for n, held in enumerate(own, start=1)):
                yield pattern


def _own(pattern: Pattern, number: int, where: tuple[int, Body]) -> tuple[int, ...]:
    """Tensors that a level holds in the body."""
    level, body = where
    return tuple(t for t in pattern[number] if number != level or t not in body.inside)


def _stages(
    item: Problem, where: tuple[int, Body], pattern: Pattern, metrics: tuple[int, ...]
) -> tuple[Stage, ...]:
    levels = item.hierarchy.levels
    plan: list[tuple[int, int | None]] = [(len(levels), None)]
    for number in range(len(levels) - 1, 0, -1):
        if _own(pattern, number, where):
            plan.append((number, None))
        plan += [(number, side) for side in range(len(levels[number].spatial) - 1, -1, -1)]
    stages = [
        _adapted(item, where, pattern, _stage(item, pattern, metrics, (plan, number), np.zeros(5)))
        for number in range(len(plan))
    ]
    start = _start(item, stages[0], Incumbent.empty(metrics, True))
    stages[0] = replace(stages[0], least=start.bounds[0])
    return tuple(stages)


def _adapted(item: Problem, where: tuple[int, Body], pattern: Pattern, stage: Stage) -> Stage:
    """The stage without what the shared part's tensors would move outside the level of fusion."""
    level, body = where
    future = stage.outlook.future.copy()
    instances = stage.outlook.level_lanes
    for tensor in body.inside if stage.level > level else ():
        least = item.tables.least[tensor]
        for place, (energy, bits, spared, saved) in (
            (0, _rates(item, tensor, 0)),
            (level, tuple(_fill(item, level)[tensor])),
        ):
            future[0] -= least * energy - spared
            future[1 + place] -= (least * bits - saved) / instances[place]
    future = np.maximum(future, 0.0)
    future[0] += body.energy
    future[1] += body.bits[0]
    future[1 + level] += body.bits[1]
    own = _own(pattern, stage.level, where) if stage.orders else ()
    return replace(
        stage,
        orders=tuple(orders(item, stage.level, own)) if own else (),
        outlook=stage.outlook._replace(future=future, floor=floor(item, body)),
    )


def floor(item: Problem, body: Body) -> float:
    """Cycles that the outermost level needs at least."""
    bandwidth = item.hierarchy.levels[0].bandwidth_bits_per_cycle
    own = (n for n in range(len(item.tensors)) if n not in body.inside)
    bits = sum(float(item.tables.least[n]) * item.tensors[n].bits for n in own)
    return 0.0 if bandwidth is None else (bits + body.bits[0]) / bandwidth


def lower_bound(base: Problem, body: Body) -> Floats:
    """Latency, energy, EDP, traffic and held bits that every mapping of the body has at least.

    What is not shared moves once on each shared iteration; every lane works.
    """
    outermost, least = base.hierarchy.levels[0], visits(base, body)
    energy, traffic = base.macs * base.hierarchy.mac_pj + body.energy, body.bits[0]
    for number, tensor in enumerate(base.tensors):
        if number in body.inside | body.maybe:
            continue
        rate = outermost.write_pj_per_bit if tensor.kind == "output" else outermost.read_pj_per_bit
        energy += least[number] * tensor.bits * rate
        traffic += least[number] * tensor.bits
    bandwidth = outermost.bandwidth_bits_per_cycle
    latency = max(base.macs / base.hierarchy.macs, 0.0 if bandwidth is None else traffic / bandwidth)
    return np.array([latency, energy, latency * energy, traffic, 0.0])


def _used(item: Problem, run: Run, level: int) -> int:
    bits = 0.0
    for step in run.steps:
        if step.stage.level == level and step.stage.dimension is None:
            for tensor in step.order:
                twice = {item.tensors[tensor].name, item.tensors[tensor].kind} & set(
                    item.hierarchy.levels[level].double_buffer
                )
                vec = np.array(step.tiles[tensor], np.int64)
                width = item.tensors[tensor].bits * (2 if twice else 1)
                bits += width * float(tile_elements(tensor, vec, item.tables))
    return math.ceil(bits)


def body_nodes(base: Problem, solution: Solution, tile: dict[str, int]) -> tuple[Node, ...]:
    """The body's loops and holders, below shared loops that leave ``tile`` of each rank."""
    item = replace(
        solution.item, einsum=base.einsum, ranks=base.ranks, tensors=base.tensors, shapes=base.shapes
    )
    nodes: list[Node] = []
    left = dict(tile)
    for node in nest_of(item, solution.run).nodes:
        if isinstance(node, Holder) and node.level == item.hierarchy.levels[0].name:
            continue
        if isinstance(node, TemporalLoop) and left[node.rank] <= node.tile:
            continue
        if not isinstance(node, Holder):
            left[node.rank] = node.tile
        nodes.append(node)
    return tuple(nodes)


def signature(base: Problem) -> tuple[object, ...]:
    """What a body's search depends on: equal for Einsums of equal shape."""
    tables = tuple((table.shape, table.tobytes()) for table in base.tables)
    named = tuple(
        tuple(bool({tensor.name, tensor.kind} & set(names)) for tensor in base.tensors)
        for level in base.hierarchy.levels
        for names in (level.hold, level.bypass, level.double_buffer)
    )
    sides = tuple(
        sides_of(base, number, side).tobytes()
        for number, level in enumerate(base.hierarchy.levels)
        for side in range(len(level.spatial))
    )
    return (
        tables,
        named,
        sides,
        base.imperfect,
        tuple((tensor.kind, tensor.bits) for tensor in base.tensors),
    )
