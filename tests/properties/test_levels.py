"""The four levels on random cascades, machines and mappings: bound <= estimate <= simulate, equal counts."""

from __future__ import annotations

import pytest

from archsim._account import CONTROL
from archsim._counters import Counter
from archsim._energy_file import load_energy_table
from archsim._estimate import bound, estimate
from archsim._levels import timed
from archsim._lower import lower
from archsim._simulate import simulate
from tests.cosim.random_cascades import TIMED_FAMILIES
from tests.cosim.random_workloads import machine, random_mapping

TABLE = load_energy_table("45nm")
SHAPES = ((1, 1), (3, 5), (5, 3), (8, 8), (16, 16))
SEEDS = 60


def machines(rows: int, cols: int) -> list[tuple[int, int]]:
    """(bus width, variant) of the machines of a shape."""
    return [(bus, variant) for bus in (4, 8, 16, 32) for variant in range(4) if bus <= 8 * max(2, rows, cols)]


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_levels_are_ordered_and_count_alike(rows: int, cols: int) -> None:
    kinds = machines(rows, cols)
    for seed in range(SEEDS):
        bus, variant = kinds[(seed + seed // len(TIMED_FAMILIES)) % len(kinds)]
        base = machine(rows, cols, bus_bytes=bus, variant=variant)
        drawn = random_mapping(seed, base, families=TIMED_FAMILIES)
        cascade, arch, tilings = drawn.work.cascade, drawn.arch, drawn.tilings
        where = f"seed {seed}, {drawn.family.name} on {arch}, tiles {tilings}"
        lowered = lower(cascade, arch, tilings)
        run = simulate(arch, lowered.program, check_conflicts=True, program_address=lowered.program_address)
        length = len(lowered.program.instructions)
        predicted = estimate(cascade, arch, tilings, TABLE, instructions=length)
        least = bound(cascade, arch, TABLE)
        simulated = timed(cascade, lowered, arch, TABLE, run)

        assert least.cycles <= predicted.cycles <= run.cycles, where
        assert least.energy_total_pj <= predicted.energy_total_pj * (1 + 1e-9), where
        counted = {
            c.name: (predicted.counters[c.name.lower()], run.counters[c]) for c in Counter if c not in CONTROL
        }
        assert {name: pair for name, pair in counted.items() if pair[0] != pair[1]} == {}, where
        assert predicted.actions == simulated.actions, where
        assert predicted.energy_total_pj == pytest.approx(simulated.energy_total_pj), where
