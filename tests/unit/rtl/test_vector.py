"""The VECTOR engine against plain integers and the schedule of the contract, to the cycle and the bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from archsim._architecture import Architecture, Vector
from archsim._isa import Destination, Engine, Lookup, Opcode, Pre, Reduce, Residual, Source
from archsim._timing import INTERPOLATION, SCRATCHPAD_READ, vector_latency
from rtl._accumulator import READ_LATENCY
from rtl._command import command_layout
from rtl._vector import WRITE_STAGE, VectorEngine
from tests.naive_vector import Row, State, run_pass, run_table
from tests.unit.rtl._bench import Command, Diary, Player, architecture, sync

LAYOUT = command_layout(Engine.VECTOR)
SOURCES = range(150)
SECONDS = range(200, 350)
RESULTS = range(400, 480)
TABLES = range(500, 500 + 256 + 16)
Random = np.random.Generator


def some(rng: Random, bits: int, *, size: int) -> list[int]:
    """Signed integers of ``bits`` bits of every magnitude, with the extremes."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    drawn = []
    for _ in range(size):
        magnitude = int(rng.integers(0, bits))
        value = int(rng.integers(0, 1 << magnitude)) * int(rng.choice([-1, 1]))
        drawn.append(int(rng.choice([low, high])) if rng.random() < 0.05 else max(low, min(high, value)))
    return drawn


def random_state(arch: Architecture, rng: Random) -> State:
    width, lanes = arch.word_bytes, arch.array.cols
    state = State(lanes=lanes, word_bytes=width)
    for address in (*SOURCES, *SECONDS, *TABLES):
        state.scratchpad[address] = some(rng, 8, size=width)
    for address in range(arch.accumulator_words):
        state.accumulators[address] = some(rng, 32, size=lanes)
    for address in range(arch.parameter_words):
        lefts = rng.integers(0, 8, size=width).tolist()
        state.parameters[address] = list(
            zip(some(rng, 16, size=width), some(rng, 45, size=width), lefts, strict=True)
        )
    for address in range(arch.vector.buffer_words):
        state.buffer[address] = [0] * lanes
    return state


def random_pass(arch: Architecture, rng: Random, **fixed: int) -> Command:
    """A legal pass: what it reads exists, and it reads no word that it writes, except in place."""

    def draw(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    rows = min(arch.vector.rows, draw(1, 14))
    chunks, group = draw(1, 4), draw(1, arch.array.cols + 2)
    source = draw(0, 3)
    half = arch.vector.buffer_words // 2
    fields: Command = {
        "opcode": int(Opcode.VECTOR),
        "is_sync": 0,
        "rows": rows,
        "chunks": chunks,
        "length": draw(0, chunks * group + 3),
        "group": group,
        "count": int(rng.choice([1, chunks * group, draw(0, 1 << 16)])),
        "op0": draw(0, 8),
        "op1": draw(RESULTS.start, RESULTS.start + 8),
        "op2": draw(SECONDS.start, SECONDS.start + 20),
        "op3": draw(0, arch.parameter_words - 3),
        "src_stride": draw(0, 9),
        "dst_stride": draw(rows, 20),
        "res_stride": draw(0, 50),
        "shift": int(rng.choice([draw(0, 64), draw(0, 20)])),
        "res_multiplier": some(rng, 16, size=1)[0],
        "res_shift": int(rng.choice([draw(0, 64), draw(0, 12)])),
        "source": source,
        "pre": draw(0, 3) if source != Source.ACCUMULATOR else Pre.NONE,
        "affine": draw(0, 2),
        "residual": draw(0, 3),
        "lookup": draw(0, 3),
        "slot": draw(0, arch.vector.tables),
        "destination": draw(0, 3),
        "reduce": draw(0, 5),
        "reduce_first": draw(0, 2),
        "signals": draw(0, 1 << 16),
        "releases": draw(1, 1 << 16),
    }
    if arch.vector.gated:
        fields |= _gated(arch, rng, fields)
    fields |= fixed
    if fields["destination"] == Destination.BUFFER:
        fields |= {"op1": half, "dst_stride": rows, "chunks": 1}
    if fields["source"] == Source.BUFFER and draw(0, 2):
        fields |= {"op0": half, "src_stride": rows, "chunks": 1}
    if fields["source"] == Source.SCRATCHPAD:
        fields["op0"] = draw(0, 60)
    return fields


def _gated(arch: Architecture, rng: Random, fields: Command) -> Command:
    """What a gated unit adds, each part of it often."""
    from_buffer = int(rng.integers(0, 2))
    pre = fields["pre"] if fields["source"] else int(rng.choice([Pre.NONE, Pre.SCALE]))
    # Passes fill the buffer's upper half; one that does so now may read its own words only.
    place = arch.vector.buffer_words // 2
    place += 0 if fields["destination"] == Destination.BUFFER else int(rng.integers(0, 4))
    second = {"op2": place, "res_stride": int(rng.integers(0, 4))} if from_buffer else {}
    return {
        "res_buffer": from_buffer,
        "uniform": int(rng.integers(0, 2)),
        "lookup": int(rng.integers(0, 4)),
        "reduce": int(rng.integers(0, 6)),
        "pre": pre,
        **second,
    }


def table(slot: int, op0: int) -> Command:
    return {"opcode": int(Opcode.TABLE), "is_sync": 0, "slot": slot, "op0": op0, "signals": 3, "releases": 4}


def pack(values: list[int], bits: int) -> int:
    return sum((value % (1 << bits)) << bits * lane for lane, value in enumerate(values))


def parameter(m: int, b: int, left: int) -> int:
    """A lane's part of a parameter word."""
    return m % 2**16 + b % 2**45 * 2**16 + left * 2**61


def unpack(word: int, bits: int, lanes: int) -> list[int]:
    half, full = 1 << bits - 1, 1 << bits
    return [((word >> bits * lane) % full + half) % full - half for lane in range(lanes)]


def run(arch: Architecture, start: State, commands: list[Command], **options: Any) -> tuple[Diary, State]:
    """The diary of ``commands`` on the hardware, and the memories right after the last retirement."""
    engine = VectorEngine(arch, inline=True)
    state = copy.deepcopy(start)
    width, lanes = arch.word_bytes, arch.array.cols

    def store(address: int, word: int) -> None:
        state.scratchpad[address] = unpack(word, 8, width)

    async def inspect(ctx: Any) -> None:
        contents = engine.records.contents
        for address in range(arch.vector.buffer_words):
            state.buffer[address] = [ctx.get(engine.buffer[address])[c] for c in range(lanes)]
        for i in range(arch.vector.rows):
            scale = ctx.get(contents["scale"][i])
            sums = (ctx.get(contents[name][i]) for name in ("a1", "a2"))
            state.rows[i] = Row(ctx.get(contents["offset"][i]), scale.mantissa, scale.exponent, *sums)

    memories = {
        "source_read": lambda a: pack(state.scratchpad.get(a, [0]), 8),
        "residual_read": lambda a: pack(state.scratchpad[a], 8),
        "acc_read": lambda a: pack(state.accumulators[a], 32),
        "param_read": lambda a: pack([parameter(*lane) for lane in state.parameters[a]], 64),
    }
    player = Player(
        engine=engine,
        layout=command_layout(Engine.VECTOR, gated=arch.vector.gated),
        commands=commands,
        memories=memories,
        latencies={"acc_read": READ_LATENCY},
        store=store,
        inspect=inspect,
        **options,
    )
    return player.run(), state


def expected(arch: Architecture, start: State, commands: list[Command]) -> State:
    state = copy.deepcopy(start)
    for i in range(arch.vector.rows):
        state.row(i)
    for c in commands:
        if c["opcode"] == Opcode.TABLE:
            run_table(state, c["op0"], c["slot"])
        elif c["opcode"] == Opcode.VECTOR:
            run_pass(state, c)
    return state


def check(arch: Architecture, start: State, commands: list[Command], **options: Any) -> Diary:
    """Runs ``commands`` on both, and compares every memory and every cycle."""
    diary, found = run(arch, start, commands, **options)
    wanted = expected(arch, start, commands)
    assert found.scratchpad == wanted.scratchpad
    assert found.buffer == wanted.buffer
    assert found.rows == wanted.rows
    check_schedule(arch, commands, diary, prompt=not options)
    return diary


LATER = {"acc_read": SCRATCHPAD_READ + 1 - READ_LATENCY, "param_read": SCRATCHPAD_READ}
"""Cycles from a slot to its reads of memories that answer before the scratchpad's word is registered."""


def check_schedule(arch: Architecture, commands: list[Command], diary: Diary, *, prompt: bool) -> None:
    gated = arch.vector.gated
    latency, written = vector_latency(arch.array.cols, gated=gated), WRITE_STAGE + INTERPOLATION * gated
    releases, retires, ready = [], [], 0
    reads: dict[str, list[tuple[int, int]]] = {name: [] for name in diary.reads}
    writes = []
    for s, c in zip(diary.pops, commands, strict=True):
        assert s == ready if prompt else s >= ready
        slots = issue(c)
        for t, (i, j) in enumerate(slots, start=s + 1):
            for port, address in ports(c, i, j):
                reads[port].append((t + LATER.get(port, 0), address))
            if c.get("destination") == Destination.SCRATCHPAD:
                writes.append((t + written, c["op1"] + j * c["dst_stride"] + i))
        e = s + len(slots)
        if c.get("releases"):
            releases.append((e, c["releases"]))
        retires.append((e + latency, c.get("signals", 0)))
        ready = e + latency + 1
    assert diary.releases == releases
    assert diary.retires == retires
    assert diary.reads == reads
    assert [(cycle, address) for cycle, address, _ in diary.writes] == writes


def issue(c: Command) -> list[tuple[int, int]]:
    """(row, chunk) of every slot, in order."""
    if c["opcode"] == Opcode.VECTOR:
        return [(i, j) for i in range(c["rows"]) for j in range(c["chunks"])]
    return [(i, 0) for i in range(256)] if c["opcode"] == Opcode.TABLE else []


def ports(c: Command, i: int, j: int) -> list[tuple[str, int]]:
    """Read ports and addresses that a slot uses."""
    if c["opcode"] == Opcode.TABLE:
        return [("source_read", c["op0"] + i)]
    names = {Source.ACCUMULATOR: "acc_read", Source.SCRATCHPAD: "source_read"}
    used = []
    if c["source"] in names:
        used.append((names[Source(c["source"])], c["op0"] + j * c["src_stride"] + i))
    if c["residual"] != Residual.NONE and not c.get("res_buffer"):
        used.append(("residual_read", c["op2"] + j * c["res_stride"] + i))
    if c["affine"]:
        used.append(("param_read", c["op3"] + (0 if c.get("uniform") else j)))
    return used


def tables(arch: Architecture) -> list[Command]:
    return [table(slot, TABLES.start + 3 * slot) for slot in range(arch.vector.tables)]


LARGE = [pytest.param(rows, cols, True, marks=pytest.mark.slow) for rows, cols in ((8, 8), (2, 9), (3, 7))]


@pytest.mark.parametrize(("rows", "cols", "prompt"), [(1, 1, True), (4, 2, False), (3, 5, True), *LARGE])
def test_random_passes_match_the_contract(rows: int, cols: int, prompt: bool) -> None:
    rng = np.random.default_rng((rows, cols, prompt))
    arch = architecture(rows, cols)
    commands = [*tables(arch), *(random_pass(arch, rng) for _ in range(40))]
    commands.insert(9, sync(Opcode.SYNC_VECTOR, signals=5, releases=0x8001))
    commands.insert(10, sync(Opcode.SYNC_VECTOR, signals=9))
    options: dict[str, Any] = {} if prompt else {"gaps": iter(rng.integers(0, 9, size=99).tolist())}
    check(arch, random_state(arch, rng), commands, **options)


@pytest.mark.parametrize(("rows", "cols", "prompt"), [(3, 5, True), (2, 2, False)])
def test_random_gated_passes_match_the_contract(rows: int, cols: int, prompt: bool) -> None:
    rng = np.random.default_rng((rows, cols, prompt, 1))
    arch = architecture(rows, cols, vector=Vector(buffer_words=48, rows=13, tables=2, gated=True))
    commands = [*tables(arch), *(random_pass(arch, rng) for _ in range(30))]
    options: dict[str, Any] = {} if prompt else {"gaps": iter(rng.integers(0, 9, size=99).tolist())}
    check(arch, random_state(arch, rng), commands, **options)


def test_interpolation_over_its_whole_range() -> None:
    """Both tables at all ends, and half-way between entries, where the rounding shows in every odd step."""
    rng = np.random.default_rng(9)
    arch = architecture(2, 3, vector=Vector(buffer_words=120, rows=60, tables=2, gated=True))
    start = random_state(arch, rng)
    edges = [32767, -32768, -1, 0, 127 << 8, (127 << 8) - 1, -256, -257, 255, 256]
    halves = [int(h) * 256 + 128 for h in rng.permutation(np.arange(-128, 128))[:120]]
    values = [*edges, *halves, *rng.integers(-32768, 32768, size=50).tolist()]
    for address in range(60):
        start.accumulators[address] = values[3 * address : 3 * address + 3]
    once = {"rows": 60, "chunks": 1, "group": 3, "length": 3, "source": Source.ACCUMULATOR, "op0": 0}
    passes = [
        random_pass(
            arch, rng, **(PLAIN | once | FILL | {"lookup": Lookup.INTERPOLATE}), res_buffer=0, slot=slot
        )
        for slot in range(2)
    ]
    for slot, command in enumerate(passes):
        command["op1"] = 60 * slot
    check(arch, start, [*tables(arch), *passes])


@pytest.mark.parametrize("multiplier", [-32768, 32767])
def test_wide_residual_products_at_their_ends(multiplier: int) -> None:
    """The largest int16 operands under every shift right, 31 and 32 among them."""
    rng = np.random.default_rng(8)
    arch = architecture(2, 3, vector=Vector(buffer_words=144, rows=1, tables=1, gated=True))
    start = random_state(arch, rng)
    start.accumulators[0], start.accumulators[1] = [-32768, 32767, -32768], [32767, -32768, 1]
    start.accumulators[2] = [0, 0, 0]
    once = {"rows": 1, "chunks": 1, "group": 3, "length": 3, "source": Source.ACCUMULATOR}
    fill = [random_pass(arch, rng, **(PLAIN | once | FILL), res_buffer=0, op0=place) for place in (0, 1)]
    for place, command in enumerate(fill):
        command["op1"] = place
    products = [
        random_pass(
            arch,
            rng,
            **(PLAIN | once | FILL | {"residual": kind, "op0": 2 if kind == Residual.ADD else first}),
            op2=1 - first,
            res_buffer=1,
            res_multiplier=multiplier,
            res_shift=shift,
        )
        for kind in (Residual.ADD, Residual.MULTIPLY)
        for first in (0, 1)
        for shift in (0, 1, 14, 15, 16, *range(28, 35), 63)
    ]
    for place, command in enumerate(products, start=2):
        command["op1"] = place
    check(arch, start, [*tables(arch), *fill, *products])


@pytest.mark.parametrize(
    "vector", [Vector(buffer_words=2, rows=1, tables=1), Vector(buffer_words=6, rows=3, tables=3)]
)
def test_small_memories(vector: Vector) -> None:
    rng = np.random.default_rng(vector.rows)
    arch = architecture(2, 3, vector=vector)
    shape = {"rows": vector.rows, "op0": 0, "src_stride": 0}
    commands = [*tables(arch), *(random_pass(arch, rng, **shape) for _ in range(25))]
    check(arch, random_state(arch, rng), commands)


PLAIN: dict[str, int] = {
    "pre": 0,
    "affine": 0,
    "residual": 0,
    "lookup": 0,
    "reduce": 0,
    "reduce_first": 1,
    "source": 0,
}
FILL: dict[str, int] = {"destination": Destination.BUFFER}
IN_PLACE: dict[str, int] = {"source": Source.BUFFER, "src_stride": 0, "chunks": 1}
SMALL: dict[str, int] = {"source": Source.SCRATCHPAD}
NOWHERE: dict[str, int] = {"destination": Destination.NONE}
STAGES: dict[str, list[dict[str, int]]] = {
    "affine": [{"affine": 1, **FILL}],
    "add": [{"residual": Residual.ADD, **FILL}],
    "add shifted": [{"residual": Residual.ADD, "affine": 1, **FILL}],
    "multiply": [{"residual": Residual.MULTIPLY, **FILL}],
    "multiply shifted": [{"residual": Residual.MULTIPLY, "affine": 1, **FILL}],
    "norm": [FILL, {"reduce": Reduce.MOMENTS, **IN_PLACE, **NOWHERE}, {"pre": Pre.NORM, **IN_PLACE, **FILL}],
    "root": [FILL, {"reduce": Reduce.SQUARES, **IN_PLACE, **NOWHERE}, {"pre": Pre.NORM, **IN_PLACE, **FILL}],
    "scale": [
        FILL,
        {"reduce": Reduce.SUM, "source": Source.SCRATCHPAD, **NOWHERE},
        {"pre": Pre.SCALE, **IN_PLACE, **FILL},
    ],
    "near": [{"reduce": Reduce.MAX, **NOWHERE}, {"lookup": Lookup.EXP, **FILL}],
    "close": [{"reduce": Reduce.MAX, **SMALL, **NOWHERE}, {"lookup": Lookup.EXP, **SMALL, **FILL}],
    "far": [{"reduce": Reduce.MOMENTS, **NOWHERE}, {"lookup": Lookup.EXP, **FILL}],
    "table": [FILL, {"affine": 1, "lookup": Lookup.TABLE, **FILL}],
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_alone_over_its_whole_range(stage: str) -> None:
    """With nothing else in the way, so that no saturation hides a wrong bit."""
    rng = np.random.default_rng(list(stage.encode()))
    rows, times = 13, 9
    arch = architecture(2, 3, vector=Vector(buffer_words=rows * times, rows=rows, tables=1))
    wide = {"rows": rows, "chunks": 3, "group": 3, "length": 9, "slot": 0}
    commands = tables(arch)
    for place in range(0, rows * times, rows):
        for fixed in STAGES[stage]:
            c = random_pass(arch, rng, **(wide | PLAIN | fixed))
            c["op0"] = place if c["source"] == Source.BUFFER else c["op0"]
            c["op1"] = place if c["destination"] == Destination.BUFFER else c["op1"]
            commands.append(c)
    check(arch, random_state(arch, rng), commands)


@pytest.mark.parametrize("multiplier", [-32768, 32767])
def test_residual_products_at_their_ends(multiplier: int) -> None:
    """The largest operands and left shifts under every shift right, from the value 0, that hides nothing."""
    rng = np.random.default_rng(6)
    arch = architecture(2, 3, vector=Vector(buffer_words=128, rows=1, tables=1))
    start = random_state(arch, rng)
    start.parameters[0] = [(0, 0, 7), (0, 0, 6), (0, 0, 0), *start.parameters[0][3:]]
    start.parameters[1] = [*((0, y, 7) for y in (-32768, 32767, -32768)), *start.parameters[1][3:]]
    for address, q in enumerate((-128, 127), start=SECONDS.start):
        start.scratchpad[address] = [q] * arch.word_bytes
    once = {"rows": 1, "chunks": 1, "group": 3, "length": 3, "affine": 1, "shift": 0, "op0": 0}
    commands = [
        random_pass(
            arch,
            rng,
            **(PLAIN | once | FILL | {"residual": kind, "op3": kind - 1, "op2": second}),
            res_multiplier=multiplier,
            res_shift=shift,
        )
        for kind in (Residual.ADD, Residual.MULTIPLY)
        for second in (SECONDS.start, SECONDS.start + 1)
        for shift in range(33)
    ]
    for place, command in enumerate(commands):
        command["op1"] = place % 128
    for part in (commands[:66], commands[66:]):
        check(arch, start, part)


def test_a_negative_maximum_ignores_lanes_outside_the_row() -> None:
    rng = np.random.default_rng(4)
    arch = architecture(2, 3)
    start = random_state(arch, rng)
    start.accumulators = {a: [-5 - c for c in word] for a, word in enumerate([[a, 3, 9] for a in range(60)])}
    shape = {"chunks": 2, "group": 2, "length": 3, "reduce": Reduce.MAX, **NOWHERE}
    commands = [random_pass(arch, rng, **(PLAIN | shape | {"reduce_first": first})) for first in (1, 0)]
    assert max(row.offset for row in expected(arch, start, commands).rows.values()) == 0
    assert min(row.offset for row in expected(arch, start, commands).rows.values()) < -4
    check(arch, start, commands)


def test_events_count_words_and_cycles() -> None:
    rng = np.random.default_rng(3)
    arch = architecture(3, 5)
    shape = {"rows": 4, "chunks": 2, "source": Source.SCRATCHPAD, "affine": 1, "residual": Residual.ADD}
    full = {"lookup": Lookup.TABLE, "destination": Destination.SCRATCHPAD}
    buffered = {"source": Source.BUFFER, "destination": Destination.BUFFER, "lookup": 0, "chunks": 1}
    buffered |= {"affine": 0, "residual": 0, "op0": 24, "src_stride": 4}
    commands = [
        *tables(arch)[:1],
        random_pass(arch, rng, **shape, **full),
        random_pass(arch, rng, **(shape | buffered)),
        sync(Opcode.SYNC_VECTOR),
    ]
    diary = check(arch, random_state(arch, rng), commands)
    assert diary.events == {
        "vector_slots": 8 + 4,
        "vector_busy": 256 + 8 + 4 + 3 * vector_latency(5),
        "accumulator_reads": 0,
        "scratchpad_reads": 256 + 8 + 8,
        "scratchpad_writes": 8,
        "parameter_reads": 8,
        "buffer_reads": 4,
        "buffer_writes": 4,
        "table_reads": 8,
    }
