"""The attention machine's engines against plain integers and the contract's schedule, to cycle and bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim._architecture import Architecture, Array, Vector
from archsim._isa import Engine, Opcode
from archsim._timing import attend_latency, feedback
from rtl._attend import AttendEngine
from rtl._attend_lane import DENOMINATOR_BITS, VALUE_BITS
from rtl._command import command_layout
from tests.unit.rtl._bench import Command, Diary, Player, architecture, sync
from tests.unit.rtl.naive_attend import NaiveAttention

LAYOUT = command_layout(Engine.ARRAY, "fusemax")
VALUES, RECORDS = 24, 3


def machine(rows: int, cols: int) -> Architecture:
    """A small attention machine."""
    return architecture(
        rows,
        cols,
        array=Array(kind="fusemax", rows=rows, cols=cols),
        vector=Vector(buffer_words=VALUES, rows=RECORDS),
        accumulator_words=0,
        parameter_words=0,
    )


def least_period(rows: int, features: int) -> int:
    """The contract's shortest period."""
    return 2 * features + 10 + max(0, feedback(rows) - (2 * features + 2))


def blocks(arch: Architecture, rng: np.random.Generator, tiles: list[int], **fields: int) -> list[Command]:
    """The periods of blocks of ``tiles`` tiles each, one after the other in one pipeline."""
    rows = arch.array.rows
    features = int(rng.integers(1, 7))
    length = least_period(rows, features)
    places = [(b, t, n) for b, n in enumerate(tiles) for t in range(n)]
    masked = {(b, n - 1): int(rng.integers(1, rows + 1)) for b, n in enumerate(tiles)}
    commands = []
    for period in range(len(places) + 2):
        c: Command = {"opcode": int(Opcode.ATTEND), "features": features, "signals": 1 << period % 16}
        c |= {"period": length + int(rng.integers(0, 2) * rng.integers(0, 9)), "releases": 1 + period}
        c |= {"scale": int(rng.integers(1, 1 << 16)), "scale_shift": int(rng.integers(8, 20))}
        c |= {f"op{i}": int(rng.integers(0, 1000)) for i in range(3)}
        for name, place in (("scores", period), ("exponentials", period - 1), ("values", period - 2)):
            c[name] = int(0 <= place < len(places))
            b, t, n = places[place] if c[name] else (0, 1, 0)
            if name == "values":
                c["op3"] = features * (b % 2)
            else:
                short = name.removesuffix("onentials")
                c[f"keys_{short}"] = masked.get((b, t), rows) if c[name] else 0
                c[f"first_{short}"] = int(t == 0)
            if name == "exponentials":
                # Only the last tile's denominators are recorded: the others name any record.
                record = b % RECORDS if t == n - 1 else int(rng.integers(RECORDS))
                c |= {"last_exp": int(t == n - 1), "record": record}
        commands.append(c | fields)
    return commands


def run(arch: Architecture, store: Any, commands: list[Command], **options: Any) -> tuple[Diary, Any, Any]:
    """The diary of ``commands``; value memory and denominator records right after the last retirement."""
    engine = AttendEngine(arch, inline=True)
    words = [int.from_bytes((word & 255).astype(np.uint8).tobytes(), "little") for word in store]
    found: dict[str, list[list[int]]] = {"acc_read": [], "record_read": []}

    async def read_back(ctx: Any) -> None:
        for name, bits, count in (
            ("acc_read", VALUE_BITS, VALUES),
            ("record_read", DENOMINATOR_BITS, RECORDS),
        ):
            port = getattr(engine, name)
            ctx.set(port.en, 1)
            for address in range(count):
                ctx.set(port.addr, address)
                await ctx.tick()
                word = ctx.get(port.data)
                found[name].append([word >> bits * c & (1 << bits) - 1 for c in range(arch.array.cols)])

    memories = dict.fromkeys(("x_read", "w_read"), words.__getitem__)
    player = Player(
        engine=engine, layout=LAYOUT, commands=commands, memories=memories, inspect=read_back, **options
    )
    diary = player.run()
    values = [[v - (v >> VALUE_BITS - 1 << VALUE_BITS) for v in word] for word in found["acc_read"]]
    return diary, values, found["record_read"]


def check_schedule(arch: Architecture, commands: list[Command], diary: Diary, *, prompt: bool) -> None:
    """Pops, reads, releases and retirements at the cycles of the contract."""
    x_reads, w_reads, releases, retires = [], [], [], []
    ready = 0
    for s, c in zip(diary.pops, commands, strict=True):
        assert s == ready if prompt else s >= ready
        e = s + c["period"] - 1 if c["opcode"] == Opcode.ATTEND else s
        for place in range(c.get("features", 0)):
            if c["scores"]:
                x_reads.append((s + 1 + 2 * place, c["op0"] + place))
                w_reads.append((s + 1 + 2 * place, c["op1"] + place))
            if c["values"]:
                x_reads.append((s + 2 + 2 * place, c["op2"] + place))
        releases.append((e, c["releases"]))
        retires.append((e + attend_latency(arch.array.rows, arch.array.cols), c["signals"]))
        ready = e + 1
    assert diary.reads == {"x_read": x_reads, "w_read": w_reads}
    assert diary.releases == releases
    assert diary.retires == retires


SIZES = [(1, 1, True), (2, 3, True), (2, 3, False), (3, 2, True), (5, 1, True), (4, 4, True)]


@pytest.mark.parametrize(("rows", "cols", "prompt"), SIZES)
def test_blocks_match_the_contract(rows: int, cols: int, prompt: bool) -> None:
    rng = np.random.default_rng((rows, cols, prompt))
    arch = machine(rows, cols)
    store = rng.integers(-128, 128, size=(1024, arch.word_bytes))
    commands = blocks(arch, rng, [3, 1, 2])
    commands.insert(2, sync(Opcode.SYNC_ARRAY, signals=5, releases=0x8001))
    commands += blocks(arch, rng, [2, 2])
    gaps = None if prompt else iter(rng.integers(0, 9, size=64).tolist())
    diary, values, records = run(arch, store, commands, gaps=gaps)
    check_schedule(arch, commands, diary, prompt=prompt)
    model = NaiveAttention(arch)
    for c in commands:
        if c["opcode"] == Opcode.ATTEND:
            model.attend(c, store.tolist())
    assert values == model.values
    assert records == model.records
