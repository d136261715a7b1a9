"""What is synthesised is what was verified: the mapped netlist gives the source's bits and cycles."""

from __future__ import annotations

import pytest

from archsim._architecture import Architecture, Memory
from archsim._naive import simulate_naive
from rtl._build import build
from rtl._cosim import run_jobs
from rtl._mapping import Flow
from rtl._netlist import netlist_design
from tests.cosim.programs import Product, copy_case, machine

pytestmark = [pytest.mark.cosim, pytest.mark.slow]

SLOW = Memory(read_latency=40, read_interval=3, write_latency=9, write_interval=2)


def machines() -> tuple[Architecture, Architecture]:
    """The 4x4 machine before two memories."""
    quick = machine(4, 4, bus_bytes=8)
    return quick, machine(4, 4, bus_bytes=8, memory=SLOW)


def test_the_mapped_netlist_gives_the_bits_and_cycles_of_the_simulator() -> None:
    archs = machines()
    mapped = netlist_design(build(archs[0]), Flow(family="xc7", block_ram=False))
    assert "DSP48E1" in mapped.verilog
    assert "always @(posedge clk)" not in mapped.verilog.split("endmodule", 1)[0]
    runs = [
        (case, arch)
        for arch in archs
        for case in (copy_case(arch, beats=40), Product(arch, 6, 2, 3).case(), Product(arch, 2, 1, 1).case())
    ]
    results = run_jobs(mapped, [case.job(arch) for case, arch in runs], driver="bare")
    for (case, arch), result in zip(runs, results, strict=True):
        expected = simulate_naive(arch, case.program, program_address=case.job(arch).program_address)
        assert result.mismatches == ()
        assert (result.cycles, result.counters) == expected
        assert result.status == 1
