"""The causes of the array's cycles on random programs: sums, sections, and who was at it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archsim import Architecture, ArchsimError, Counter, Program, Simulation, lower, simulate
from archsim._breakdown import breakdown
from archsim._bursts import bursts_of
from archsim._causes import (
    ARRAY_DRAIN,
    GROUPS,
    HAND_OVER,
    READ_BANDWIDTH,
    READ_LATENCY,
    RESULT,
    STREAMING,
    VECTOR_UNIT,
    WRITES,
)
from archsim._isa import Engine
from archsim._timing import TOKEN_CYCLES
from archsim._waiting import Slice, slices
from tests.cosim.random_cascades import TIMED_FAMILIES
from tests.cosim.random_workloads import machine, random_mapping
from tests.properties.test_simulate import Writer, random_architecture

ENGINES = {
    READ_LATENCY: Engine.LOAD,
    READ_BANDWIDTH: Engine.LOAD,
    WRITES: Engine.STORE,
    RESULT: Engine.STORE,
    VECTOR_UNIT: Engine.VECTOR,
    ARRAY_DRAIN: Engine.ARRAY,
}


def a_run(seed: int) -> tuple[Architecture, Program, Simulation]:
    """A random program's traced run; programs that deadlock are passed over."""
    random = Random(seed)
    arch = random_architecture(random)
    program = Writer(random, arch, trips=6, straight=True).program()
    try:
        return arch, program, simulate(arch, program, trace=True)
    except ArchsimError as error:
        assume("deadlock" not in str(error))
        raise


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_cycle_has_one_cause(seed: int) -> None:
    holds(*a_run(seed))


@pytest.mark.parametrize("seed", range(24))
def test_every_cycle_of_a_cascade_has_one_cause(seed: int) -> None:
    base = machine(3, 5, bus_bytes=32, variant=1) if seed % 2 else machine(8, 8, bus_bytes=8, variant=2)
    drawn = random_mapping(seed, base, families=TIMED_FAMILIES)
    program = lower(drawn.work.cascade, drawn.arch, drawn.tilings).program
    run = simulate(drawn.arch, program, trace=True)
    holds(drawn.arch, program, run)
    for one in slices(drawn.arch, program, run):
        assert at_work(drawn.arch, run, one), one


def holds(arch: Architecture, program: Program, run: Simulation) -> None:
    """The causes add up to the run, section by section, and to the array's own counters."""
    found = breakdown(arch, program)
    assert found.cycles == run.cycles == sum(share.cycles for share in found.shares)
    assert run.cycles == sum(found.in_group(group) for group in GROUPS)
    assert found.busy == found.in_group("work") == run.counter(Counter.ARRAY_BUSY)
    assert found.of(STREAMING) == run.counter(Counter.ARRAY_ROWS)
    assert [(one.name, one.cycles) for one in found.sections] == [(s.name, s.cycles) for s in run.sections]
    for one in (found, *found.sections):
        assert one.cycles == sum(share.cycles for share in one.shares)
        assert one.in_group("memory") == sum(share.cycles for share in one.transfers)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_cause_is_at_work_in_its_cycles(seed: int) -> None:
    arch, program, run = a_run(seed)
    cycle = 0
    for one in slices(arch, program, run):
        assert one.start == cycle < one.stop
        assert at_work(arch, run, one), one
        cycle = one.stop
    assert cycle == run.cycles


def at_work(arch: Architecture, run: Simulation, one: Slice) -> bool:
    """Whether the instruction that a slice names was in the course that the cause says."""
    if one.event is None:
        return True
    event = run.events[one.event]
    if one.cause == HAND_OVER:
        # On the way to its pop, behind what held it back last, or popped.
        on_its_way = event.pop - TOKEN_CYCLES < one.start < one.stop == event.pop
        return on_its_way or (one.start, one.stop) == (event.pop, event.pop + 1)
    if one.cause not in ENGINES:
        return True
    # A transfer's first data may wait for the interval that data of the one before have begun.
    interval = {Engine.LOAD: arch.memory.read_interval, Engine.STORE: arch.memory.write_interval}
    first = event.issue if one.cause == ARRAY_DRAIN else event.pop - interval.get(event.engine, 1) + 1
    return event.engine is ENGINES[one.cause] and first < one.start and one.stop <= event.retire + 1


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bursts_are_the_simulators(seed: int) -> None:
    arch, program, run = a_run(seed)
    counters = {Engine.LOAD: Counter.LOAD_BURSTS, Engine.STORE: Counter.STORE_BURSTS}
    memory = arch.memory
    intervals = {Engine.LOAD: memory.read_interval, Engine.STORE: memory.write_interval}
    for engine, counter in counters.items():
        found = bursts_of(arch, program, run.events, engine, count=run.counter(counter))
        expected = [
            (place, request, first, first + (beats - 1) * intervals[engine])
            for place, event in enumerate(run.events)
            if event.engine is engine
            for request, first, beats in event.bursts
        ]
        columns = (found.owner, found.request, found.first, found.last)
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
        assert found.end == {owner: number for number, (owner, *_) in enumerate(expected)}
