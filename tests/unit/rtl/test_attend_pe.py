"""The attention array's element by itself: its exponential at every rounding tie, octave and end."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.sim import Simulator

from rtl._attend_pe import AttendElement
from rtl._exponential import SCALE_BITS, Step
from tests.unit.rtl.naive_attend import COEFFICIENTS, exponential

_CHAIN = (Step.HORNER4, Step.HORNER3, Step.HORNER2, Step.HORNER1, Step.FINISH)


def has_tie(g: int) -> bool:
    """Whether one of the five roundings of fraction ``g`` is just half a unit."""
    p, found = COEFFICIENTS[0], False
    for coefficient in COEFFICIENTS[1:]:
        found |= p * g % (1 << 14) == 1 << 13
        p = (p * g + (1 << 13) >> 14) + coefficient
    return found


def powers(cases: list[tuple[int, int, int]]) -> list[int]:
    """The element's power of each (x, scale, shift)."""
    element, found = AttendElement(), []

    async def bench(ctx: Any) -> None:
        async def step(which: Step, *, right: int = 0, down: int = 0) -> None:
            ctx.set(element.step, which)
            ctx.set(element.right, right)
            ctx.set(element.down, down)
            await ctx.tick()

        for x, scale, shift in cases:
            await step(Step.MAXIMUM)  # nothing was scored: the score is 0
            await step(Step.DIFFER, down=-x)
            await step(Step.SCALE, down=scale | shift << SCALE_BITS)
            for each in _CHAIN:
                await step(each, right=1)
            await step(Step.ADD_UP, down=1000)
            found.append(ctx.get(element.down_out) - 1000)

    simulator = Simulator(element)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def test_the_exponential_at_ties_octaves_and_ends() -> None:
    ties = [g for g in range(1 << 14) if has_tie(g)]
    assert ties
    exponents = [g - (1 << 14) for g in ties]
    exponents += [near - (n << 14) for n in range(17) for near in (-1, 0, 1) if near <= n << 14]
    exponents += [-(1 << 18) - 1, -(1 << 23)]
    cases = [(y, 1, 0) for y in exponents]
    assert powers(cases) == [exponential(x, scale=scale, shift=shift) for x, scale, shift in cases]


def test_the_scale_at_every_shift() -> None:
    rng = np.random.default_rng(1)
    cases = [(-int(rng.integers(1 << 23)), int(rng.integers(1 << 16)), shift) for shift in range(41)]
    cases += [(-((1 << 23) - 1), (1 << 16) - 1, shift) for shift in (0, 21, 40)]
    assert powers(cases) == [exponential(x, scale=scale, shift=shift) for x, scale, shift in cases]
