"""The control path in Amaranth's simulator against the times of ``control_reference``."""

from __future__ import annotations

import random
from typing import Any

import pytest

from archsim._architecture import Architecture
from archsim._counters import STALL_BASE, Counter
from archsim._isa import Opcode, Space
from archsim._program import Instruction, Operand
from archsim._timing import SEQ_CYCLES, SEQ_START, TOKEN_CYCLES
from tests.unit.rtl.control_bench import Run, machine, run
from tests.unit.rtl.control_reference import Reference, bursts, unroll

HALT = Instruction(Opcode.HALT)
END = Instruction(Opcode.END)


def loop(turns: int, *body: Instruction) -> list[Instruction]:
    return [Instruction(Opcode.LOOP, fields={"imm": turns}), *body, END]


def sync(opcode: Opcode, *, waits: int = 0, signals: int = 0, releases: int = 0) -> Instruction:
    return Instruction(opcode, waits=waits, signals=signals, releases=releases)


def load(dram: Operand, local: Operand, *, masks: tuple[int, int] = (0, 0), **fields: int) -> Instruction:
    fields = {"segments": 1, "space": Space.SCRATCHPAD, **fields}
    return Instruction(Opcode.LOAD, (dram, local), fields, waits=masks[0], signals=masks[1])


def store(dram: Operand, local: Operand, *, masks: tuple[int, int] = (0, 0), **fields: int) -> Instruction:
    fields = {"segments": 1, **fields}
    return Instruction(Opcode.STORE, (dram, local), fields, waits=masks[0], signals=masks[1])


def at(base: int, reg: int = 0) -> Operand:
    return Operand(base, reg)


def agree(arch: Architecture, program: list[Instruction], *, image: bytes = b"", **options: Any) -> Run:
    """Runs and compares cycles, every counter and the address handshakes."""
    result = run(arch, program, image=image, **options)
    place = -(-len(image) // 64) * 64
    expected = Reference(arch, program, place)
    cycles = expected.cycles
    assert result.counters == tuple(expected.counters)
    assert result.counters[Counter.CYCLES] == cycles
    if options.get("runs", 1) == 1:
        # The reference counts from cycle 0, the memory from the start of the simulation.
        shift = result.memory.reads[0][0] - expected.reads[0][0]
        assert [(cycle - shift, *rest) for cycle, *rest in result.memory.reads] == expected.reads
        assert [(cycle - shift, *rest) for cycle, *rest in result.memory.writes] == expected.writes
    return result


def test_halt_alone_takes_the_fetch_and_the_start() -> None:
    arch = machine(bus_bytes=16, side=8, read_latency=9)
    result = agree(arch, [HALT])
    # AR in cycle 1, four beats from cycle 10 on, retirement after the last, then the first execute cycle.
    assert result.counters[Counter.CYCLES] == (1 + 9 + 3 + 1) + 1 + SEQ_START + 1
    assert result.status == 1
    assert result.irq


def test_loop_nest_takes_three_cycles_an_instruction() -> None:
    arch = machine()
    program = [*loop(3, *loop(4, Instruction(Opcode.ADD, fields={"reg": 1, "imm": 5}))), HALT]
    result = agree(arch, program)
    executed = 1 + 3 * (1 + 4 * 2 + 1) + 1
    assert result.counters[Counter.INSTRUCTIONS] == executed
    empty = agree(arch, [HALT] * len(program)).counters[Counter.CYCLES]
    assert result.counters[Counter.CYCLES] == empty + SEQ_CYCLES * (executed - 1)


@pytest.mark.parametrize(("side", "bus_bytes"), [(4, 4), (8, 4), (4, 8), (2, 16), (8, 64)])
def test_copy_moves_the_bytes(side: int, bus_bytes: int) -> None:
    # The words straddle the first two banks.
    arch = machine(side=side, bus_bytes=bus_bytes, read_latency=5, write_latency=3)
    size, local = 24 * bus_bytes, at(2048 - 12 * max(1, bus_bytes // side))
    image = random.Random(side).randbytes(size) + bytes(size)
    program = [
        load(at(0), local, beats=24, masks=(0, 1)),
        store(at(size), local, beats=24, masks=(1, 0)),
        HALT,
    ]
    result = agree(arch, program, image=image)
    assert result.memory.image[size : 2 * size] == image[:size]
    assert result.status == 1


def test_strided_segments_gather_and_scatter() -> None:
    arch = machine(side=4, bus_bytes=8, read_latency=3, write_latency=2)
    image = random.Random(1).randbytes(512) + bytes(512)
    program = [
        load(at(8), at(4), segments=3, beats=2, dram_stride=64, local_stride=6, masks=(0, 1)),
        # Backwards: a negative stride is its residue.
        store(
            at(960), at(16), segments=3, beats=2, dram_stride=2**32 - 32, local_stride=2**32 - 6, masks=(1, 0)
        ),
        HALT,
    ]
    result = agree(arch, program, image=image)
    for source, target in ((8, 896), (72, 928), (136, 960)):
        assert result.memory.image[target : target + 16] == image[source : source + 16]


def test_ring_returns_to_zero_at_its_limit() -> None:
    arch = machine(read_latency=2)
    body = [
        load(at(0, 1), at(0, 2), beats=1),
        Instruction(Opcode.RING, fields={"reg": 1, "imm": 64, "limit": 192}),
        Instruction(Opcode.ADD, fields={"reg": 2, "imm": 2**32 - 1}),
    ]
    program = [Instruction(Opcode.SET, fields={"reg": 2, "imm": 100}), *loop(5, *body), HALT]
    result = agree(arch, program, image=bytes(256))
    assert [address for _, address, _ in result.memory.reads[-5:]] == [0, 64, 128, 0, 64]


def test_all_loop_levels_and_one_too_many() -> None:
    arch = machine(read_latency=2)
    body = [Instruction(Opcode.ADD, fields={"reg": 3, "imm": 1})]
    for turns in (2, 1, 1, 1, 1, 1, 1, 2):
        body = loop(turns, *body)
    assert agree(arch, [*body, HALT]).status == 1
    result = run(arch, [*loop(2, *body), HALT])
    assert result.status == 1 | 1 << 5
    assert result.counters[Counter.INSTRUCTIONS] == 9


def test_full_queue_holds_the_sequencer() -> None:
    arch = machine(depth=2, read_latency=4)
    slow = Instruction(Opcode.MATMUL, fields={"rows": 40})
    result = agree(arch, [*loop(6, slow), HALT])
    # Forty cycles and one to pop for each of the last; the queue never starves the engine.
    assert result.counters[Counter.CYCLES] > 6 * 41


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_queue_depths(depth: int) -> None:
    body = [Instruction(Opcode.MATMUL, fields={"rows": rows}) for rows in (1, 30, 2, 9, 4)]
    agree(machine(depth=depth, read_latency=4), [*loop(3, *body), HALT])


def test_stalls_are_counted_by_semaphore() -> None:
    arch = machine(read_latency=30)
    program = [
        load(at(0), at(0), beats=1, masks=(0, 1 << 3)),
        Instruction(Opcode.MATMUL, fields={"rows": 10}, waits=1 << 3, releases=1 << 7),
        Instruction(Opcode.VECTOR, fields={"rows": 2}, waits=1 << 7),
        HALT,
    ]
    result = agree(arch, program, image=bytes(64))
    stalls = result.counters[STALL_BASE:]
    assert stalls[3] > 20
    # VECTOR's head is visible three cycles after ARRAY's, and waits for the token of e.
    assert stalls[7] == (stalls[3] + 10 + TOKEN_CYCLES) - 3
    assert sum(stalls) == stalls[3] + stalls[7]


def test_bursts_end_at_4_kib_and_at_the_longest_burst() -> None:
    arch = machine(bus_bytes=4, burst=16, outstanding=8, read_latency=3, write_latency=3)
    image = random.Random(2).randbytes(4096 + 512) + bytes(4096)
    program = [
        load(at(4096 - 20), at(0), beats=40, masks=(0, 1)),
        store(at(8192 - 36), at(0), beats=40, masks=(1, 0)),
        HALT,
    ]
    result = agree(arch, program, image=image)
    assert [rest for _, *rest in result.memory.reads[-4:]] == [
        [4076, 5],
        [4096, 16],
        [4160, 16],
        [4224, 3],
    ]
    assert [length for _, _, length in result.memory.writes] == [9, 16, 15]
    assert result.memory.image[8156 : 8156 + 160] == image[4076 : 4076 + 160]


@pytest.mark.parametrize("outstanding", [1, 2, 3])
@pytest.mark.parametrize("interval", [1, 3])
def test_outstanding_limit_and_intervals(outstanding: int, interval: int) -> None:
    arch = machine(
        burst=2,
        outstanding=outstanding,
        read_latency=12,
        write_latency=25,
        read_interval=interval,
        write_interval=interval,
    )
    program = [
        load(at(0), at(0), segments=4, beats=5, dram_stride=64, local_stride=5, masks=(0, 1)),
        load(at(64), at(32), beats=3, masks=(0, 1)),
        store(at(256), at(0), segments=3, beats=5, dram_stride=32, local_stride=5, masks=(1, 2)),
        store(at(512), at(32), beats=3, masks=(1, 2)),
        sync(Opcode.SYNC_STORE, signals=2),
        sync(Opcode.SYNC_VECTOR, waits=2),
        sync(Opcode.SYNC_VECTOR, waits=2),
        HALT,
    ]
    image = random.Random(3).randbytes(256) + bytes(512)
    result = agree(arch, program, image=image)
    assert result.memory.image[288 : 288 + 20] == image[64 : 64 + 20]
    assert result.memory.image[512 : 512 + 12] == image[64 : 64 + 12]


def test_syncs_retire_with_the_load_before_them() -> None:
    arch = machine(read_latency=60, depth=8)
    program = [
        load(at(0), at(0), beats=1, masks=(0, 1)),
        *[sync(Opcode.SYNC_LOAD, signals=1)] * 3,
        load(at(0), at(0), beats=1, masks=(0, 1)),
        sync(Opcode.SYNC_LOAD, signals=1),
        # Six tokens, taken as they come.
        *[sync(Opcode.SYNC_ARRAY, waits=1)] * 6,
        HALT,
    ]
    result = agree(arch, program, image=bytes(64))
    assert result.status == 1


def test_transfer_of_nothing_acts_as_sync() -> None:
    arch = machine(read_latency=4)
    nothing = [load(at(0), at(0), beats=0), store(at(0), at(0), segments=0, beats=3)]
    result = run(arch, [*nothing, HALT])
    as_sync = run(arch, [sync(Opcode.SYNC_LOAD), sync(Opcode.SYNC_STORE), HALT])
    assert result.counters == as_sync.counters


@pytest.mark.parametrize(
    ("bad", "status"), [(range(64, 72), 1 | 1 << 2), (range(384, 388), 1 | 1 << 3), (range(900, 901), 1)]
)
def test_error_responses_are_remembered_and_the_run_ends(bad: range, status: int) -> None:
    program = [
        load(at(0), at(0), beats=32, masks=(0, 1)),
        store(at(320), at(0), beats=32, masks=(1, 0)),
        HALT,
    ]
    assert agree(machine(burst=8), program, image=bytes(512), bad=bad).status == status


@pytest.mark.parametrize(
    "wrong",
    [
        Instruction(Opcode.SET, fields={"reg": 0, "imm": 1}),
        Instruction(Opcode.LOOP, fields={"imm": 0}),
        END,
        Instruction(Opcode.ATTEND),
        Instruction(Opcode.DIVIDE),
        sync(Opcode.SYNC_ARRAY),
    ],
)
def test_illegal_instruction_acts_as_halt(wrong: Instruction) -> None:
    # The last case is legal, but the program then runs past its end.
    work = Instruction(Opcode.MATMUL, fields={"rows": 30})
    result = run(machine(), [work, wrong])
    legal = run(machine(), [work, HALT])
    assert result.status == 1 | 1 << 5
    if wrong.opcode is not Opcode.SYNC_ARRAY:
        assert result.counters == legal.counters


@pytest.mark.parametrize("length", [0, 65, 2**31])
def test_program_that_does_not_fit_is_refused_at_once(length: int) -> None:
    result = run(machine(), [HALT], length=length)
    assert result.status == 1 | 1 << 5
    assert result.counters[Counter.CYCLES] == 1
    assert result.memory.reads == []


def test_second_run_starts_afresh() -> None:
    # The first run leaves a token, a register and a status bit behind.
    arch = machine(read_latency=7)
    program = [
        Instruction(Opcode.ADD, fields={"reg": 1, "imm": 4}),
        load(at(0, 1), at(0), beats=1, masks=(0, 1)),
        sync(Opcode.SYNC_LOAD, signals=1),
        sync(Opcode.SYNC_ARRAY, waits=1),
        HALT,
    ]
    result = agree(arch, program, image=bytes(64), runs=3, bad=range(4, 8))
    assert result.status == 1 | 1 << 2
    assert {address for _, address, length in result.memory.reads if length == 1} == {4}


def test_bursts_of_the_reference_by_hand() -> None:
    arch = machine(bus_bytes=8, burst=4)
    assert bursts(4080, 7, arch) == [(4080, 2), (4096, 4), (4128, 1)]
    assert [step.operands for step in unroll([load(at(3), at(4), beats=1), HALT])] == [[3, 4], []]


def chain(rng: random.Random) -> list[Instruction]:
    """A loop body: LOAD to ARRAY to VECTOR to STORE and back."""
    rows = [rng.randint(1, 20), rng.randint(1, 40)]
    return [
        load(
            at(4 * rng.randrange(512), 1),
            at(0),
            segments=rng.randint(1, 3),
            beats=rng.randint(1, 9),
            dram_stride=4 * rng.randrange(300),
            local_stride=7,
            masks=(1 << 4, 1),
        ),
        Instruction(Opcode.MATMUL, fields={"rows": rows[0]}, waits=1, signals=2, releases=1 << 5),
        Instruction(Opcode.VECTOR, fields={"rows": rows[1]}, waits=2, signals=4),
        sync(Opcode.SYNC_VECTOR, waits=1 << 5),
        Instruction(Opcode.RING, fields={"reg": 1, "imm": 4, "limit": 12}),
        store(
            at(8192 + 4 * rng.randrange(512)),
            at(0, 1),
            segments=rng.randint(1, 2),
            beats=rng.randint(1, 9),
            dram_stride=4 * rng.randrange(300),
            local_stride=3,
            masks=(4, 1 << 4),
        ),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_random_programs(seed: int) -> None:
    rng = random.Random(seed)
    arch = machine(
        depth=rng.randint(1, 4),
        outstanding=rng.randint(1, 4),
        burst=rng.choice([1, 3, 8, 64]),
        read_latency=rng.randint(1, 15),
        read_interval=rng.randint(1, 2),
        write_latency=rng.randint(1, 15),
        write_interval=rng.randint(1, 3),
    )
    tokens = [sync(Opcode.SYNC_STORE, signals=1 << 4)] * rng.randint(1, 2)
    inner = loop(rng.randint(1, 2), *chain(rng))
    program = [*tokens, *loop(2, *chain(rng), *inner), HALT]
    agree(arch, program, image=bytes(16384))
