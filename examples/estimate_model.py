"""Cycles and energy of a model of the zoo on every dense architecture of the library, in closed form."""

from __future__ import annotations

from archsim import architecture_names, estimate, load_architecture, load_energy_table
from mapper import MapperError, search
from workloads import load_model


def main() -> None:
    """Estimate one encoder block of MiniLM-L6 at sequence length 128."""
    block = load_model("minilm", seq=128).part("block").cascade
    print(f"{'machine':15} {'cycles':>11} {'latency':>11} {'energy':>11}  MACs in use")
    for name in architecture_names():
        machine = load_architecture(name)
        if machine.array.kind != "dense":
            continue  # The other kinds run one thing: an attention, or a ternary language model.
        table = load_energy_table(machine.technology)
        try:
            tilings = [found.tiling for found in search(block, machine, table=table)]
        except MapperError:  # A row of the model is larger than what a small machine holds of it.
            print(f"{name:15} {'does not fit':>11}")
            continue
        result = estimate(block, machine, tilings, table)
        print(
            f"{name:15} {result.cycles:11,} {result.seconds * 1e3:8.3f} ms"
            f" {result.energy_total_pj * 1e-9:8.3f} mJ {result.utilization['mac']:12.1%}"
        )


if __name__ == "__main__":
    main()
