"""A cascade of your own, from YAML through mapping and lowering to a cycle-exact simulation."""

from __future__ import annotations

from pathlib import Path

from archsim import load_architecture, load_energy_table, programs, simulate, timed
from mapper import search
from workloads import load_cascade


def main() -> None:
    """Simulate a two-layer perceptron, and print its mapping and where its cycles go."""
    cascade = load_cascade(Path(__file__).with_name("mlp.yaml"))
    machine = load_architecture("edge-8x8")
    table = load_energy_table(machine.technology)
    found = search(cascade, machine, "energy", table=table)
    for candidate in found:
        print(candidate.mapping, end="\n\n")
    (lowered,) = programs(cascade, machine, [candidate.tiling for candidate in found])
    run = simulate(machine, lowered.program, program_address=lowered.program_address)
    result = timed(cascade, lowered, machine, table, run)
    for row in result.rows:
        print(f"{row.name:8} {row.cycles:7,} cycles {row.macs:9,} MACs {row.energy_pj * 1e-3:9.1f} nJ")
    assert sum(row.cycles for row in result.rows) == result.cycles
    print(f"{'total':8} {result.cycles:7,} cycles {result.macs:9,} MACs")


if __name__ == "__main__":
    main()
