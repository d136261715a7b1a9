"""From counters to an Estimate: actions, bytes, energy, utilisation. The same for every level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archsim._architecture import Architecture, ArrayKind
from archsim._counters import Counter
from archsim._energy import PER_BIT, Action, EnergyTable, price
from archsim._estimate_value import Estimate, Level, Row

CONTROL = (Counter.CYCLES, Counter.INSTRUCTIONS, Counter.LOAD_BURSTS, Counter.STORE_BURSTS)
"""Counters of control, not of actions: the closed forms do not predict them."""

SUM_BITS: dict[ArrayKind, int] = {"dense": 32, "fusemax": 40, "ternary": 32}
"""Bits of an accumulator, or of a numerator in the value memory."""


def actions_of(
    counters: Mapping[Counter, int],
    arch: Architecture,
    reads: Mapping[str, int],
    writes: Mapping[str, int],
) -> dict[Action, int]:
    """Bits moved and operations done, from the counters; DRAM by tensor, from beats ``reads`` and ``writes``.

    Read beats that belong to no tensor are the program's own.
    """
    beat, word = 8 * arch.bus.bytes, 8 * arch.word_bytes
    cols, sums = arch.array.cols, SUM_BITS[arch.array.kind]
    found: dict[Action, int] = {("dram", "read", name): beats * beat for name, beats in reads.items()}
    found["dram", "read", "program"] = (counters[Counter.LOAD_BEATS] - sum(reads.values())) * beat
    found |= {("dram", "write", name): beats * beat for name, beats in writes.items()}
    found |= {
        ("scratchpad", "read", ""): counters[Counter.SCRATCHPAD_READS] * word
        + counters[Counter.STORE_BEATS] * beat,
        ("scratchpad", "write", ""): counters[Counter.SCRATCHPAD_WRITES] * word
        + counters[Counter.LOAD_BEATS] * beat,
        ("accumulator", "read", ""): counters[Counter.ACCUMULATOR_READS] * sums * cols,
        ("accumulator", "write", ""): counters[Counter.ACCUMULATOR_WRITES] * sums * cols,
        ("parameters", "read", ""): counters[Counter.PARAMETER_READS] * 8 * word,
        ("buffer", "read", ""): counters[Counter.BUFFER_READS] * 16 * cols,
        ("buffer", "write", ""): counters[Counter.BUFFER_WRITES] * 16 * cols,
        ("table", "read", ""): counters[Counter.TABLE_READS] * 16 * cols,
        ("vector", "slot", ""): counters[Counter.VECTOR_SLOTS] * cols,
    }
    found |= _array_actions(counters, arch)
    return {action: count for action, count in found.items() if count}


def _array_actions(counters: Mapping[Counter, int], arch: Architecture) -> dict[Action, int]:
    """Multiply-accumulates; on a ternary array additions, and reads of weights at 1.6 bits a trit."""
    work = counters[Counter.ARRAY_ROWS] * arch.array.rows * arch.array.cols
    # An exponential's step, a sum or a maximum uses a processing element as a product does.
    work += counters.get(Counter.ARRAY_SPECIAL, 0) * arch.array.rows * arch.array.cols
    if arch.array.kind != "ternary":
        return {("array", "mac", ""): work}
    bits = counters[Counter.ARRAY_WEIGHT_ROWS] * 8 * arch.weight_bytes
    return {("array", "add", ""): work, ("weights", "read", ""): bits}


def account(
    *,
    name: str,
    level: Level,
    arch: Architecture,
    table: EnergyTable,
    cycles: int,
    counters: Mapping[Counter, int],
    macs: int,
    reads: Mapping[str, int],
    writes: Mapping[str, int],
    rows: Sequence[Row] = (),
    stalls: Mapping[str, int] | None = None,
) -> Estimate:
    """The Estimate that follows from a machine's ``counters`` over ``cycles``."""
    actions = actions_of(counters, arch, reads, writes)
    shown = {c.name.lower(): counters[c] for c in Counter if c is not Counter.CYCLES and c in counters}
    return Estimate(
        name=name,
        level=level,
        cycles=cycles,
        seconds=cycles / (arch.clock_mhz * 1e6),
        actions=actions,
        energy_pj=price(actions, table),
        macs=macs,
        utilization=utilization(cycles, counters, macs, arch),
        stalls=dict(stalls or {}),
        bytes=_bytes(actions),
        rows=tuple(rows),
        counters=shown,
    )


def _bytes(actions: Mapping[Action, int]) -> dict[str, int]:
    """Bytes read and written of each memory; all words are whole bytes."""
    moved = {"dram": 0}
    for (component, action, _), count in actions.items():
        if action in PER_BIT:
            moved[component] = moved.get(component, 0) + count // 8
    return moved


def utilization(
    cycles: int, counters: Mapping[Counter, int], macs: int, arch: Architecture
) -> dict[str, float]:
    """Share of the cycles in which each engine worked; ``mac`` is useful work over the array's capacity."""
    whole = max(1, cycles)
    special = counters[Counter.ARRAY_SPECIAL]
    # Of an array that does more than products, the share of cycles in which all its elements work.
    attends = {"elements": (counters[Counter.ARRAY_ROWS] + special) / whole} if special else {}
    return attends | {
        "mac": macs / (whole * arch.array.rows * arch.array.cols),
        "array": counters[Counter.ARRAY_BUSY] / whole,
        "vector": counters[Counter.VECTOR_BUSY] / whole,
        "load": counters[Counter.LOAD_BEATS] * arch.memory.read_interval / whole,
        "store": counters[Counter.STORE_BEATS] * arch.memory.write_interval / whole,
    }


def energy_per_count(arch: Architecture, table: EnergyTable) -> dict[Counter, float]:
    """PJ for each count of each counter: energy is linear in the counters."""
    zero = dict.fromkeys(Counter, 0)
    unit: dict[Counter, float] = {}
    for counter in Counter:
        writes = {"": 1} if counter is Counter.STORE_BEATS else {}
        unit[counter] = sum(price(actions_of(zero | {counter: 1}, arch, {}, writes), table).values())
    return unit
