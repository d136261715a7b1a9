"""The exact search's passes: the stages of one pattern of held tensors, run from the inside outwards."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from mapper._exact_arrays import Bools, Floats, Goal, Holders, Ints, Outlook, Side, States
from mapper._exact_kernel import beaten, bound, settle, spread, stack, undominated
from mapper._exact_problem import Pattern, Problem, orders, sides_of

CHUNK = 1 << 17
"""States that a kernel makes before dominance thins them."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One step outwards: a level's holders (``dimension`` is None), or one spatial dimension."""

    level: int
    dimension: int | None
    orders: tuple[tuple[int, ...], ...]
    """Orders of the holders, innermost first."""
    outlook: Outlook
    columns: Ints
    """Columns of costs that a later step can see."""
    strict_columns: Ints
    """The same when bandwidth is looked at."""
    least: Floats
    """The pattern's lower bound of each metric."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a found mapping."""

    stage: Stage
    idx: tuple[int, ...]
    """Tile after the stage, as candidates."""
    order: tuple[int, ...]
    tiles: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A complete mapping: its stages, innermost first."""

    steps: tuple[Step, ...]
    metrics: tuple[float, ...]


@dataclass(slots=True, eq=False)
class Incumbent:
    """The best complete mappings so far."""

    metrics: Ints
    front: bool
    values: Floats
    runs: list[Run]
    relaxed: bool = False
    missed: tuple[float, float] = (math.inf, math.inf)
    """Best value that looked possible without bandwidth, and was not."""

    @classmethod
    def empty(cls, metrics: tuple[int, ...], front: bool) -> Incumbent:
        """Nothing found: anything is better."""
        return cls(np.array(metrics, np.int64), front, np.full((1, len(metrics)), math.inf), [])

    def goal(self) -> Goal:
        """What the kernels need to know."""
        return Goal(self.metrics, self.values, not self.front, self.relaxed)

    def beats(self, bounds: Floats) -> bool:
        """Whether nothing within these bounds can be better."""
        return bool(beaten(bounds, self.goal()))

    def missed_matters(self) -> bool:
        """Whether the search without bandwidth saw something better than what was found."""
        bounds = np.zeros(5)
        bounds[self.metrics] = self.missed
        return not math.isinf(self.missed[0]) and not self.beats(bounds)

    def offer(self, run: Run) -> None:
        """Add a complete mapping; what it betters is dropped."""
        new = np.array([run.metrics[metric] for metric in self.metrics])
        if not self.front:
            self.values, self.runs = new[None, :], [run]
            return
        kept = [n for n in range(len(self.runs)) if not (new <= self.values[n] * (1 + 1e-11)).all()]
        self.values = np.array([*self.values[kept], new])
        self.runs = [*(self.runs[n] for n in kept), run]

    def chosen(self) -> list[Run]:
        """The mappings, by their first metric."""
        return [self.runs[n] for n in np.argsort(self.values[:, 0], kind="stable")]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pattern's run did."""

    evaluated: int
    open_bound: float
    """Least first metric of what a budget left unexplored; infinite where nothing was."""


def stages_of(item: Problem, pattern: Pattern, metrics: tuple[int, ...]) -> tuple[Stage, ...]:
    """The pattern's stages from the innermost outwards, with a first one for compute itself."""
    levels = item.hierarchy.levels
    plan: list[tuple[int, int | None]] = [(len(levels), None)]
    for level in range(len(levels) - 1, 0, -1):
        if pattern[level]:
            plan.append((level, None))
        plan += [(level, number) for number in range(len(levels[level].spatial) - 1, -1, -1)]
    least = _least_metrics(item, pattern)
    return tuple(_stage(item, pattern, metrics, (plan, number), least) for number in range(len(plan)))


def _stage(
    item: Problem, pattern: Pattern, metrics: tuple[int, ...],
    where: tuple[list[tuple[int, int | None]], int], least: Floats,
) -> Stage:  # fmt: skip
    plan, number = where
    level, dimension = plan[number]
    levels = item.hierarchy.levels
    later = plan[number + 1 :]
    sides = [(lev, levels[lev].spatial[dim].size) for lev, dim in later if dim is not None]
    parents = [max(n for n in range(level) if t in pattern[n]) for t in range(len(item.tensors))]
    at_once = [not any(lev > parent for lev, _ in sides) for parent in parents]
    strict = _columns(item, metrics, (sides, at_once), strict=True)
    return Stage(
        level=level,
        dimension=dimension,
        orders=tuple(orders(item, level, pattern[level]))
        if dimension is None and level < len(levels)
        else (),
        outlook=Outlook(
            place=_place(item, parents),
            at_once=np.array(at_once, np.bool_),
            lanes=float(math.prod(size for _, size in sides)),
            level_lanes=np.array(_instances(item)),
            future=_future(item, pattern, level),
            inverse=np.array(
                [0.0 if (each := lev.bandwidth_bits_per_cycle) is None else 1 / each for lev in levels]
            ),
            floor=floor_of(item),
            final=not later,
        ),
        columns=_columns(item, metrics, (sides, at_once), strict=False),
        strict_columns=strict,
        least=least,
    )


def _columns(
    item: Problem, metrics: tuple[int, ...], ahead: tuple[list[tuple[int, int]], list[bool]], *, strict: bool
) -> Ints:
    """Costs that two states covering the same tile must be compared in; savings have a negative sign."""
    sides, at_once = ahead
    levels, tensors = len(item.hierarchy.levels), len(item.tensors)
    limited = [
        n for n, level in enumerate(item.hierarchy.levels) if level.bandwidth_bits_per_cycle is not None
    ]
    seen = set(limited) if strict and {0, 2} & set(metrics) else set()
    seen |= {0} if 3 in metrics else set()
    found = [0, *([1] if {0, 2} & set(metrics) else []), *([2] if 4 in metrics else [])]
    found += [3 + level for level in sorted(seen)]
    found += [3 + levels + tensor for tensor in range(tensors) if not at_once[tensor]]
    if sides:
        found += [3 + levels + tensors, *(4 + levels + tensors + level for level in sorted(seen))]
    return np.array(found, np.int64)


def _rates(item: Problem, tensor: int, level: int) -> tuple[float, float, float, float]:
    """A parent's energy and bits for an element that its child asks, and what first visits save."""
    this, bits = item.hierarchy.levels[level], item.tensors[tensor].bits
    if item.tensors[tensor].kind != "output":
        return bits * this.read_pj_per_bit, float(bits), 0.0, 0.0
    saved = item.tables.least[tensor] * bits
    both = bits * (this.read_pj_per_bit + this.write_pj_per_bit)
    return both, 2.0 * bits, saved * this.read_pj_per_bit, saved


def _fill(item: Problem, level: int) -> Floats:
    """A level's own energy and bits for an element that a holder fetches, and what first visits save."""
    this, rows = item.hierarchy.levels[level], []
    for number, tensor in enumerate(item.tensors):
        if tensor.kind != "output":
            rows.append((tensor.bits * this.write_pj_per_bit, float(tensor.bits), 0.0, 0.0))
            continue
        saved = item.tables.least[number] * tensor.bits
        both = tensor.bits * (this.read_pj_per_bit + this.write_pj_per_bit)
        rows.append((both, 2.0 * tensor.bits, saved * this.write_pj_per_bit, saved))
    return np.array(rows, np.float64)


def _place(item: Problem, parents: list[int]) -> Floats:
    rows = [(float(parent), *_rates(item, tensor, parent)) for tensor, parent in enumerate(parents)]
    return np.array(rows, np.float64)


def _future(item: Problem, pattern: Pattern, level: int) -> Floats:
    """Least energy and bits of the holders further out than ``level``, and of their parents."""
    future = np.zeros(1 + len(item.hierarchy.levels))
    instances = _instances(item)
    for tensor in range(len(item.tensors)):
        holders = [n for n in range(min(level, len(pattern))) if tensor in pattern[n]]
        for parent, child in itertools.pairwise(holders):
            for where, (energy, bits, energy_saved, bits_saved) in (
                (parent, _rates(item, tensor, parent)),
                (child, tuple(_fill(item, child)[tensor])),
            ):
                future[0] += item.tables.least[tensor] * energy - energy_saved
                future[1 + where] += (item.tables.least[tensor] * bits - bits_saved) / instances[where]
    return future


def _instances(item: Problem) -> list[float]:
    """Most instances of each level."""
    fanouts = [level.fanout for level in item.hierarchy.levels]
    return [float(math.prod(fanouts[: number + 1])) for number in range(len(fanouts))]


def _least_metrics(item: Problem, pattern: Pattern) -> Floats:
    """Lower bounds of the five metrics under a pattern: every element moves once, every lane works."""
    levels = item.hierarchy.levels
    future = _future(item, pattern, len(levels) + 1)
    energy = future[0] + item.macs * item.hierarchy.mac_pj
    for tensor in range(len(item.tensors)):
        parent = max(n for n in range(len(levels)) if tensor in pattern[n])
        asked = max(
            item.macs / math.prod(level.fanout for level in levels[parent + 1 :]), item.tables.least[tensor]
        )
        rate, _, saved, _ = _rates(item, tensor, parent)
        energy += asked * rate - min(
            saved * _instances(item)[parent], asked * saved / item.tables.least[tensor]
        )
    latency = max(item.macs / item.hierarchy.macs, floor_of(item))
    traffic = sum(float(item.tables.least[n]) * tensor.bits for n, tensor in enumerate(item.tensors))
    return np.array([latency, energy, latency * energy, traffic, 0.0])


def floor_of(item: Problem) -> float:
    """Cycles that the outermost level needs to move each element once."""
    bandwidth = item.hierarchy.levels[0].bandwidth_bits_per_cycle
    bits = sum(float(item.tables.least[n]) * tensor.bits for n, tensor in enumerate(item.tensors))
    return 0.0 if bandwidth is None else bits / bandwidth


def run_pattern(
    item: Problem,
    pattern: Pattern,
    stages: tuple[Stage, ...],
    best: Incumbent,
    *,
    beam: int | None,
    budget: int | None,
) -> Outcome:
    """Extend one pattern's states through all its stages; what completes is offered to ``best``."""
    held = [_start(item, stages[0], best)]
    evaluated = 0
    for stage in stages[1:]:
        made, tally = _extend(
            item, stage, held[-1], best, None if beam or budget is None else budget - evaluated
        )
        evaluated += int(tally[0])
        if not math.isinf(tally[3]):
            # A partial mapping's own bound may be the looser: what first visits save is taken off it in full.
            return Outcome(evaluated, max(float(tally[3]), float(stages[0].least[best.metrics[0]])))
        held.append(_shorten(made, best, beam))
        if not len(held[-1].back):
            return Outcome(evaluated, math.inf)
    _offer(stages, held, best)
    return Outcome(evaluated, math.inf)


def _start(item: Problem, stage: Stage, best: Incumbent) -> States:
    """Compute alone: every operand is asked for once for each multiply-accumulate."""
    levels, tensors, ranks = len(item.hierarchy.levels), len(item.tensors), len(item.ranks)
    row = np.zeros((1, 4 + 2 * levels + tensors))
    row[0, 0], row[0, 1] = item.macs * item.hierarchy.mac_pj, item.macs
    row[0, 3 + levels : 3 + levels + tensors] = item.macs
    for tensor in np.flatnonzero(stage.outlook.at_once):
        settle(row[0], int(tensor), levels, stage.outlook.place)
    bounds = np.zeros((1, 5))
    bound(row[0], bounds[0], item.tables, stage.outlook, best.relaxed and not stage.outlook.final)
    one, tile = np.zeros(1, np.int64), np.zeros((1, ranks), np.int64)
    return States(tile, row, one, one, np.zeros((1, tensors, ranks), np.int64), bounds)


def _empty(item: Problem, rows: int) -> States:
    levels, tensors, ranks = len(item.hierarchy.levels), len(item.tensors), len(item.ranks)
    return States(
        np.empty((rows, ranks), np.int64), np.empty((rows, 4 + 2 * levels + tensors)),
        np.empty(rows, np.int64), np.empty(rows, np.int64),
        np.empty((rows, tensors, ranks), np.int64), np.empty((rows, 5)),
    )  # fmt: skip


def _extend(
    item: Problem, stage: Stage, states: States, best: Incumbent, budget: int | None
) -> tuple[States, Floats]:
    """All extensions of ``states`` that bounds and dominance leave; the tally has counts and open bounds."""
    tally = np.array([0.0, *best.missed, math.inf])
    batches: list[States] = []
    room = min(CHUNK, max(1 << 10, 16 * len(states.back)))
    for number in range(max(1, len(stage.orders))):
        first, start, out = 0, 0, _empty(item, room)
        while first < len(states.back):
            if budget is not None and tally[0] >= budget:
                tally[3] = float(np.min(states.bounds[:, best.metrics[0]]))
                return _empty(item, 0), tally
            last = len(states.back) if budget is None else min(len(states.back), first + 16)
            end, stopped = _call(item, stage, states, (best, number), (first, last), (out, start), tally)
            if end == start and stopped == first:
                room *= 2
            if stopped < last:
                batches.append(_thin(item, stage, _taken(out, slice(end)), best, number))
                room = min(CHUNK, 2 * room) if room < CHUNK else room
                start, out = 0, _empty(item, room)
            else:
                start = end
            first = stopped
        batches.append(_thin(item, stage, _taken(out, slice(start)), best, number))
    best.missed = (float(tally[1]), float(tally[2]))
    merged = batches[0] if len(batches) == 1 else _thin(item, stage, _joined(batches), best, None)
    return merged, tally


def _joined(batches: list[States]) -> States:
    columns = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return States._make(columns)


def _taken(states: States, chosen: Ints | Bools | slice) -> States:
    return States._make(column[chosen] for column in states)


def _call(
    item: Problem,
    stage: Stage,
    states: States,
    choice: tuple[Incumbent, int],
    part: tuple[int, int],
    output: tuple[States, int],
    tally: Floats,
) -> tuple[int, int]:
    best, number = choice
    level = item.hierarchy.levels[stage.level]
    if stage.dimension is not None:
        side = Side(level.spatial[stage.dimension].size, sides_of(item, stage.level, stage.dimension))
        return spread(part, states, side, item.tables, stage.outlook, best.goal(), *output, tally)
    doubled = [bool({tensor.name, tensor.kind} & set(level.double_buffer)) for tensor in item.tensors]
    holders = Holders(
        order=np.array(stage.orders[number], np.int64),
        level=stage.level,
        width=np.array(
            [tensor.bits * (1.0 + twice) for tensor, twice in zip(item.tensors, doubled, strict=True)]
        ),
        capacity=math.inf if level.size_bits is None else float(level.size_bits),
        fill=_fill(item, stage.level),
    )
    return stack(part, states, holders, item.tables, stage.outlook, best.goal(), *output, tally)


def _thin(item: Problem, stage: Stage, states: States, best: Incumbent, number: int | None) -> States:
    """Without the states that another of the same tile matches in all that later stages see."""
    if number is not None:
        states.order[:] = number
    if stage.outlook.final or not len(states.back):
        return states
    keys = states.idx @ item.key_steps()
    columns = stage.columns if best.relaxed else stage.strict_columns
    tensors, levels = len(item.tensors), len(item.hierarchy.levels)
    signs = np.where(columns >= 3 + levels + tensors, -1.0, 1.0)
    order = np.lexsort(
        (*(states.row[:, c] * s for c, s in zip(columns[::-1], signs[::-1], strict=True)), keys)
    )
    return _taken(states, undominated(keys, states.row, columns, signs, order))


def _shorten(states: States, best: Incumbent, beam: int | None) -> States:
    """Best bounds first, without what was beaten meanwhile; a beam keeps only the first."""
    keys = [states.bounds[:, metric] for metric in best.metrics[::-1]]
    order = np.lexsort(keys)
    if beam is not None:
        return _taken(states, order[:beam])
    return _taken(states, order)


def _offer(stages: tuple[Stage, ...], held: list[States], best: Incumbent) -> None:
    """Complete mappings; of one metric the kernel has left the best alone, known to ``best`` already."""
    for position in range(len(held[-1].back) if best.front else min(1, len(held[-1].back))):
        known = not best.front and len(held) > 1
        if known or not best.beats(held[-1].bounds[position]):
            best.offer(_run(stages, held, position))


def _run(stages: tuple[Stage, ...], held: list[States], position: int) -> Run:
    metrics = tuple(float(value) for value in held[-1].bounds[position])
    steps = []
    for stage, states in zip(stages[:0:-1], held[:0:-1], strict=True):
        order = stage.orders[states.order[position]] if stage.orders else ()
        tiles = tuple(tuple(int(c) for c in row) for row in states.tiles[position])
        steps.append(Step(stage, tuple(int(c) for c in states.idx[position]), order, tiles))
        position = int(states.back[position])
    return Run(tuple(steps[::-1]), metrics)
