"""The test bench's memory against the formulas of the machine's contract, through a stand-in core."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from archsim._architecture import Memory
from archsim._program import Program
from rtl._cosim import Driver, Session, play, run_bench
from rtl._errors import RtlError
from rtl._jobs import (
    Answer,
    Job,
    Operation,
    Step,
    Widths,
    prepare,
    read_answers,
    read_pages,
    write_job,
)
from rtl._toolchain import Bench, Waves

pytestmark = pytest.mark.cosim

BUS_BYTES = 16
SOURCE, TARGET, IMAGE_BYTES = 4096, 65536, 1 << 17
LOGS = {"ar": 0x200, "r": 0x400, "aw": 0x600, "w": 0x800, "b": 0xA00}
STATUS = Step(Operation.READ, 4)


@pytest.fixture(scope="session")
def copier() -> Bench:
    """A test bench whose core copies bursts and logs the cycle of each handshake."""
    text = Path(__file__).with_name("copier.v").read_text()
    return Bench(verilog=text, top="copier", bus_bytes=BUS_BYTES)


@dataclass(frozen=True, slots=True)
class Copy:
    """What the copier is asked to do."""

    bursts: int
    beats: int
    target: int = TARGET

    def counts(self) -> dict[str, int]:
        """Handshakes of each channel."""
        return {name: self.bursts * (self.beats if name in ("r", "w") else 1) for name in LOGS}

    def steps(self, job: Job, number: int) -> list[Step]:
        """Operations that run the copy and read all logs."""
        registers = {8: SOURCE, 12: self.target, 16: self.bursts, 20: self.beats, 24: 1, 0: 1}
        steps = list(prepare(job, number=number))
        steps += [Step(Operation.WRITE, register, value) for register, value in registers.items()]
        steps += [Step(Operation.WAIT, job.limit_cycles), STATUS]
        for name, count in self.counts().items():
            steps += [Step(Operation.READ, LOGS[name] + 4 * index) for index in range(count)]
        return [*steps, Step(Operation.DUMP, number), Step(Operation.VIOLATIONS)]

    def logs(self, job: Job, answers: tuple[Answer, ...]) -> dict[str, list[int]]:
        """Cycles of the handshakes, by channel."""
        steps = self.steps(job, 0)
        values = {step: answer.value for step, answer in zip(steps, answers, strict=True)}
        return {
            name: [values[Step(Operation.READ, LOGS[name] + 4 * index)] for index in range(count)]
            for name, count in self.counts().items()
        }


def make_job(memory: Memory) -> Job:
    image = np.random.default_rng(7).integers(0, 256, IMAGE_BYTES, dtype=np.uint8).tobytes()
    return Job(program=Program("copy", ()), image=image, program_address=0, encoded=b"", memory=memory)


def expected_logs(copy: Copy, memory: Memory) -> dict[str, list[int]]:
    """Handshake cycles by the formulas, for a core that is never the one to wait."""
    addresses = list(range(copy.bursts))
    reads: list[int] = []
    for address in addresses:
        for beat in range(copy.beats):
            earliest = [address + memory.read_latency] if beat == 0 else []
            reads.append(max(earliest + ([reads[-1] + memory.read_interval] if reads else [])))
    # The stand-in offers a write address in the cycle after the last beat, and data after that.
    logs: dict[str, list[int]] = {"ar": addresses, "r": reads, "aw": [], "w": [], "b": []}
    ready = reads[-1] + 1
    for _ in addresses:
        logs["aw"].append(ready)
        for beat in range(copy.beats):
            earliest = [ready + 1] if beat == 0 else []
            logs["w"].append(max(earliest + ([logs["w"][-1] + memory.write_interval] if logs["w"] else [])))
        logs["b"].append(logs["w"][-1] + memory.write_latency)
        ready = logs["w"][-1] + 1
    return logs


MEMORIES = [
    Memory(read_latency=rl, read_interval=ri, write_latency=wl, write_interval=wi)
    for (rl, ri), (wl, wi) in product([(1, 1), (2, 3), (40, 1), (7, 2)], [(1, 1), (5, 2), (16, 4), (3, 1)])
]
COPIES = [Copy(1, 1), Copy(1, 16), Copy(4, 5), Copy(13, 3)]


@pytest.mark.parametrize("driver", ["bare", "cocotb"])
def test_handshakes_are_in_the_cycles_of_the_formulas(copier: Bench, driver: Driver) -> None:
    cases = [(copy, memory) for copy in COPIES for memory in MEMORIES]
    jobs = [make_job(memory) for _, memory in cases]
    plays = [
        (job, copy.steps(job, number))
        for number, ((copy, _), job) in enumerate(zip(cases, jobs, strict=True))
    ]
    for (copy, memory), job, answers in zip(
        cases, jobs, play(copier, plays, session=Session(driver=driver, judge=False)), strict=True
    ):
        assert answers[-1].value == 0
        assert copy.logs(job, answers) == expected_logs(copy, memory), (copy, memory)


def run_copy(copier: Bench, copy: Copy, job: Job, *, driver: Driver = "bare") -> tuple[Answer, ...]:
    """Answers of one copy."""
    (answers,) = play(copier, [(job, copy.steps(job, 0))], session=Session(driver=driver, judge=False))
    return answers


def status_of(copy: Copy, job: Job, answers: tuple[Answer, ...]) -> int:
    return answers[copy.steps(job, 0).index(STATUS)].value


def test_random_stalls_only_delay_and_repeat_with_their_seed(copier: Bench) -> None:
    copy, calm = Copy(6, 8), make_job(Memory())
    quiet = copy.logs(calm, run_copy(copier, copy, calm))
    seen = []
    for seed in (1, 2, 2):
        job = replace(calm, stall_seed=seed)
        answers = run_copy(copier, copy, job)
        assert answers[-1].value == 0
        seen.append(copy.logs(job, answers))
    for logs in seen:
        assert all(late >= soon for name in LOGS for late, soon in zip(logs[name], quiet[name], strict=True))
        assert logs["b"][-1] > quiet["b"][-1]
    assert seen[0] != seen[1]
    assert seen[1] == seen[2]


@pytest.mark.parametrize(("first", "status"), [(SOURCE + 100, 0b00101), (TARGET + 100, 0b10001)])
def test_an_address_in_the_error_range_answers_slverr(copier: Bench, first: int, status: int) -> None:
    copy = Copy(2, 8)
    job = replace(make_job(Memory()), error_range=(first - first % BUS_BYTES, first))
    assert status_of(copy, job, run_copy(copier, copy, job)) == status


def test_a_burst_across_a_page_is_reported(copier: Bench) -> None:
    copy, job = Copy(1, 8, target=TARGET + 4096 - 4 * BUS_BYTES), make_job(Memory())
    assert run_copy(copier, copy, job)[-1].value == 1


def test_a_burst_beyond_the_image_is_reported_and_answers_decerr(copier: Bench) -> None:
    copy, job = Copy(1, 8, target=IMAGE_BYTES), make_job(Memory())
    answers = run_copy(copier, copy, job)
    assert answers[-1].value == 1
    assert status_of(copy, job, answers) == 0b11001


def test_each_page_has_the_cycle_of_its_last_beat_in_the_present_run(copier: Bench, tmp_path: Path) -> None:
    # Two bursts end on a page's end and the rest are on the next; the second run is on other pages.
    split = Copy(7, 8, target=TARGET + 4096 - 2 * 8 * BUS_BYTES)
    copies = [split, Copy(1, 8, target=TARGET + 3 * 4096), replace(split, bursts=2)]
    job = make_job(Memory(write_latency=5, write_interval=2))
    for number, copy in enumerate(copies):
        steps = copy.steps(job, number)
        write_job(tmp_path, number, job=job, steps=steps, widths=Widths(BUS_BYTES, BUS_BYTES))
    run_bench(copier, tmp_path, jobs=len(copies), session=Session(driver="bare"))
    beats = [copy.logs(job, read_answers(tmp_path, number))["w"] for number, copy in enumerate(copies)]
    first = TARGET // 4096
    assert [read_pages(tmp_path, number) for number in range(len(copies))] == [
        {first: beats[0][2 * 8 - 1], first + 1: beats[0][-1]},
        {first + 3: beats[1][-1]},
        {first: beats[2][-1]},
    ]


def test_a_beat_that_answers_an_error_is_not_written(copier: Bench, tmp_path: Path) -> None:
    copy, job = Copy(2, 8), replace(make_job(Memory()), error_range=(TARGET, TARGET + 4095))
    write_job(tmp_path, 0, job=job, steps=copy.steps(job, 0), widths=Widths(BUS_BYTES, BUS_BYTES))
    run_bench(copier, tmp_path, jobs=1, session=Session(driver="bare"))
    assert read_pages(tmp_path, 0) == {}


def test_a_trace_is_written_whole(copier: Bench, tmp_path: Path) -> None:
    copy, job, trace = Copy(1, 8), make_job(Memory()), tmp_path / "waves" / "run.vcd"
    bench = replace(copier, waves=Waves.of(trace))
    play(bench, [(job, copy.steps(job, 0))], session=Session(driver="bare", trace=trace))
    text = trace.read_text()
    assert text.count("$enddefinitions") == 1
    assert "m_axi_araddr" in text
    assert list(trace.parent.iterdir()) == [trace]


@pytest.mark.parametrize("name", ["read_latency", "read_interval", "write_latency", "write_interval"])
def test_a_time_of_zero_is_refused(name: str) -> None:
    job = make_job(replace(Memory(), **{name: 0}))
    with pytest.raises(RtlError, match=rf"^{name} must be from 1 to 2147483647, not 0$"):
        list(prepare(job, number=0))
