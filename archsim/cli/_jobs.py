"""The one place where the commands meet the packages: each function is one job, load to result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import rtl
from archsim import (
    Architecture,
    ArchsimError,
    Estimate,
    Lowered,
    Simulation,
    Tiling,
    load_architecture,
    measured,
    programs,
    timed,
    trace_json,
)
from archsim import simulate as simulate_program
from archsim.cli._children import ended_together
from archsim.cli._job import CosimOutcome, DemoOutcome, FilesOutcome, Job, MapOutcome
from archsim.cli._pipeline import (
    MINILM,
    Problem,
    Verified,
    bounded,
    estimated,
    heaviest,
    load,
    map_all,
    map_part,
    part_estimates,
    simulated,
    tilings_of,
    verifiable,
)
from archsim.cli._progress import Steps, roughly
from archsim.cli._report_data import Proof, Report, accuracy_of, report_of, runs_of
from archsim.cli._ternary import bound_ternary, estimate_ternary, is_ternary, simulate_ternary
from archsim.cli._waits import PartWaits, part_waits
from archsim.cli._write import write_text
from hls_gen import Project, QuantisedJob, ap_include_dir, compile_and_run, emit, quantised_job
from hls_gen import Run as HlsRun
from mapper import Candidate
from workloads import ZOO, evaluate_quantised, load_model


def model_names() -> tuple[str, ...]:
    """The zoo's models, sorted."""
    return tuple(sorted(ZOO))


def describe_model(job: Job) -> str:
    """The model's cascades as text, each with its repetitions and multiply-accumulates."""
    model = load_model(job.model, phase=job.phase, seq=job.seq, batch=job.batch, host=job.host)
    lines = [f"{model.name}: {model.phase}, batch {model.batch}, seq {model.seq}, {model.macs:,} MACs"]
    for part in model.parts:
        lines += ["", f"-- {part.cascade.name}, {part.repeat} times, {part.macs:,} MACs", str(part.cascade)]
    lines += [f"-- host: {work.name}, {work.elements:,} elements" for work in model.host]
    return "\n".join(lines)


def estimate(job: Job, *, steps: Steps) -> Estimate:
    """The closed-form estimate under the mapping that the search finds."""
    if is_ternary(job):
        return estimate_ternary(job, steps)
    problem = load(job)
    found = map_all(problem, steps)
    with steps(f"estimating {problem.model.name}"):
        return estimated(problem, found)


def estimate_with_distance(job: Job, *, steps: Steps) -> tuple[Estimate, Estimate]:
    """The estimate, and the simulation of the same programs."""
    if is_ternary(job):
        return estimate_ternary(job, steps), simulate_ternary(job, steps)
    problem = load(job)
    found = map_all(problem, steps)
    with steps(f"estimating {problem.model.name}"):
        result = estimated(problem, found)
    return result, simulated(problem, found, steps)


def bound(job: Job, *, steps: Steps) -> Estimate:
    """What no mapping can beat."""
    if is_ternary(job):
        return bound_ternary(job, steps)
    with steps(f"bounding {job.model}"):
        return bounded(load(job))


def map_model(job: Job, *, steps: Steps) -> MapOutcome:
    """The best mapping of each kernel for the job's objective."""
    problem = load(job)
    found = map_all(problem, steps)
    mappings: dict[str, str] = {}
    for part, candidates in zip(problem.model.parts, found, strict=True):
        prefix = f"{part.cascade.name}/" if len(problem.model.parts) > 1 else ""
        mappings |= {prefix + candidate.kernel: str(candidate.mapping) for candidate in candidates}
    evaluated = sum(candidate.evaluated for candidates in found for candidate in candidates)
    return MapOutcome(estimate=estimated(problem, found), mappings=mappings, evaluated=evaluated)


def simulate(job: Job, *, trace: Path | None, steps: Steps) -> Estimate:
    """Cycle-exact simulation; writes the events as Chrome trace JSON to ``trace`` where given."""
    if is_ternary(job):
        return simulate_ternary(job, steps, trace=trace)
    problem = load(job)
    return _simulated(problem, map_all(problem, steps), trace, steps)


def simulate_with_waits(
    job: Job, *, trace: Path | None, steps: Steps
) -> tuple[Estimate, tuple[PartWaits, ...]]:
    """``simulate``, and for each part why the array waits."""
    if is_ternary(job):
        raise ArchsimError(f"--waits must be left out on {job.arch}, whose array is ternary")
    problem = load(job)
    found = map_all(problem, steps)
    result = _simulated(problem, found, trace, steps)
    waits = []
    for part, candidates in zip(problem.model.parts, found, strict=True):
        with steps(f"tracing {part.cascade.name}"):
            made = programs(part.cascade, problem.arch, tilings_of(candidates))
            runs = runs_of(problem, made)
            waits.append(part_waits(problem.arch, (part.cascade.name, part.repeat), made, runs))
    return result, tuple(waits)


def _simulated(
    problem: Problem, found: tuple[tuple[Candidate, ...], ...], trace: Path | None, steps: Steps
) -> Estimate:
    result = simulated(problem, found, steps)
    if trace is not None:
        with steps(f"tracing to {trace}"):
            write_text(trace, _trace(problem, tilings_of(found[_heaviest(problem)])))
    return result


def build_rtl(arch: str, *, steps: Steps) -> FilesOutcome:
    """The architecture's Verilog and register map."""
    architecture = load_architecture(arch)
    with steps(f"building {architecture.name}"):
        design = rtl.build_cached(architecture)
    lines = [f"{address:#06x}  {name}" for name, address in design.registers.items()]
    figures: dict[str, str | int] = {
        "top module": design.top,
        "lines of Verilog": design.verilog.count("\n"),
        "registers": len(design.registers),
    }
    files = {f"{design.top}.v": design.verilog, "registers.txt": "\n".join(lines) + "\n"}
    return FilesOutcome(files=files, figures=figures)


def cosim(job: Job, *, folder: Path, seed: int, stalls: bool, trace: bool, steps: Steps) -> CosimOutcome:
    """Run the job's heaviest part on the RTL in Verilator, and compare bits, counters and cycles."""
    problem = load(job)
    part = heaviest(problem)
    with steps(f"mapping {part.cascade.name} on {problem.arch.name}"):
        candidates = map_part(problem, part)
        cycles = sum(one.cycles for one in part_estimates(problem, part, candidates))
    # Said before the work begins, so that nobody waits for what a simulator cannot finish.
    time = roughly(verilator_seconds(problem.arch, cycles))
    with steps(f"quantising {part.cascade.name} for a run of {cycles:,} cycles or more, {time} of Verilator"):
        work = verifiable(problem, seed=seed, candidates=candidates)
    folder.mkdir(parents=True, exist_ok=True)
    junit = folder / "results.xml"
    wave = folder / "trace.vcd" if trace else None
    checked = run_on_rtl(
        problem, work, stall_seed=seed if stalls else None, junit=junit, trace=wave, steps=steps
    )
    return CosimOutcome(
        estimate=predicted(problem, work, checked),
        measured=hardware_estimate(problem, work, checked),
        rtl_cycles=checked.result.cycles,
        compared=checked.compared,
        mismatches=checked.mismatches,
        differences=checked.sentences,
        counters_differing=len(checked.counters),
        files=tuple(file for file in (junit, wave) if file is not None and file.exists()),
        stalled=stalls,
        rtl_cycles_per_s=checked.result.simulated_hz,
    )


def verilator_seconds(arch: Architecture, cycles: int) -> float:
    """About how long Verilator takes for ``cycles`` of ``arch``.

    A line through what ``sim_results/bench.json`` has for one computer: 661 thousand cycles a second
    of 8x8 processing elements, 242 thousand of 16x16.
    """
    return cycles * (0.64e-6 + 13.6e-9 * arch.array.rows * arch.array.cols)


def predicted(problem: Problem, work: Verified, checked: rtl.Checked) -> Estimate:
    """The simulator's Estimate of the run."""
    return timed(work.part.cascade, work.lowered, problem.arch, problem.table, checked.simulation)


def run_on_rtl(
    problem: Problem,
    work: Verified,
    *,
    stall_seed: int | None,
    junit: Path | None,
    trace: Path | None,
    steps: Steps,
) -> rtl.Checked:
    """Build the design, run the part's program on it under cocotb, and compare."""
    with steps(f"building the RTL of {problem.arch.name}"):
        design = rtl.build_cached(problem.arch)
    run = rtl.Run(lowered=work.lowered, inputs=work.inputs, stall_seed=stall_seed)
    with steps("running on Verilator (compiled on an architecture's first run)") as say, ended_together():
        return rtl.cosim(design, [run], junit=junit, trace=trace, progress=say)[0]


def hardware_estimate(problem: Problem, work: Verified, checked: rtl.Checked) -> Estimate:
    """The Estimate of the hardware's own counters."""
    return measured(
        work.part.cascade,
        work.lowered,
        problem.arch,
        problem.table,
        checked.simulation,
        checked.result.counters,
    )


def emit_hls(job: Job, *, board: str, kernel: str | None, steps: Steps) -> Project:
    """The C++ project of one kernel of the model's heaviest part, with its testbench's tensors."""
    problem = load(job)
    if problem.arch.array.kind != "dense":
        raise ArchsimError(f"array.kind must be dense for HLS, not {problem.arch.array.kind}")
    with steps(f"quantising {problem.model.name}"):
        work = verifiable(problem, seed=1)
    one = hls_job(work, kernel)
    return emit(one.spec, problem.arch, board=board, tensors=one.tensors)


def hls_job(work: Verified, kernel: str | None) -> QuantisedJob:
    """The kernel called ``kernel`` (the first if None) as HLS input, with oracle tensors."""
    tensors: Mapping[str, np.ndarray] = {
        **work.quantised.weights,
        **work.inputs,
        **evaluate_quantised(work.quantised, work.inputs),
    }
    names = [step.kernel.name for step in work.quantised.kernels]
    if kernel is not None and kernel not in names:
        raise ArchsimError(f"kernel must be one of {', '.join(names)}, not {kernel!r}")
    return quantised_job(work.quantised, kernel or names[0], tensors)


def check_hls(project: Project) -> HlsRun:
    """What the project's testbench says, compiled with g++ against the ap_int headers."""
    return compile_and_run(project, include_dir=ap_include_dir())


def _heaviest(problem: Problem) -> int:
    macs = [part.macs for part in problem.model.parts]
    return macs.index(max(macs))


def _trace(problem: Problem, tilings: tuple[Tiling, ...]) -> str:
    part = problem.model.parts[_heaviest(problem)]
    lowered = programs(part.cascade, problem.arch, tilings)[0]
    return trace_json(lowered.program, traced(problem, lowered))


def traced(problem: Problem, lowered: Lowered) -> Simulation:
    """A plain run of ``lowered`` that keeps its events."""
    return simulate_program(problem.arch, lowered.program, plain=True, trace=True)


def report(job: Job, *, steps: Steps) -> str:
    """A self-contained HTML page about the job."""
    problem = load(job)
    return _page(report_of(problem, map_all(problem, steps), steps))


def _page(data: Report) -> str:
    # The drawing library takes longer to import than an estimate takes.
    from archsim.cli._html import render

    return render(data)


DEMO = Job(model=MINILM, arch="edge-16x16", seq=16)
"""What ``demo`` runs: a sentence model with its real weights, 16 tokens."""


def demo(*, folder: Path, steps: Steps) -> DemoOutcome:
    """The main job on real input: map, estimate, simulate, build, co-simulate and report."""
    problem = load(DEMO)
    found = map_all(problem, steps)
    with steps("quantising one encoder layer with its real weights"):
        work = verifiable(problem, seed=1)
    folder.mkdir(parents=True, exist_ok=True)
    checked = run_on_rtl(
        problem, work, stall_seed=None, junit=folder / "results.xml", trace=None, steps=steps
    )
    page = folder / "report.html"
    with steps("writing the report"):
        accuracy = accuracy_of(problem, work, seed=1)
        proof = Proof(work, checked)
        write_text(page, _page(report_of(problem, found, steps, proof=proof, accuracy=accuracy)))
    return DemoOutcome(
        model=simulated(problem, found, steps),
        bound=bounded(problem),
        estimate=estimated(problem, found),
        layer=predicted(problem, work, checked),
        rtl_cycles=checked.result.cycles,
        compared=checked.compared,
        mismatches=checked.mismatches,
        differences=checked.sentences,
        rtl_cycles_per_s=checked.result.simulated_hz,
        report=page,
    )
