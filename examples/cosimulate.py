"""A small product on the generated hardware: its bits and its cycles against what was predicted."""

from __future__ import annotations

import numpy as np

from archsim import Counter, load_architecture, load_energy_table, programs
from mapper import search
from rtl import Run, build, cosim
from workloads import load_model, quantise_cascade, quantise_tensor


def main() -> None:
    """Run Y = X W on the RTL of edge-8x8 in Verilator, and print the comparison."""
    machine = load_architecture("edge-8x8")
    product = load_model("gemm:24x40x16").parts[0].cascade
    rng = np.random.default_rng(seed=1)
    x, w = rng.normal(size=(24, 40)), rng.normal(size=(40, 16))
    quantised = quantise_cascade(product, {"W": w}, [{"X": x}])

    found = search(product, machine, table=load_energy_table(machine.technology))
    tilings = [candidate.tiling for candidate in found]
    (lowered,) = programs(product, machine, tilings, quantised=quantised)
    inputs = {"X": quantise_tensor(x, quantised.scales["X"])}
    (checked,) = cosim(build(machine), [Run(lowered=lowered, inputs=inputs)])

    predicted, measured = checked.simulation.counters, checked.result.counters
    print(f"{'counter':20} {'predicted':>10} {'hardware':>10}")
    for counter in Counter:
        print(f"{counter.name.lower():20} {predicted[counter]:10,} {measured[counter]:10,}")
    y = checked.tensors["Y"] * quantised.scales["Y"]
    print(f"{checked.compared} elements compared, {checked.mismatches} differ from the quantised oracle")
    print(f"largest error against floating point: {np.abs(y - x @ w).max():.3f} of {np.abs(x @ w).max():.3f}")
    assert checked.passed


if __name__ == "__main__":
    main()
