"""A whole board in Verilator: frames on its serial pins load, start and read the core behind them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from archsim._architecture import Architecture, Memory
from archsim._board_file import load_board
from archsim._naive import simulate_naive
from rtl._board import BoardTop
from rtl._board_bench import compile_board, simulated_board
from rtl._build import Design, build
from rtl._jobs import Register
from rtl._link import Link
from rtl._pll import pll_for
from tests.cosim.programs import Case, Product, copy_case, machine

pytestmark = pytest.mark.cosim

SIZE = 1 << 16
SLOW = Memory(read_latency=40, read_interval=3, write_latency=9, write_interval=2)
FAST = Memory(read_latency=3, write_latency=1)


@contextmanager
def board(design: Design, memory: Memory) -> Iterator[tuple[Link, Architecture]]:
    """A link to a board with ``design`` before a memory of other latencies."""
    arch = machine(3, 5, bus_bytes=16, memory=memory)
    ulx3s = load_board("ulx3s-85f")
    # Four cycles a bit are the quickest frames; a real port's rate divides the clock further.
    top = BoardTop(arch, ulx3s, pll=pll_for(ulx3s.clock_mhz, 12.5), size_bytes=SIZE, baud=3_125_000)
    with simulated_board(compile_board(Design(arch=arch, verilog=design.verilog), top), top) as link:
        yield link, arch


@pytest.fixture(scope="module")
def design() -> Design:
    """The 3x5 machine's hardware."""
    return build(machine(3, 5, bus_bytes=16))


def check(link: Link, arch: Architecture, case: Case) -> None:
    """Load ``case``, run it, and compare bits, cycles and counters."""
    job = case.job(arch)
    regions = {region.tensor: region for region in case.program.regions}
    for tensor, content in case.tensors.items():
        link.write_memory(regions[tensor].address, content)
    assert link.run(job.encoded, address=job.program_address) == 1
    for tensor, content in case.expected.items():
        assert link.read_memory(regions[tensor].address, len(content)) == content
    expected = simulate_naive(arch, case.program, program_address=job.program_address)
    counters = link.counters()
    assert (counters[0], counters) == expected


@pytest.mark.parametrize("memory", [Memory(), SLOW, FAST])
def test_a_board_gives_the_bits_and_cycles_of_the_simulator(design: Design, memory: Memory) -> None:
    with board(design, memory) as (link, arch):
        assert link.read_register(Register.VERSION) == 0x00010000
        for case in (copy_case(arch, beats=40), Product(arch, 6, 2, 3).case()):
            check(link, arch, case)


def test_memory_past_the_end_is_not_written_and_sets_the_error_bit(design: Design) -> None:
    with board(design, Memory()) as (link, arch):
        link.write_memory(0, bytes(range(64)))
        link.write_memory(SIZE, bytes(64))
        assert link.read_memory(0, 64) == bytes(range(64))
        job = copy_case(arch, beats=2).job(arch)
        link.write_register(Register.PROGRAM_ADDRESS, SIZE)
        link.write_register(Register.PROGRAM_LENGTH, len(job.encoded) // 64)
        link.write_register(Register.CONTROL, 1)
        assert link.read_register(Register.STATUS) & 0b100
