"""A large product with ample bandwidth on the generated hardware: its array hardly ever rests."""

from __future__ import annotations

import numpy as np
import pytest

from archsim import Counter, load_architecture, load_energy_table, lower
from archsim._breakdown import breakdown
from archsim._causes import ARRAY_DRAIN, STREAMING
from mapper import search
from rtl import Run, build, cosim
from workloads import load_model, macs, quantise_cascade, quantise_tensor

pytestmark = pytest.mark.cosim

SIDE = 512


@pytest.mark.parametrize("name", ["edge-8x8", "edge-16x16"])
def test_array_is_busy_and_the_rest_is_accounted_for(name: str) -> None:
    arch = load_architecture(name)
    cascade = load_model(f"gemm:{SIDE}x{SIDE}x{SIDE}").parts[0].cascade
    rng = np.random.default_rng(SIDE)
    x, w = rng.normal(size=(2, SIDE, SIDE))
    quantised = quantise_cascade(cascade, {"W": w}, [{"X": x}])
    tilings = [found.tiling for found in search(cascade, arch, table=load_energy_table(arch.technology))]
    lowered = lower(cascade, arch, tilings, quantised=quantised)
    run = Run(lowered=lowered, inputs={"X": quantise_tensor(x, quantised.scales["X"])})
    (checked,) = cosim(build(arch), [run], driver="bare")

    assert checked.differences == ()
    assert checked.counters == {}
    assert checked.compared == SIDE * SIDE
    result = checked.result
    lanes = arch.array.rows * arch.array.cols
    assert result.counter(Counter.ARRAY_BUSY) >= 0.95 * result.cycles
    assert macs(cascade) == SIDE**3 >= 0.95 * result.cycles * lanes

    where = breakdown(arch, lowered.program, program_address=lowered.program_address)
    assert sum(share.cycles for share in where.shares) == result.cycles
    assert where.busy == result.counter(Counter.ARRAY_BUSY)
    assert where.of(STREAMING) == result.counter(Counter.ARRAY_ROWS) == SIDE**3 // lanes
    assert where.of(ARRAY_DRAIN) > 0
