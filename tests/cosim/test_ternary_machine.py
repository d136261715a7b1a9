"""Ternary machines in Verilator: bits equal the interpreter's, cycles and counters the simulator's."""

from __future__ import annotations

import pytest

from archsim._architecture import Architecture, Memory
from archsim._counters import STALL_BASE
from archsim._execute import Memories, execute, power_on
from archsim._naive import simulate_naive
from archsim._simulate import simulate
from rtl._build import build
from rtl._cosim import run_jobs
from rtl._jobs import Job, memory_image
from tests.cosim.random_ternary import Machine, ternary_machine
from tests.cosim.ternary_products import TernaryProduct

pytestmark = pytest.mark.cosim

SLOW = Memory(read_latency=40, read_interval=3, write_latency=9, write_interval=2)
SHAPES = [
    (4, 4, 3, 4),
    (6, 5, 1, 16),
    (16, 8, 3, 8),
    pytest.param(16, 8, 1, 4, marks=pytest.mark.slow),
    pytest.param(7, 2, 3, 32, marks=pytest.mark.slow),
    pytest.param(1, 1, 1, 4, marks=pytest.mark.slow),
    pytest.param(20, 20, 1, 16, marks=pytest.mark.slow),
]


def check(arch: Architecture, job: Job, found: bytes, memories: Memories) -> None:
    """Every byte of memory after the run is the interpreter's; ``memories`` go on from run to run."""
    before = memory_image(job)
    assert execute(arch, job.program, before, memories=memories) == found != before


@pytest.mark.parametrize(("rows", "cols", "group", "bus_bytes"), SHAPES)
def test_the_machine(rows: int, cols: int, group: int, bus_bytes: int) -> None:
    """Products by weights that are there from the start, then in a ring; random programs; stalls."""
    archs = [
        ternary_machine(rows, cols, group=group, bus_bytes=bus_bytes, memory=memory)
        for memory in (Memory(), SLOW)
    ]
    resident = TernaryProduct(archs[0], 1, seed=5, resident=True)
    products = [resident, *(TernaryProduct(arch, blocks) for arch in archs for blocks in (1, 5))]
    runs = [(product.arch, product.job()) for product in products]
    runs += [(arch, Machine(arch, seed).job()) for arch in archs for seed in range(5)]
    stalled = [TernaryProduct(archs[0], 5).job(stall_seed=7)]
    stalled += [Machine(archs[0], seed).job(stall_seed=seed) for seed in range(2)]
    design = build(archs[0], weights=resident.packed)
    results = run_jobs(design, [*(job for _, job in runs), *stalled], driver="bare")
    for product, result in zip(products, results, strict=False):
        assert (product.results(result.image) == product.expected()).all()
    memories = power_on(archs[0], weights=resident.packed)
    for (arch, job), result in zip(runs, results, strict=False):
        timed = simulate(arch, job.program, program_address=job.program_address, check_conflicts=True)
        cycles, counters = simulate_naive(arch, job.program, program_address=job.program_address)
        assert (result.cycles, result.counters) == (timed.cycles, timed.counters) == (cycles, counters)
        assert result.status == 1
        check(arch, job, result.image, memories)
    twins = [results[len(products) - 3], *results[len(products) :]]
    for calm, job, result in zip(twins, stalled, results[len(runs) :], strict=False):
        check(archs[0], job, result.image, memories)
        assert result.cycles > calm.cycles
        assert result.counters[1:STALL_BASE] == calm.counters[1:STALL_BASE]
