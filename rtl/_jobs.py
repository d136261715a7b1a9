"""Jobs of a test bench: what is asked of it, in its mailbox's operations, and what it answers."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType

import numpy as np

from archsim._architecture import Memory
from archsim._counters import COUNTER_ADDRESS, COUNTERS, Counter
from archsim._isa import INSTRUCTION_BYTES
from archsim._lower_memory import PAGE_BYTES
from archsim._program import Program, Region
from rtl._errors import RtlError

# How the process that runs the jobs tells the cocotb tests inside the simulator about them.
FOLDER_VARIABLE = "ARCHSIM_BENCH_FOLDER"
JOBS_VARIABLE = "ARCHSIM_BENCH_JOBS"
JUDGE_VARIABLE = "ARCHSIM_BENCH_JUDGE"

DEFAULT_LIMIT_CYCLES = 100_000_000
NEVER = -1
"""In place of a cycle: in none."""
_SEEDS = 2**32 - 1


class Operation(IntEnum):
    """Operations of the harness's mailbox, each with two 64-bit arguments."""

    RESET = 0
    LOAD = 1
    """Read the memory image of the job named by the first argument from its file."""
    CONFIGURE = 2
    """Set the Setting named by the first argument to the second."""
    WRITE = 3
    """Write the register at the first argument."""
    READ = 4
    WAIT = 5
    """Until the interrupt, or as many cycles as the first argument."""
    DUMP = 6
    """Write the range of memory that the core has written, and when it did, to the job's files."""
    VIOLATIONS = 7
    """Count the broken AXI rules."""


class Setting(IntEnum):
    """Run-time settings of the memory model."""

    IMAGE_BYTES = 0
    READ_LATENCY = 1
    READ_INTERVAL = 2
    WRITE_LATENCY = 3
    WRITE_INTERVAL = 4
    STALL_SEED = 5
    ERROR_FIRST = 6
    ERROR_LAST = 7


class Register(IntEnum):
    """Addresses in the core's register map."""

    CONTROL = 0x00
    STATUS = 0x04
    IRQ_ENABLE = 0x08
    PROGRAM_ADDRESS = 0x0C
    PROGRAM_LENGTH = 0x10
    VERSION = 0x14


@dataclass(frozen=True, slots=True)
class Step:
    """One operation with its arguments."""

    operation: Operation
    first: int = 0
    second: int = 0

    def __str__(self) -> str:
        return f"{self.operation:d} {self.first} {self.second}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation gave, and how long it took."""

    value: int
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of one program on one memory image."""

    program: Program
    image: bytes
    """Memory before the run: tensors at their regions, zero elsewhere. The encoded program is put in."""
    program_address: int
    encoded: bytes
    """The program as the sequencer fetches it."""
    memory: Memory
    stall_seed: int | None = None
    """Random stalls on every channel; None for none."""
    error_range: tuple[int, int] | None = None
    """First and last byte address that answer with an error."""
    limit_cycles: int = DEFAULT_LIMIT_CYCLES
    """Where a run counts as hung."""
    expected: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    """Bytes that regions of the program, by tensor name, must hold afterwards."""
    expected_cycles: int | None = None
    expected_written_at: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """What ``RunResult.written_at`` must be; not compared where empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What the hardware did with a job."""

    cycles: int
    """The core's own count."""
    counters: tuple[int, ...]
    """In register-map order, the stalls after the named ones."""
    status: int
    image: bytes
    """Memory after the run."""
    wall_s: float
    simulated_hz: float
    mismatches: tuple[str, ...]
    """Where the run differs from what the job expected, one sentence each."""
    written_at: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """The cycle of the last data beat written to each region, by tensor; regions never written are not here.

    Cycles are numbered as in ``docs/machine.md``. A page of memory has one such cycle, so that regions
    which share a page share it.
    """

    def counter(self, which: Counter) -> int:
        """Value of one named counter."""
        return self.counters[which]


def memory_image(job: Job) -> bytes:
    """Memory before the run, the program included."""
    if job.program_address < 0 or job.program_address % INSTRUCTION_BYTES:
        wanted = f"a multiple of {INSTRUCTION_BYTES}"
        raise RtlError(f"program_address must be {wanted}, not {job.program_address!r}")
    end = job.program_address + len(job.encoded)
    image = bytearray(max(len(job.image), end))
    image[: len(job.image)] = job.image
    image[job.program_address : end] = job.encoded
    return bytes(image)


def script(job: Job, *, number: int) -> tuple[Step, ...]:
    """Operations that run ``job`` and read all of its results."""
    return (*prepare(job, number=number), *_start(job), *_collect(number))


def prepare(job: Job, *, number: int) -> Iterator[Step]:
    """Configure the memory model, reset the core and load the image from the file of ``number``."""
    for setting, value in _settings(job).items():
        yield Step(Operation.CONFIGURE, setting, value)
    yield Step(Operation.RESET)
    yield Step(Operation.LOAD, number)


def _settings(job: Job) -> dict[Setting, int]:
    memory = job.memory
    for name in ("read_latency", "read_interval", "write_latency", "write_interval"):
        if not 1 <= getattr(memory, name) < 2**31:
            raise RtlError(f"{name} must be from 1 to 2147483647, not {getattr(memory, name)!r}")
    # An empty range of addresses answers no error.
    first, last = job.error_range or (2**32 - 1, 0)
    return {
        Setting.IMAGE_BYTES: len(memory_image(job)),
        Setting.READ_LATENCY: memory.read_latency,
        Setting.READ_INTERVAL: memory.read_interval,
        Setting.WRITE_LATENCY: memory.write_latency,
        Setting.WRITE_INTERVAL: memory.write_interval,
        Setting.STALL_SEED: 0 if job.stall_seed is None else 1 + job.stall_seed % _SEEDS,
        Setting.ERROR_FIRST: first,
        Setting.ERROR_LAST: last,
    }


def _start(job: Job) -> Iterator[Step]:
    yield Step(Operation.WRITE, Register.PROGRAM_ADDRESS, job.program_address)
    yield Step(Operation.WRITE, Register.PROGRAM_LENGTH, len(job.encoded) // INSTRUCTION_BYTES)
    yield Step(Operation.WRITE, Register.IRQ_ENABLE, 1)
    yield Step(Operation.WRITE, Register.CONTROL, 1)
    yield Step(Operation.WAIT, job.limit_cycles)


def _collect(number: int) -> Iterator[Step]:
    yield Step(Operation.READ, Register.STATUS)
    for word in range(2 * COUNTERS):
        yield Step(Operation.READ, COUNTER_ADDRESS + 4 * word)
    yield Step(Operation.DUMP, number)
    yield Step(Operation.VIOLATIONS)


@dataclass(frozen=True, slots=True)
class Widths:
    """Widths of the machine under test that the files of a job depend on."""

    bus_bytes: int
    word_bytes: int


def write_job(folder: Path, number: int, *, job: Job, steps: Sequence[Step], widths: Widths) -> None:
    """Write the files that a driver and the harness read for job ``number``."""
    bus_bytes = widths.bus_bytes
    image = memory_image(job)
    padded = image + bytes(-len(image) % bus_bytes)
    # $fread puts the first byte of a word at its most significant end; AXI wants it at the other.
    words = np.frombuffer(padded, np.uint8).reshape(-1, bus_bytes)[:, ::-1]
    (folder / f"{number}.image").write_bytes(words.tobytes())
    (folder / f"{number}.script").write_text("".join(f"{step}\n" for step in steps))
    # Read-only mappings cannot be pickled, and of the program only its regions are judged.
    parts = {each.name: getattr(job, each.name) for each in fields(Job)}
    parts |= {"program": (job.program.name, job.program.regions), "expected": dict(job.expected)}
    parts |= {"expected_written_at": dict(job.expected_written_at)}
    (folder / f"{number}.job").write_bytes(pickle.dumps((parts, widths)))


def read_job(folder: Path, number: int) -> tuple[Job, Widths]:
    """What :func:`write_job` wrote: the job, its program stripped to its name and regions."""
    # The file is this process' own, or its parent's, in a folder that only they write.
    parts, widths = pickle.loads((folder / f"{number}.job").read_bytes())  # noqa: S301
    assert isinstance(widths, Widths)
    name, regions = parts.pop("program")
    return Job(program=Program(name, (), regions), **parts), widths


def read_steps(folder: Path, number: int) -> tuple[Step, ...]:
    """The operations of job ``number``."""
    lines = (folder / f"{number}.script").read_text().splitlines()
    numbers = (tuple(map(int, line.split())) for line in lines)
    return tuple(Step(Operation(operation), first, second) for operation, first, second in numbers)


def read_answers(folder: Path, number: int) -> tuple[Answer, ...]:
    """The answers of job ``number``, in the order of its operations."""
    lines = (folder / f"{number}.answers").read_text().splitlines()
    numbers = (tuple(map(int, line.split())) for line in lines)
    return tuple(Answer(value, nanoseconds * 1e-9) for value, nanoseconds in numbers)


def write_answers(folder: Path, number: int, answers: Sequence[Answer]) -> None:
    """Write what :func:`read_answers` reads."""
    lines = (f"{answer.value} {round(answer.wall_s * 1e9)}\n" for answer in answers)
    (folder / f"{number}.answers").write_text("".join(lines))


def read_memory(folder: Path, number: int, *, before: bytes, written: int, bus_bytes: int) -> bytes:
    """Memory after job ``number``: ``before`` with the range ``written`` (end and first) replaced.

    The dump is in 32-bit words, so that a bus of fewer bytes leaves gaps.
    """
    first, end = written & 0xFFFFFFFF, written >> 32
    if end <= first:
        return before
    raw = np.frombuffer((folder / f"{number}.written").read_bytes(), np.uint8)
    data = raw.reshape(-1, max(bus_bytes, 4))[:, :bus_bytes].tobytes()
    return (before[:first] + data + before[end:])[: len(before)]


def read_pages(folder: Path, number: int) -> dict[int, int]:
    """Page of memory -> the cycle of the last data beat that job ``number`` wrote there."""
    lines = (folder / f"{number}.pages").read_text().splitlines()
    return {int(page): int(cycle) for page, cycle in (line.split() for line in lines)}


def region_cycles(regions: Sequence[Region], pages: Mapping[int, int]) -> dict[str, int]:
    """The last cycle of the pages that each region lies on; none for a region of pages never written."""
    found = {}
    for region in regions:
        first, end = region.address // PAGE_BYTES, -(-(region.address + region.size_bytes) // PAGE_BYTES)
        cycles = [pages[page] for page in range(first, end) if page in pages]
        if cycles:
            found[region.tensor] = max(cycles)
    return found


def check_run(folder: Path, number: int, steps: Sequence[Step], answers: Sequence[Answer]) -> tuple[str, ...]:
    """Reasons why job ``number`` cannot be believed: a hang, or AXI rules that were broken."""
    complaints = []
    for step, answer in zip(steps, answers, strict=True):
        if step.operation is Operation.WAIT and not answer.value & 1:
            complaints.append(f"the run must end within {step.first} cycles, and no interrupt came")
        if step.operation is Operation.VIOLATIONS and answer.value:
            text = (folder / f"{number}.violations").read_text().strip()
            complaints.append(f"AXI rules must hold, and {answer.value} times one did not:\n{text}")
    return tuple(complaints)


def run_result(folder: Path, number: int) -> RunResult:
    """Read back job ``number`` from the files that the driver and the harness left.

    Raises: RtlError when the run hung or broke an AXI rule.
    """
    job, widths = read_job(folder, number)
    answers = read_answers(folder, number)
    steps = read_steps(folder, number)
    complaints = check_run(folder, number, steps, answers)
    if complaints:
        raise RtlError(f"job {number}, {job.program.name}: " + "; ".join(complaints))
    values = dict(zip(steps, answers, strict=True))
    words = [values[Step(Operation.READ, COUNTER_ADDRESS + 4 * word)].value for word in range(2 * COUNTERS)]
    counters = tuple(low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True))
    wait = values[Step(Operation.WAIT, job.limit_cycles)]
    written = values[Step(Operation.DUMP, number)].value
    image = read_memory(folder, number, before=memory_image(job), written=written, bus_bytes=widths.bus_bytes)
    written_at = region_cycles(job.program.regions, read_pages(folder, number))
    cycles = counters[Counter.CYCLES]
    different = mismatches(job, image, cycles=cycles, word_bytes=widths.word_bytes)
    return RunResult(
        cycles=cycles,
        counters=counters,
        status=values[Step(Operation.READ, Register.STATUS)].value,
        image=image,
        wall_s=wait.wall_s,
        simulated_hz=(wait.value >> 1) / max(wait.wall_s, 1e-9),
        mismatches=(*different, *untimely(job.expected_written_at, written_at)),
        written_at=written_at,
    )


def mismatches(job: Job, image: bytes, *, cycles: int, word_bytes: int) -> tuple[str, ...]:
    """Where a run's memory and cycles differ from what ``job`` expected, one sentence a tensor."""
    found = []
    if job.expected_cycles is not None and cycles != job.expected_cycles:
        found.append(f"cycles: expected {job.expected_cycles}, got {cycles}")
    regions = {region.tensor: region for region in job.program.regions}
    for tensor, wanted in job.expected.items():
        if tensor not in regions:
            raise RtlError(f"expected must name regions of the program, not {tensor!r}")
        found += tensor_mismatch(regions[tensor], image, wanted, word_bytes=word_bytes)
    return tuple(found)


def untimely(expected: Mapping[str, int], got: Mapping[str, int]) -> tuple[str, ...]:
    """Where tensors were complete in another cycle than expected, one sentence each."""
    return tuple(
        f"{tensor}: last byte expected in cycle {wanted}, got {cycle}"
        for tensor, (wanted, cycle) in beside(expected, got).items()
        if wanted != cycle and expected
    )


def beside(expected: Mapping[str, int], got: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Tensor -> (expected, got) for the tensors of either, ``NEVER`` where one does not have it."""
    names = dict.fromkeys((*expected, *got))
    return {name: (expected.get(name, NEVER), got.get(name, NEVER)) for name in names}


def tensor_mismatch(region: Region, image: bytes, wanted: bytes, *, word_bytes: int) -> list[str]:
    """At most one sentence: the first differing element of ``region``, and how many differ.

    Rows that only fill the last bus beat are not compared: nothing reads them.
    """
    if len(wanted) != region.size_bytes:
        raise RtlError(f"expected[{region.tensor!r}] must be {region.size_bytes} bytes, not {len(wanted)!r}")
    got = np.frombuffer(image[region.address : region.address + region.size_bytes], np.int8)
    expected = np.frombuffer(wanted, np.int8)
    rows = np.arange(got.size) // word_bytes % region.rows
    differing = np.flatnonzero((got != expected) & (rows < (region.valid_rows or region.rows)))
    if not differing.size:
        return []
    at = int(differing[0])
    panel, row, lane = at // (region.rows * word_bytes), at // word_bytes % region.rows, at % word_bytes
    place = f"{region.tensor}[{row}, {panel * region.group + lane}] (panel {panel}, row {row}, lane {lane})"
    return [f"{place}: expected {expected[at]}, got {got[at]}; {differing.size} of {got.size} bytes differ"]
