"""Small programs whose first iterations look alike in all but one part of the simulator's state.

Each changes its pace a few iterations after two equal-looking ENDs: a period found from a state without
that part gives wrong cycles or stalls. ``exact`` has the plain run and the naive twin say so.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._architecture import Architecture, Array, Memory
from archsim._isa import Opcode
from archsim._naive import simulate_naive
from archsim._program import Instruction, Program
from archsim._simulate import Simulation, simulate
from archsim._timing import NEXT_CYCLES, SEQ_CYCLES, TOKEN_CYCLES, array_latency, vector_latency
from tests.unit.archsim.test_simulate import ARCH, END, add, loop, matmul, program, transfer, vector

TRIPS = 20
TALL = replace(ARCH, array=Array(rows=64, cols=1))
"""A machine on which results are long on their way: the array's latency is some twenty instructions."""


def exact(arch: Architecture, listing: Program) -> Simulation:
    """The run of ``listing``, the same with periods skipped, plainly and one clock at a time."""
    found = simulate(arch, listing)
    assert found == simulate(arch, listing, plain=True)
    assert simulate_naive(arch, listing) == (found.cycles, found.counters)
    return found


def controls(count: int) -> list[Instruction]:
    """Time for the engines: steps of a register that nothing reads."""
    return [add(8)] * count


def give() -> Instruction:
    """A token of semaphore 0, given the array's latency after its pop."""
    return Instruction(Opcode.SYNC_ARRAY, signals=1)


def take() -> Instruction:
    """A wait for a token of semaphore 0, which leaves its engine free at once."""
    return Instruction(Opcode.SYNC_STORE, waits=1)


def test_tokens_on_their_way_are_state() -> None:
    # The loop takes three old tokens first; its own, three iterations later, are not yet visible.
    early, body = 3, [give(), take(), *controls(4), END]
    found = exact(TALL, program(*[give()] * early, *controls(40), loop(TRIPS), *body))
    # Taken the array's latency and TOKEN_CYCLES after the pop; the taker stands at the head ``early``
    # iterations and one instruction after the giver.
    late = array_latency(64, 1) + TOKEN_CYCLES - SEQ_CYCLES * (early * len(body) + 1)
    # A taker that is popped so late leaves the next one's head time alone.
    assert 0 < late < SEQ_CYCLES * len(body) - NEXT_CYCLES
    assert found.stalls(0) == late * (TRIPS - early)


def test_since_when_a_head_waits_is_state() -> None:
    # Each head waits for the next iteration's token. The loop's first is at the head once the long
    # pass before it has retired, and waits for less than those behind a short pass.
    body, long = [matmul(signals=1), vector(waits=1, rows=1), *controls(60), END], 100
    found = exact(ARCH, program(vector(waits=1, rows=long), loop(TRIPS), *body, matmul(signals=1)))
    period = SEQ_CYCLES * len(body)
    shorter, longer = (period - (rows + vector_latency(8) + 1) for rows in (long, 1))
    before = SEQ_CYCLES * 2 + 14 + array_latency(4, 8) + TOKEN_CYCLES
    assert 0 < shorter < longer
    assert found.stalls(0) == before + shorter + longer * (TRIPS - 1)


def test_the_earliest_pop_of_a_blocked_head_is_state() -> None:
    # Each head has its token of semaphore 0 and waits for the next iteration's of semaphore 1. The
    # loop's first has an old one; all others have one that is not yet visible, and comes last.
    both = Instruction(Opcode.SYNC_STORE, waits=3)
    other = Instruction(Opcode.SYNC_LOAD, signals=2)
    # An iteration is long enough for STORE's queue to have a place when it comes to it.
    body = [give(), other, both, *controls(5), END]
    found = exact(TALL, program(give(), give(), *controls(40), both, loop(TRIPS), *body, other))
    # By how much the token of semaphore 0 comes after that of semaphore 1.
    period = SEQ_CYCLES * len(body)
    assert array_latency(64, 1) - (2 * period + SEQ_CYCLES) > 0
    # The second iteration's head is behind one that waited for semaphore 1 alone, each later one
    # behind one that was popped a period before it.
    second = array_latency(64, 1) - (period + SEQ_CYCLES) - NEXT_CYCLES
    assert found.stalls(0) == second + (period - NEXT_CYCLES) * (TRIPS - 2)


@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE])
def test_the_bus_is_taken_until_an_interval_after_its_last_beat(opcode: Opcode) -> None:
    # Iterations are faster than the memory: the queue fills up, unseen while no beat lies ahead.
    interval = 40
    memory = Memory(read_latency=1, read_interval=interval, write_latency=1, write_interval=interval)
    slow = replace(ARCH, memory=memory)
    body = [transfer(opcode, 0, 1), *controls(9), END]
    few, many = (exact(slow, program(loop(trips), *body)) for trips in (TRIPS, 2 * TRIPS))
    assert SEQ_CYCLES * len(body) < interval
    assert many.cycles - few.cycles == interval * TRIPS
