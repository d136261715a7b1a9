"""The simulator against the contract's formulas, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._counters import STALL_BASE, Counter
from archsim._errors import ArchsimError
from archsim._isa import Engine, Opcode
from archsim._program import Instruction, Operand, Program
from archsim._simulate import START, Event, simulate
from archsim._timing import (
    HALT_CYCLES,
    NEXT_CYCLES,
    PLACE_CYCLES,
    POP_CYCLES,
    SEQ_CYCLES,
    SEQ_START,
    STORE_LEAD,
    TOKEN_CYCLES,
    array_latency,
    vector_latency,
)

RL, RI, WL, WI = 20, 2, 11, 3
ARCH = Architecture(
    name="small",
    clock_mhz=100.0,
    array=Array(rows=4, cols=8),
    bus=Bus(bytes=8, max_burst_beats=16, outstanding=2),
    scratchpad=Scratchpad(banks=4, words_per_bank=1024),
    accumulator_words=256,
    parameter_words=16,
    vector=Vector(buffer_words=64, rows=32),
    queue_depth=2,
    memory=Memory(read_latency=RL, read_interval=RI, write_latency=WL, write_interval=WI),
)
HALT = Instruction(Opcode.HALT)
END = Instruction(Opcode.END)


def loop(trips: int) -> Instruction:
    """The start of a hardware loop."""
    return Instruction(Opcode.LOOP, fields={"imm": trips})


def add(imm: int) -> Instruction:
    """A step of register 1."""
    return Instruction(Opcode.ADD, fields={"reg": 1, "imm": imm})


def matmul(waits: int = 0, signals: int = 0, releases: int = 0, **fields: int) -> Instruction:
    """One tile of 10 rows and 4 stationary words, where the fields say nothing else."""
    shape = {"rows": 10, "w_rows": 4, "k_chunks": 1, "n_chunks": 1} | fields
    operands = (Operand(0), Operand(1024), Operand(0))
    return Instruction(Opcode.MATMUL, operands, shape, waits, signals, releases)


def vector(waits: int = 0, signals: int = 0, releases: int = 0, rows: int = 5) -> Instruction:
    """A pass over ``rows`` rows of one chunk, from the accumulators to bank 2."""
    fields = {"rows": rows, "chunks": 1, "length": 8, "group": 8, "destination": 1}
    return Instruction(Opcode.VECTOR, (Operand(0), Operand(2048)), fields, waits, signals, releases)


def transfer(opcode: Opcode, address: int, beats: int, waits: int = 0, signals: int = 0) -> Instruction:
    """A LOAD or STORE of one segment."""
    return Instruction(
        opcode, (Operand(address), Operand(0)), {"segments": 1, "beats": beats}, waits, signals
    )


def program(*instructions: Instruction) -> Program:
    """A program that ends with HALT."""
    return Program("test", (*instructions, HALT))


def start(instructions: int) -> int:
    """Execute cycle of instruction 0: the fetch is ceil(64 n / 8) beats in bursts of 16, two in flight."""
    beats = 8 * instructions
    lengths = [16] * (beats // 16) + [beats % 16] * (beats % 16 > 0)
    lasts: list[int] = []
    request = 0
    for index, length in enumerate(lengths):
        request = max(request + 1, lasts[index - 2] + 1 if index >= 2 else 0)
        first = max(request + RL, (lasts[-1] if lasts else -RI) + RI)
        lasts.append(first + (length - 1) * RI)
    return lasts[-1] + 1 + 1 + SEQ_START


def events(arch: Architecture, listing: Program) -> tuple[Event, ...]:
    """The events of a run, the fetch apart."""
    return simulate(arch, listing, trace=True).events[1:]


def test_halt_alone() -> None:
    # One burst of 8 beats: address in cycle 1, last beat 7 intervals after the first.
    result = simulate(ARCH, program())
    assert start(1) == 1 + RL + 7 * RI + 1 + 1 + SEQ_START
    assert result.cycles == start(1) + 1
    assert result.counter(Counter.LOAD_BEATS) == 8
    assert result.counter(Counter.LOAD_BURSTS) == 1
    assert result.counter(Counter.INSTRUCTIONS) == 1


@pytest.mark.parametrize("trips", [1, 3, 4, 5, 1000, 2**32 - 1])
def test_a_loop_of_controls_takes_its_instructions(trips: int) -> None:
    result = simulate(ARCH, program(loop(trips), add(8), END))
    assert result.cycles == start(4) + SEQ_CYCLES * (1 + 2 * trips) + 1
    assert result.executions == (1, trips, trips, 1)


def test_nested_loops_multiply() -> None:
    deep = 10**6
    result = simulate(ARCH, program(loop(10**3), loop(deep), add(8), END, END))
    executed = 10**3 * (2 * deep + 2) + 1
    assert result.counter(Counter.INSTRUCTIONS) == executed + 1
    assert result.cycles == start(6) + SEQ_CYCLES * executed + 1


def test_bursts_end_at_pages_and_at_the_longest_burst() -> None:
    # 2 beats to the page's end, then 16, then 6; two in flight, so the third waits for the first's end.
    (event,) = events(ARCH, program(transfer(Opcode.LOAD, 4096 - 16, 24)))
    s = start(2) + POP_CYCLES
    first = (s + 1, s + 1 + RL, 2)
    second = (s + 2, s + 1 + RL + 2 * RI, 16)
    third = (s + 1 + RL + RI + 1, max(s + 2 + 2 * RL + RI, s + 1 + RL + 18 * RI), 6)
    assert event.bursts == (first, second, third)
    assert event.issue == third[0]
    assert event.retire == third[1] + 5 * RI + 1


def test_store_bursts_follow_each_other() -> None:
    (event,) = events(ARCH, program(transfer(Opcode.STORE, 0, 20)))
    s = start(2) + POP_CYCLES
    first = s + 1 + STORE_LEAD
    last = first + 15 * WI
    second = max(last + 1 + STORE_LEAD, last + WI)
    assert event.bursts == ((s + 1, first, 16), (last + 1, second, 4))
    assert event.retire == second + 3 * WI + WL + 1


def test_store_waits_for_responses_when_two_are_in_flight() -> None:
    arch = replace(ARCH, memory=replace(ARCH.memory, write_latency=200))
    (event,) = events(arch, program(transfer(Opcode.STORE, 0, 48)))
    last = event.bursts[0][1] + 15 * WI
    assert event.bursts[2][0] == last + 200 + 1


def test_tiles_of_a_matmul() -> None:
    # Four tiles, a tile lasting max(rows, w_rows) cycles, after the first tile's words.
    (event,) = events(ARCH, program(matmul(rows=3, k_chunks=2, n_chunks=2)))
    assert event.pop == start(2) + POP_CYCLES
    assert event.issue == event.pop + 4 + 3 * 4 + 3
    assert event.retire == event.issue + array_latency(4, 8)


def test_counters_of_a_matmul() -> None:
    result = simulate(ARCH, program(matmul(rows=3, k_chunks=2, n_chunks=5, accumulate=1)))
    assert result.counter(Counter.ARRAY_ROWS) == 30
    assert result.counter(Counter.ARRAY_WEIGHT_ROWS) == 40
    assert result.counter(Counter.ACCUMULATOR_WRITES) == 30
    assert result.counter(Counter.ACCUMULATOR_READS) == 30
    assert result.counter(Counter.SCRATCHPAD_READS) == 70
    fresh = simulate(ARCH, program(matmul(rows=3, k_chunks=2, n_chunks=5)))
    assert fresh.counter(Counter.ACCUMULATOR_READS) == 15


def test_a_vector_pass_occupies_its_engine_until_it_retires() -> None:
    one, two = events(ARCH, program(vector(), vector(rows=7)))
    assert one.issue == one.pop + 5
    assert one.retire == one.issue + vector_latency(8)
    assert two.head == two.pop == one.retire + 1
    busy = simulate(ARCH, program(vector(), vector(rows=7))).counter(Counter.VECTOR_BUSY)
    assert busy == 5 + 7 + 2 * vector_latency(8)


@pytest.mark.parametrize("trips", [100, 10**9])
def test_a_loop_settles_at_its_slowest_engine(trips: int) -> None:
    # One MATMUL after the other: pop to pop is the last issue and one cycle, 15 here.
    result = simulate(ARCH, program(loop(trips), matmul(), END))
    pop = start(4) + SEQ_CYCLES + POP_CYCLES + 15 * (trips - 1)
    assert result.cycles == pop + 14 + array_latency(4, 8) + HALT_CYCLES + 1


def test_a_stall_counts_the_cycles_without_a_token() -> None:
    listing = program(matmul(signals=1), vector(waits=1))
    array, second = events(ARCH, listing)
    assert second.head == second.push + POP_CYCLES
    assert second.pop == array.retire + TOKEN_CYCLES
    assert second.cause == 0
    result = simulate(ARCH, listing)
    assert result.stalls(0) == array.retire + TOKEN_CYCLES - (second.push + POP_CYCLES)
    assert sum(result.counters[STALL_BASE:]) == result.stalls(0)


def test_a_release_comes_at_the_last_issue() -> None:
    array, second = events(ARCH, program(matmul(releases=2), vector(waits=2)))
    assert second.pop == array.issue + TOKEN_CYCLES


def test_a_token_that_lies_there_holds_nothing_back() -> None:
    # Given two instructions earlier: seen before the entry is, or in the same cycle.
    _, second = events(ARCH, program(vector(releases=2, rows=1), add(8), matmul(waits=2)))
    assert second.head == second.pop == second.push + POP_CYCLES
    assert second.cause is None


def test_a_queues_pops_are_apart() -> None:
    # Both SYNCs wait for one product, and the engine is ready for each; the second has to be armed.
    syncs = [Instruction(Opcode.SYNC_STORE, waits=mask) for mask in (1, 2)]
    array, one, two = events(ARCH, program(matmul(signals=3), *syncs))
    assert (one.pop, two.pop) == (array.retire + TOKEN_CYCLES, one.pop + NEXT_CYCLES)
    assert two.head == two.pop
    assert simulate(ARCH, program(matmul(signals=3), *syncs)).stalls(1) == 0


def test_halt_comes_after_the_last_retirement() -> None:
    listing = program(matmul())
    (array,) = events(ARCH, listing)
    assert simulate(ARCH, listing).cycles == array.retire + HALT_CYCLES + 1


def test_a_head_may_wait_for_a_later_instruction() -> None:
    listing = program(vector(waits=1), matmul(signals=1))
    run = {event.engine: event for event in events(ARCH, listing)}
    assert run[Engine.VECTOR].pop == run[Engine.ARRAY].retire + TOKEN_CYCLES


def test_a_full_queue_holds_the_sequencer() -> None:
    # Depth 2: the fourth push needs the second pop (the first is popped before the third push).
    run = events(ARCH, program(*(matmul() for _ in range(4))))
    assert run[3].push == run[1].pop + PLACE_CYCLES


def test_sync_load_waits_for_the_loads_before_it() -> None:
    sync = Instruction(Opcode.SYNC_LOAD)
    load, after = events(ARCH, program(transfer(Opcode.LOAD, 0, 16), sync))
    assert after.pop < load.retire
    assert after.retire == load.retire


def test_an_engine_may_stand_blocked_through_a_skipped_loop() -> None:
    # The ARRAY waits through the whole loop for a token that follows it; its stall is exact.
    def listing(trips: int) -> Program:
        return program(matmul(waits=1), loop(trips), vector(), END, transfer(Opcode.LOAD, 0, 4, signals=1))

    assert simulate(ARCH, listing(500)) == simulate(ARCH, listing(500), plain=True)
    many, more = simulate(ARCH, listing(10**9)), simulate(ARCH, listing(10**9 + 1))
    period = 5 + vector_latency(8) + 1
    assert more.cycles - many.cycles == more.stalls(0) - many.stalls(0) == period


def test_registers_that_cut_bursts_are_state() -> None:
    # A step of 72 bytes moves the page boundary: 4096 / 8 iterations until the pattern repeats.
    load = Instruction(Opcode.LOAD, (Operand(0, 1), Operand(0)), {"segments": 1, "beats": 9})
    listing = program(loop(512 * 1000), load, add(72), END)
    result = simulate(ARCH, listing)
    crossing = sum(1 for index in range(512) if (72 * index) % 4096 + 72 > 4096)
    fetch = 3
    assert result.counter(Counter.LOAD_BURSTS) == 1000 * (512 + crossing) + fetch


def test_rings_are_state() -> None:
    ring = Instruction(Opcode.RING, fields={"reg": 1, "imm": 4088, "limit": 3 * 4088})
    load = Instruction(Opcode.LOAD, (Operand(0, 1), Operand(0)), {"segments": 1, "beats": 2})
    trips = 3 * 10**6
    result = simulate(ARCH, program(loop(trips), load, ring, END))
    # Addresses 0, 4088, 8176: the second crosses a page (8 + 8 bytes), the third does not (16 bytes left).
    assert result.counter(Counter.LOAD_BURSTS) == trips // 3 * 4 + 3


def test_sections_follow_the_frontier() -> None:
    listing = Program("two", (matmul(signals=1), vector(waits=1), HALT), sections=((0, "a"), (1, "b")))
    array, second = events(ARCH, listing)
    result = simulate(ARCH, listing)
    fetched = start(3) - 1 - SEQ_START
    assert [(each.name, each.cycles) for each in result.sections] == [
        (START, fetched + 1),
        ("a", array.retire - fetched),
        ("b", result.cycles - 1 - array.retire),
    ]
    assert second.section == "b"


def test_a_deadlock_names_engine_instruction_and_semaphore() -> None:
    listing = Program("stuck", (vector(waits=3), matmul(signals=1, waits=4), matmul(signals=2), HALT))
    with_sync = replace(listing, instructions=(*listing.instructions[:-1], vector(signals=4), HALT))
    named = replace(with_sync, semaphores={0: "sums ready"})
    expected = (
        "program 'stuck' must not deadlock: ARRAY waits at instruction 1 (matmul 0 1024 0 rows=10 "
        "k_chunks=1 n_chunks=1 w_rows=4 waits=2 signals=0) for semaphore 2, which is never signalled again; "
        "VECTOR waits at instruction 0 (vector 0 2048 rows=5 chunks=1 length=8 group=8 destination=1 "
        "waits=0,1) for semaphore 0 (sums ready), which is never signalled again"
    )
    with pytest.raises(ArchsimError) as caught:
        simulate(ARCH, named)
    assert str(caught.value) == expected


def test_a_semaphore_has_sixteen_bits() -> None:
    sync = Instruction(Opcode.SYNC_ARRAY, releases=1)
    listing = program(loop(70_000), sync, END, vector(waits=1))
    with pytest.raises(ArchsimError, match=r"^semaphore 0 must count at most 65535 tokens"):
        simulate(ARCH, listing)


def test_program_address_must_be_aligned_and_cuts_the_fetch() -> None:
    with pytest.raises(ArchsimError, match=r"^program_address must be a multiple of 64, not 8$"):
        simulate(ARCH, program(), program_address=8)
    two = simulate(ARCH, program(add(8)), program_address=4096 - 64)
    assert two.counter(Counter.LOAD_BURSTS) == 2


def test_a_trace_is_the_run() -> None:
    listing = program(loop(5), matmul(signals=1), vector(waits=1), END)
    traced, silent = simulate(ARCH, listing, trace=True), simulate(ARCH, listing)
    assert replace(traced, events=()) == silent
    assert len(traced.events) == 11
    assert traced.complete
    engine = traced.events[1:]
    assert all(event.push + POP_CYCLES <= event.head <= event.pop <= event.issue for event in engine)
    assert traced.events[0].retire == start(5) - 1 - SEQ_START
