"""Random attentions on random attention machines: bits, cycles and counts, each by two opinions."""

from __future__ import annotations

from collections import Counter as Tally

import numpy as np
import pytest

from archsim._account import CONTROL
from archsim._breakdown import breakdown
from archsim._counters import Counter
from archsim._energy_file import load_energy_table
from archsim._estimate import bound, estimate
from archsim._execute import execute
from archsim._image import image, tensors_of
from archsim._levels import timed
from archsim._lower import Lowered, lower
from archsim._naive import simulate_naive
from archsim._simulate import simulate
from tests.cosim.attention_programs import RandomAttention, attention_machine
from tests.cosim.random_attention import Drawn, random_attention, random_program
from workloads import evaluate_quantised

TABLE = load_energy_table("45nm")
SEEDS = 60
STEPPED = 25
"""Runs that are also stepped clock by clock."""


def lowered(drawn: Drawn) -> Lowered:
    return lower(drawn.cascade, drawn.arch, [drawn.tiling], quantised=drawn.quantised)


def test_programs_compute_the_oracles_bits() -> None:
    modes = Tally[str]()
    for seed in range(SEEDS):
        drawn = random_attention(seed)
        modes[drawn.mode] += 1
        made = lowered(drawn)
        memory = execute(drawn.arch, made.program, image(made, drawn.arch, drawn.inputs))
        found = tensors_of(made, drawn.arch, memory)
        wanted = evaluate_quantised(drawn.quantised, drawn.inputs)
        assert found.keys() == wanted.keys() == {"AV"}
        assert np.array_equal(found["AV"], wanted["AV"]), f"seed {seed}: {drawn}"
    assert len(modes) >= 10, modes


@pytest.mark.parametrize(("rows", "cols"), [(3, 5), (4, 4), (8, 2)])
def test_instructions_compute_what_plain_integers_do(rows: int, cols: int) -> None:
    arch = attention_machine(rows, cols)
    for seed in range(6):
        case = RandomAttention(arch, seed).case()
        job = case.job(arch)
        memory = execute(arch, case.program, job.image)
        region = next(region for region in case.program.regions if region.tensor == "target")
        wanted = case.expected["target"]
        assert memory[region.address : region.address + len(wanted)] == wanted, f"seed {seed}"


def test_every_cycle_of_a_run_has_a_cause() -> None:
    for seed in range(STEPPED):
        drawn = random_attention(seed)
        made = lowered(drawn)
        run = simulate(drawn.arch, made.program, program_address=made.program_address)
        found = breakdown(drawn.arch, made.program, program_address=made.program_address)
        assert sum(share.cycles for share in found.shares) == run.cycles, f"seed {seed}"
        assert found.busy == run.counter(Counter.ARRAY_BUSY), f"seed {seed}"


def test_skipped_plain_and_stepped_runs_agree() -> None:
    for seed in range(SEEDS):
        drawn = random_attention(seed)
        made = lowered(drawn)
        arch, program, place = drawn.arch, made.program, made.program_address
        run = simulate(arch, program, program_address=place)
        assert run == simulate(arch, program, plain=True, program_address=place), f"seed {seed}"
        simulate(arch, program, check_conflicts=True, program_address=place)
        if seed < STEPPED:
            stepped = simulate_naive(arch, program, program_address=place)
            assert stepped == (run.cycles, run.counters), f"seed {seed}: {drawn}"


def test_instructions_at_random_take_the_same_cycles() -> None:
    for seed in range(STEPPED):
        arch, program = random_program(seed)
        run = simulate(arch, program)
        assert run == simulate(arch, program, plain=True), f"seed {seed}"
        assert simulate_naive(arch, program) == (run.cycles, run.counters), f"seed {seed}:\n{program}"


def test_levels_are_ordered_and_count_alike() -> None:
    for seed in range(SEEDS):
        drawn = random_attention(seed)
        made, where = lowered(drawn), f"seed {seed}: {drawn}"
        run = simulate(drawn.arch, made.program, program_address=made.program_address)
        length = len(made.program.instructions)
        predicted = estimate(drawn.cascade, drawn.arch, [drawn.tiling], TABLE, instructions=length)
        simulated = timed(drawn.cascade, made, drawn.arch, TABLE, run)
        assert bound(drawn.cascade, drawn.arch, TABLE).cycles <= predicted.cycles <= run.cycles, where
        counted = {
            c.name: (predicted.counters[c.name.lower()], run.counters[c]) for c in Counter if c not in CONTROL
        }
        assert {name: pair for name, pair in counted.items() if pair[0] != pair[1]} == {}, where
        assert predicted.actions == simulated.actions, where
        assert predicted.bytes == simulated.bytes, where
