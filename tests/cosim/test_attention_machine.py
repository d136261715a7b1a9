"""The attention machine in Verilator: bits of the oracle, cycles and counters of the simulators."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from archsim import Architecture, attention_tiling, load_architecture, lower, plan
from archsim._architecture import Memory
from archsim._attention_plan import AttentionPlan
from archsim._counters import STALL_BASE, Counter
from archsim._isa import Opcode
from archsim._naive import simulate_naive
from archsim._program import Instruction, Program
from archsim._simulate import simulate
from rtl._check import Checked, Run, cosim
from rtl._cosim import run_jobs
from rtl._design_cache import build_cached
from tests.cosim.attention_programs import RandomAttention, attention_machine
from tests.cosim.programs import HALT, Case
from workloads import Cascade, quantise_attention, quantise_tensor, tensor_shapes
from workloads._attention import grouped_query_one_pass, three_pass

pytestmark = pytest.mark.cosim

SLOW = Memory(read_latency=40, read_interval=3, write_latency=9, write_interval=2)
PROGRAMS = 16
ILLEGAL = 1 | 1 << 5
"""Status of a run that met an illegal instruction."""

LENGTHS = (16, 20, 64, 128, 256)
FEATURES = (16, 32, 64)
STALLS = 3


@pytest.mark.parametrize("name", ["3x5", "fusemax-4x4"])
def test_random_programs_equal_plain_integers_and_both_simulators(name: str) -> None:
    arch = attention_machine(3, 5) if name == "3x5" else load_architecture(name)
    archs = [arch, replace(arch, memory=SLOW)]
    runs = [(RandomAttention(archs[seed % 2], seed).case(), archs[seed % 2]) for seed in range(PROGRAMS)]
    stalled = [case.job(arch, stall_seed=seed) for seed, (case, arch) in enumerate(runs[:4])]
    results = run_jobs(build_cached(arch), [*(case.job(arch) for case, arch in runs), *stalled])
    for (case, arch), result in zip(runs, results, strict=False):
        address = case.job(arch).program_address
        simulated = simulate(arch, case.program, program_address=address, check_conflicts=True)
        assert (simulated.cycles, simulated.counters) == simulate_naive(
            arch, case.program, program_address=address
        )
        assert result.mismatches == ()
        assert result.status == 1
        assert (result.cycles, result.counters) == (simulated.cycles, simulated.counters)
    for calm, late in zip(results[:4], results[PROGRAMS:], strict=True):
        assert late.mismatches == ()
        assert late.cycles > calm.cycles
        assert late.counters[1:STALL_BASE] == calm.counters[1:STALL_BASE]


def test_instructions_of_the_dense_kind_are_illegal() -> None:
    arch = attention_machine(3, 5)
    opcodes = (Opcode.MATMUL, Opcode.VECTOR, Opcode.TABLE)
    programs = [Program(opcode.name, (Instruction(opcode), HALT)) for opcode in opcodes]
    jobs = [Case(program, {}, {}).job(arch) for program in programs]
    results = run_jobs(build_cached(arch), jobs, driver="bare")
    assert [result.status for result in results] == [ILLEGAL] * len(opcodes)


def head(arch: Architecture, cascade: Cascade, *, seed: int, stall_seed: int | None = None) -> Run:
    """``cascade`` on ``arch`` with normal inputs; with odd seeds, later keys are larger.

    Then maxima rise to the last tile, and everything made before is rescaled.
    """
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(cascade)
    sample = {name: rng.normal(size=shapes[name]) for name in ("Q", "K", "V")}
    sample["Q"] /= math.sqrt(cascade.ranks["e"])
    if seed % 2:
        keys = shapes["K"][-2:] if "m1" in cascade.ranks else shapes["K"][-1:]
        sample["K"] *= np.linspace(0.1, 1, math.prod(keys)).reshape(keys)
    quantised = quantise_attention(cascade, {}, [sample], tile=arch.array.rows)
    (item,) = plan(cascade, arch).plans
    assert isinstance(item, AttentionPlan)
    lowered = lower(cascade, arch, (attention_tiling(item, arch),), quantised=quantised)
    inputs = {name: quantise_tensor(values, quantised.scales[name]) for name, values in sample.items()}
    return Run(lowered=lowered, inputs=inputs, stall_seed=stall_seed)


def random_cascades(arch: Architecture, count: int) -> list[Cascade]:
    """Odd numbers of queries, keys and features; heads that share keys."""
    rng = np.random.default_rng((arch.array.rows, count))
    found = []
    for _ in range(count):
        p, m, d = (int(rng.integers(1, most)) for most in (40, 60, 40))
        found.append(three_pass(p=p, m=m, e=d, f=d))
        h, g, m1 = (int(n) for n in rng.integers(1, 4, size=3))
        found.append(grouped_query_one_pass(h=h, g=g, p=p, m1=m1, m0=arch.array.rows, e=d, f=d))
    return found


def check_actions(arch: Architecture, cascade: Cascade, checked: Checked) -> None:
    """The hardware's counters against the tiles and blocks that the shape has."""
    ranks = cascade.ranks
    keys, d = ranks["m"], ranks["e"]
    blocks = -(-ranks["p"] // arch.array.cols)
    tiles = blocks * -(-keys // arch.array.rows)
    count = checked.result.counter
    assert count(Counter.ARRAY_ROWS) == 2 * d * tiles
    assert count(Counter.ARRAY_WEIGHT_ROWS) == d * tiles
    assert count(Counter.ARRAY_SPECIAL) == 9 * tiles
    assert count(Counter.VECTOR_SLOTS) == (2 * d + 10) * tiles + d * blocks
    assert count(Counter.ACCUMULATOR_READS) == d * (tiles + blocks)
    assert count(Counter.ACCUMULATOR_WRITES) == d * tiles
    assert count(Counter.SCRATCHPAD_READS) == 3 * d * tiles
    assert count(Counter.SCRATCHPAD_WRITES) == d * blocks
    assert checked.result.cycles >= (2 * d + 10) * tiles


def utilisation(checked: Checked) -> float:
    """Of the 2D array, by the hardware's own counters."""
    count = checked.result.counter
    return (count(Counter.ARRAY_ROWS) + count(Counter.ARRAY_SPECIAL)) / count(Counter.CYCLES)


def check_utilisation(found: Sequence[float], d: int) -> None:
    """It rises with length, to 0.95 of what the lanes' operations leave it."""
    assert all(shorter < longer for shorter, longer in itertools.pairwise(found))
    assert found[-1] >= 0.95 * (2 * d + 9) / (2 * d + 10)


@pytest.mark.parametrize("name", ["fusemax-4x4", "fusemax-8x8", "fusemax-16x16"])
def test_heads_equal_the_oracle_and_the_simulator(name: str) -> None:
    arch = load_architecture(name)
    shapes = [(n, d) for d in FEATURES for n in LENGTHS]
    heads = [three_pass(p=n, m=n, e=d, f=d) for n, d in shapes]
    cascades = [*heads, *random_cascades(arch, 4)]
    runs = [head(arch, cascade, seed=seed) for seed, cascade in enumerate(cascades)]
    runs += [head(arch, heads[i], seed=i, stall_seed=i) for i in range(STALLS)]
    results = cosim(build_cached(arch), runs)
    assert len(results) == len(runs)
    for checked in results:
        assert checked.passed, (checked.differences, checked.counters, checked.untimely)
        assert checked.compared > 0
    for cascade, checked in zip(heads, results, strict=False):
        check_actions(arch, cascade, checked)
    for i, d in enumerate(FEATURES):
        own = results[i * len(LENGTHS) : (i + 1) * len(LENGTHS)]
        check_utilisation([utilisation(checked) for checked in own], d)
    for calm, late in zip(results[:STALLS], results[-STALLS:], strict=True):
        assert late.result.cycles > calm.result.cycles
