"""A token of a MatMul-free language model as simulated or as run, as an Estimate with a row for each part."""

from __future__ import annotations

from collections.abc import Sequence

from archsim._account import account, energy_per_count
from archsim._counters import STALL_BASE, Counter
from archsim._energy import EnergyTable
from archsim._estimate_value import Estimate, Level, Row
from archsim._hgrn_estimate import program_counts
from archsim._hgrn_layout import PRODUCTS, Layout
from archsim._lower_hgrn import LoweredHgrn
from archsim._simulate import Simulation


def measured_hgrn(
    lowered: LoweredHgrn,
    table: EnergyTable,
    simulation: Simulation,
    counters: Sequence[int] | None = None,
) -> Estimate:
    """The Estimate of one token's step, simulated, or run on the hardware if ``counters`` are its."""
    arch, program = lowered.arch, lowered.step
    level: Level = "simulate" if counters is None else "cosim"
    found = simulation.counters if counters is None else counters
    _, reads, writes = program_counts(program, arch)
    return account(
        name="token",
        level=level,
        arch=arch,
        table=table,
        cycles=found[Counter.CYCLES],
        counters={counter: found[counter] for counter in Counter},
        macs=lowered.layout.sizes.ternary,
        reads=reads,
        writes=writes,
        rows=_rows(lowered, table, simulation),
        stalls={name: found[STALL_BASE + index] for index, name in sorted(program.semaphores.items())},
    )


def _rows(lowered: LoweredHgrn, table: EnergyTable, simulation: Simulation) -> tuple[Row, ...]:
    arch, unit = lowered.arch, energy_per_count(lowered.arch, table)
    work = _section_macs(lowered.layout)
    lanes = arch.array.rows * arch.array.cols
    return tuple(
        Row(
            name=section.name,
            cycles=section.cycles,
            macs=work.get(section.name, 0),
            utilization=work.get(section.name, 0) / (max(1, section.cycles) * lanes),
            energy_pj=sum(unit[counter] * section.counters[counter] for counter in Counter),
        )
        for section in simulation.sections
    )


def _section_macs(at: Layout) -> dict[str, int]:
    """Trits that each section of the step multiplies by."""
    of = {name: at.shape(name)[0] * at.shape(name)[1] for name in (*PRODUCTS, "head")}
    mixer = sum(of[name] for name in "ifgo")
    feed = sum(of[name] for name in ("gate", "up", "down"))
    return {"mixer": at.sizes.layers * mixer, "feed": at.sizes.layers * feed, "head": of["head"]}
