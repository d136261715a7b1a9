"""Row records: every magnitude of sum that a row can have, against exact fractions."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.sim import Simulator

from archsim._isa import Reduce
from rtl._rowunit import Records, reciprocal_mantissa, root_mantissa, unit_latency
from tests.naive_vector import recip, rsqrt

SUMS = sorted(
    {sign * ((1 << bit) + step) for bit in range(38) for step in (-1, 0, 1) for sign in (1, -1)}
    | {(1 << 39) - 1, -(1 << 39), 3 << 37}
)
SQUARES = [(1 << bit) + step for bit in range(47) for step in (-1, 0, 1, (1 << bit) // 2)]


def scales(reduce: Reduce, sums: list[tuple[int, int]], *, count: int) -> list[tuple[int, int]]:
    """(mantissa, exponent) that a slot of zeros leaves in rows whose (a1, a2) are ``sums``."""
    unit = Records(lanes=3, rows=len(sums))
    found = []

    async def bench(ctx: Any) -> None:
        for i, (a1, a2) in enumerate(sums):
            ctx.set(unit.contents["a1"][i], a1)
            ctx.set(unit.contents["a2"][i], a2)
        ctx.set(unit.reduce, int(reduce))
        ctx.set(unit.count, count)
        for i in range(len(sums)):
            ctx.set(unit.place, {"valid": 1, "first": 1, "last": 1, "row": i})
            await ctx.tick()
        ctx.set(unit.place.valid, 0)
        await ctx.tick().repeat(unit_latency(3) + 1)
        for i in range(len(sums)):
            scale = ctx.get(unit.contents["scale"][i])
            found.append((scale.mantissa, scale.exponent))

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def test_mantissas_are_the_rounded_fractions() -> None:
    assert all((reciprocal_mantissa(f), 17) == recip(f) for f in range(512, 1024))
    assert all((root_mantissa(f), 9) == rsqrt(f) for f in range(256, 1024))


def test_reciprocal_of_every_magnitude() -> None:
    assert scales(Reduce.SUM, [(a1, 0) for a1 in SUMS], count=1) == [recip(a1) for a1 in SUMS]


@pytest.mark.parametrize("count", [0, 1, 77, 65535])
def test_root_of_every_magnitude(count: int) -> None:
    found = scales(Reduce.SQUARES, [(5, a2) for a2 in SQUARES], count=count)
    assert found == [rsqrt(count * a2) for a2 in SQUARES]


@pytest.mark.parametrize("count", [1, 77, 65535])
def test_root_of_the_spread(count: int) -> None:
    pairs = [(a1, abs(a1) * step) for a1 in SUMS if abs(a1) <= 1 << 31 for step in (0, 1, 3, 1 << 15)]
    expected = [rsqrt(count * a2 - a1 * a1) for a1, a2 in pairs]
    assert scales(Reduce.MOMENTS, pairs, count=count) == expected


def test_absolute_maxima_of_every_magnitude() -> None:
    """One row a slot: the peak of its magnitudes, with its scale, and those of rows that go on."""
    peaks = [*range(300), *(max(0, (1 << bit) + step) for bit in range(8, 16) for step in (-2, -1, 0, 1))]
    peaks = [min(peak, 32768) for peak in peaks]
    unit = Records(lanes=3, rows=len(peaks), gated=True)
    found: list[tuple[int, int, int]] = []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.reduce, int(Reduce.ABSMAX))
        for i, peak in enumerate(peaks):
            # The record's own peak in every third row, else one lane's, mostly of negative elements.
            held = peak if i % 3 == 0 else peak // 2
            ctx.set(unit.contents["offset"][i], held)
        for i, peak in enumerate(peaks):
            ctx.set(unit.place, {"valid": 1, "first": 1, "last": 1, "row": i})
            await ctx.tick()
            fits = peak < 32768 and i % 2
            values = [peak if fits else -peak, -(peak // 2), peak // 3] if i % 3 else [0, 0, 0]
            ctx.set(unit.keep, 0b111 if i % 3 else 0)
            for c in range(3):
                ctx.set(unit.elements[c], values[(c + i) % 3])
        ctx.set(unit.place.valid, 0)
        await ctx.tick().repeat(unit_latency(3) + 1)
        for i in range(len(peaks)):
            scale = ctx.get(unit.contents["scale"][i])
            found.append((ctx.get(unit.contents["offset"][i]), scale.mantissa, scale.exponent))

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == [(peak, *recip(peak + peak // 128 + 1)) for peak in peaks]
