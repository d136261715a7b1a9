"""The cocotb tests that run inside the simulator: one test a job, one await an operation.

Everything that happens every cycle happens in ``harness.sv``; Python is woken when the mailbox
has an answer.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import Any

import cocotb
from cocotb.triggers import ValueChange

from rtl._jobs import (
    FOLDER_VARIABLE,
    JOBS_VARIABLE,
    JUDGE_VARIABLE,
    Answer,
    Step,
    read_steps,
    run_result,
    write_answers,
)


class Mailbox:
    """The driver's side of the harness's mailbox."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut

    async def ask(self, step: Step) -> Answer:
        """Have the harness carry out one operation."""
        dut = self._dut
        dut.operation.value = step.operation
        dut.first.value = step.first
        dut.second.value = step.second
        dut.request.value = 1 - int(dut.request.value)
        begin = perf_counter()
        await ValueChange(dut.reply)
        return Answer(int(dut.result.value), perf_counter() - begin)


@cocotb.test()
@cocotb.parametrize(number=range(int(os.environ.get(JOBS_VARIABLE, "0"))))
async def job(dut: Any, number: int) -> None:
    """Play the operations of one job, and judge its results where the job says what it expects."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    mailbox = Mailbox(dut)
    answers = [await mailbox.ask(step) for step in read_steps(folder, number)]
    write_answers(folder, number, answers)
    if os.environ.get(JUDGE_VARIABLE):
        result = run_result(folder, number)
        assert not result.mismatches, "\n".join(result.mismatches)
