"""The simulator on random programs: periodic = plain = one clock at a time."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._counters import COUNTERS, Counter
from archsim._errors import ArchsimError
from archsim._isa import ENGINE_OF, KIND_OPCODES, Engine, Opcode, Space
from archsim._naive import simulate_naive
from archsim._program import Instruction, Operand, Program
from archsim._simulate import simulate

SYNCS = {
    Engine.LOAD: Opcode.SYNC_LOAD,
    Engine.STORE: Opcode.SYNC_STORE,
    Engine.ARRAY: Opcode.SYNC_ARRAY,
    Engine.VECTOR: Opcode.SYNC_VECTOR,
}
WORDS = 4096
SEEDS = st.integers(0, 2**32 - 1)
"""Programs are drawn from a seed: drawing each of their choices apart takes longer than running them."""


def random_architecture(random: Random) -> Architecture:
    """Small machines with every queue, burst and memory figure drawn."""
    rows, cols = random.choice([(1, 1), (3, 5), (2, 2), (8, 8)])
    array = Array(rows=rows, cols=cols)
    if random.random() < 0.4:
        array = replace(array, kind="ternary", weight_words=WORDS, group=random.choice([1, 3]))
    return Architecture(
        name="random",
        clock_mhz=100.0,
        array=array,
        bus=Bus(
            bytes=random.choice([4, 8, 16]),
            max_burst_beats=random.choice([1, 2, 7, 16, 64]),
            outstanding=random.randint(1, 4),
        ),
        scratchpad=Scratchpad(banks=4, words_per_bank=WORDS // 4),
        accumulator_words=WORDS,
        parameter_words=WORDS,
        vector=Vector(buffer_words=WORDS, rows=64, gated=random.random() < 0.5),
        queue_depth=random.randint(1, 4),
        memory=Memory(
            read_latency=random.randint(1, 40),
            read_interval=random.choice([1, 2, 3, 30]),
            write_latency=random.randint(1, 30),
            write_interval=random.choice([1, 2, 3, 30]),
        ),
    )


class Writer:
    """Writes one random program; every semaphore has as many tokens given as taken in each loop body."""

    def __init__(self, random: Random, arch: Architecture, *, trips: int, straight: bool) -> None:
        self.random = random
        self.arch = arch
        self.trips = trips
        self.straight = straight
        self.prologue: list[Instruction] = []
        self.pairs = 0
        self.is_ternary = arch.array.kind == "ternary"

    def program(self) -> Program:
        """The whole program."""
        body = self.block(self.random.randint(1, 3), self.random.randint(1, 4))
        steps = [self.control() for _ in range(self.random.randint(0, 2))]
        listing = (*self.prologue, *steps, *body, Instruction(Opcode.HALT))
        sections = ((len(self.prologue), "first"), (len(listing) - 2, "last"))
        return Program("random", listing, sections=sections)

    def block(self, depth: int, length: int) -> list[Instruction]:
        """A list of pairs, controls and loops."""
        listing: list[Instruction] = []
        for _ in range(length):
            choice = self.random.random()
            if depth and choice < 0.4:
                trips = self.random.randint(1, self.trips)
                inner = self.block(depth - 1, self.random.randint(1, 4))
                loop = Instruction(Opcode.LOOP, fields={"imm": trips})
                listing += [loop, *inner, Instruction(Opcode.END)]
            elif choice < 0.8 and self.pairs < 8:
                listing += self.pair()
            elif choice < 0.9:
                listing.append(self.control())
            else:
                listing.append(self.work(self.random.choice(list(Engine))))
        return listing

    def pair(self) -> list[Instruction]:
        """A producer and a consumer, with credits that come back, and others between them."""
        full, empty = 2 * self.pairs, 2 * self.pairs + 1
        self.pairs += 1
        producer, consumer = (self.random.choice(list(Engine)) for _ in range(2))
        back = self.mask(consumer, empty)
        sync = Instruction(SYNCS[consumer], (), {}, 0, back.get("signals", 0), back.get("releases", 0))
        self.prologue += [sync] * self.random.randint(1, 3)
        first = self.work(producer, waits=1 << empty, **self.mask(producer, full))
        second = self.work(consumer, waits=1 << full, **back)
        between = [self.control()] if self.random.random() < 0.3 else []
        if self.straight or self.random.random() < 0.8:
            return [first, *between, second]
        return [second, *between, first]

    def mask(self, engine: Engine, semaphore: int) -> dict[str, int]:
        """One semaphore in a mask that the engine may use."""
        early = engine in (Engine.ARRAY, Engine.VECTOR) and self.random.random() < 0.5
        return {"releases" if early else "signals": 1 << semaphore}

    def control(self) -> Instruction:
        """A register set, stepped, or stepped round a ring."""
        unit = max(self.arch.bus.bytes, 16)
        opcode = self.random.choice([Opcode.SET, Opcode.ADD, Opcode.RING])
        imm = unit * self.random.choice([1, 3, 16, 100, (1 << 32) // unit - 5])
        fields = {"reg": self.random.randint(1, 3), "imm": imm}
        if opcode is Opcode.RING:
            fields |= {"imm": unit, "limit": unit * self.random.randint(1, 6)}
        return Instruction(opcode, fields=fields)

    def work(self, engine: Engine, waits: int = 0, signals: int = 0, releases: int = 0) -> Instruction:
        """An instruction of ``engine``."""
        random = self.random
        own = [opcode for opcode, owner in ENGINE_OF.items() if owner is engine]
        opcode = random.choice([opcode for opcode in own if opcode not in KIND_OPCODES["fusemax"]])
        operands: tuple[Operand, ...] = ()
        fields: dict[str, int] = {}
        if opcode in (Opcode.LOAD, Opcode.STORE):
            unit = max(self.arch.bus.bytes, 16)
            base = Operand(unit * random.randint(0, 300), random.randint(0, 3))
            operands = (base, Operand(0))
            stride = unit * random.choice([1, 5, 250, (1 << 32) // unit - 1])
            fields = {"segments": random.randint(1, 3), "beats": random.randint(1, 30), "dram_stride": stride}
            if opcode is Opcode.LOAD and self.is_ternary and random.random() < 0.5:
                fields |= {"space": Space.WEIGHTS, "beats": random.randint(1, 6) * self.arch.weight_beats}
        elif opcode is Opcode.MATMUL:
            side = min(self.arch.array.rows, self.arch.array.cols)
            fields = {name: random.randint(1, 3) for name in ("k_chunks", "n_chunks")}
            fields |= {"rows": random.randint(1, 12), "w_rows": random.randint(1, side)}
            fields |= {"accumulate": random.randint(0, 1)} | ({"w_rows": 1} if self.is_ternary else {})
        elif opcode is Opcode.VECTOR:
            fields = {"rows": random.randint(1, 6), "chunks": random.randint(1, 3), "length": 1, "group": 1}
            widths = {"source": 2, "affine": 1, "residual": 2, "lookup": 2, "destination": 2}
            fields |= {name: random.randint(0, high) for name, high in widths.items()}
            if self.arch.vector.gated:
                fields |= {"res_buffer": random.randint(0, 1), "lookup": random.randint(0, 3)}
        return Instruction(opcode, operands, fields, waits, signals, releases)


def run(arch: Architecture, program: Program, *, plain: bool) -> tuple[int, tuple[int, ...]] | None:
    """Cycles and counters, or None where the program deadlocks."""
    try:
        result = simulate(arch, program, plain=plain)
    except ArchsimError as error:
        if "deadlock" not in str(error):
            raise
        return None
    return result.cycles, result.counters


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_equals_one_clock_at_a_time(seed: int) -> None:
    random = Random(seed)
    arch = random_architecture(random)
    program = Writer(random, arch, trips=4, straight=False).program()
    expected = run(arch, program, plain=True)
    if expected is None:
        with pytest.raises(ArchsimError, match="must end within"):
            simulate_naive(arch, program, max_cycles=5_000)
    elif expected[0] < 8_000:
        assert simulate_naive(arch, program) == expected
    assert run(arch, program, plain=False) == expected


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_skipping_periods_changes_nothing(seed: int) -> None:
    random = Random(seed)
    arch = random_architecture(random)
    program = Writer(random, arch, trips=30, straight=True).program()
    periodic, plain = simulate(arch, program), simulate(arch, program, plain=True)
    assert periodic == plain


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_sections_sum_to_the_whole(seed: int) -> None:
    random = Random(seed)
    arch = random_architecture(random)
    program = Writer(random, arch, trips=10, straight=True).program()
    result = simulate(arch, program)
    for index in range(COUNTERS):
        assert sum(section.counters[index] for section in result.sections) == result.counters[index]
    assert result.counter(Counter.CYCLES) == result.cycles
    assert result.counter(Counter.INSTRUCTIONS) == sum(result.executions)
