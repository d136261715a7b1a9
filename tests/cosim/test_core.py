"""The generated core in Verilator: bits equal the programs' own closed forms, cycles the simulator's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from archsim._architecture import Architecture, Memory
from archsim._counters import STALL_BASE
from archsim._naive import simulate_naive
from archsim._simulate import simulate
from rtl._build import Design, build
from rtl._cosim import Driver, run_jobs
from rtl._errors import RtlError
from rtl._jobs import Job
from tests.cosim.programs import Case, Product, copy_case, machine

pytestmark = pytest.mark.cosim

MACHINES = [(1, 1, 4), (3, 5, 16), (8, 8, 8)]
SLOW = Memory(read_latency=40, read_interval=3, write_latency=9, write_interval=2)


def cases(arch: Architecture) -> list[Case]:
    """Copies of one beat, of several bursts and across a page; products of one and of several tiles."""
    word_beats = max(1, arch.word_bytes // arch.bus.bytes)
    copies = [copy_case(arch, beats=word_beats), copy_case(arch, beats=40)]
    copies.append(copy_case(arch, beats=24, offset=4096 - 8 * max(arch.bus.bytes, arch.word_bytes)))
    products = [Product(arch, rows, k, n).case() for rows, k, n in [(2, 1, 1), (6, 2, 3), (16, 3, 2)]]
    return copies + products


def timed_job(case: Case, arch: Architecture) -> Job:
    """The case's job, with the simulator's cycles as what the hardware must need."""
    job = case.job(arch)
    cycles = simulate(arch, case.program, program_address=job.program_address, check_conflicts=True).cycles
    return case.job(arch, cycles=cycles)


@pytest.mark.parametrize(("rows", "cols", "bus_bytes"), MACHINES)
def test_core_equals_simulator_and_closed_form(rows: int, cols: int, bus_bytes: int, tmp_path: Path) -> None:
    archs = [machine(rows, cols, bus_bytes=bus_bytes, memory=memory) for memory in (Memory(), SLOW)]
    runs = [(case, arch) for arch in archs for case in cases(arch)]
    junit = tmp_path / "results.xml"
    results = run_jobs(build(archs[0]), [timed_job(*run) for run in runs], junit=junit)
    for (case, arch), result in zip(runs, results, strict=True):
        job = case.job(arch)
        cycles, counters = simulate_naive(arch, case.program, program_address=job.program_address)
        assert result.mismatches == ()
        assert (result.cycles, result.counters) == (cycles, counters)
        assert result.status == 1
    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == (str(len(runs)), "0")


def small_machine() -> Architecture:
    return machine(3, 5, bus_bytes=16)


@pytest.fixture(scope="module")
def design() -> Design:
    """The 3x5 machine's hardware."""
    return build(small_machine())


@pytest.mark.parametrize("driver", ["bare", "cocotb"])
def test_random_stalls_change_cycles_and_no_bit(design: Design, driver: Driver) -> None:
    case = Product(small_machine(), 16, 3, 2).case()
    calm, *stalled = run_jobs(
        design, [case.job(small_machine(), stall_seed=seed) for seed in (None, 1, 2, 3, 4, 5)], driver=driver
    )
    for result in stalled:
        assert result.mismatches == ()
        assert result.cycles > calm.cycles
        assert result.image == calm.image
        assert result.counters[1:STALL_BASE] == calm.counters[1:STALL_BASE]


def test_drivers_agree(design: Design) -> None:
    jobs = [case.job(small_machine()) for case in cases(small_machine())]
    bare, cocotb = (run_jobs(design, jobs, driver=driver) for driver in ("bare", "cocotb"))
    assert [(run.counters, run.image, run.status, run.written_at) for run in bare] == [
        (run.counters, run.image, run.status, run.written_at) for run in cocotb
    ]


@pytest.mark.parametrize(("tensor", "bit"), [("source", 2), ("target", 3)])
def test_an_error_response_ends_in_the_status_register(design: Design, tensor: str, bit: int) -> None:
    case = copy_case(small_machine(), beats=40)
    region = next(region for region in case.program.regions if region.tensor == tensor)
    job = replace(
        case.job(small_machine()), error_range=(region.address + 64, region.address + 79), expected={}
    )
    (result,) = run_jobs(design, [job], driver="bare")
    assert result.status == 1 | 1 << bit


def test_one_flipped_bit_is_found_and_fails_the_junit_test(design: Design, tmp_path: Path) -> None:
    case = Product(small_machine(), 6, 2, 3).case()
    wanted = bytearray(case.expected["Y"])
    place = 6 * 8 + 2 * 8 + 4  # panel 1, row 2, lane 4 of words of 8 bytes
    wanted[place] ^= 1
    job = replace(case.job(small_machine()), expected={"Y": bytes(wanted)}, expected_cycles=7)
    junit = tmp_path / "results.xml"
    (result,) = run_jobs(design, [job], junit=junit)
    right = int.from_bytes(case.expected["Y"][place : place + 1], "little", signed=True)
    place_text = "Y[2, 9] (panel 1, row 2, lane 4)"
    assert result.mismatches == (
        f"cycles: expected 7, got {result.cycles}",
        f"{place_text}: expected {right ^ 1}, got {right}; 1 of {len(wanted)} bytes differ",
    )
    assert place_text in junit.read_text()


def test_a_hung_run_ends_with_a_message(design: Design) -> None:
    job = replace(copy_case(small_machine(), beats=40).job(small_machine()), limit_cycles=50)
    message = r"^job 0, copy: the run must end within 50 cycles, and no interrupt came$"
    with pytest.raises(RtlError, match=message):
        run_jobs(design, [job], driver="bare")


def test_bad_requests_are_refused(design: Design, tmp_path: Path) -> None:
    with pytest.raises(
        RtlError, match=r"^trace must be a path that ends in \.vcd or \.fst, not 'waves\.txt'$"
    ):
        run_jobs(design, [], trace=Path("waves.txt"))
    with pytest.raises(RtlError, match=r"^driver must be 'cocotb' for a JUnit file, not 'bare'$"):
        run_jobs(design, [], driver="bare", junit=tmp_path / "results.xml")
