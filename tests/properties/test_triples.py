"""The central claim: on random cascades, machines and mappings the hardware does exactly what is predicted.

For each triple: the hardware's cycles and every one of its counters are the simulator's, and every
tensor that it writes has the quantised oracle's bits. Every ``STALL_EVERY``-th program runs once more
against a memory that stalls at random; the bits stay.
"""

from __future__ import annotations

from collections import Counter as Counting
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from archsim._architecture import Architecture
from archsim._counters import COUNTERS, STALL_BASE, Counter
from archsim._execute import execute
from archsim._image import tensors_of
from archsim._plan import plan
from archsim._simulate import Simulation, simulate
from rtl._build import build
from rtl._cosim import run_jobs
from rtl._encode import encode
from rtl._jobs import Job, RunResult
from tests.cosim.random_workloads import (
    Triple,
    features,
    input_differences,
    machine,
    random_mapping,
    random_triple,
    tensor_differences,
)

TRIPLES = 56
"""On each machine: seven or eight of each family of cascades."""
MORE_TRIPLES = 250
STALL_EVERY = 4
SHOWN = 20
MACHINES = (
    machine(16, 16, bus_bytes=4, variant=3),
    machine(8, 8, bus_bytes=8, variant=2),
    machine(3, 5, bus_bytes=32, variant=1),
    machine(1, 1, bus_bytes=16, variant=0),
)
MORE_MACHINES = (
    *MACHINES,
    machine(16, 16, bus_bytes=32, variant=1),
    machine(8, 8, bus_bytes=32, variant=0),
    machine(3, 5, bus_bytes=4, variant=3),
    machine(1, 1, bus_bytes=4, variant=2),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A triple with what was predicted for it and what the hardware did, with stalls and without."""

    triple: Triple
    simulation: Simulation
    result: RunResult
    stalled: RunResult | None


def differences(outcome: Outcome) -> Iterator[str]:
    """One sentence for each way in which the hardware did not do what was predicted."""
    triple, simulation, result = outcome.triple, outcome.simulation, outcome.result
    if result.cycles != simulation.cycles:
        yield f"cycles: expected {simulation.cycles}, got {result.cycles}"
    for index, (wanted, got) in enumerate(zip(simulation.counters, result.counters, strict=True)):
        if got != wanted:
            yield f"{counter_name(index)}: expected {wanted}, got {got}"
    yield from _memory_differences(triple, result)
    if outcome.stalled is not None:
        yield from (f"with stalls, {each}" for each in _memory_differences(triple, outcome.stalled))


def _memory_differences(triple: Triple, result: RunResult) -> Iterator[str]:
    if result.status != 1:
        yield f"status: expected 1 (done), got {result.status}"
    yield from tensor_differences(triple, tensors_of(triple.lowered, triple.arch, result.image))
    yield from input_differences(triple, result.image)


def counter_name(index: int) -> str:
    """The name of a counter, those of stalls included."""
    return Counter(index).name if index < STALL_BASE else f"stalls for semaphore {index - STALL_BASE}"


def job(triple: Triple, *, stall_seed: int | None = None) -> Job:
    """The run of a triple on the hardware."""
    return Job(
        program=triple.lowered.program,
        image=triple.image,
        program_address=triple.lowered.program_address,
        encoded=encode(triple.lowered.program),
        memory=triple.arch.memory,
        stall_seed=stall_seed,
    )


def outcomes(base: Architecture, seeds: Sequence[int]) -> list[Outcome]:
    """Predict and run the triples of ``seeds`` on one machine, in one simulator process."""
    triples = [random_triple(seed, base) for seed in seeds]
    predicted = [
        simulate(
            each.arch,
            each.lowered.program,
            check_conflicts=True,
            program_address=each.lowered.program_address,
        )
        for each in triples
    ]
    again = triples[::STALL_EVERY]
    jobs = [job(each) for each in triples] + [job(each, stall_seed=each.seed) for each in again]
    results = run_jobs(build(base), jobs)
    stalled = dict(zip((each.seed for each in again), results[len(triples) :], strict=True))
    return [
        Outcome(triple, simulation, result, stalled.get(triple.seed))
        for triple, simulation, result in zip(triples, predicted, results[: len(triples)], strict=True)
    ]


def judge(found: Sequence[Outcome], node: pytest.Item) -> None:
    """Put the figures into the report, and fail with every mismatch in a sentence."""
    wrong = [f"{each.triple}:\n  {text}" for each in found for text in differences(each)]
    figures = {
        "triples": len(found),
        "runs with stalls": sum(each.stalled is not None for each in found),
        "simulated cycles": sum(each.simulation.cycles for each in found),
        "mismatches": len(wrong),
    }
    # The JUnit file and the summary at the end of the run are made of these.
    node.user_properties.extend(figures.items())
    assert not wrong, f"{len(wrong)} mismatches, such as\n" + "\n".join(wrong[:SHOWN])


@pytest.mark.cosim
@pytest.mark.parametrize("base", MACHINES, ids=lambda base: base.name)
def test_hardware_is_as_predicted(base: Architecture, request: pytest.FixtureRequest) -> None:
    judge(outcomes(base, range(TRIPLES)), request.node)


@pytest.mark.slow
@pytest.mark.cosim
@pytest.mark.parametrize("base", MORE_MACHINES, ids=lambda base: base.name)
def test_hardware_is_as_predicted_exhaustively(base: Architecture, request: pytest.FixtureRequest) -> None:
    judge(outcomes(base, range(TRIPLES, TRIPLES + MORE_TRIPLES)), request.node)


def test_the_triples_reach_every_kind_of_mapping() -> None:
    met: Counting[str] = Counting()
    for base in MACHINES:
        for seed in range(TRIPLES):
            drawn = random_mapping(seed, base)
            items = plan(drawn.work.cascade, drawn.arch).plans
            pairs = zip(items, drawn.tilings, strict=True)
            met.update(set().union(*(features(item, tiling) for item, tiling in pairs)))
    assert len(MACHINES) * TRIPLES >= 200
    assert {name: count for name, count in met.items() if count < 10} == {}
    assert len(met) == 15


def predicted() -> Outcome:
    """What the hardware does where it is right, from the simulator and the functional interpreter."""
    triple = random_triple(3, MACHINES[1])
    program = triple.lowered.program
    simulation = simulate(triple.arch, program, program_address=triple.lowered.program_address)
    result = RunResult(
        cycles=simulation.cycles,
        counters=simulation.counters,
        status=1,
        image=execute(triple.arch, program, triple.image),
        wall_s=1.0,
        simulated_hz=1.0,
        mismatches=(),
    )
    return Outcome(triple, simulation, result, result)


def with_one_bit_changed(memory: bytes, address: int) -> bytes:
    """The memory with the lowest bit of one byte turned over."""
    return memory[:address] + bytes([memory[address] ^ 1]) + memory[address + 1 :]


def test_the_judge_accepts_what_is_right() -> None:
    assert list(differences(predicted())) == []


@pytest.mark.parametrize("index", range(COUNTERS))
def test_the_judge_sees_a_counter_off_by_one(index: int) -> None:
    right = predicted()
    counters = tuple(count + (each == index) for each, count in enumerate(right.result.counters))
    wrong = replace(right, result=replace(right.result, counters=counters))
    value = right.simulation.counters[index]
    assert list(differences(wrong)) == [f"{counter_name(index)}: expected {value}, got {value + 1}"]


def test_the_judge_sees_a_cycle_and_a_status() -> None:
    right = predicted()
    cycles = right.simulation.cycles
    wrong = replace(right, result=replace(right.result, cycles=cycles - 1, status=1 | 1 << 4))
    assert list(differences(wrong)) == [
        f"cycles: expected {cycles}, got {cycles - 1}",
        "status: expected 1 (done), got 17",
    ]


@pytest.mark.parametrize("stalls", [False, True])
def test_the_judge_sees_one_bit_of_an_output_and_of_an_input(stalls: bool) -> None:
    right = predicted()
    for kind in ("output", "input", "parameter", "table"):
        region = next(each for each in right.triple.lowered.program.regions if each.kind == kind)
        broken = replace(right.result, image=with_one_bit_changed(right.result.image, region.address))
        wrong = replace(right, stalled=broken) if stalls else replace(right, result=broken)
        (sentence,) = differences(wrong)
        said = f"tensor {region.tensor}[" if kind == "output" else f"region {region.tensor}: "
        assert sentence.startswith("with stalls, " * stalls + said)
