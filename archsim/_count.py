"""Closed forms: what a kernel's tiling costs, without running anything.

The second opinion to the simulator: derived from the loop nest alone. Every function takes
numpy arrays of tilings as well as single ones, so that the mapper evaluates them in bulk.

An operand is loaded once for each iteration of the loops down to the innermost one that changes
it. Counts are exact. Cycles are a lower bound: engines overlap perfectly, but the first tile
must arrive before the array starts, and the last one must be drained and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture
from archsim._counters import Counter
from archsim._isa import TABLE_ENTRIES
from archsim._plan import ProductPlan, RowPlan
from archsim._tiling import Ints, Tilings
from archsim._timing import STORE_LEAD, array_latency, vector_latency
from workloads import Elementwise, Normalise, Requantise, Softmax


@dataclass(frozen=True, slots=True)
class Counts:
    """Action counts by counter, DRAM beats by tensor, and a lower bound of the cycles."""

    counters: Mapping[Counter, Ints]
    cycles: Ints
    reads: Mapping[str, Ints] = field(default_factory=dict)
    """AXI read beats of each tensor."""
    writes: Mapping[str, Ints] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Split:
    """A dimension in tiles: ``full`` tiles of ``tile`` units and one of ``rest``."""

    total: int
    tile: Ints

    @property
    def full(self) -> Ints:
        return self.total // self.tile

    @property
    def rest(self) -> Ints:
        return self.total % self.tile

    @property
    def trips(self) -> Ints:
        return self.full + (self.rest > 0)

    @property
    def last(self) -> Ints:
        """Units of the last tile."""
        return np.where(self.rest > 0, self.rest, self.tile)


class _Costs:
    """Shared arithmetic of one machine."""

    def __init__(self, arch: Architecture) -> None:
        self.arch = arch
        self.granule = max(1, arch.bus.bytes // arch.word_bytes)
        self.drain = vector_latency(arch.array.cols)

    def align(self, rows: Ints) -> Ints:
        return -(-rows // self.granule) * self.granule

    def beats(self, words: Ints) -> Ints:
        """Bus beats of a run of ``words`` scratchpad words."""
        return -(-words * self.arch.word_bytes // self.arch.bus.bytes)

    def summed(self, split: _Split, of: Callable[[Ints], Ints]) -> Ints:
        """Sum of ``of(units)`` over the tiles of ``split``."""
        ragged = np.where(split.rest > 0, of(np.maximum(split.rest, 1)), 0)
        return np.asarray(split.full * of(split.tile) + ragged)


def count_product(plan: ProductPlan, arch: Architecture, tilings: Tilings) -> Counts:
    """Counts and cycles of a product kernel under each of ``tilings``."""
    return _ProductCosts(plan, arch, tilings).counts()


def count_rows(plan: RowPlan, arch: Architecture, rows: Ints) -> Counts:
    """Counts and cycles of a row kernel for each tile height in ``rows``."""
    costs = _Costs(arch)
    split = _Split(plan.rows, np.minimum(rows, plan.rows))
    words = plan.blocks * plan.chunks * costs.summed(split, costs.align)
    parameters = costs.beats(np.full_like(rows, 8 * plan.parameter_sets * plan.chunks))
    beats = costs.beats(words)
    passes, from_scratchpad, second = _row_passes(plan)
    slots = np.full_like(rows, plan.blocks * plan.rows * plan.chunks)
    busy = passes * (slots + costs.drain * plan.blocks * split.trips)
    several = int(passes > 1)
    affine = 2 if several else 1
    reads: dict[str, Ints] = {}
    for storage in plan.sources:
        reads[storage.tensor] = reads.get(storage.tensor, np.zeros_like(beats)) + beats
    load = beats * len(plan.sources) + parameters
    counters = {
        Counter.LOAD_BEATS: load,
        Counter.STORE_BEATS: beats,
        Counter.VECTOR_SLOTS: passes * slots,
        Counter.VECTOR_BUSY: busy,
        Counter.SCRATCHPAD_READS: (from_scratchpad + second) * slots,
        Counter.SCRATCHPAD_WRITES: slots,
        Counter.PARAMETER_READS: affine * slots,
        Counter.BUFFER_READS: (several if plan.sources else 1) * slots,
        Counter.BUFFER_WRITES: several * slots,
        Counter.TABLE_READS: int(passes == 3) * slots,
    }
    memory = arch.memory
    tail = costs.beats(plan.chunks * costs.align(split.last)) * memory.write_interval + memory.write_latency
    vector = busy + passes * plan.blocks * split.trips
    cycles = np.maximum(
        load * memory.read_interval + memory.read_latency,
        np.maximum(vector + tail, beats * memory.write_interval),
    )
    return Counts(
        counters,
        cycles,
        reads | {f"parameters:{plan.kernel.name}": parameters},
        {plan.output.tensor: beats},
    )


def count_table(arch: Architecture) -> dict[Counter, int]:
    """Counts of loading one function table."""
    beats = -(-TABLE_ENTRIES * arch.word_bytes // arch.bus.bytes)
    return {
        Counter.LOAD_BEATS: beats,
        Counter.VECTOR_BUSY: TABLE_ENTRIES + vector_latency(arch.array.cols),
        Counter.SCRATCHPAD_READS: TABLE_ENTRIES,
    }


def table_cycles(arch: Architecture) -> int:
    """Cycles that loading one function table takes at least: nothing overlaps it."""
    counts = count_table(arch)
    return (
        arch.memory.read_latency
        + counts[Counter.LOAD_BEATS] * arch.memory.read_interval
        + counts[Counter.VECTOR_BUSY]
    )


def _row_passes(plan: RowPlan) -> tuple[int, int, int]:
    """(passes, passes that read the scratchpad, passes that read a second operand)."""
    second = int(len(plan.sources) > 1)
    if isinstance(plan.kernel, Elementwise) or isinstance(plan.kernel.epilogue, Requantise):
        return 1, int(bool(plan.sources)), second
    if isinstance(plan.kernel.epilogue, Normalise):
        return 2, 1, second
    return 3, 2, 0


class _ProductCosts(_Costs):
    def __init__(self, plan: ProductPlan, arch: Architecture, tilings: Tilings) -> None:
        super().__init__(arch)
        self.plan = plan
        self.rows = _Split(plan.rows, np.minimum(tilings.rows, plan.rows))
        self.chunks = np.minimum(tilings.col_chunks, plan.col_chunks)
        self.cols = _Split(plan.cols, self.chunks * plan.group)
        self.inner = _Split(plan.inner_chunks, np.minimum(tilings.inner_chunks, plan.inner_chunks))
        self.cols_outer = tilings.cols_outer
        self.batch = prod(plan.batch)
        self.softmax = isinstance(plan.kernel.epilogue, Softmax)
        several = np.asarray(self.cols.trips > 1)
        self.phased = several & np.bool_(self.softmax)
        self.sweeps = np.where(self.phased, 3, 1)
        self.col_sweeps = np.where(self.cols_outer, 1, self.rows.trips)
        self.w_rows = plan.group if plan.transposed else plan.inner_group

    def counts(self) -> Counts:
        plan = self.plan
        reads = {plan.streamed.tensor: self._streamed()}
        reads[plan.stationary.tensor] = reads.get(plan.stationary.tensor, 0) + self._stationary()
        reads[f"parameters:{plan.kernel.name}"] = self._parameters()
        output = self.batch * self._panels()
        if plan.residual is not None:
            reads[plan.residual.tensor] = reads.get(plan.residual.tensor, 0) + output
        load = np.asarray(sum(reads.values()))
        counters = self._array_counters() | self._vector_counters()
        counters[Counter.LOAD_BEATS] = load
        counters[Counter.STORE_BEATS] = output
        counters[Counter.SCRATCHPAD_READS] = (
            counters[Counter.SCRATCHPAD_READS]
            + counters[Counter.ARRAY_ROWS]
            + counters[Counter.ARRAY_WEIGHT_ROWS]
        )
        return Counts(counters, self._cycles(counters), reads, {plan.output.tensor: output})

    # Memory traffic in beats.

    def _batch_loads(self, loop_inside: NDArray[np.bool_], changes: tuple[bool, ...]) -> Ints:
        """Loads over the batch loops: all points if a loop inside reloads, else those that matter."""
        needed = 1
        for level, matters in enumerate(changes):
            if matters and self.plan.batch[level] > 1:
                needed = prod(self.plan.batch[: level + 1])
        return np.where(loop_inside, self.batch, needed)

    def _changes(self, ranks: set[str]) -> tuple[bool, ...]:
        return tuple(rank in ranks for rank in self.plan.kernel.batch)

    def _streamed(self) -> Ints:
        one: Ints = self.beats(self.summed(self.rows, self.align)) * self.plan.inner_chunks
        nested = np.asarray(self.inner.trips > 1)
        by_rows = np.asarray(self.rows.trips > 1)
        again = np.where(nested, self.cols.trips * self.sweeps, 1)
        again = np.where(~nested & by_rows & self.cols_outer, self.cols.trips, again)
        ranks = set(self.plan.kernel.streamed.ranks)
        return np.asarray(one * again * self._batch_loads(nested | by_rows, self._changes(ranks)))

    def _stationary(self) -> Ints:
        nested = np.asarray(self.inner.trips > 1)
        by_cols = np.asarray(self.cols.trips > 1)
        again = np.where(nested, self.rows.trips * self.sweeps, 1)
        again = np.where(~nested & by_cols, self.col_sweeps * self.sweeps, again)
        ranks = set(self.plan.kernel.stationary.ranks)
        return np.asarray(
            self._one_stationary() * again * self._batch_loads(nested | by_cols, self._changes(ranks))
        )

    def _one_stationary(self) -> Ints:
        """Beats of the stationary operand once through."""
        plan, dram = self.plan, self.plan.stationary.padded_rows
        if plan.transposed:
            span = self.summed(
                self.cols,
                lambda cols: self.beats(np.minimum(self.align(-(-cols // plan.group) * plan.group), dram)),
            )
            return span * plan.inner_chunks
        span = self.summed(
            self.inner, lambda inner: self.beats(np.minimum(self.align(inner * plan.inner_group), dram))
        )
        return span * plan.col_chunks

    def _parameters(self) -> Ints:
        plan = self.plan
        one = self.summed(
            self.cols, lambda cols: self.beats(8 * plan.parameter_sets * -(-cols // plan.group))
        )
        several = np.asarray(self.cols.trips > 1)
        return np.asarray(one * np.where(several, self.batch * self.col_sweeps * self.sweeps, 1))

    def _panels(self) -> Ints:
        """Beats of the output of one batch point."""
        return self.plan.col_chunks * self.summed(self.rows, lambda rows: self.beats(self.align(rows)))

    # Engines.

    def _matmuls(self) -> Ints:
        return np.asarray(
            self.batch * self.sweeps * self.rows.trips * self.cols.trips * self.inner.trips, np.int64
        )

    def _array_counters(self) -> dict[Counter, Ints]:
        plan = self.plan
        tiles = plan.col_chunks * plan.inner_chunks * self.batch * self.sweeps

        def busy(rows: Ints) -> Ints:
            period: Ints = np.maximum(rows, self.w_rows)
            starts: Ints = self.cols.trips * self.inner.trips * (self.w_rows + rows - period)
            return starts + plan.col_chunks * plan.inner_chunks * period

        streamed = np.asarray(tiles * plan.rows)
        return {
            Counter.ARRAY_ROWS: streamed,
            Counter.ARRAY_WEIGHT_ROWS: np.asarray(tiles * self.rows.trips * self.w_rows),
            Counter.ARRAY_BUSY: self.batch * self.sweeps * self.summed(self.rows, busy),
            Counter.ACCUMULATOR_WRITES: streamed,
        }

    def _passes(self) -> tuple[Ints, Ints, int, int]:
        """(passes, passes from the accumulators, passes through the buffer, table look-ups besides)."""
        one = np.ones_like(self.sweeps)
        epilogue = self.plan.kernel.epilogue
        if isinstance(epilogue, Requantise):
            return one, one, 0, int(epilogue.function is not None)
        if isinstance(epilogue, Normalise):
            return 2 * one, one, 1, 0
        return np.where(self.phased, 4, 3), np.where(self.phased, 3, 2), 1, 0

    def _vector_counters(self) -> dict[Counter, Ints]:
        plan = self.plan
        passes, accumulated, buffered, looked_up = self._passes()
        slots = self.batch * plan.rows * plan.col_chunks
        instructions = passes * self.batch * self.rows.trips * self.cols.trips
        affine = accumulated + int(isinstance(plan.kernel.epilogue, Normalise))
        exponentials = np.where(self.phased, 2, 1) if self.softmax else looked_up
        tiles = plan.col_chunks * plan.inner_chunks * self.batch * self.sweeps
        carried = (tiles - plan.col_chunks * self.batch * self.sweeps) * plan.rows
        return {
            Counter.VECTOR_SLOTS: passes * slots,
            Counter.VECTOR_BUSY: passes * slots + instructions * self.drain,
            Counter.ACCUMULATOR_READS: accumulated * slots + carried,
            Counter.SCRATCHPAD_READS: np.full_like(passes, slots * int(plan.residual is not None)),
            Counter.SCRATCHPAD_WRITES: np.full_like(passes, slots),
            Counter.PARAMETER_READS: affine * slots,
            Counter.BUFFER_READS: np.full_like(passes, buffered * slots),
            Counter.BUFFER_WRITES: np.full_like(passes, buffered * slots),
            Counter.TABLE_READS: np.asarray(exponentials * slots * np.ones_like(passes)),
        }

    def _cycles(self, counters: Mapping[Counter, Ints]) -> Ints:
        memory, arch, plan = self.arch.memory, self.arch, self.plan
        first_x = self.beats(self.inner.tile * self.align(self.rows.tile))
        first_w = self.beats(self.inner.tile * self.chunks * self.w_rows)
        if plan.transposed or plan.stationary.padded_rows < plan.inner_chunks * plan.inner_group:
            first_w = np.ones_like(first_w)
        head = memory.read_latency + (first_x + first_w) * memory.read_interval
        last = self.rows.last * -(-self.cols.last // plan.group)
        stored = self.beats(self.align(self.rows.last) * -(-self.cols.last // plan.group))
        store = stored * memory.write_interval + STORE_LEAD + memory.write_latency
        passes = 1 if isinstance(plan.kernel.epilogue, Requantise) else 2
        tail = passes * (last + self.drain) + store
        array = counters[Counter.ARRAY_BUSY] + self._matmuls()
        vector = counters[Counter.VECTOR_BUSY]
        latency = array_latency(arch.array.rows, arch.array.cols)
        limits: Ints = np.maximum.reduce(
            [
                counters[Counter.LOAD_BEATS] * memory.read_interval + memory.read_latency,
                head + array + latency + tail,
                head + vector + store,
                head + counters[Counter.STORE_BEATS] * memory.write_interval + memory.write_latency,
            ]
        )
        return limits
