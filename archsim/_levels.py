"""The simulator's and the hardware's results as Estimates, with a row for each kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archsim._account import account, energy_per_count
from archsim._architecture import Architecture
from archsim._counters import STALL_BASE, Counter
from archsim._energy import EnergyTable
from archsim._estimate import kernel_macs
from archsim._estimate_value import Estimate, Level, Row
from archsim._isa import Opcode
from archsim._lower import Lowered
from archsim._simulate import Simulation
from workloads import Cascade


def timed(
    cascade: Cascade, lowered: Lowered, arch: Architecture, table: EnergyTable, simulation: Simulation
) -> Estimate:
    """The Estimate of a simulated run of ``lowered``."""
    return _estimate(
        cascade, lowered, arch, table, simulation, level="simulate", counters=simulation.counters
    )


def measured(
    cascade: Cascade,
    lowered: Lowered,
    arch: Architecture,
    table: EnergyTable,
    simulation: Simulation,
    counters: Sequence[int],
) -> Estimate:
    """The Estimate of a run on the hardware, from the ``counters`` that it kept itself.

    What no counter says (traffic by tensor, cycles by kernel) is the simulation's.
    """
    return _estimate(cascade, lowered, arch, table, simulation, level="cosim", counters=counters)


def _estimate(
    cascade: Cascade,
    lowered: Lowered,
    arch: Architecture,
    table: EnergyTable,
    simulation: Simulation,
    *,
    level: Level,
    counters: Sequence[int],
) -> Estimate:
    reads, writes = _traffic(lowered, simulation)
    program = lowered.program
    return account(
        name=cascade.name,
        level=level,
        arch=arch,
        table=table,
        cycles=counters[Counter.CYCLES],
        counters={counter: counters[counter] for counter in Counter},
        macs=sum(kernel_macs(item, cascade) for item in lowered.planned.plans),
        reads=reads,
        writes=writes,
        rows=_rows(cascade, lowered, arch, table, simulation),
        stalls={name: counters[STALL_BASE + index] for index, name in sorted(program.semaphores.items())},
    )


def _traffic(lowered: Lowered, simulation: Simulation) -> tuple[dict[str, int], dict[str, int]]:
    """Beats read and written of each tensor: executions times the beats of each transfer."""
    reads: dict[str, int] = {}
    writes: dict[str, int] = {}
    for index, name in lowered.program.tensors.items():
        instruction = lowered.program.instructions[index]
        into = writes if instruction.opcode is Opcode.STORE else reads
        beats = instruction.field("segments") * instruction.field("beats")
        into[name] = into.get(name, 0) + simulation.executions[index] * beats
    return reads, writes


def _rows(
    cascade: Cascade, lowered: Lowered, arch: Architecture, table: EnergyTable, simulation: Simulation
) -> tuple[Row, ...]:
    unit: Mapping[Counter, float] = energy_per_count(arch, table)
    macs = {item.kernel.name: kernel_macs(item, cascade) for item in lowered.planned.plans}
    lanes = arch.array.rows * arch.array.cols
    rows = []
    for section in simulation.sections:
        work = macs.get(section.name, 0)
        rows.append(
            Row(
                name=section.name,
                cycles=section.cycles,
                macs=work,
                utilization=work / (max(1, section.cycles) * lanes),
                energy_pj=sum(unit[counter] * section.counters[counter] for counter in Counter),
            )
        )
    return tuple(rows)
