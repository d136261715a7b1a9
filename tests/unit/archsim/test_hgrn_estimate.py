"""A token's cost: bound, estimate and simulation in their order, and the same counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim import (
    Architecture,
    Counter,
    Estimate,
    bound_hgrn,
    estimate_hgrn,
    limit_of,
    load_architecture,
    load_energy_table,
    lower_hgrn,
    measured_hgrn,
    simulate,
    subtract,
)
from archsim._account import CONTROL
from tests.unit.archsim.test_lower_hgrn import MACHINE, ODD, RING, SMALL
from workloads import HgrnSizes, matmul_free

TABLE = load_energy_table("45nm")
SMALL_MODEL = matmul_free("ternary-lm")
assert SMALL_MODEL is not None
LIBRARY = [load_architecture(name) for name in ("ternary-ecp5", "ternary-stream", "ternary-40x40")]


def levels(sizes: HgrnSizes, arch: Architecture) -> tuple[Estimate, Estimate, Estimate]:
    lowered = lower_hgrn(sizes, arch)
    run = simulate(arch, lowered.step, program_address=lowered.step_address)
    return (
        bound_hgrn(sizes, arch, TABLE),
        estimate_hgrn(lowered, TABLE),
        measured_hgrn(lowered, TABLE, run),
    )


@pytest.mark.parametrize("sizes", [SMALL, ODD, replace(SMALL, vocab=300), SMALL_MODEL])
@pytest.mark.parametrize("arch", [MACHINE, RING, *LIBRARY], ids=lambda arch: arch.name)
def test_levels_are_in_order_and_count_the_same(sizes: HgrnSizes, arch: Architecture) -> None:
    if arch.name == "tiny" and sizes is SMALL_MODEL:
        sizes = replace(SMALL, layers=4)
        arch = replace(arch, vector=replace(arch.vector, buffer_words=512), parameter_words=256)
    bound, estimate, simulated = levels(sizes, arch)
    assert bound.cycles <= estimate.cycles <= simulated.cycles
    control = {"cycles"} | {f"counters/{counter.name.lower()}" for counter in CONTROL}
    assert set(subtract(estimate, simulated)) <= control
    assert estimate.energy_pj == pytest.approx(simulated.energy_pj)
    assert sum(row.cycles for row in simulated.rows) == simulated.cycles
    assert sum(row.macs for row in simulated.rows) == sizes.ternary


def test_a_bound_is_a_trit_a_lane_or_the_port() -> None:
    chip, port, _ = LIBRARY
    assert SMALL_MODEL is not None
    assert bound_hgrn(SMALL_MODEL, chip, TABLE).cycles == -(-SMALL_MODEL.ternary // (16 * 8))
    beats = -(-2 * SMALL_MODEL.hidden // 16) + -(-SMALL_MODEL.ternary // (5 * 16))
    assert bound_hgrn(SMALL_MODEL, port, TABLE).cycles == beats


def test_a_token_says_what_limits_it() -> None:
    found = {arch.name: limit_of(levels(SMALL_MODEL or SMALL, arch)[1]) for arch in LIBRARY}
    assert found["ternary-ecp5"] == "the array"
    assert found["ternary-stream"] == "weight bandwidth"


def test_a_narrow_model_is_limited_by_the_vector_unit() -> None:
    _, _, simulated = levels(HgrnSizes(vocab=8, hidden=8, layers=4, inner=8), MACHINE)
    assert limit_of(simulated) == "the vector unit"


def test_energy_is_additions_weights_and_memories() -> None:
    _, estimate, simulated = levels(SMALL, MACHINE)
    slots = simulated.counters[Counter.ARRAY_ROWS.name.lower()]
    assert estimate.actions["array", "add", ""] == slots * 8 * 4
    assert estimate.actions["weights", "read", ""] == slots * 8 * -(-8 * 4 // 5)
    assert ("array", "mac", "") not in estimate.actions
    assert estimate.energy_pj["array"] == pytest.approx(slots * 32 * 0.1)  # Horowitz, ISSCC 2014: int32 add
