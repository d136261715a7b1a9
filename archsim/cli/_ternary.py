"""Estimates and simulations on a machine with a ternary array, which runs MatMul-free language models.

Such a model is run token by token, so a prefill is as many equal steps as it has tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from archsim import (
    Architecture,
    ArchsimError,
    EnergyTable,
    Estimate,
    LoweredHgrn,
    bound_hgrn,
    combine,
    estimate_hgrn,
    load_architecture,
    load_energy_table,
    lower_hgrn,
    measured_hgrn,
    simulate,
    trace_json,
)
from archsim.cli._job import Job
from archsim.cli._progress import Steps
from archsim.cli._write import write_text
from workloads import HgrnSizes, load_model, matmul_free


@dataclass(frozen=True, slots=True)
class TernaryProblem:
    """A MatMul-free model and the machine that it is to run on."""

    job: Job
    sizes: HgrnSizes
    arch: Architecture
    table: EnergyTable
    tokens: int

    def all_tokens(self, one: Estimate) -> Estimate:
        """Every token's step, one after the other."""
        if self.tokens == 1:
            return replace(one, name=self.job.model)
        return combine(self.job.model, [(one, self.tokens)])


def is_ternary(job: Job) -> bool:
    """Whether the job's machine has a ternary array."""
    return load_architecture(job.arch).array.kind == "ternary"


def load_ternary(job: Job) -> TernaryProblem:
    """The model and architecture that ``job`` names; refuses a model with other products than by trits."""
    arch = load_architecture(job.arch)
    sizes = matmul_free(job.model)
    if sizes is None:
        raise ArchsimError(
            f"MODEL must be a MatMul-free language model on {arch.name}, whose array is ternary, "
            f"not {job.model!r}"
        )
    model = load_model(job.model, phase=job.phase, seq=job.seq, batch=job.batch)
    tokens = model.batch * (model.seq if model.phase == "prefill" else 1)
    return TernaryProblem(job, sizes, arch, load_energy_table(arch.technology), tokens)


def bound_ternary(job: Job, steps: Steps) -> Estimate:
    """What no program beats."""
    problem = load_ternary(job)
    with steps(f"bounding {job.model}"):
        return problem.all_tokens(bound_hgrn(problem.sizes, problem.arch, problem.table))


def estimate_ternary(job: Job, steps: Steps) -> Estimate:
    """Exact counts, and cycles that no run undercuts."""
    return _of_step(job, steps, f"estimating {job.model}", lambda p, lowered: estimate_hgrn(lowered, p.table))


def simulate_ternary(job: Job, steps: Steps, *, trace: Path | None = None) -> Estimate:
    """Cycle-exact simulation; writes a token's events as Chrome trace JSON to ``trace`` where given."""

    def run(problem: TernaryProblem, lowered: LoweredHgrn) -> Estimate:
        simulation = simulate(problem.arch, lowered.step, program_address=lowered.step_address)
        if trace is not None:
            events = simulate(
                problem.arch, lowered.step, program_address=lowered.step_address, plain=True, trace=True
            )
            write_text(trace, trace_json(lowered.step, events))
        return measured_hgrn(lowered, problem.table, simulation)

    return _of_step(job, steps, f"simulating {job.model}", run)


def _of_step(
    job: Job, steps: Steps, title: str, price: Callable[[TernaryProblem, LoweredHgrn], Estimate]
) -> Estimate:
    problem = load_ternary(job)
    with steps(title):
        return problem.all_tokens(price(problem, lower_hgrn(problem.sizes, problem.arch)))
