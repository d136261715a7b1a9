"""Words between memory, buffer and arrays: what a bound cascade moves, by where its scores live.

Three ways to run attention, by what stays on chip. *Blocked*: a one-pass cascade keeps a block of query
rows with its running results, and keys and values stream by. *Whole rows*: a tile of query rows keeps
its scores against all keys. *Apart*: one group of Einsums after another, each from memory to memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from archsim._errors import ArchsimError
from archsim._spatial import Spatial, Unit
from archsim._spatial_bind import Binding, Work
from workloads import Access

Moved = tuple[str, str]
"""(read or write, tensor)."""


@dataclass(slots=True)
class Traffic:
    """Words moved for one head of one sequence."""

    dram: Counter[Moved] = field(default_factory=Counter)
    buffer: Counter[Moved] = field(default_factory=Counter)

    @property
    def dram_words(self) -> int:
        """Words to and from memory."""
        return sum(self.dram.values())

    def add(self, other: Traffic) -> None:
        """Count what ``other`` moves as well."""
        self.dram.update(other.dram)
        self.buffer.update(other.buffer)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A tensor of scores that another array, or a later trip over the keys, needs."""

    tensor: str
    words: int
    stages: frozenset[tuple[Unit, int]]
    """Arrays and trips over the keys that take it from where it is kept."""
    tall: bool
    """Whether a whole tile of query rows is kept: it leaves an array, or is the 2D array's; else one row."""


def crossings(bound: Binding) -> list[Crossing]:
    """The scores that are kept between arrays and trips; what stays in the array's elements is none."""
    found = []
    for work in bound.works:
        if {bound.keys, bound.queries} <= set(work.einsum.output.ranks):
            stages = _stages(bound.readers(work.tensor))
            if kept := frozenset(stage for stage in stages if not _in_hand(stage, work, bound)):
                tall = work.unit == "array" or any(unit != work.unit for unit, _ in stages)
                words = bound.size(work.einsum.output.ranks)
                found.append(Crossing(work.tensor, words, kept, tall))
    return found


def _stages(works: Iterable[Work]) -> set[tuple[Unit, int]]:
    return {(work.unit, work.trip) for work in works}


def _in_hand(stage: tuple[Unit, int], work: Work, bound: Binding) -> bool:
    """Whether the result is where ``stage`` needs it without a visit to the buffer."""
    unit, trip = stage
    machine = bound.machine
    if unit == work.unit:
        fits = bound.cascade.ranks[bound.keys] <= machine.rows * machine.element_words
        return trip == work.trip or (unit == "array" and fits)
    return machine.assumptions.results_stream and unit == "vector" and trip == work.trip


def _operands(bound: Binding) -> list[Access]:
    """The tensors that come from outside, once each."""
    found = {a.tensor: a for w in bound.works for a in w.einsum.inputs if a.tensor not in bound.made}
    return list(found.values())


def _results(bound: Binding) -> list[Access]:
    """The tensors that nothing in the cascade reads."""
    read = {access.tensor for work in bound.works for access in work.einsum.inputs}
    return [work.einsum.output for work in bound.works if work.tensor not in read]


# Blocked -------------------------------------------------------------------------------------------


def block_rows(bound: Binding) -> int:
    """Query rows of a block: the largest divisor, in whole columns of the array, that the buffer holds.

    Held for each row are the operands and running results along the queries, and scores that leave an
    array; beside them one tile of keys and values. Raises ArchsimError where not even one tile fits.
    """
    machine, sizes = bound.machine, bound.cascade.ranks
    rows = _row_words(bound)
    tile = sum(
        bound.size(rank for rank in access.ranks if rank != bound.tiles)
        for access in _operands(bound)
        if bound.queries not in access.ranks
    )
    room = (machine.assumptions.block_bytes or machine.buffer.bytes) // machine.word_bytes - tile
    waves = max(1, sizes[bound.queries] // machine.cols)
    fitting = [n for n in _divisors(waves) if n * machine.cols * rows <= room]
    if not fitting:
        raise ArchsimError(
            f"buffer.bytes must hold {machine.cols} query rows of {rows} words and {tile} words of keys and"
            f" values, not {machine.buffer.bytes} bytes"
        )
    return min(max(fitting) * machine.cols, sizes[bound.queries])


def _row_words(bound: Binding) -> int:
    """Words that are held for each query row of a block."""
    along = [access for access in _operands(bound) if bound.queries in access.ranks]
    along += [work.einsum.output for work in _running(bound)]
    words = sum(bound.size(set(access.ranks) - {bound.queries, bound.tiles}) for access in along)
    return words + bound.cascade.ranks[bound.keys] * len(crossings(bound))


def _running(bound: Binding) -> list[Work]:
    """The Einsums whose results are carried from tile to tile."""
    return [w for w in bound.works if any(i.terms and i.offset for i in w.einsum.output.indices)]


def blocked(bound: Binding) -> Traffic:
    """A one-pass cascade: keys and values once for each block, all else once.

    Running results are read and written for each tile, and read once more by what follows the last.
    """
    moved, sizes = Traffic(), bound.cascade.ranks
    rows = block_rows(bound)
    blocks = -(-sizes[bound.queries] // rows)
    tiles = sizes[bound.tiles] if bound.tiles else 1
    waves = -(-sizes[bound.queries] // bound.machine.cols)
    for access in _operands(bound):
        words = bound.size(access.ranks)
        along = bound.queries in access.ranks
        moved.dram["read", access.tensor] += words * (1 if along else blocks)
        moved.buffer["write", access.tensor] += words * (1 if along else blocks)
        moved.buffer["read", access.tensor] += words * (tiles if along else waves)
    for work in _running(bound):
        words = bound.size(work.einsum.output.ranks)
        after = any(bound.tiles not in reader.einsum.ranks for reader in bound.readers(work.tensor))
        moved.buffer["read", work.tensor] += words + (words // tiles if after else 0)
        moved.buffer["write", work.tensor] += words
    for crossing in crossings(bound):
        moved.buffer["write", crossing.tensor] += crossing.words
        moved.buffer["read", crossing.tensor] += crossing.words * len(crossing.stages)
    for access in _results(bound):
        moved.dram["write", access.tensor] += bound.size(access.ranks)
    return moved


def _divisors(number: int) -> list[int]:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


# Whole rows ----------------------------------------------------------------------------------------


def by_rows(bound: Binding) -> Traffic:
    """A cascade of several passes, fused over tiles of whole rows where these fit the buffer.

    A tile is as many query rows as the array has columns, or more where the buffer holds their scores
    beside all keys and values. Scores and weights take each other's place. Where only the tile fits, what
    is left holds a part of keys and values, and the rest is read again for each tile. Where the tile does
    not fit, scores of which a whole tile is kept go to memory and back.
    """
    machine, sizes = bound.machine, bound.cascade.ranks
    queries, keys = sizes[bound.queries], sizes[bound.keys]
    shared = [access for access in _operands(bound) if bound.queries not in access.ranks]
    held = sum(bound.size(access.ranks) for access in shared)
    fits = min(machine.cols, queries) * keys <= machine.buffer_words
    rows = machine.assumptions.spilled_rows
    missing = 1.0
    if fits:
        tiles = [n * machine.cols for n in _divisors(max(1, queries // machine.cols))]
        with_all = [n for n in tiles if n * keys + held <= machine.buffer_words]
        rows = max(with_all, default=machine.cols)
        missing = 1.0 - min(1.0, max(0, machine.buffer_words - rows * keys) / held)
    rows = min(rows, queries)
    blocks = -(-queries // rows)
    moved = Traffic()
    for access in _operands(bound):
        words = bound.size(access.ranks)
        again = 0 if bound.queries in access.ranks else round(words * missing) * (blocks - 1)
        moved.dram["read", access.tensor] += words + again
    for access in _results(bound):
        moved.dram["write", access.tensor] += bound.size(access.ranks)
    _keep_scores(moved, bound, spilled=not fits)
    for work in bound.works:
        if work.einsum.is_product:
            moved.add(_operand_reads(work, bound, rows=rows, blocks=blocks, dram=moved.dram))
    return moved


def _keep_scores(moved: Traffic, bound: Binding, *, spilled: bool) -> None:
    """Scores in the buffer; or in memory and back, through the buffer only where they are read twice."""
    for crossing in crossings(bound):
        away = spilled and crossing.tall
        if away:
            moved.dram["write", crossing.tensor] += crossing.words
            moved.dram["read", crossing.tensor] += crossing.words
        if not away or len(crossing.stages) > 1:
            moved.buffer["write", crossing.tensor] += crossing.words
            moved.buffer["read", crossing.tensor] += crossing.words * len(crossing.stages)


# Apart ---------------------------------------------------------------------------------------------


def groups(bound: Binding) -> list[tuple[Work, ...]]:
    """Runs of Einsums on one array, as they follow each other."""
    found: list[list[Work]] = []
    for work in bound.works:
        if found and found[-1][-1].unit == work.unit:
            found[-1].append(work)
        else:
            found.append([work])
    return [tuple(group) for group in found]


def apart(bound: Binding) -> list[Traffic]:
    """For each of ``groups`` what it moves, all of its inputs and results in memory."""
    return [_group(group, bound) for group in groups(bound)]


def _group(group: Sequence[Work], bound: Binding) -> Traffic:
    moved = Traffic()
    inside = {work.tensor for work in group}
    for access in {a.tensor: a for w in group for a in w.einsum.inputs}.values():
        if access.tensor not in inside:
            moved.dram["read", access.tensor] += bound.size(access.ranks)
    for work in group:
        readers = bound.readers(work.tensor)
        if not readers or any(reader not in group for reader in readers):
            moved.dram["write", work.tensor] += bound.size(work.einsum.output.ranks)
    for work in group:
        if work.einsum.is_product:
            _reread(moved, work, bound)
            moved.add(_operand_reads(work, bound, rows=bound.cascade.ranks[bound.queries], blocks=1,
                                     dram=moved.dram))  # fmt: skip
    for crossing in crossings(bound):
        _group_scores(moved, crossing, group, bound)
    return moved


def _group_scores(moved: Traffic, crossing: Crossing, group: Sequence[Work], bound: Binding) -> None:
    """Scores that a group comes back to: in the buffer, or in memory where a row or a tile does not fit."""
    stages = _stages(work for work in group if work in bound.readers(crossing.tensor)) & crossing.stages
    made = any(work.tensor == crossing.tensor for work in group)
    rows = min(bound.machine.cols, bound.cascade.ranks[bound.queries]) if crossing.tall and made else 1
    fits = rows * bound.cascade.ranks[bound.keys] <= bound.machine.buffer_words
    if not stages or (len(stages) == 1 and not made):
        return
    if fits:
        moved.buffer["write", crossing.tensor] += crossing.words
        moved.buffer["read", crossing.tensor] += crossing.words * len(stages)
        return
    moved.dram["read", crossing.tensor] += crossing.words * (len(stages) - (not made))
    moved.dram["write", crossing.tensor] = crossing.words


def _reread(moved: Traffic, work: Work, bound: Binding) -> None:
    """Readings after the first, of a product whose operands do not fit the buffer."""
    first, second, (x, y, k) = _factors(work, bound)
    words = bound.machine.buffer_words
    side = max(1, math.isqrt(words))
    choices = [
        (1, -(-x // max(1, words // k))),
        (-(-y // max(1, words // k)), 1),
        *((-(-y // n), -(-x // max(1, words // n))) for n in (side // 2, side, side * 2) if n),
    ]
    times = min(choices, key=lambda pair: pair[0] * x * k + pair[1] * y * k)
    moved.dram["read", first.tensor] *= times[0]
    moved.dram["read", second.tensor] *= times[1]


# Products ------------------------------------------------------------------------------------------


def _factors(work: Work, bound: Binding) -> tuple[Access, Access, tuple[int, int, int]]:
    """The two operands of a product, and its sizes: the first's own, the second's own, the summed."""
    first, second = work.einsum.inputs
    summed = set(work.einsum.reduced_ranks)
    sizes = [bound.size(set(a.ranks) - summed) for a in (first, second)]
    return first, second, (sizes[0], sizes[1], bound.size(summed))


def _operand_reads(work: Work, bound: Binding, *, rows: int, blocks: int, dram: Counter[Moved]) -> Traffic:
    """Buffer words of a product's operands and partial sums, one of the three tensors stationary.

    The array holds the one that costs the least energy. An operand that each block takes once from memory
    goes straight to the array.
    """
    machine = bound.machine
    first, second, (x, y, k) = _factors(work, bound)
    cut = [size // blocks if bound.queries in a.ranks else size for a, size in ((first, x), (second, y))]
    (x, y), again = (cut[0], cut[1]), blocks
    best = min(stationary(x, y, k, machine), key=lambda way: _energy(way, (x * k, y * k, x * y), machine))
    moved = Traffic()
    for access, words, times in ((first, x * k, best[0]), (second, y * k, best[1])):
        if access.tensor in bound.made:
            moved.buffer["read", access.tensor] += words * (times - 1) * again
        elif times * words * again > dram["read", access.tensor]:
            moved.buffer["write", access.tensor] += dram["read", access.tensor]
            moved.buffer["read", access.tensor] += words * times * again
    moved.buffer["read", work.tensor] += x * y * best[2] * again
    moved.buffer["write", work.tensor] += x * y * best[2] * again
    return moved


def stationary(x: int, y: int, k: int, machine: Spatial) -> list[tuple[int, int, int]]:
    """Readings of each operand, and trips of partial sums to the buffer, with each tensor held in turn.

    For ``Z[x, y] = X[x, k] * Y[k, y]``, with Z, X and Y in place.
    """
    sums = -(-k // machine.rows) - 1
    return [
        (-(-y // machine.cols), -(-x // machine.rows), 0),
        (1, -(-x // machine.cols), sums),
        (-(-y // machine.cols), 1, sums),
    ]


def _energy(way: tuple[int, int, int], words: tuple[int, int, int], machine: Spatial) -> float:
    read, write = machine.buffer.read_pj_per_word, machine.buffer.write_pj_per_word
    operands = sum(times * size for times, size in zip(way[:2], words[:2], strict=True))
    return operands * read + way[2] * words[2] * (read + write)
