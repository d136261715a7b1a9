"""Cosimulation: programs run on the generated core in Verilator, under cocotb or a bare C++ driver."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, assert_never

from rtl._build import Design
from rtl._errors import RtlError
from rtl._jobs import (
    FOLDER_VARIABLE,
    JOBS_VARIABLE,
    JUDGE_VARIABLE,
    Answer,
    Job,
    RunResult,
    Step,
    Widths,
    memory_image,
    read_answers,
    run_result,
    script,
    write_job,
)
from rtl._toolchain import DEFAULT_CAPACITY_BYTES, EXECUTABLE, Bench, Waves, compile_bench

Driver = Literal["cocotb", "bare"]
Progress = Callable[[str], None]

_POLL_S = 0.5
_LISTED_LINES = 30
_DRIVERS = ("cocotb", "bare")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One simulator process: how it is driven, and where it leaves what."""

    driver: Driver = "cocotb"
    trace: Path | None = None
    junit: Path | None = None
    judge: bool = True
    """Whether the cocotb tests fail where a job's results are not as it expects."""
    progress: Progress | None = None
    finished: Callable[[int], None] | None = None
    """Told each job's number, in order, soon after it is done and before the last one is."""


def run_jobs(
    design: Design,
    jobs: Sequence[Job],
    *,
    driver: Driver = "cocotb",
    trace: Path | None = None,
    progress: Progress | None = None,
    junit: Path | None = None,
    finished: Callable[[int, RunResult], None] | None = None,
    optimize: str = "-O1",
) -> tuple[RunResult, ...]:
    """Run ``jobs`` one after the other on ``design``, in one simulator process.

    The simulator is compiled on first use and kept on disk. ``trace`` names a .vcd or .fst file of
    all runs, ``junit`` the results file of cocotb's tests, one a job, which fail where a job's results
    are not as it expects. ``finished`` is told each job's number and result, in order, while later ones
    still run. Results come back in any case. ``optimize`` is the C++ compiler's option.

    Raises: RtlError when a run hangs, an AXI rule is broken, or a tool fails.
    """
    widths = Widths(design.arch.bus.bytes, design.arch.word_bytes)
    bench = replace(bench_of(design, jobs, waves=Waves.of(trace)), optimize=optimize)
    with tempfile.TemporaryDirectory(prefix="archsim-cosim-") as name:
        folder = Path(name)
        for number, job in enumerate(jobs):
            write_job(folder, number, job=job, steps=script(job, number=number), widths=widths)
        tell = None if finished is None else lambda number: finished(number, run_result(folder, number))
        session = Session(driver=driver, trace=trace, junit=junit, progress=progress, finished=tell)
        run_bench(bench, folder, jobs=len(jobs), session=session)
        return tuple(run_result(folder, number) for number in range(len(jobs)))


def compile_simulator(design: Design, *, progress: Progress | None = None) -> None:
    """Compile the simulator of ``design`` and keep it, as its first run would."""
    compile_bench(bench_of(design), progress=progress)


def bench_of(design: Design, jobs: Sequence[Job] = (), *, waves: Waves = Waves.NONE) -> Bench:
    """The test bench of ``design`` with memory for the largest of ``jobs``."""
    largest = max((len(memory_image(job)) for job in jobs), default=0)
    capacity = max(DEFAULT_CAPACITY_BYTES, 1 << (largest - 1).bit_length() if largest else 0)
    return Bench(
        verilog=design.verilog,
        top=design.top,
        bus_bytes=design.arch.bus.bytes,
        capacity_bytes=capacity,
        waves=waves,
    )


def play(
    bench: Bench, jobs: Sequence[tuple[Job, Sequence[Step]]], *, session: Session
) -> list[tuple[Answer, ...]]:
    """Answers to operations of one's own choice, for tests of the test bench itself."""
    with tempfile.TemporaryDirectory(prefix="archsim-cosim-") as name:
        folder = Path(name)
        for number, (job, steps) in enumerate(jobs):
            write_job(folder, number, job=job, steps=steps, widths=Widths(bench.bus_bytes, bench.bus_bytes))
        run_bench(bench, folder, jobs=len(jobs), session=session)
        return [read_answers(folder, number) for number in range(len(jobs))]


def run_bench(bench: Bench, folder: Path, *, jobs: int, session: Session) -> None:
    """Run the jobs whose files are in ``folder``, and leave their answers there."""
    if session.driver not in _DRIVERS:
        raise RtlError(f"driver must be one of {_DRIVERS}, not {session.driver!r}")
    if session.junit and session.driver != "cocotb":
        raise RtlError(f"driver must be 'cocotb' for a JUnit file, not {session.driver!r}")
    compiled = compile_bench(bench, progress=session.progress)
    with ThreadPoolExecutor(max_workers=1) as pool:
        match session.driver:
            case "cocotb":
                future = pool.submit(_run_cocotb, compiled, folder, jobs=jobs, session=session)
            case "bare":
                future = pool.submit(_run_bare, compiled, folder, jobs=jobs, session=session)
            case _:
                assert_never(session.driver)
        told = _follow(future, folder, jobs=jobs, session=session)
        future.result()
    for number in range(told, jobs):
        if session.finished:
            session.finished(number)


def _follow(future: Future[None], folder: Path, *, jobs: int, session: Session) -> int:
    """Report what is done until all is; how many jobs ``session.finished`` has been told of."""
    reported, told = -1, 0
    while not wait([future], timeout=_POLL_S).done:
        finished = sum(1 for _ in folder.glob("*.answers"))
        if session.progress and finished != reported:
            session.progress(f"simulating: {finished} of {jobs} programs done")
            reported = finished
        # The last file may be half written: its job is done when the next one's is there.
        while session.finished and told < finished - 1:
            session.finished(told)
            told += 1
    return told


def _run_bare(compiled: Path, folder: Path, *, jobs: int, session: Session) -> None:
    command = [str(compiled / EXECUTABLE), f"+work={folder}", "--play", str(folder), "--jobs", str(jobs)]
    with _trace_file(session) as waves:
        result = subprocess.run([*command, *waves], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RtlError(
            f"the simulator must end well, not with code {result.returncode}:\n{_tail(result.stdout)}"
        )


def _run_cocotb(compiled: Path, folder: Path, *, jobs: int, session: Session) -> None:
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    log, results = folder / "simulator.log", folder / "results.xml"
    environment = {
        FOLDER_VARIABLE: str(folder),
        JOBS_VARIABLE: str(jobs),
        JUDGE_VARIABLE: "1" * session.judge,
    }
    # Otherwise cocotb has pytest rewrite, and so recompile, every module that is imported: seconds.
    environment["COCOTB_REWRITE_ASSERTION_FILES"] = ""
    with _trace_file(session) as waves:
        with suppress(RuntimeError, SystemExit):
            # The results file is the judge: the runner's own verdict depends on who calls it.
            get_runner("verilator").test(
                test_module="rtl._bench",
                hdl_toplevel=EXECUTABLE,
                hdl_toplevel_lang="verilog",
                build_dir=compiled,
                test_dir=folder,
                results_xml=str(results),
                test_args=list(waves),
                plusargs=[f"+work={folder}"],
                extra_env=environment,
                log_file=log,
            )
    if not results.exists():
        raise RtlError(f"the simulator must end well, and did not:\n{_tail(log.read_text())}")
    tests, _ = get_results(results)
    if tests != jobs or sum(1 for _ in folder.glob("*.answers")) != jobs:
        raise RtlError(f"the simulator must run {jobs} programs, and did not:\n{_tail(log.read_text())}")
    if session.junit:
        _publish(results, session.junit)


@contextmanager
def _trace_file(session: Session) -> Iterator[tuple[str, ...]]:
    """Options that make the simulator write a trace, which appears whole or not at all."""
    if session.trace is None:
        yield ()
        return
    target = session.trace.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield "--waves", str(partial)
        if partial.exists():
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _publish(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_LISTED_LINES:])
