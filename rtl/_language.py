"""A text on the hardware: a model loaded once, then one run a token, each against the oracle.

The next token depends on the logits of the one before, but the integer oracle says beforehand what they
must be. So a whole text is one batch of runs in one simulation; the state stays in the core from run to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from archsim import (
    COUNTERS,
    STALL_BASE,
    Counter,
    LoweredHgrn,
    Program,
    Simulation,
    hgrn_image,
    hgrn_step_image,
    logit_bytes,
    logits_of,
    simulate,
)
from rtl._build import Design
from rtl._cosim import Driver, Progress, run_jobs
from rtl._encode import encode
from rtl._errors import RtlError
from rtl._jobs import Job, RunResult
from workloads import TernaryModel

Ints = NDArray[np.int64]
DONE = 1
"""Status of a run without errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token's step on the hardware, beside what was predicted."""

    result: RunResult
    logits: Ints
    """As the hardware stored them."""
    wrong: int
    """Logits that differ from the oracle's."""
    counters: dict[str, tuple[int, int]]
    """Counters that differ, cycles among them: name -> (simulated, hardware)."""

    @property
    def passed(self) -> bool:
        """Whether every logit and every counter agrees."""
        return not self.wrong and not self.counters


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text's runs."""

    load: RunResult
    load_counters: dict[str, tuple[int, int]]
    """As ``Token.counters``, of the run that loads the model."""
    tokens: tuple[Token, ...]

    @property
    def passed(self) -> bool:
        """Whether every run agrees with simulator and oracle."""
        return not self.load_counters and all(token.passed for token in self.tokens)


def run_text(
    design: Design,
    lowered: LoweredHgrn,
    model: TernaryModel,
    tokens: Sequence[int],
    *,
    driver: Driver = "cocotb",
    progress: Progress | None = None,
    confirmed: Callable[[int, Token], None] | None = None,
) -> Text:
    """Run ``tokens`` one after the other from a zero state, and compare logits and counters.

    ``confirmed`` is told each token's position and run, in order, while later ones still run.
    Raises RtlError where a run ends with an error in its status register.
    """
    jobs, expected = text_jobs(lowered, model, tokens)
    simulations = _simulations(lowered)

    def judge(number: int, result: RunResult) -> Token:
        return _token(lowered, result, expected[number - 1], simulations[1])

    def tell(number: int, result: RunResult) -> None:
        if confirmed is not None and number > 0:
            confirmed(number - 1, judge(number, result))

    results = run_jobs(design, jobs, driver=driver, progress=progress, finished=tell)
    _require_done(results[0])
    return Text(
        load=results[0],
        load_counters=different_counters(simulations[0], results[0]),
        tokens=tuple(judge(number, result) for number, result in enumerate(results) if number),
    )


def text_jobs(
    lowered: LoweredHgrn, model: TernaryModel, tokens: Sequence[int]
) -> tuple[list[Job], list[Ints]]:
    """(the load and a step for each token, the logits that each step must give)."""
    memory = hgrn_image(lowered, model)
    load, step = _simulations(lowered)
    jobs = [_job(lowered, lowered.load, lowered.load_address, image=memory, cycles=load.cycles)]
    expected, state = [], model.start()
    for token in tokens:
        state, logits = model.step(state, [token])
        expected.append(logits[0])
        image = hgrn_step_image(lowered, model, token, memory=memory)
        job = _job(lowered, lowered.step, lowered.step_address, image=image, cycles=step.cycles)
        jobs.append(replace(job, expected={"logits": logit_bytes(lowered.layout, logits[0])}))
    return jobs, expected


def _simulations(lowered: LoweredHgrn) -> tuple[Simulation, Simulation]:
    """Of the load and of a step."""
    return (
        simulate(lowered.arch, lowered.load, program_address=lowered.load_address),
        simulate(lowered.arch, lowered.step, program_address=lowered.step_address),
    )


def _job(lowered: LoweredHgrn, program: Program, address: int, *, image: bytes, cycles: int) -> Job:
    return Job(
        program=program,
        image=image,
        program_address=address,
        encoded=encode(program),
        memory=lowered.arch.memory,
        limit_cycles=20 * cycles + 100_000,
        expected_cycles=cycles,
    )


def _token(lowered: LoweredHgrn, result: RunResult, expected: Ints, simulation: Simulation) -> Token:
    _require_done(result)
    logits = logits_of(lowered.layout, result.image)
    return Token(
        result=result,
        logits=logits,
        wrong=int((logits != expected).sum()),
        counters=different_counters(simulation, result),
    )


def _require_done(result: RunResult) -> None:
    if result.status & ~DONE:
        raise RtlError(f"status must be {DONE:#x} (done) after a run, not {result.status:#x}")


def different_counters(simulation: Simulation, result: RunResult) -> dict[str, tuple[int, int]]:
    """Counters in which simulator and hardware differ: name -> (simulated, hardware)."""
    return {
        counter_name(index): (simulation.counters[index], result.counters[index])
        for index in range(COUNTERS)
        if simulation.counters[index] != result.counters[index]
    }


def counter_name(index: int) -> str:
    """A counter's name in reports."""
    return Counter(index).name.lower() if index < STALL_BASE else f"stall_{index - STALL_BASE}"
