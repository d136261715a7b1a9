"""What a report shows, as plain values, and how they are made from the packages' results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from archsim import (
    STALL_BASE,
    Architecture,
    Counter,
    EnergyTable,
    Estimate,
    Lowered,
    Program,
    Simulation,
    combine,
    measured,
    programs,
    simulate,
    timed,
)
from archsim import Mapping as LoopNest
from archsim import bound as bound_of
from archsim import estimate as estimate_of
from archsim._estimate_value import LEVELS, Level
from archsim._isa import Engine
from archsim._simulate import EVENT_CAP, Event
from archsim.cli._pipeline import MINILM, Problem, Verified, random_tensors, real_tensors, tilings_of
from archsim.cli._progress import Steps
from archsim.cli._waits import PartWaits, StreamedWeights, part_waits, streamed_weights
from mapper import Candidate
from rtl import Checked
from workloads import Cascade, Part, evaluate, evaluate_quantised

Floats = NDArray[np.float64]

WINDOW_CYCLES = 20_000
"""The start of a run that a timeline shows in detail."""
TIMELINE_STEPS = 1500
"""Gaps shorter than this fraction of a timeline are not drawn."""


@dataclass(frozen=True, slots=True)
class Span:
    """Cycles in which an engine works on a kernel."""

    engine: Engine
    kernel: str
    start: int
    stop: int
    """First cycle after it."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """What each engine does in the first ``cycles`` of a run of ``total`` cycles."""

    cycles: int
    total: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """One part of a model, each figure for one repetition."""

    name: str
    repeat: int
    cascade: Cascade
    mappings: tuple[LoopNest, ...]
    levels: tuple[Estimate, ...]
    """The estimates that exist, at most one a level."""
    programs: int = 1
    """Programs that it takes, one after another; timelines are of the first."""
    evaluated: int = 0
    """Mappings that the search priced."""
    dram_bytes: Mapping[str, int]
    """Kernel -> bytes that it moved to and from DRAM, by the simulator; empty if not simulated."""
    waits: PartWaits | None = None
    """Why the array waits, kernel by kernel; None if not simulated."""
    streamed: tuple[StreamedWeights, ...] = ()
    """The kernels whose weights do not fit on chip."""
    timelines: tuple[Timeline, ...] = ()

    def level(self, level: Level) -> Estimate | None:
        """The estimate of one level, if there is one."""
        return next((one for one in self.levels if one.level == level), None)

    @property
    def best(self) -> Estimate:
        """The estimate to be drawn: simulated before estimated before bound."""
        order: tuple[Level, ...] = ("simulate", "estimate", "cosim", "bound")
        found = (self.level(level) for level in order)
        return next(one for one in found if one is not None)

    @property
    def cycles(self) -> int:
        """Cycles of all repetitions."""
        return self.best.cycles * self.repeat


@dataclass(frozen=True, slots=True)
class TensorCheck:
    """A tensor of the hardware beside the oracle's."""

    tensor: str
    elements: int
    mismatches: int


@dataclass(frozen=True, slots=True)
class CounterCheck:
    """A counter of the hardware beside the simulator's."""

    name: str
    simulated: int
    measured: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """One part run on the RTL, compared bit for bit and cycle for cycle."""

    part: str
    tensors: tuple[TensorCheck, ...]
    counters: tuple[CounterCheck, ...]
    """All of the core's counters in register-map order, cycles first."""
    differences: tuple[str, ...] = ()
    """The first wrong element of each wrong tensor, in words."""
    stalled: bool = False
    """Whether the memory stalled at random: then only bits are compared."""
    rtl_cycles_per_s: float
    """Cycles of the RTL a second of wall clock."""

    @property
    def compared(self) -> int:
        """Elements compared."""
        return sum(check.elements for check in self.tensors)

    @property
    def mismatches(self) -> int:
        """Elements that differ."""
        return sum(check.mismatches for check in self.tensors)

    @property
    def counter_mismatches(self) -> int:
        """Counters that differ."""
        return sum(check.simulated != check.measured for check in self.counters)

    @property
    def passed(self) -> bool:
        """Whether all bits agree, and without random stalls all counters, cycles among them."""
        return not self.mismatches and (self.stalled or not self.counter_mismatches)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far a kernel's integers are from the float oracle's values."""

    kernel: str
    sqnr_db: float
    """Signal power over quantisation-noise power in dB; infinite where there is no noise."""
    largest_error: float
    """Largest absolute error over the float tensor's largest magnitude."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A quantity of hardware that the design takes."""

    name: str
    used: float
    available: float | None = None
    unit: str = ""
    source: str
    """Which tool or formula says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A model on an architecture: everything that the page shows."""

    title: str
    phase: str
    batch: int
    seq: int
    objective: str
    architecture: Architecture
    energy: EnergyTable
    parts: tuple[PartReport, ...]
    verification: Verification | None = None
    accuracy: tuple[Accuracy, ...] = ()
    resources: tuple[Resource, ...] = ()
    host: tuple[tuple[str, int], ...] = ()
    """(operator left to the host, elements that it makes)."""
    notes: tuple[str, ...] = ()
    """What the counts leave out or assume."""

    @property
    def totals(self) -> tuple[Estimate, ...]:
        """The whole model at each level that every part has, repetitions included.

        The hardware's counters are of one repetition, so that a part that runs several times has no
        measured total.
        """
        once = all(part.repeat == 1 for part in self.parts)
        found = []
        for level in LEVELS if once else LEVELS[:-1]:
            parts = [(one, part.repeat) for part in self.parts if (one := part.level(level)) is not None]
            if parts and len(parts) == len(self.parts):
                found.append(combine(self.title, parts))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Proof:
    """A part's run on the RTL, with what it was made of."""

    work: Verified
    checked: Checked
    stalled: bool = False


def report_of(
    problem: Problem,
    found: Sequence[tuple[Candidate, ...]],
    steps: Steps,
    *,
    proof: Proof | None = None,
    accuracy: tuple[Accuracy, ...] = (),
    resources: tuple[Resource, ...] = (),
) -> Report:
    """The report of a mapped model: bounds, estimates and simulates each part."""
    model = problem.model
    pairs = zip(model.parts, found, strict=True)
    return Report(
        title=model.name,
        phase=model.phase,
        batch=model.batch,
        seq=model.seq,
        objective=problem.job.objective,
        architecture=problem.arch,
        energy=problem.table,
        parts=tuple(part_of(problem, part, candidates, steps, proof=proof) for part, candidates in pairs),
        verification=verification_of(proof) if proof is not None else None,
        accuracy=accuracy,
        resources=resources,
        host=tuple((work.name, work.elements) for work in model.host),
        notes=model.notes,
    )


def part_of(
    problem: Problem,
    part: Part,
    candidates: tuple[Candidate, ...],
    steps: Steps,
    *,
    proof: Proof | None = None,
) -> PartReport:
    """One part at every level that can be computed, and measured where ``proof`` is of this part."""
    proved = proof if proof is not None and proof.work.part is part else None
    tilings = tilings_of(candidates)
    made = (proved.work.lowered,) if proved else programs(part.cascade, problem.arch, tilings)
    with steps(f"simulating {part.cascade.name}"):
        runs = runs_of(problem, made)
    length = sum(len(one.program.instructions) for one in made)
    levels = [
        bound_of(part.cascade, problem.arch, problem.table),
        estimate_of(part.cascade, problem.arch, tilings, problem.table, instructions=length),
        _simulated(problem, part, made, runs),
        *([_measured(problem, proved)] if proved else []),
    ]
    short = sum(map(_engine_instructions, made, runs)) < EVENT_CAP
    with steps(f"tracing {part.cascade.name}"):
        waits = part_waits(problem.arch, (part.cascade.name, part.repeat), made, runs)
        timelines = _timelines(problem.arch, made[0]) if short else ()
    return PartReport(
        name=part.cascade.name,
        repeat=part.repeat,
        cascade=part.cascade,
        mappings=tuple(candidate.mapping for candidate in candidates),
        levels=tuple(levels),
        programs=len(made),
        evaluated=sum(candidate.evaluated for candidate in candidates),
        dram_bytes=_dram_bytes(problem.arch, runs),
        waits=waits,
        streamed=streamed_weights(problem.arch, made, runs),
        timelines=timelines,
    )


def runs_of(problem: Problem, made: Iterable[Lowered]) -> tuple[Simulation, ...]:
    """The simulation of each program."""
    return tuple(simulate(problem.arch, one.program, program_address=one.program_address) for one in made)


def _simulated(problem: Problem, part: Part, made: Sequence[Lowered], runs: Sequence[Simulation]) -> Estimate:
    one = [
        (timed(part.cascade, lowered, problem.arch, problem.table, run), 1)
        for lowered, run in zip(made, runs, strict=True)
    ]
    return combine(part.cascade.name, one)


def _measured(problem: Problem, proof: Proof) -> Estimate:
    work, checked = proof.work, proof.checked
    counters = checked.result.counters
    cascade = work.part.cascade
    return measured(cascade, work.lowered, problem.arch, problem.table, checked.simulation, counters)


def _dram_bytes(arch: Architecture, runs: Iterable[Simulation]) -> dict[str, int]:
    """Beats of each kernel's section, times the beat's bytes."""
    total: dict[str, int] = {}
    for section in (section for run in runs for section in run.sections):
        beats = section.counters[Counter.LOAD_BEATS] + section.counters[Counter.STORE_BEATS]
        total[section.name] = total.get(section.name, 0) + beats * arch.bus.bytes
    return total


def _engine_instructions(lowered: Lowered, run: Simulation) -> int:
    pairs = zip(lowered.program.instructions, run.executions, strict=True)
    return 1 + sum(count for instruction, count in pairs if instruction.engine is not None)


def _timelines(arch: Architecture, lowered: Lowered) -> tuple[Timeline, ...]:
    run = simulate(arch, lowered.program, plain=True, trace=True, program_address=lowered.program_address)
    lengths = dict.fromkeys((run.cycles, min(run.cycles, WINDOW_CYCLES)))
    return tuple(timeline(run, length) for length in lengths)


def timeline(run: Simulation, cycles: int) -> Timeline:
    """The first ``cycles`` of a traced run; gaps too short to be seen are closed."""
    gap = cycles // TIMELINE_STEPS
    spans: list[Span] = []
    for engine in Engine:
        mine = (event for event in run.events if event.engine is engine and event.pop < cycles)
        spans += _merged(sorted(mine, key=lambda event: event.pop), cycles, gap=gap)
    return Timeline(cycles, run.cycles, tuple(spans))


def _merged(events: Iterable[Event], cycles: int, *, gap: int) -> list[Span]:
    spans: list[Span] = []
    for event in events:
        stop = min(_busy_until(event), cycles)
        last = spans[-1] if spans else None
        if last is not None and last.kernel == event.section and event.pop <= last.stop + gap:
            spans[-1] = Span(last.engine, last.kernel, last.start, max(last.stop, stop))
        else:
            spans.append(Span(event.engine, event.section, event.pop, stop))
    return spans


def _busy_until(event: Event) -> int:
    """The array is free again when its last word has been issued, other engines when they retire."""
    match event.engine:
        case Engine.ARRAY:
            return event.issue + 1
        case Engine.LOAD | Engine.STORE | Engine.VECTOR:
            return event.retire + 1
        case _:
            assert_never(event.engine)


def verification_of(proof: Proof) -> Verification:
    """The comparison as the report shows it."""
    checked = proof.checked
    wrong = {difference.tensor: difference.wrong for difference in checked.differences}
    assert proof.work.lowered.quantised is not None
    made = {step.kernel.name for step in proof.work.lowered.quantised.kernels}
    return Verification(
        part=proof.work.part.cascade.name,
        tensors=tuple(
            TensorCheck(name, values.size, wrong.get(name, 0))
            for name, values in checked.tensors.items()
            if name in made
        ),
        counters=_counters(proof.work.lowered.program, checked),
        differences=tuple(str(difference) for difference in checked.differences),
        stalled=proof.stalled,
        rtl_cycles_per_s=checked.result.simulated_hz,
    )


def _counters(program: Program, checked: Checked) -> tuple[CounterCheck, ...]:
    names = [counter.name.lower() for counter in Counter]
    places = [*Counter, *(STALL_BASE + index for index in sorted(program.semaphores))]
    names += [program.semaphores[index] for index in sorted(program.semaphores)]
    ours, theirs = checked.simulation.counters, checked.result.counters
    return tuple(
        CounterCheck(name, ours[place], theirs[place]) for name, place in zip(names, places, strict=True)
    )


def accuracy_of(problem: Problem, work: Verified, *, seed: int) -> tuple[Accuracy, ...]:
    """Each kernel of ``verifiable(problem, seed=seed)``, run in integers, against the float oracle.

    Every kernel's input is what the kernels before it made, so errors of the whole chain are counted.
    """
    real = problem.job.model == MINILM
    weights, samples = real_tensors(problem) if real else random_tensors(work.part, seed)
    wanted = evaluate(work.part.cascade, {**weights, **samples[0]})
    made = evaluate_quantised(work.quantised, work.inputs)
    scales = work.quantised.scales
    return tuple(
        sqnr(name, wanted[name], values.astype(np.float64) * scales[name]) for name, values in made.items()
    )


def sqnr(kernel: str, wanted: Floats, got: Floats) -> Accuracy:
    """Signal-to-quantisation-noise: 10 log10(sum wanted^2 / sum (wanted - got)^2).

    >>> sqnr("A", np.array([1.0, 1.0]), np.array([1.125, 0.875])).sqnr_db
    18.0618
    """
    error = got - wanted
    noise, signal = float(np.sum(error**2)), float(np.sum(wanted**2))
    peak = float(np.max(np.abs(wanted), initial=0.0)) or 1.0
    ratio = 10 * math.log10(signal / noise) if noise and signal else -math.inf if noise else math.inf
    return Accuracy(kernel, round(ratio, 6), float(np.max(np.abs(error), initial=0.0)) / peak)
