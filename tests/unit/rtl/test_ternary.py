"""The ternary ARRAY engine against plain sums and the schedule of the contract, to the cycle and the bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from numpy.typing import NDArray

from archsim._architecture import Architecture, Array
from archsim._isa import Engine, Opcode
from archsim._timing import SCRATCHPAD_READ, ternary_latency
from archsim._trits import pack_words
from rtl._accumulator import READ_LATENCY
from rtl._build import build, check
from rtl._command import command_layout
from rtl._errors import RtlError
from rtl._ternary import TernaryEngine
from rtl._trits import TernarySums, Unpack
from rtl._weights import BANK_WORDS, WeightMemory
from tests.unit.rtl._bench import Command, Diary, Player, architecture, sync

LAYOUT = command_layout(Engine.ARRAY)
WORDS = 29
Words = NDArray[np.int64]


def machine(rows: int, cols: int, *, group: int = 1, bus_bytes: int = 4) -> Architecture:
    """A small ternary machine."""
    arch = architecture(rows, cols)
    array = Array(kind="ternary", rows=rows, cols=cols, weight_words=WORDS, group=group)
    return replace(arch, array=array, bus=replace(arch.bus, bytes=bus_bytes))


def random_trits(arch: Architecture, rng: np.random.Generator) -> NDArray[np.int8]:
    return rng.integers(-1, 2, (WORDS, arch.array.rows, arch.array.cols)).astype(np.int8)


def random_command(rng: np.random.Generator) -> Command:
    """A legal MATMUL, often of one row, and often adding to one word slot after slot."""
    rows = int(rng.choice([1, 1, 2, 7]))
    return {
        "opcode": int(Opcode.MATMUL),
        "is_sync": 0,
        "rows": rows,
        "k_chunks": int(rng.integers(1, 6)),
        "n_chunks": int(rng.integers(1, 4)),
        "w_rows": 1,
        "accumulate": int(rng.integers(2)),
        "op0": int(rng.integers(0, 300)),
        "op1": int(rng.integers(0, 9)),
        "op2": int(rng.integers(0, 12)),
        "x_k_stride": int(rng.integers(0, 40)),
        "w_n_stride": int(rng.integers(0, 5)),
        "w_k_stride": int(rng.integers(0, 3)),
        "acc_n_stride": int(rng.choice([0, 1, rows, 9])),
        "signals": int(rng.integers(1 << 16)),
        "releases": int(rng.integers(1, 1 << 16)),
    }


def slots(c: Command) -> list[tuple[int, int, int]]:
    """(n, k, m) of every slot, in order."""
    if c["is_sync"]:
        return []
    counts = (range(c[name]) for name in ("n_chunks", "k_chunks", "rows"))
    ns, ks, ms = counts
    return [(n, k, m) for n in ns for k in ks for m in ms]


def expected_sums(
    arch: Architecture, store: Words, trits: NDArray[np.int8], commands: list[Command]
) -> Words:
    """The accumulators after ``commands``, slot by slot."""
    sums = np.zeros((arch.accumulator_words, arch.array.cols), dtype=np.int64)
    for c in commands:
        for n, k, m in slots(c):
            word = trits[c["op1"] + n * c["w_n_stride"] + k * c["w_k_stride"]].astype(np.int64)
            x = store[c["op0"] + k * c["x_k_stride"] + m, : arch.array.rows]
            place = c["op2"] + n * c["acc_n_stride"] + m
            old = sums[place] if k or c["accumulate"] else 0
            sums[place] = (old + x @ word + 2**31) % 2**32 - 2**31
    return sums


def check_schedule(arch: Architecture, commands: list[Command], diary: Diary, *, prompt: bool) -> None:
    """Pops, reads, releases and retirements at the cycles of the contract."""
    latency = ternary_latency(arch.array.rows, arch.array.group)
    reads, releases, retires = [], [], []
    ready = 0
    for s, c in zip(diary.pops, commands, strict=True):
        assert s == ready if prompt else s >= ready
        nest = slots(c)
        reads += [(s + 1 + t, c["op0"] + k * c["x_k_stride"] + m) for t, (_, k, m) in enumerate(nest)]
        e = s + len(nest)
        if c.get("releases"):
            releases.append((e, c["releases"]))
        retires.append((e + latency, c.get("signals", 0)))
        ready = e + 1
    assert diary.reads == {"x_read": reads}
    assert diary.releases == releases
    assert diary.retires == retires


def run(
    arch: Architecture, store: Words, weights: bytes, commands: list[Command], **options: Any
) -> tuple[Diary, Words]:
    """The diary of ``commands``, and the accumulators right after the last retirement."""
    engine = TernaryEngine(arch, weights=weights, inline=True)
    words = [int.from_bytes((word & 255).astype(np.uint8).tobytes(), "little") for word in store]
    found = np.zeros((arch.accumulator_words, arch.array.cols), dtype=np.int64)

    async def read_back(ctx: Any) -> None:
        ctx.set(engine.acc_read.en, 1)
        for address in range(arch.accumulator_words):
            ctx.set(engine.acc_read.addr, address)
            await ctx.tick().repeat(READ_LATENCY)
            word = ctx.get(engine.acc_read.data).to_bytes(4 * arch.array.cols, "little")
            found[address] = np.frombuffer(word, dtype="<i4")

    player = Player(
        engine=engine,
        layout=LAYOUT,
        commands=commands,
        memories={"x_read": lambda address: words[address]},
        inspect=read_back,
        **options,
    )
    return player.run(), found


@pytest.mark.parametrize(
    ("rows", "cols", "group", "prompt"),
    [(1, 1, 1, True), (1, 1, 3, True), (4, 2, 1, False), (3, 5, 3, True), (7, 3, 3, False), (5, 4, 1, True)],
)
def test_random_commands_match_the_contract(rows: int, cols: int, group: int, prompt: bool) -> None:
    rng = np.random.default_rng((rows, cols, group, prompt))
    arch = machine(rows, cols, group=group)
    trits = random_trits(arch, rng)
    store = rng.integers(-128, 128, size=(1024, arch.word_bytes))
    commands = [random_command(rng) for _ in range(20)]
    commands.insert(5, sync(Opcode.SYNC_ARRAY, signals=5, releases=0x8001))
    commands.insert(6, sync(Opcode.SYNC_ARRAY, signals=9))
    gaps = None if prompt else iter(rng.integers(0, 9, size=64).tolist())
    diary, found = run(arch, store, pack_words(arch, trits), commands, gaps=gaps)
    check_schedule(arch, commands, diary, prompt=prompt)
    assert (found == expected_sums(arch, store, trits, commands)).all()
    counts = [len(slots(c)) for c in commands]
    tiles = [c["n_chunks"] * c["k_chunks"] for c in commands if not c["is_sync"]]
    assert diary.events["array_rows"] == diary.events["array_busy"] == sum(counts)
    assert diary.events["scratchpad_reads"] == diary.events["accumulator_writes"] == sum(counts)
    assert diary.events["array_weight_rows"] == sum(tiles)


def test_every_byte_has_its_trits() -> None:
    unpack, found = Unpack(), []

    async def bench(ctx: Any) -> None:
        for value in range(243):
            ctx.set(unpack.packed, value)
            await ctx.tick()
            found.append([ctx.get(unpack.trits[t].as_value()) for t in range(5)])

    simulator = Simulator(unpack)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    code = {0: 0b00, 1: 0b01, -1: 0b11}
    assert found == [[code[value // 3**t % 3 - 1] for t in range(5)] for value in range(243)]


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("x", [-128, 127])
def test_extreme_activations_do_not_overflow(group: int, x: int) -> None:
    """All trits one, all minus one, and alternating, on the largest sums there are."""
    rows, cols = 7, 3
    arch = machine(rows, cols, group=group)
    trits = np.stack([np.ones(rows), -np.ones(rows), (-1) ** np.arange(rows)], axis=1)
    word = int.from_bytes(pack_words(arch, trits[None].astype(np.int8)), "little")
    sums = TernarySums(rows=rows, cols=cols, group=group, word_bytes=arch.word_bytes, inline=True)
    found: list[int] = []

    async def bench(ctx: Any) -> None:
        ctx.set(sums.x_word, int.from_bytes(bytes([x % 256] * rows), "little"))
        ctx.set(sums.w_word, word)
        await ctx.tick().repeat(ternary_latency(rows, group))
        found.extend(ctx.get(sums.sums[c]) for c in range(cols))

    simulator = Simulator(sums)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == [rows * x, -rows * x, x]


@pytest.mark.parametrize(("rows", "cols", "bus_bytes"), [(1, 1, 4), (6, 5, 4), (8, 8, 4), (4, 4, 8)])
def test_beats_fill_words_in_order(rows: int, cols: int, bus_bytes: int) -> None:
    """Two segments, one after the other or with other beats between, and what was there before."""
    rng = np.random.default_rng(rows)
    arch = machine(rows, cols, bus_bytes=bus_bytes)
    before, after = (pack_words(arch, random_trits(arch, rng)) for _ in range(2))
    memory, size, beats = WeightMemory(arch, weights=before), arch.weight_bytes, arch.weight_beats
    wanted = [before[arch.weight_beats * bus_bytes * word :][:size] for word in range(WORDS)]
    found: list[bytes] = []

    async def bench(ctx: Any) -> None:
        for first, count in ((20, 3), (4, 5)):
            for beat in range(count * beats):
                start = (first * beats + beat) * bus_bytes
                ctx.set(memory.write.en, 1)
                ctx.set(memory.write.start, beat == 0)
                ctx.set(memory.write.addr, first if beat == 0 else int(rng.integers(1 << 32)))
                ctx.set(memory.write.data, int.from_bytes(after[start : start + bus_bytes], "little"))
                await ctx.tick()
                ctx.set(memory.write.en, 0)
                await ctx.tick().repeat(int(rng.integers(1, 3)))
            for word in range(first, first + count):
                wanted[word] = after[beats * bus_bytes * word :][:size]
        ctx.set(memory.read.en, 1)
        for word in range(WORDS):
            ctx.set(memory.read.addr, word)
            await ctx.tick().repeat(SCRATCHPAD_READ)
            found.append(ctx.get(memory.read.data).to_bytes(size, "little"))

    simulator = Simulator(memory)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == wanted


def test_words_of_two_banks() -> None:
    """A segment across the edge of two banks, read back and forth; between two reads the word stays."""
    arch = replace(machine(1, 1), array=Array(kind="ternary", rows=1, cols=1, weight_words=BANK_WORDS + 4))
    places = range(BANK_WORDS - 3, BANK_WORDS + 4)
    memory = WeightMemory(arch, weights=bytes([1, 1, 1, 1]) * (BANK_WORDS + 4))
    order = [places[0], places[-1], places[1], BANK_WORDS, BANK_WORDS - 1, 0, *places]

    async def bench(ctx: Any) -> None:
        ctx.set(memory.write.en, 1)
        for beat, place in enumerate(places):
            ctx.set(memory.write.start, beat == 0)
            ctx.set(memory.write.addr, place if beat == 0 else 0)
            ctx.set(memory.write.data, 2 + beat)
            await ctx.tick()
        ctx.set(memory.write.en, 0)
        for place in order:
            ctx.set(memory.read.en, 1)
            ctx.set(memory.read.addr, place)
            await ctx.tick()
            ctx.set(memory.read.en, 0)
            ctx.set(memory.read.addr, BANK_WORDS ^ place)
            await ctx.tick().repeat(SCRATCHPAD_READ)
            assert ctx.get(memory.read.data) == (2 + place - places[0] if place in places else 1)

    simulator = Simulator(memory)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


def test_weights_are_for_ternary_arrays() -> None:
    with pytest.raises(RtlError, match=r"^weights must be given for a ternary array, not a dense one$"):
        build(architecture(2, 2), weights=bytes(4))
    wrong = replace(machine(2, 2), array=replace(machine(2, 2).array, group=2))
    with pytest.raises(RtlError, match=r"^array.group must be 1 or 3, not 2$"):
        check(wrong)
    empty = replace(machine(2, 2), array=replace(machine(2, 2).array, weight_words=0))
    with pytest.raises(RtlError, match=r"^array.weight_words must be in 1..65536, not 0$"):
        check(empty)
