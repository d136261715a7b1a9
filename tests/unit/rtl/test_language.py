"""A text's runs as values: what counts as agreement, and which runs are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from archsim import COUNTERS, Counter, hgrn_step_image, lower_hgrn, simulate
from rtl import RtlError, Text, Token
from rtl._jobs import RunResult
from rtl._language import DONE, _require_done, counter_name, different_counters, text_jobs
from tests.unit.archsim.test_lower_hgrn import MACHINE, RING, SMALL, model_of

RESULT = RunResult(
    cycles=5,
    counters=(0,) * COUNTERS,
    status=DONE,
    image=b"",
    wall_s=1.0,
    simulated_hz=5.0,
    mismatches=(),
)


def test_only_a_run_without_errors_counts() -> None:
    _require_done(RESULT)
    with pytest.raises(RtlError, match=r"^status must be 0x1 \(done\) after a run, not 0x11$"):
        _require_done(replace(RESULT, status=0x11))


def test_one_counter_or_logit_that_differs_is_a_failure() -> None:
    lowered = lower_hgrn(SMALL, MACHINE)
    run = simulate(MACHINE, lowered.step, program_address=lowered.step_address)
    same = replace(RESULT, counters=run.counters)
    assert different_counters(run, same) == {}
    counters = list(run.counters)
    counters[Counter.CYCLES] += 1
    counters[-1] += 1
    wanted = {"cycles": (run.cycles, run.cycles + 1), counter_name(COUNTERS - 1): (0, 1)}
    found = different_counters(run, replace(RESULT, counters=tuple(counters)))
    assert found == wanted
    good = Token(result=same, logits=np.zeros(3, np.int64), wrong=0, counters={})
    assert Text(load=same, load_counters={}, tokens=(good,)).passed
    assert not Text(load=same, load_counters=found, tokens=(good,)).passed
    for bad in (replace(good, wrong=1), replace(good, counters=found)):
        assert not Text(load=same, load_counters={}, tokens=(good, bad)).passed


def test_jobs_are_a_load_and_a_step_a_token() -> None:
    model = model_of(SMALL)
    lowered = lower_hgrn(SMALL, MACHINE, model.shifts)
    jobs, logits = text_jobs(lowered, model, [4, 1, 4])
    assert [job.program.name for job in jobs] == ["load", "step", "step", "step"]
    assert [job.expected.keys() for job in jobs] == [set(), *[{"logits"}] * 3]
    assert jobs[1].image == jobs[3].image == hgrn_step_image(lowered, model, 4)
    assert (logits[0] != logits[2]).any()


def test_a_step_carries_the_weights_only_where_they_stream() -> None:
    model = model_of(SMALL)
    sizes = []
    for arch in (MACHINE, RING):
        arch = replace(arch, array=replace(arch.array, weight_words=max(64, arch.array.weight_words)))
        lowered = lower_hgrn(SMALL, arch, model.shifts)
        jobs, _ = text_jobs(lowered, model, [0])
        sizes.append((len(jobs[1].image), len(jobs[0].image)))
    assert sizes[0][0] < sizes[0][1]
    assert sizes[1][0] == sizes[1][1]
