"""When each tensor is complete: the hardware's memory says what the simulator predicts, exactly."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from archsim import Architecture, Lowered, Program, Simulation, lower, simulate, written_at
from archsim._isa import Opcode
from rtl import Design, Run, build, cosim
from rtl._cosim import Driver, run_jobs
from rtl._encode import encode
from rtl._jobs import NEVER, Job
from tests.cosim.random_workloads import Triple, machine, random_mapping, random_triple, random_values

pytestmark = pytest.mark.cosim

TRIPLES = 16
MACHINES = (machine(8, 8, bus_bytes=8, variant=2), machine(3, 5, bus_bytes=32, variant=1))


@cache
def design(base: Architecture) -> Design:
    """The hardware of a machine, built once."""
    return build(base)


def predicted(triple: Triple) -> dict[str, int]:
    """When each tensor of a triple must be complete."""
    program = triple.lowered.program
    traced = simulate(triple.arch, program, trace=True, program_address=triple.lowered.program_address)
    return written_at(program, traced)


def job(triple: Triple, *, stall_seed: int | None = None) -> Job:
    """The run of a triple, which is to be complete as predicted."""
    return Job(
        program=triple.lowered.program,
        image=triple.image,
        program_address=triple.lowered.program_address,
        encoded=encode(triple.lowered.program),
        memory=triple.arch.memory,
        stall_seed=stall_seed,
        expected_written_at=predicted(triple) if stall_seed is None else {},
    )


def stored(lowered: Lowered) -> set[str]:
    """Every tensor that the program has a STORE for."""
    instructions = lowered.program.instructions
    return {
        tensor
        for index, tensor in lowered.program.tensors.items()
        if instructions[index].opcode is Opcode.STORE
    }


@pytest.mark.parametrize("base", MACHINES, ids=lambda base: base.name)
@pytest.mark.parametrize("driver", ["bare", "cocotb"])
def test_random_cascades_are_complete_when_predicted(base: Architecture, driver: Driver) -> None:
    triples = [random_triple(seed, base) for seed in range(TRIPLES)]
    results = run_jobs(design(base), [job(each) for each in triples], driver=driver)
    for triple, result in zip(triples, results, strict=True):
        assert result.mismatches == (), str(triple)
        assert dict(result.written_at) == predicted(triple), str(triple)
        assert set(result.written_at) == stored(triple.lowered), str(triple)
    assert sum(len(result.written_at) for result in results) > TRIPLES


def test_random_stalls_only_delay() -> None:
    triples = [random_triple(seed, MACHINES[1]) for seed in range(4)]
    results = run_jobs(design(MACHINES[1]), [job(each, stall_seed=3) for each in triples], driver="bare")
    for triple, result in zip(triples, results, strict=True):
        calm = predicted(triple)
        assert set(result.written_at) == set(calm)
        assert all(result.written_at[tensor] > cycle for tensor, cycle in calm.items())


def test_a_wrong_prediction_fails_the_run_and_its_junit_test(tmp_path: Path) -> None:
    right = job(random_triple(3, MACHINES[1]))
    tensor, cycle = next(iter(right.expected_written_at.items()))
    late = replace(right, expected_written_at={**right.expected_written_at, tensor: cycle + 1})
    more = replace(right, expected_written_at={**right.expected_written_at, "NONE": 7})
    less = {name: at for name, at in right.expected_written_at.items() if name != tensor} | {"NONE": 7}
    fewer = replace(right, expected_written_at=less)
    junit = tmp_path / "results.xml"
    results = run_jobs(design(MACHINES[1]), [right, late, more, fewer], junit=junit)
    wrong = f"{tensor}: last byte expected in cycle {cycle + 1}, got {cycle}"
    unwritten = f"NONE: last byte expected in cycle 7, got {NEVER}"
    unexpected = f"{tensor}: last byte expected in cycle {NEVER}, got {cycle}"
    assert [each.mismatches for each in results] == [(), (wrong,), (unwritten,), (unwritten, unexpected)]
    assert wrong in junit.read_text()


def run(seed: int, *, stall_seed: int | None = None) -> Run:
    """A random cascade on the second machine, with the memory that was drawn for it."""
    drawn = random_mapping(seed, MACHINES[1])
    quantised, inputs = random_values(drawn.rng, drawn.work)
    lowered = lower(drawn.work.cascade, drawn.arch, drawn.tilings, quantised=quantised)
    return Run(lowered=lowered, inputs=inputs, memory=drawn.arch.memory, stall_seed=stall_seed)


def test_the_proof_compares_every_stored_tensor() -> None:
    runs = [run(1), run(2), run(1, stall_seed=5)]
    *calm, stalled = cosim(design(MACHINES[1]), runs, driver="bare")
    for each, checked in zip(runs, calm, strict=False):
        assert checked.finished == {
            tensor: (cycle, cycle) for tensor, cycle in checked.result.written_at.items()
        }
        assert set(checked.finished) == stored(each.lowered)
        assert checked.passed
    assert stalled.finished == {}
    assert stalled.passed


def test_the_proof_fails_on_a_wrong_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(program: Program, simulation: Simulation) -> dict[str, int]:
        return {
            tensor: cycle + (tensor == wrong) for tensor, cycle in written_at(program, simulation).items()
        }

    one = run(1)
    wrong = min(stored(one.lowered))
    monkeypatch.setattr("rtl._check.written_at", late)
    (checked,) = cosim(design(MACHINES[1]), [one], driver="bare")
    cycle = checked.result.written_at[wrong]
    assert checked.untimely == {wrong: (cycle + 1, cycle)}
    assert (checked.differences, checked.counters) == ((), {})
    assert checked.sentences == (f"{wrong}: last byte simulated in cycle {cycle + 1:,}, RTL {cycle:,}",)
    assert not checked.passed


def test_a_run_too_long_to_be_traced_is_compared_in_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archsim._simulate.EVENT_CAP", 4)
    (checked,) = cosim(design(MACHINES[1]), [run(1)], driver="bare")
    assert checked.finished == {}
    assert checked.compared > 0
    assert checked.passed
