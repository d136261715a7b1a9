"""Closed forms of an attention on the attention machine: exact counts, and cycles that no run undercuts."""

from __future__ import annotations

import numpy as np

from archsim._architecture import Architecture
from archsim._attention_plan import AttentionPlan
from archsim._count import Counts
from archsim._counters import Counter
from archsim._isa import EXPONENTIAL_SLOTS, LANE_EXPONENTIAL_SLOTS
from archsim._timing import STORE_LEAD, attend_latency, divide_latency


def count_attention(plan: AttentionPlan, arch: Architecture, slots: int) -> Counts:
    """Counts and cycles of ``plan`` with ``slots`` key tiles on chip (arrays of one element)."""
    features, blocks = plan.features, plan.all_blocks
    tiles = blocks * plan.tiles
    periods = _periods(plan)
    beats = _beats(plan, arch)
    # Keys and values that stay on chip are loaded once a head, others once a block.
    streamed = beats * plan.tiles * (plan.heads if slots >= plan.tiles else blocks)
    rows = features * blocks
    counters = {
        Counter.LOAD_BEATS: beats * blocks + 2 * streamed,
        Counter.STORE_BEATS: beats * blocks,
        Counter.ARRAY_ROWS: 2 * features * tiles,
        Counter.ARRAY_SPECIAL: (EXPONENTIAL_SLOTS + 1) * tiles,
        Counter.ARRAY_WEIGHT_ROWS: features * tiles,
        Counter.ARRAY_BUSY: periods * (plan.period - 1),
        Counter.VECTOR_SLOTS: (2 * features + LANE_EXPONENTIAL_SLOTS + 1) * tiles + rows,
        Counter.VECTOR_BUSY: rows + blocks * divide_latency(),
        Counter.ACCUMULATOR_READS: features * tiles + rows,
        Counter.ACCUMULATOR_WRITES: features * tiles,
        Counter.SCRATCHPAD_READS: 3 * features * tiles,
        Counter.SCRATCHPAD_WRITES: rows,
    }
    reads = {
        plan.queries.tensor: beats * blocks,
        plan.keys.tensor: streamed,
        plan.values.tensor: streamed,
    }
    return Counts(
        {counter: np.array(count) for counter, count in counters.items()},
        np.array(_cycles(plan, arch, counters)),
        {tensor: np.array(count) for tensor, count in reads.items()},
        {plan.output.tensor: np.array(beats * blocks)},
    )


def least_cycles(plan: AttentionPlan) -> int:
    """Cycles of the tiles alone, one period each."""
    return plan.all_blocks * plan.tiles * plan.period


def _periods(plan: AttentionPlan) -> int:
    """ATTENDs: one a tile and two for the pipeline's end; a block of one tile takes two."""
    if plan.tiles == 1:
        return 2 * plan.all_blocks + 1
    return plan.all_blocks * plan.tiles + 2


def _beats(plan: AttentionPlan, arch: Architecture) -> int:
    """Bus beats of a block of queries or of results, of a tile of keys or of values."""
    return -(-plan.tile_words * arch.word_bytes // arch.bus.bytes)


def _cycles(plan: AttentionPlan, arch: Architecture, counters: dict[Counter, int]) -> int:
    memory, beats = arch.memory, _beats(plan, arch)
    first = memory.read_latency + 3 * beats * memory.read_interval
    work = _periods(plan) * plan.period + attend_latency(arch.array.rows, arch.array.cols)
    stored = STORE_LEAD + beats * memory.write_interval + memory.write_latency
    return max(
        first + work + plan.features + divide_latency() + stored,
        memory.read_latency + counters[Counter.LOAD_BEATS] * memory.read_interval,
        counters[Counter.STORE_BEATS] * memory.write_interval + memory.write_latency,
    )
