"""The ARRAY engine against numpy and the schedule of the contract, to the cycle and the bit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from numpy.typing import NDArray

from archsim._architecture import Architecture
from archsim._isa import Engine, Opcode
from archsim._timing import array_latency
from rtl._accumulator import ADD_LATENCY, ADD_LEAD, READ_LATENCY, Accumulators
from rtl._array import ArrayEngine
from rtl._command import command_layout
from tests.unit.rtl._bench import Command, Diary, Player, architecture, sync

LAYOUT = command_layout(Engine.ARRAY)
Words = NDArray[np.int64]


def matmul(**fields: int) -> Command:
    return {"opcode": int(Opcode.MATMUL), "is_sync": 0, **fields}


def expected_sums(arch: Architecture, store: Words, commands: list[Command]) -> Words:
    """The accumulators after ``commands``, from the contract's tile nest; rows that no tile wrote are 0."""
    rows, cols = arch.array.rows, arch.array.cols
    sums = np.zeros((arch.accumulator_words, cols), dtype=np.int64)
    for c in commands:
        if c["is_sync"]:
            continue
        for n, k in itertools.product(range(c["n_chunks"]), range(c["k_chunks"])):
            first = c["op1"] + n * c["w_n_stride"] + k * c["w_k_stride"]
            tile = store[first : first + c["w_rows"]]
            tile = tile[:, :rows].T[:, :cols] if c["transpose"] else tile[:, :cols]
            start = c["op0"] + k * c["x_k_stride"]
            x = store[start : start + c["rows"], : tile.shape[0]]
            place = slice(c["op2"] + n * c["acc_n_stride"], c["op2"] + n * c["acc_n_stride"] + c["rows"])
            width = tile.shape[1]
            old = sums[place, :width] if k or c["accumulate"] else 0
            sums[place, :width] = (old + x @ tile + 2**31) % 2**32 - 2**31
    return sums


def random_command(arch: Architecture, rng: np.random.Generator, **fixed: int) -> Command:
    """A legal MATMUL: a tile narrower than the array meets zero lanes, so it is drawn full here."""
    rows, cols = arch.array.rows, arch.array.cols
    transpose = int(rng.integers(2))
    k_chunks, n_chunks = (int(v) for v in rng.integers(1, 4, size=2))
    c = matmul(
        rows=int(rng.integers(1, 12)),
        k_chunks=k_chunks,
        n_chunks=n_chunks,
        w_rows=cols if transpose else rows,
        transpose=transpose,
        accumulate=int(rng.integers(2)),
        op0=int(rng.integers(0, 300)),
        op1=int(rng.integers(300, 600)),
        op2=int(rng.integers(0, 12)),
        x_k_stride=int(rng.integers(0, 40)),
        w_n_stride=int(rng.integers(0, 40)),
        w_k_stride=int(rng.integers(0, 40)),
        acc_n_stride=int(rng.integers(0, 13)),
        signals=int(rng.integers(1 << 16)),
        releases=int(rng.integers(1, 1 << 16)),
    )
    return c | fixed


def check_schedule(arch: Architecture, commands: list[Command], diary: Diary, *, prompt: bool) -> None:
    """Pops, issues, releases and retirements at the cycles of the contract."""
    latency = array_latency(arch.array.rows, arch.array.cols)
    x_reads, w_reads, releases, retires = [], [], [], []
    ready = 0
    for s, c in zip(diary.pops, commands, strict=True):
        assert s == ready if prompt else s >= ready
        e = s
        if not c["is_sync"]:
            period = max(c["rows"], c["w_rows"])
            tiles = itertools.product(range(c["n_chunks"]), range(c["k_chunks"]))
            for i, (n, k) in enumerate(tiles):
                start = s + 1 + c["w_rows"] + i * period
                w_start = s + 1 if i == 0 else start - period
                x = c["op0"] + k * c["x_k_stride"]
                w = c["op1"] + n * c["w_n_stride"] + k * c["w_k_stride"]
                x_reads += [(start + m, x + m) for m in range(c["rows"])]
                w_reads += [(w_start + j, w + j) for j in range(c["w_rows"])]
                e = start + c["rows"] - 1
        if c.get("releases"):
            releases.append((e, c["releases"]))
        retires.append((e + latency, c.get("signals", 0)))
        ready = e + 1
    assert diary.reads == {"x_read": x_reads, "w_read": w_reads}
    assert diary.releases == releases
    assert diary.retires == retires


def run(arch: Architecture, store: Words, commands: list[Command], **options: Any) -> tuple[Diary, Words]:
    """The diary of ``commands``, and the accumulators right after the last retirement."""
    engine = ArrayEngine(arch, inline=True)
    words = [int.from_bytes((word & 255).astype(np.uint8).tobytes(), "little") for word in store]
    found = np.zeros((arch.accumulator_words, arch.array.cols), dtype=np.int64)

    async def read_back(ctx: Any) -> None:
        ctx.set(engine.acc_read.en, 1)
        for address in range(arch.accumulator_words):
            ctx.set(engine.acc_read.addr, address)
            await ctx.tick().repeat(READ_LATENCY)
            word = ctx.get(engine.acc_read.data).to_bytes(4 * arch.array.cols, "little")
            found[address] = np.frombuffer(word, dtype="<i4")

    def word_at(address: int) -> int:
        return words[address]

    memories = {"x_read": word_at, "w_read": word_at}
    player = Player(
        engine=engine, layout=LAYOUT, commands=commands, memories=memories, inspect=read_back, **options
    )
    return player.run(), found


LARGE = [pytest.param(rows, cols, True, marks=pytest.mark.slow) for rows, cols in ((8, 8), (5, 3), (7, 9))]
SIZES = [(1, 1, True), (2, 1, False), (1, 4, True), (3, 5, True), (3, 5, False), (4, 4, True), *LARGE]


@pytest.mark.parametrize(("rows", "cols", "prompt"), SIZES)
def test_random_commands_match_the_contract(rows: int, cols: int, prompt: bool) -> None:
    rng = np.random.default_rng((rows, cols, prompt))
    arch = architecture(rows, cols)
    store = rng.integers(-128, 128, size=(1024, arch.word_bytes))
    commands = [random_command(arch, rng) for _ in range(12)]
    commands.insert(5, sync(Opcode.SYNC_ARRAY, signals=5, releases=0x8001))
    commands.insert(6, sync(Opcode.SYNC_ARRAY, signals=9))
    # The memory starts cleared, so the model may too, and every word has a known content.
    gaps = None if prompt else iter(rng.integers(0, 9, size=64).tolist())
    diary, found = run(arch, store, commands, gaps=gaps)
    check_schedule(arch, commands, diary, prompt=prompt)
    np.testing.assert_array_equal(found, expected_sums(arch, store, commands))


@pytest.mark.parametrize("rows_of_x", [1, 2, 3, 4])
def test_short_tiles_that_add_to_the_same_word_are_forwarded(rows_of_x: int) -> None:
    rng = np.random.default_rng(rows_of_x)
    arch = architecture(1, 3)
    store = rng.integers(-128, 128, size=(1024, arch.word_bytes))
    commands = [
        random_command(arch, rng, rows=rows_of_x, transpose=0, w_rows=1, k_chunks=9, op2=2, accumulate=a)
        for a in (0, 1, 1)
    ]
    diary, found = run(arch, store, commands)
    check_schedule(arch, commands, diary, prompt=True)
    np.testing.assert_array_equal(found, expected_sums(arch, store, commands))


@pytest.mark.parametrize("transpose", [0, 1])
@pytest.mark.parametrize("w_rows", [1, 2, 4])
def test_a_narrow_tile_keeps_the_other_weights(transpose: int, w_rows: int) -> None:
    rng = np.random.default_rng((transpose, w_rows))
    arch = architecture(5, 5)
    store = rng.integers(-128, 128, size=(1024, arch.word_bytes))
    if not transpose:
        store[:300, w_rows:] = 0
    shape = {"transpose": transpose, "w_rows": w_rows, "rows": 6, "op0": 0, "x_k_stride": 30}
    commands = [random_command(arch, rng, **shape) for _ in range(3)]
    _, found = run(arch, store, commands)
    width = w_rows if transpose else 5
    np.testing.assert_array_equal(found[:, :width], expected_sums(arch, store, commands)[:, :width])


def test_additions_wrap_at_32_bits_and_forward_at_every_distance() -> None:
    rng = np.random.default_rng(11)
    addends = rng.integers(-(2**30), 2**30, size=(400, 2))
    places = rng.integers(0, 4, size=400)
    fresh = rng.integers(0, 8, size=400) == 0
    engine = Accumulators(words=5, cols=2, addend_bits=31)
    expected = np.zeros((5, 2), dtype=np.int64)
    for addend, place, new in zip(addends, places, fresh, strict=True):
        expected[place] = ((0 if new else expected[place]) + addend + 2**31) % 2**32 - 2**31
    found = np.zeros_like(expected)

    async def bench(ctx: Any) -> None:
        for t in range(400 + ADD_LEAD + ADD_LATENCY + 1):
            ctx.set(engine.add.valid, int(t < 400))
            ctx.set(engine.add.addr, int(places[t % 400]))
            ctx.set(engine.add.fresh, int(fresh[t % 400]))
            if ADD_LEAD <= t < 400 + ADD_LEAD:
                ctx.set(engine.sums, addends[t - ADD_LEAD].tolist())
            await ctx.tick()
        ctx.set(engine.read.en, 1)
        for place in range(5):
            ctx.set(engine.read.addr, place)
            await ctx.tick().repeat(READ_LATENCY)
            found[place] = np.frombuffer(ctx.get(engine.read.data).to_bytes(8, "little"), dtype="<i4")

    simulator = Simulator(engine)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    np.testing.assert_array_equal(found, expected)


def test_events_count_words_and_cycles() -> None:
    rng = np.random.default_rng(7)
    arch = architecture(3, 5)
    store = rng.integers(-128, 128, size=(1024, arch.word_bytes))
    shape = {"rows": 4, "k_chunks": 3, "n_chunks": 2, "w_rows": 3, "transpose": 0}
    commands = [random_command(arch, rng, **shape, accumulate=a) for a in (0, 1)]
    diary, _ = run(arch, store, commands)
    tiles = 6
    assert diary.events == {
        "array_rows": 2 * tiles * 4,
        "array_weight_rows": 2 * tiles * 3,
        "array_busy": 2 * (3 + tiles * 4),
        "accumulator_reads": (tiles - 2) * 4 + tiles * 4,
        "accumulator_writes": 2 * tiles * 4,
        "scratchpad_reads": 2 * tiles * (4 + 3),
    }
