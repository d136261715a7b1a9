"""What is synthesised is what was verified: the mapped netlist gives the same bits, cycles and counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._architecture import Architecture, Array, Memory
from archsim._counters import STALL_BASE, Counter
from archsim._execute import execute, power_on
from archsim._isa import Opcode, Pre, Source, Space
from archsim._naive import simulate_naive
from archsim._program import Instruction, Operand
from rtl._build import build
from rtl._cosim import run_jobs
from rtl._jobs import memory_image
from rtl._mapping import Flow
from rtl._netlist import netlist_design
from tests.cosim.random_ternary import BANK, Machine, ternary_machine

pytestmark = pytest.mark.cosim

SLOW = Memory(read_latency=40, read_interval=3, write_latency=9, write_interval=2)


class DenseMachine(Machine):
    """Random programs of a machine with int8 weights in the scratchpad and a plain vector unit."""

    def weights(self, first: int, count: int) -> Instruction:
        """A LOAD of ``count`` random scratchpad words behind the third bank's first ``first``."""
        content = self.noise(2 * (count // 2 + 1) * self.arch.word_bytes)
        return self.transfer(
            Opcode.LOAD, self.place(content), 2 * BANK + 2 * (first // 2), len(content), Space.SCRATCHPAD
        )

    def reload(self) -> Instruction:
        """A LOAD of some weights."""
        return self.weights(self.random.randrange(40), self.random.randint(1, 9))

    def matmul(self) -> Instruction:
        """A product of any shape, its streamed words and its weights in a bank each."""
        draw, side = self.random.randint, self.arch.array.rows
        rows, k, n = self.random.choice([1, 2, draw(3, 7)]), draw(1, 3), draw(1, 3)
        fields = {
            "rows": rows,
            "k_chunks": k,
            "n_chunks": n,
            "w_rows": side,
            "transpose": draw(0, 1),
            "x_k_stride": draw(0, 20),
            "w_n_stride": draw(0, 12),
            "w_k_stride": draw(0, 12),
            "acc_n_stride": draw(rows, 9),
            "accumulate": draw(0, 1),
        }
        operands = (Operand(draw(0, 20)), Operand(2 * BANK + draw(0, 20)), Operand(draw(0, 20)))
        return Instruction(Opcode.MATMUL, operands, fields)

    def vector(self) -> Instruction:
        """A pass without what only a gated unit does."""
        gated = super().vector()
        fields = dict(gated.fields) | {"res_buffer": 0, "uniform": 0}
        fields["lookup"] %= 3
        fields["reduce"] %= 5
        if fields["source"] == Source.ACCUMULATOR:
            fields["pre"] = int(Pre.NONE)
        source, destination, _, parameters = gated.operands
        taken = {source.base // BANK, destination.base // BANK}
        residual = Operand(BANK * next(bank for bank in range(4) if bank not in taken))
        return replace(gated, fields=fields, operands=(source, destination, residual, parameters))


def lean(arch: Architecture) -> Architecture:
    """``arch`` with one table, one entry a queue, and a short program memory: each word is look-up tables."""
    return replace(arch, vector=replace(arch.vector, tables=1), program_words=64, queue_depth=1)


def ternary(group: int) -> Architecture:
    """A 6x4 machine: its sides differ, and its word of trits does not fill its bytes."""
    return lean(ternary_machine(6, 4, group=group, bus_bytes=8))


def dense() -> Architecture:
    """A 4x4 machine."""
    base = lean(ternary_machine(4, 4, group=1, bus_bytes=8))
    return replace(base, array=Array(rows=4, cols=4), vector=replace(base.vector, gated=False))


@pytest.mark.parametrize(
    ("arch", "writer"),
    [
        pytest.param(dense(), DenseMachine, id="dense"),
        pytest.param(ternary(1), Machine, id="ternary"),
        pytest.param(ternary(3), Machine, id="ternary-by-threes", marks=pytest.mark.slow),
    ],
)
def test_the_mapped_netlist_is_the_machine(arch: Architecture, writer: type[Machine]) -> None:
    """Random programs, two memories, and random stalls; every cycle, counter and byte."""
    mapped = netlist_design(build(arch), Flow(family="xc7", block_ram=False))
    assert "always @(posedge clk)" in mapped.verilog
    assert "DSP48E1 #(" in mapped.verilog
    slow = replace(arch, memory=SLOW)
    runs = [(each, writer(each, seed).job()) for seed, each in enumerate((arch, slow, arch))]
    stalled = writer(arch, 0).job(stall_seed=3)
    *results, last = run_jobs(mapped, [*(job for _, job in runs), stalled], driver="bare", optimize="-O0")
    memories = power_on(arch)
    for (each, job), result in zip(runs, results, strict=True):
        expected = simulate_naive(each, job.program, program_address=job.program_address)
        assert (result.cycles, result.counters, result.status) == (*expected, 1)
        before = memory_image(job)
        assert execute(each, job.program, before, memories=memories) == result.image != before
    assert execute(arch, stalled.program, memory_image(stalled), memories=memories) == last.image
    assert last.cycles > results[0].cycles
    assert last.counters[1:STALL_BASE] == results[0].counters[1:STALL_BASE]
    busy = {counter for counter in Counter if results[0].counters[counter]}
    assert {Counter.ARRAY_ROWS, Counter.TABLE_READS, Counter.BUFFER_READS} <= busy
