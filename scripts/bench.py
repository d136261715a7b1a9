"""Speed of the mappers, the simulator and the generated hardware's simulation, measured in one run.

``make bench`` prints the tables; ``--json FILE`` keeps them for a machine to read. Absolute figures
are those of the computer and of what else it does; the ratios compare what ran within minutes.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from archsim import (
    Architecture,
    Lowered,
    ProductPlan,
    load_architecture,
    load_energy_table,
    lower,
    plan,
    simulate,
)
from archsim._breakdown import Breakdown, breakdown
from archsim.cli._progress import Steps
from archsim.cli._tables import print_figures, print_rows, quantity
from archsim.cli._write import write_json
from mapper import explore, search
from rtl import Driver, Run, build, cosim
from rtl._cosim import bench_of
from rtl._toolchain import compile_bench
from workloads import Cascade, Quantised, load_model, quantise_cascade, quantise_tensor

T = TypeVar("T")

MODEL, MACHINE = "bert-base", "cloud-256x256"
SEQUENCE, MILLION = 32768, 1 << 20
"""Lengths of the plain and of the longest run."""
SPACE = ("llama-2-7b", "cloud-128x128", 4096)
"""Model, machine and length whose largest product the mapper explores."""
CORES = ("edge-8x8", "edge-16x16")
DRIVERS: tuple[Driver, ...] = ("bare", "cocotb")
SIDE = 256
"""The product that runs on the hardware is a square one of this side."""
LARGE = 512
"""Side of the product whose cycles are broken down."""
RUNS = 3
"""Of so many runs with a driver the fastest counts; a run is measured from its start bit to its end."""
LEAST_S = 1.0
"""A measurement is repeated until it has lasted so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluating:
    """How fast mappings are evaluated."""

    kernel: str
    mappings: int
    """Legal tilings of the kernel's space."""
    mappings_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulating:
    """How fast programs are simulated."""

    cycles: int
    plain_cycles_per_s: float
    periodic_cycles_per_s: float
    """Cycles simulated, most of them by skipping periods."""
    periodic_to_plain: float
    agree: bool
    """Whether both runs gave the same cycles and counters."""
    million_tokens_cycles: int
    million_tokens_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """How fast the generated hardware is built and simulated."""

    core: str
    build_s: float
    compile_s: float | None
    """None where the compiled simulator was found in the cache."""
    cycles: int
    bare_cycles_per_s: float
    cocotb_cycles_per_s: float
    cocotb_to_bare: float
    agree: bool
    """Whether bits and counters were as predicted, with both drivers."""


@click.command()
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here."
)
@click.option(
    "--cached", is_flag=True, help="Use compiled simulators kept from earlier; their time is then unknown."
)
@click.option("--core", "cores", type=click.Choice(CORES), multiple=True, default=CORES, help="Cores to run.")
def main(*, json_path: Path | None, cached: bool, cores: Sequence[str]) -> None:
    """Print mappings, simulated cycles and RTL cycles per second, from one run."""
    steps = Steps()
    mapping, simulating = measure_mapper(steps), measure_simulator(steps)
    with tempfile.TemporaryDirectory(prefix="archsim-bench-") as folder:
        if not cached:
            os.environ["ARCHSIM_CACHE"] = folder
        hardware = [measure_hardware(core, steps=steps, cached=cached) for core in cores]
    arrays = {core: measure_array(core) for core in cores}
    show(mapping, simulating, hardware)
    show_arrays(arrays)
    exact = measure_exact_mapper()
    if json_path:
        write_json(json_path, document(mapping, simulating, hardware, arrays) | {"exact_mapper": exact})
    if not (simulating.agree and all(each.agree for each in hardware)):
        raise click.ClickException("runs that must agree did not; see the tables")


def measure_mapper(steps: Steps) -> Evaluating:
    """Explore the space of the largest product, again and again."""
    model, machine, seq = SPACE
    arch = load_architecture(machine)
    table = load_energy_table(arch.technology)
    products = [item for item in plan(layer(model, seq), arch).plans if isinstance(item, ProductPlan)]
    item = max(products, key=lambda each: len(explore(each, arch, table).cycles))
    with steps(f"evaluating mappings of {model} on {machine}"):
        space, seconds = timed(lambda: explore(item, arch, table))
    count = len(space.cycles)
    return Evaluating(kernel=f"{model} {item.kernel.name}", mappings=count, mappings_per_s=count / seconds)


def measure_simulator(steps: Steps) -> Simulating:
    """One layer's program: plainly, by skipping periods, and at a million tokens."""
    arch = load_architecture(MACHINE)
    short = lowered_layer(arch, SEQUENCE).program
    long = lowered_layer(arch, MILLION).program
    with steps("loading the simulator's compiled kernel"):
        simulate(arch, lowered_layer(arch, 16).program)
    with steps(f"simulating {MODEL} at {SEQUENCE:,} tokens"):
        plain, plain_s = timed(lambda: simulate(arch, short, plain=True))
        periodic, periodic_s = timed(lambda: simulate(arch, short))
    with steps(f"simulating {MODEL} at {MILLION:,} tokens"):
        whole, whole_s = timed(lambda: simulate(arch, long))
    return Simulating(
        cycles=plain.cycles,
        plain_cycles_per_s=plain.cycles / plain_s,
        periodic_cycles_per_s=periodic.cycles / periodic_s,
        periodic_to_plain=plain_s / periodic_s,
        agree=plain == periodic,
        million_tokens_cycles=whole.cycles,
        million_tokens_s=whole_s,
    )


def measure_hardware(core: str, *, steps: Steps, cached: bool) -> Hardware:
    """Build and compile ``core``, then run one product on it with each driver."""
    arch = load_architecture(core)
    with steps(f"building {core}"):
        start = time.perf_counter()
        design = build(arch)
        build_s = time.perf_counter() - start
    with steps(f"compiling {core} with Verilator"):
        start = time.perf_counter()
        compile_bench(bench_of(design))
        compile_s = time.perf_counter() - start
    run = product(arch)
    speeds, agree, cycles = dict.fromkeys(DRIVERS, 0.0), True, 0
    # By turns, so that what else the computer does falls on both drivers alike.
    for turn in range(RUNS):
        for driver in DRIVERS:
            with steps(f"running {SIDE}x{SIDE}x{SIDE} on {core}, {driver}, {turn + 1} of {RUNS}"):
                (checked,) = cosim(design, [run], driver=driver)
            speeds[driver] = max(speeds[driver], checked.result.simulated_hz)
            agree &= checked.passed
            cycles = checked.result.cycles
    return Hardware(
        core=core,
        build_s=build_s,
        compile_s=None if cached else compile_s,
        cycles=cycles,
        bare_cycles_per_s=speeds["bare"],
        cocotb_cycles_per_s=speeds["cocotb"],
        cocotb_to_bare=speeds["cocotb"] / speeds["bare"],
        agree=agree,
    )


def measure_array(core: str) -> Breakdown:
    """Where the array's cycles go in a large square product."""
    arch = load_architecture(core)
    lowered = lowered_best(arch, square(LARGE))
    return breakdown(arch, lowered.program, program_address=lowered.program_address)


def measure_exact_mapper() -> Any:
    """The exact mapper's figures; it prints its tables, in a process whose memory is its own."""
    with tempfile.TemporaryDirectory(prefix="archsim-bench-") as folder:
        path = Path(folder) / "mapper.json"
        script = Path(__file__).with_name("bench_mapper.py")
        ended = subprocess.run([sys.executable, script, "--json", path], check=False)
        if ended.returncode:
            raise click.ClickException("the exact mapper's figures must be good; see its tables")
        return json.loads(path.read_text())


def product(arch: Architecture) -> Run:
    """A square product with random values, by the mapper's best tiling."""
    cascade = square(SIDE)
    x, w = np.random.default_rng(SIDE).normal(size=(2, SIDE, SIDE))
    quantised = quantise_cascade(cascade, {"W": w}, [{"X": x}])
    lowered = lowered_best(arch, cascade, quantised=quantised)
    return Run(lowered=lowered, inputs={"X": quantise_tensor(x, quantised.scales["X"])})


def layer(model: str, seq: int) -> Cascade:
    """The repeated block of a model."""
    return load_model(model, seq=seq).part("block").cascade


def lowered_layer(arch: Architecture, seq: int) -> Lowered:
    """The program of one layer by the mapper's best tilings."""
    return lowered_best(arch, layer(MODEL, seq))


def lowered_best(arch: Architecture, cascade: Cascade, *, quantised: Quantised | None = None) -> Lowered:
    """The program of ``cascade`` by the mapper's best tilings."""
    tilings = [found.tiling for found in search(cascade, arch, table=load_energy_table(arch.technology))]
    return lower(cascade, arch, tilings, quantised=quantised)


def square(side: int) -> Cascade:
    """A square product."""
    return load_model(f"gemm:{side}x{side}x{side}").parts[0].cascade


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What ``work`` gives, and its mean seconds over ``LEAST_S``."""
    runs, start = 0, time.perf_counter()
    while True:
        result = work()
        runs += 1
        if (elapsed := time.perf_counter() - start) >= LEAST_S:
            return result, elapsed / runs


def show(mapping: Evaluating, simulating: Simulating, hardware: Sequence[Hardware]) -> None:
    """The tables, on stdout."""
    print_figures(
        "Mapper",
        {
            f"mappings of {mapping.kernel}": f"{mapping.mappings:,}",
            "evaluated": quantity(mapping.mappings_per_s, "mappings/s"),
        },
    )
    print_figures(
        f"Simulator: a layer of {MODEL} on {MACHINE}",
        {
            f"cycles at {SEQUENCE:,} tokens": f"{simulating.cycles:,}",
            "plain": quantity(simulating.plain_cycles_per_s, "cycles/s"),
            "skipping periods": quantity(simulating.periodic_cycles_per_s, "cycles/s"),
            "skipping / plain": f"{simulating.periodic_to_plain:,.1f}",
            "the two agree": "yes" if simulating.agree else "NO",
            f"cycles at {MILLION:,} tokens": f"{simulating.million_tokens_cycles:,}",
            "simulated in": quantity(simulating.million_tokens_s, "s"),
        },
    )
    made = [(each.core, f"{each.build_s:.1f}", _compiled(each)) for each in hardware]
    print_rows("Hardware: making it", ("core", "build s", "compile s"), made)
    header = ("core", "cycles", "bare kHz", "cocotb kHz", "cocotb / bare", "right")
    print_rows(f"Hardware: {SIDE}x{SIDE}x{SIDE} in Verilator", header, [_speeds(each) for each in hardware])


def _compiled(each: Hardware) -> str:
    return "cached" if each.compile_s is None else f"{each.compile_s:.1f}"


def _speeds(each: Hardware) -> tuple[str, ...]:
    return (
        each.core,
        f"{each.cycles:,}",
        f"{each.bare_cycles_per_s / 1e3:,.0f}",
        f"{each.cocotb_cycles_per_s / 1e3:,.0f}",
        f"{each.cocotb_to_bare:.2f}",
        "yes" if each.agree else "NO",
    )


def show_arrays(arrays: Mapping[str, Breakdown]) -> None:
    """A table of causes and cores, on stdout."""
    causes = list(dict.fromkeys(share.cause for each in arrays.values() for share in each.shares))
    rows = [(cause, *(f"{each.of(cause):,}" for each in arrays.values())) for cause in causes]
    rows.append(("total", *(f"{each.cycles:,}" for each in arrays.values())))
    rows.append(("busy", *(f"{each.busy / each.cycles:.1%}" for each in arrays.values())))
    print_rows(f"Where the array's cycles go: {LARGE}x{LARGE}x{LARGE}, simulated", ("cause", *arrays), rows)


def document(
    mapping: Evaluating,
    simulating: Simulating,
    hardware: Sequence[Hardware],
    arrays: Mapping[str, Breakdown],
) -> dict[str, Any]:
    """All figures as a tree of JSON values."""
    return {
        "computer": {
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
        },
        "mapper": asdict(mapping),
        "simulator": asdict(simulating),
        "hardware": [asdict(each) for each in hardware],
        "array": {
            core: {share.cause: share.cycles for share in each.shares} for core, each in arrays.items()
        },
    }


if __name__ == "__main__":
    main()
