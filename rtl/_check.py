"""The proof: a lowered cascade on the RTL, against the simulator's cycles and the oracle's bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim import (
    COUNTERS,
    STALL_BASE,
    Architecture,
    Counter,
    Lowered,
    Memory,
    ProductPlan,
    Simulation,
    image,
    simulate,
    tensors_of,
    written_at,
)
from rtl._build import Design
from rtl._cosim import Driver, Progress, run_jobs
from rtl._encode import encode
from rtl._errors import RtlError
from rtl._jobs import Job, RunResult, beside
from workloads import evaluate_quantised

Bytes = NDArray[np.int8]

DONE = 1
"""Status of a run without errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One program to be checked on the hardware, with the int8 tensors that it reads."""

    lowered: Lowered
    inputs: Mapping[str, Bytes]
    memory: Memory | None = None
    """Timing of the memory; None for the architecture's."""
    stall_seed: int | None = None
    """Random stalls on every AXI channel: bits must still agree, cycles need not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first wrong element of a tensor."""

    tensor: str
    index: tuple[int, ...]
    tile: str
    expected: int
    got: int
    wrong: int
    """Elements of the tensor that differ."""
    size: int

    def __str__(self) -> str:
        place = ", ".join(str(i) for i in self.index)
        return (
            f"{self.tensor}[{place}] ({self.tile}): expected {self.expected}, got {self.got}; "
            f"{self.wrong} of {self.size} elements differ"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the hardware did, beside what was predicted."""

    result: RunResult
    simulation: Simulation
    tensors: Mapping[str, Bytes]
    """Every tensor that the hardware stored."""
    compared: int
    """Elements compared with the oracle."""
    differences: tuple[Difference, ...]
    counters: Mapping[str, tuple[int, int]]
    """Counters that differ: name -> (simulated, hardware); none is compared under random stalls."""
    finished: Mapping[str, tuple[int, int]]
    """Cycle of each stored tensor's last byte: tensor -> (simulated, hardware), ``NEVER`` for a write that
    only one of them has. Empty under random stalls, and for a run too long to be traced whole."""

    @property
    def mismatches(self) -> int:
        """Elements that differ from the oracle."""
        return sum(difference.wrong for difference in self.differences)

    @property
    def untimely(self) -> Mapping[str, tuple[int, int]]:
        """Those of ``finished`` that differ."""
        return {tensor: pair for tensor, pair in self.finished.items() if pair[0] != pair[1]}

    @property
    def sentences(self) -> tuple[str, ...]:
        """Whatever differs, in words: elements, counters, and cycles in which tensors were complete."""
        counters = (f"{name}: simulated {one:,}, RTL {got:,}" for name, (one, got) in self.counters.items())
        times = (
            f"{tensor}: last byte simulated in cycle {one:,}, RTL {got:,}"
            for tensor, (one, got) in self.untimely.items()
        )
        return (*(str(difference) for difference in self.differences), *counters, *times)

    @property
    def passed(self) -> bool:
        """Whether every bit, every counter, cycles among them, and every tensor's last cycle agrees."""
        return not self.differences and not self.counters and not self.untimely


def cosim(
    design: Design,
    runs: Sequence[Run],
    *,
    driver: Driver = "cocotb",
    trace: Path | None = None,
    junit: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Checked, ...]:
    """Run each program on ``design`` in Verilator and compare it with the oracle and the simulator.

    Every tensor that the program stores is compared with ``workloads.evaluate_quantised``, element
    by element; unless stalls are random, every counter of the core is compared with ``archsim.simulate``,
    and the cycle in which each of those tensors is complete with ``archsim.written_at``.
    Raises RtlError where a run ends with an error in its status register.
    """
    expected = [_oracle(run) for run in runs]
    simulations = [
        simulate(
            _timed(design, run),
            run.lowered.program,
            program_address=run.lowered.program_address,
        )
        for run in runs
    ]
    finishes = [_predicted_finishes(design, run) for run in runs]
    jobs = [
        _job(design, run, cycles=simulation.cycles, finishes=times, expected=tensors)
        for run, simulation, times, tensors in zip(runs, simulations, finishes, expected, strict=True)
    ]
    results = run_jobs(design, jobs, driver=driver, trace=trace, junit=junit, progress=progress)
    return tuple(
        _checked(design, run, result=result, simulation=simulation, finishes=times, expected=tensors)
        for run, result, simulation, times, tensors in zip(
            runs, results, simulations, finishes, expected, strict=True
        )
    )


def compare(
    lowered: Lowered, expected: Mapping[str, Bytes], got: Mapping[str, Bytes]
) -> tuple[Difference, ...]:
    """The first differing element of each tensor of ``expected``, with its place and tile."""
    found = []
    for tensor, wanted in expected.items():
        if tensor not in got or got[tensor].shape != wanted.shape:
            shape = got[tensor].shape if tensor in got else None
            raise RtlError(f"tensor {tensor} must have shape {wanted.shape}, not {shape}")
        wrong = np.argwhere(got[tensor] != wanted)
        if len(wrong):
            index = tuple(int(i) for i in wrong[0])
            found.append(
                Difference(
                    tensor=tensor,
                    index=index,
                    tile=_tile(lowered, tensor, index),
                    expected=int(wanted[index]),
                    got=int(got[tensor][index]),
                    wrong=len(wrong),
                    size=wanted.size,
                )
            )
    return tuple(found)


def _timed(design: Design, run: Run) -> Architecture:
    return design.arch if run.memory is None else replace(design.arch, memory=run.memory)


def _oracle(run: Run) -> dict[str, Bytes]:
    if run.lowered.quantised is None:
        raise RtlError("a program must be lowered with values to be checked, not for timing only")
    return evaluate_quantised(run.lowered.quantised, run.inputs)


def _predicted_finishes(design: Design, run: Run) -> dict[str, int]:
    """When each tensor must be complete; empty under random stalls and for too long a run."""
    if run.stall_seed is not None:
        return {}
    program, address = run.lowered.program, run.lowered.program_address
    # Beside the untraced simulation, not in its place: only that one skips periods, as users' do.
    traced = simulate(_timed(design, run), program, trace=True, program_address=address)
    return written_at(program, traced) if traced.complete else {}


def _job(
    design: Design,
    run: Run,
    *,
    cycles: int,
    finishes: Mapping[str, int],
    expected: Mapping[str, Bytes],
) -> Job:
    lowered, arch = run.lowered, design.arch
    regions = {region.tensor: region for region in lowered.program.regions}
    wanted = {}
    for storage in lowered.planned.storages:
        if storage.tensor in expected:
            packed = storage.pack(expected[storage.tensor], arch.word_bytes).tobytes()
            wanted[storage.tensor] = packed.ljust(regions[storage.tensor].size_bytes, b"\0")
    return Job(
        program=lowered.program,
        image=image(lowered, arch, run.inputs),
        program_address=lowered.program_address,
        encoded=encode(lowered.program),
        memory=run.memory or arch.memory,
        stall_seed=run.stall_seed,
        limit_cycles=20 * cycles + 100_000,
        expected=wanted,
        expected_cycles=cycles if run.stall_seed is None else None,
        expected_written_at=finishes,
    )


def _checked(
    design: Design,
    run: Run,
    *,
    result: RunResult,
    simulation: Simulation,
    finishes: Mapping[str, int],
    expected: Mapping[str, Bytes],
) -> Checked:
    if result.status & ~DONE:
        raise RtlError(f"status must be {DONE:#x} (done) after a run, not {result.status:#x}")
    tensors = tensors_of(run.lowered, design.arch, result.image)
    counters = {}
    if run.stall_seed is None:
        counters = {
            _counter_name(index): (simulation.counters[index], result.counters[index])
            for index in range(COUNTERS)
            if simulation.counters[index] != result.counters[index]
        }
    return Checked(
        result=result,
        simulation=simulation,
        tensors=tensors,
        compared=sum(values.size for values in expected.values()),
        differences=compare(run.lowered, expected, tensors),
        counters=counters,
        finished=beside(finishes, result.written_at) if finishes else {},
    )


def _counter_name(index: int) -> str:
    return Counter(index).name.lower() if index < STALL_BASE else f"stall_{index - STALL_BASE}"


def _tile(lowered: Lowered, tensor: str, index: tuple[int, ...]) -> str:
    """Which tile of its kernel's loop nest an element belongs to, in words."""
    pairs = zip(lowered.planned.plans, lowered.tilings, strict=True)
    plan, tiling = next((p, t) for p, t in pairs if p.kernel.name == tensor)
    storage = plan.output
    row = _joined(storage.row, storage.shape, index)
    col = _joined(storage.col, storage.shape, index)
    block = _joined(storage.outer, storage.shape, index)
    width = tiling.col_chunks if isinstance(plan, ProductPlan) else plan.chunks
    blocks = plan.col_blocks if isinstance(plan, ProductPlan) else 1
    chunk = block % blocks * storage.panels + col // storage.group
    return f"block {block}, row tile {row // tiling.rows}, column tile {chunk // width}"


def _joined(dims: Sequence[int], shape: Sequence[int], index: Sequence[int]) -> int:
    value = 0
    for dim in dims:
        value = value * shape[dim] + index[dim]
    return value
