"""The attention machine's divider against plain integers and the contract's schedule, to cycle and bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from archsim._architecture import Architecture
from archsim._isa import Engine, Opcode
from archsim._timing import divide_latency
from rtl._attend_lane import DENOMINATOR_BITS, VALUE_BITS
from rtl._command import command_layout
from rtl._divide import DivideEngine
from rtl._divide_lane import READ, RESULT, DivideLane
from tests.unit.rtl._bench import Command, Diary, Player, sync
from tests.unit.rtl.naive_attend import NaiveAttention, divided
from tests.unit.rtl.test_attend import RECORDS, VALUES, machine

LAYOUT = command_layout(Engine.VECTOR, "fusemax")


def random_command(rng: np.random.Generator, lanes: int) -> Command:
    """A DIVIDE of a part of the value memory."""
    first = int(rng.integers(0, VALUES))
    return {
        "opcode": int(Opcode.DIVIDE),
        "rows": int(rng.integers(1, VALUES - first + 1)),
        "lanes": int(rng.integers(1, lanes + 1)),
        "record": int(rng.integers(0, RECORDS)),
        "multiplier": int(rng.integers(-(1 << 15), 1 << 15)),
        "shift": int(rng.integers(0, 32)),
        "op0": first,
        "op1": int(rng.integers(0, 1 << 31)),
        "signals": int(rng.integers(1 << 16)),
        "releases": int(rng.integers(1, 1 << 16)),
    }


def loaded(arch: Architecture, rng: np.random.Generator) -> NaiveAttention:
    """Denominators of one to many keys, and numerators up to 127 times as large."""
    model = NaiveAttention(arch)
    model.records = (rng.integers(1 << 15, 1 << 31, size=(RECORDS, arch.array.cols)) >> 3).tolist()
    model.values = rng.integers(-(1 << 34), 1 << 34, size=(VALUES, arch.array.cols)).tolist()
    return model


def packed(word: list[int], bits: int) -> int:
    """Lane c at bit c * bits."""
    return sum((lane & (1 << bits) - 1) << bits * c for c, lane in enumerate(word))


def check(arch: Architecture, model: NaiveAttention, commands: list[Command], diary: Diary) -> None:
    """Pops, writes, releases and retirements at the cycles, and with the bits, of the contract."""
    writes, releases, retires = [], [], []
    ready = 0
    for s, c in zip(diary.pops, commands, strict=True):
        assert s >= ready
        rows = c.get("rows", 0)
        for f in range(rows):
            writes.append((s + 1 + f + divide_latency(), c["op1"] + f, packed(model.divide(c, f), 8)))
        releases.append((s + rows, c["releases"]))
        retires.append((s + rows + divide_latency(), c["signals"]))
        ready = retires[-1][0] + 1
    assert diary.writes == writes
    assert diary.releases == releases
    assert diary.retires == retires


@pytest.mark.parametrize(("cols", "prompt"), [(1, True), (3, True), (3, False), (5, True)])
def test_random_commands_match_the_contract(cols: int, prompt: bool) -> None:
    rng = np.random.default_rng((cols, prompt))
    arch = machine(2, cols)
    model = loaded(arch, rng)
    commands = [random_command(rng, cols) for _ in range(10)]
    commands.insert(4, sync(Opcode.SYNC_VECTOR, signals=3, releases=0x4001))
    memories = {
        "acc_read": lambda address: packed(model.values[address], VALUE_BITS),
        "record_read": lambda address: packed(model.records[address], DENOMINATOR_BITS),
    }
    engine = DivideEngine(arch, inline=True)
    gaps = None if prompt else iter(rng.integers(0, 9, size=64).tolist())
    diary = Player(engine=engine, layout=LAYOUT, commands=commands, memories=memories, gaps=gaps).run()
    check(arch, model, commands, diary)
    if prompt:
        assert diary.pops == [0, *(cycle + 1 for cycle, _ in diary.retires[:-1])]
    rows = sum(c.get("rows", 0) for c in commands)
    busy = rows + 10 * divide_latency()
    events = {"vector_slots": rows, "accumulator_reads": rows, "scratchpad_writes": rows}
    assert diary.events == {**events, "vector_busy": busy}


@pytest.mark.parametrize("shift", [0, 8, 9])
def test_quotients_at_every_edge(shift: int) -> None:
    """One below, at and above a multiple of the divisor, where the result steps; beyond the largest."""
    rng = np.random.default_rng(5)
    lane = DivideLane()
    setup = {"multiplier": 1, "half": 1 << shift >> 1, "shift": shift, "keep": 1}
    for divisor in (1 << 15, (1 << 31) - 1, int(rng.integers(1 << 15, 1 << 31))):
        # With a shift of 8 or 9 the result steps at odd multiples of 128 or 256.
        multiples = [0, 1, 2, 127, 128, 129, 255, 256, 257, 768, 32384, 64768, 65535, 65536, 70000]
        nearby = [-(-k * divisor // 256) + near for k in multiples for near in (-1, 0, 1)]
        values = [sign * v for v in nearby if v < 1 << VALUE_BITS - 1 for sign in (1, -1)]
        wanted = [divided(value, divisor, {"multiplier": 1, "shift": shift}) for value in values]
        assert _results(lane, setup, values, divisor) == wanted


def _results(lane: DivideLane, setup: dict[str, int], values: list[int], divisor: int) -> list[int]:
    found = []

    async def bench(ctx: Any) -> None:
        ctx.set(lane.setup, setup)
        ctx.set(lane.divisor, divisor)
        ctx.set(lane.valid, 1)
        for t in range(len(values) + RESULT):
            ctx.set(lane.value, values[min(t, len(values) - 1)])
            await ctx.tick()
            if t + 1 >= RESULT - READ:
                found.append(ctx.get(lane.result))

    simulator = Simulator(lane)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found[: len(values)]
