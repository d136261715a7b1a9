"""Cycles, traffic and energy of a cascade on a spatial machine, under one of three schedules.

Counts are exact for the binding; cycles are those of full arrays, the busiest of which (or the memory)
bounds what overlaps. ``docs/fusemax.md`` derives each rule from the cascade.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, assert_never

from archsim._energy import Action
from archsim._errors import ArchsimError
from archsim._estimate_value import Estimate
from archsim._spatial import Spatial
from archsim._spatial_bind import Binding, Work, bind
from archsim._spatial_traffic import Traffic, apart, block_rows, blocked, by_rows, groups
from workloads import Cascade

Schedule = Literal["apart", "tile", "pipelined"]
"""One group of Einsums after another; one tile after another; tiles overlapped and interleaved."""


@dataclass(frozen=True, slots=True)
class _Timed:
    """What one head takes."""

    cycles: Fraction
    traffic: Traffic


def estimate_spatial(
    cascade: Cascade, machine: Spatial, *, schedule: Schedule = "pipelined", times: int = 1
) -> Estimate:
    """The estimate of ``cascade`` done ``times`` times (heads of all sequences) one after another.

    Raises ArchsimError where the machine lacks an operator, or its buffer cannot hold a tile.
    """
    if times < 1:
        raise ArchsimError(f"times must be at least 1, not {times}")
    return estimate_bound(bind(cascade, machine), schedule=schedule, times=times)


def estimate_bound(bound: Binding, *, schedule: Schedule, times: int) -> Estimate:
    """The estimate of a cascade that is bound already."""
    machine = bound.machine
    timed = _timed(bound, schedule)
    # What is left of a cycle of one head is another head's.
    cycles = -(-timed.cycles.numerator * times // timed.cycles.denominator)
    actions = _actions(bound, timed.traffic, times)
    return Estimate(
        name=bound.cascade.name,
        level="estimate",
        cycles=cycles,
        seconds=cycles / (machine.clock_mhz * 1e6),
        actions=actions,
        energy_pj=_energy(actions, machine, cycles=cycles),
        macs=bound.macs * times,
        utilization={
            "array": bound.cycles("array") * times / cycles,
            "vector": bound.cycles("vector") * times / cycles,
        },
        stalls=MappingProxyType({}),
        bytes={"dram": timed.traffic.dram_words * machine.word_bytes * times},
    )


def memory_cycles(words: int, machine: Spatial) -> Fraction:
    """Cycles in which memory moves ``words``."""
    per_second = Fraction(machine.clock_mhz) * 1_000_000
    return words * machine.word_bytes * per_second / machine.dram.bytes_per_second


def _timed(bound: Binding, schedule: Schedule) -> _Timed:
    match schedule:
        case "apart":
            return _apart(bound)
        case "tile":
            traffic = _fused(bound)
            return _Timed(max(Fraction(_tile_cycles(bound)), _memory(traffic, bound)), traffic)
        case "pipelined":
            traffic = _fused(bound)
            busiest = max(bound.cycles("array"), bound.cycles("vector"))
            return _Timed(max(Fraction(busiest + _fill(bound)), _memory(traffic, bound)), traffic)
        case _:
            assert_never(schedule)


def _memory(traffic: Traffic, bound: Binding) -> Fraction:
    return memory_cycles(traffic.dram_words, bound.machine)


def _fused(bound: Binding) -> Traffic:
    return blocked(bound) if bound.tiles else by_rows(bound)


def _apart(bound: Binding) -> _Timed:
    """Groups one after another, each the longer of its work and its words."""
    total, traffic = Fraction(0), Traffic()
    for group, moved in zip(groups(bound), apart(bound), strict=True):
        work = Fraction(sum(work.cycles for work in group))
        total += max(work, memory_cycles(moved.dram_words, bound.machine))
        traffic.add(moved)
    return _Timed(total, traffic)


def _fill(bound: Binding) -> int:
    """Cycles in which the pipeline over a row block fills and drains, where the machine charges them."""
    machine = bound.machine
    if not machine.assumptions.array_fill:
        return 0
    rows = block_rows(bound) if bound.tiles else machine.cols
    return (machine.rows + machine.cols) * -(-bound.cascade.ranks[bound.queries] // rows)


def _tile_cycles(bound: Binding) -> int:
    """One tile after another: stages of both arrays side by side, between gates.

    A gate is a lane's Einsum that a later one of the 2D array in the same tile waits for. It cannot begin
    before the array has drained, which takes as many cycles as the array has rows. What follows the tiles
    runs beside the next block's first stage.
    """
    gates = _gates(bound)
    stage = _stages(bound.works, gates)
    busy: Counter[tuple[int, str]] = Counter()
    for work in bound.works:
        if work.tensor not in gates:
            busy[stage[work.tensor] if _in_tile(work, bound) else 0, work.unit] += work.cycles
    side_by_side = sum(
        max(busy[number, "array"], busy[number, "vector"]) for number in range(max(stage.values()) + 1)
    )
    alone = sum(work.cycles for work in bound.works if work.tensor in gates)
    tiles = bound.cascade.ranks[bound.tiles] if bound.tiles else 1
    waves = -(-bound.cascade.ranks[bound.queries] // bound.machine.cols)
    return side_by_side + alone + len(gates) * bound.machine.rows * tiles * waves


def _in_tile(work: Work, bound: Binding) -> bool:
    return bound.tiles is None or bound.tiles in work.einsum.ranks


def _gates(bound: Binding) -> frozenset[str]:
    awaited = {a.tensor for work in bound.works if work.unit == "array" for a in work.einsum.inputs}
    return frozenset(work.tensor for work in bound.works if work.unit == "vector" and work.tensor in awaited)


def _stages(works: Sequence[Work], gates: frozenset[str]) -> dict[str, int]:
    """The stage in which each tensor is made; a gate ends one. What a later tile makes is not waited for."""
    stage: dict[str, int] = {}
    for work in works:
        made = [tensor for a in work.einsum.inputs if (tensor := a.tensor) in stage]
        stage[work.tensor] = max((stage[tensor] + (tensor in gates) for tensor in made), default=0)
    return stage


def _actions(bound: Binding, traffic: Traffic, times: int) -> dict[Action, int]:
    """Operations by array and tensor, bits moved by memory and tensor; an operator made of MACs is MACs."""
    actions: Counter[Action] = Counter()
    for work in bound.works:
        for name, count in work.operators.items():
            macs = bound.machine.operators[name].macs
            action = (work.unit, "mac" if macs else name, work.tensor)
            actions[action] += work.points * count * (macs or 1) * times
    for memory, moved in (("dram", traffic.dram), ("buffer", traffic.buffer)):
        for (way, tensor), words in moved.items():
            actions[memory, way, tensor] += words * bound.machine.word_bits * times
    return {action: count for action, count in sorted(actions.items()) if count}


def _energy(actions: dict[Action, int], machine: Spatial, *, cycles: int) -> dict[str, float]:
    """Energy by component in pJ: counts times prices, and what the machine charges besides."""
    word = machine.word_bits
    prices = {
        ("dram", "read"): machine.dram.pj_per_bit,
        ("dram", "write"): machine.dram.pj_per_bit,
        ("buffer", "read"): machine.buffer.read_pj_per_word / word,
        ("buffer", "write"): machine.buffer.write_pj_per_word / word,
    }
    for unit in ("array", "vector"):
        prices |= {(unit, name): operator.pj for name, operator in machine.operators.items()}
    energy = dict.fromkeys(("array", "vector", "buffer", "dram"), 0.0)
    operations = 0
    for (component, action, _), count in actions.items():
        energy[component] += count * prices[component, action]
        operations += count if component in ("array", "vector") else 0
    besides = {
        "registers": operations * machine.assumptions.register_pj_per_operation,
        "leakage": cycles * machine.assumptions.leakage_pj_per_cycle,
    }
    return energy | {name: pj for name, pj in besides.items() if pj}
