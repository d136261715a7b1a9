"""One case of a regression suite, run: estimate, simulation and hardware."""

from __future__ import annotations

import time
from pathlib import Path

from archsim import programs
from archsim.cli._pipeline import Problem, estimated, load, map_all, simulated, tilings_of
from archsim.cli._progress import Steps
from archsim.cli._regress_value import Case, Measured, Result
from mapper import Candidate


def run_case(case: Case, *, locks: Path, steps: Steps) -> Result:
    """Run the case's levels; ``locks`` is a folder where processes wait for each other's designs."""
    start = time.monotonic()
    problem = load(case.job)
    found = map_all(problem, steps)
    figures: dict[str, int | float] = {"program.instructions": _instructions(problem, found)}
    if "estimate" in case.levels:
        estimate = estimated(problem, found)
        figures |= {"estimate.cycles": estimate.cycles, "estimate.energy_pj": estimate.energy_total_pj}
    if "simulate" in case.levels:
        simulation = simulated(problem, found, steps)
        figures |= {"simulate.cycles": simulation.cycles, "simulate.energy_pj": simulation.energy_total_pj}
    hardware = Result(measured=Measured(figures={}))
    if "cosim" in case.levels:
        # Generators and drivers take seconds to import, which the other levels need not wait for.
        from archsim.cli._regress_hardware import run_hardware

        hardware = run_hardware(problem, seed=case.seed, locks=locks, steps=steps)
    return Result(
        measured=Measured(figures=figures | dict(hardware.measured.figures), bits=hardware.measured.bits),
        failures=hardware.failures,
        seconds=round(time.monotonic() - start, 3),
    )


def _instructions(problem: Problem, found: tuple[tuple[Candidate, ...], ...]) -> int:
    """Instructions of the whole model's programs, a repeated one counted once."""
    pairs = zip(problem.model.parts, found, strict=True)
    made = (each for part, best in pairs for each in programs(part.cascade, problem.arch, tilings_of(best)))
    return sum(len(lowered.program.instructions) for lowered in made)
