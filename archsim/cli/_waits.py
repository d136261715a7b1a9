"""Why the array waits, as rows for tables: by kernel, and by layer where the kernels' names carry layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from archsim import STALL_BASE, Architecture, Counter, Lowered, Program, Simulation
from archsim._breakdown import Breakdown, Share, Spent, breakdown, combined, layer_name, layers, traceable
from archsim._isa import SEMAPHORES, Engine, Opcode
from archsim._plan import ProductPlan
from archsim.cli._tables import MAX_KERNELS, print_rows
from workloads import layer_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitRow:
    """A kernel's or a layer's cycles, and the shares of them in which the array works and waits.

    From a trace the four shares add up to 1. From counters alone ``work`` is known, and the others None.
    """

    name: str
    cycles: int
    work: float
    """A product is in progress."""
    memory: float | None = None
    dependence: float | None = None
    """The array waits for the vector unit, for its own sums, or for a result to be in memory."""
    control: float | None = None
    reason: str = ""
    """What it waits for longest, in words."""
    reason_share: float = 0.0
    """That cause's share of the cycles."""
    worst: str = ""
    """The layer's kernel of most cycles besides work."""
    causes: Mapping[str, int] = field(default_factory=dict)
    """Cause -> cycles; from counters alone, semaphore -> cycles in which the array waited for it."""

    @property
    def idle(self) -> float:
        """Cycles besides work."""
        return self.cycles * (1 - self.work)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWaits:
    """One part of a model, one repetition of it."""

    part: str
    repeat: int
    traced: bool
    """Whether each cycle's cause is known; else the part is too long to be traced."""
    whole: WaitRow
    kernels: tuple[WaitRow, ...]
    layers: tuple[WaitRow, ...] = ()
    """Empty where no kernel's name carries a layer."""
    causes: tuple[Share, ...] = ()
    """Every cycle by cause, the greatest first; empty if not traced."""

    @property
    def rows(self) -> tuple[WaitRow, ...]:
        """The layers, or the kernels where there are none."""
        return self.layers or self.kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedWeights:
    """Weights that do not fit the scratchpad's stationary region, and so pass through it in tiles."""

    kernel: str
    tensor: str
    size_bytes: int
    region_bytes: int
    read_bytes: int
    """Bytes of them that a run reads, repeated reads included."""


def wait_rows(whole: Breakdown) -> tuple[WaitRow, ...]:
    """A row a layer, or a kernel where no name carries a layer."""
    return layer_rows(whole) or kernel_rows(whole)


def kernel_rows(whole: Breakdown) -> tuple[WaitRow, ...]:
    """A row for each section that takes any cycle."""
    return tuple(_row(one) for one in whole.sections if one.cycles)


def layer_rows(whole: Breakdown) -> tuple[WaitRow, ...]:
    """A row for each layer, and for each section that is of none; empty where no name carries a layer."""
    if all(layer_of(one.name) is None for one in whole.sections):
        return ()
    return tuple(_row(one, worst=_worst(whole, one.name)) for one in layers(whole) if one.cycles)


def _worst(whole: Breakdown, layer: str) -> str:
    mine = [one for one in whole.sections if layer_name(one) == layer]
    return max(mine, key=lambda one: one.cycles - one.busy).name


def _row(spent: Spent, *, worst: str = "") -> WaitRow:
    cycles = max(1, spent.cycles)
    return WaitRow(
        name=spent.name,
        cycles=spent.cycles,
        work=spent.in_group("work") / cycles,
        memory=spent.in_group("memory") / cycles,
        dependence=spent.in_group("dependence") / cycles,
        control=spent.in_group("control") / cycles,
        reason=_words(spent.reason),
        reason_share=spent.reason.cycles / cycles if spent.reason else 0.0,
        worst=worst,
        causes={share.cause: share.cycles for share in spent.shares},
    )


def _words(reason: Share | None) -> str:
    """As ``read latency (W)``."""
    if reason is None:
        return ""
    return f"{reason.cause} ({reason.tensor})" if reason.tensor else reason.cause


def part_waits(
    arch: Architecture, part: tuple[str, int], made: Sequence[Lowered], runs: Sequence[Simulation]
) -> PartWaits:
    """The waits of a part, (name, repetitions), that runs as the programs ``made``.

    Traced where all of them are short enough, else from the counters of ``runs``.
    """
    name, repeat = part
    if not all(traceable(one.program, run) for one, run in zip(made, runs, strict=True)):
        pairs = zip(made, runs, strict=True)
        counted = tuple(row for one, run in pairs for row in counted_rows(one.program, run))
        return PartWaits(
            part=name, repeat=repeat, traced=False, whole=_counted_whole(name, counted), kernels=counted
        )
    found = [breakdown(arch, one.program, program_address=one.program_address) for one in made]
    whole = combined(name, found)
    return PartWaits(
        part=name,
        repeat=repeat,
        traced=True,
        whole=_row(whole),
        kernels=kernel_rows(whole),
        layers=layer_rows(whole),
        causes=whole.shares,
    )


def counted_rows(program: Program, run: Simulation) -> tuple[WaitRow, ...]:
    """A row for each section from its counters: the array's busy cycles, and its longest stall."""
    awaited = [bit for bit in range(SEMAPHORES) if _array_waits(program) >> bit & 1]
    rows = []
    for section in (section for section in run.sections if section.cycles):
        stalls = {
            program.semaphores.get(bit, f"semaphore {bit}"): section.counters[STALL_BASE + bit]
            for bit in awaited
            if section.counters[STALL_BASE + bit]
        }
        work = section.counters[Counter.ARRAY_BUSY] / section.cycles
        rows.append(_counted(section.name, section.cycles, work, stalls))
    return tuple(rows)


def _counted(name: str, cycles: int, work: float, stalls: Mapping[str, int]) -> WaitRow:
    longest = max(stalls, key=lambda cause: (stalls[cause], cause), default="")
    share = stalls.get(longest, 0) / cycles
    return WaitRow(name=name, cycles=cycles, work=work, reason=longest, reason_share=share, causes=stalls)


def _counted_whole(name: str, rows: Sequence[WaitRow]) -> WaitRow:
    cycles = sum(row.cycles for row in rows)
    stalls: dict[str, int] = {}
    for row in rows:
        for cause, count in row.causes.items():
            stalls[cause] = stalls.get(cause, 0) + count
    return _counted(name, cycles, sum(row.work * row.cycles for row in rows) / cycles, stalls)


def _array_waits(program: Program) -> int:
    """Mask of the semaphores that the array waits for."""
    mask = 0
    for instruction in program.instructions:
        if instruction.engine is Engine.ARRAY:
            mask |= instruction.waits
    return mask


def streamed_weights(
    arch: Architecture, made: Iterable[Lowered], runs: Iterable[Simulation]
) -> tuple[StreamedWeights, ...]:
    """The products whose weights exceed the stationary region, in order."""
    region = arch.scratchpad.banks // 4 * arch.scratchpad.words_per_bank * arch.word_bytes
    found = []
    for lowered, run in zip(made, runs, strict=True):
        for plan in lowered.planned.plans:
            if not isinstance(plan, ProductPlan) or not plan.stationary_is_weight:
                continue
            size = plan.stationary.words * arch.word_bytes
            if size > region:
                tensor = plan.stationary.tensor
                found.append(
                    StreamedWeights(
                        kernel=plan.kernel.name,
                        tensor=tensor,
                        size_bytes=size,
                        region_bytes=region,
                        read_bytes=_read(lowered.program, run, tensor) * arch.bus.bytes,
                    )
                )
    return tuple(found)


def _read(program: Program, run: Simulation, tensor: str) -> int:
    """Beats of ``tensor`` that the run reads."""
    loads = (
        (index, program.instructions[index])
        for index, name in program.tensors.items()
        if name == tensor and program.instructions[index].opcode is Opcode.LOAD
    )
    return sum(run.executions[i] * one.field("segments") * one.field("beats") for i, one in loads)


def document(waits: Iterable[PartWaits]) -> list[dict[str, Any]]:
    """The waits as plain values for JSON."""
    return [asdict(part) | {"causes": {share.cause: share.cycles for share in part.causes}} for part in waits]


def print_waits(waits: Iterable[PartWaits], *, every: bool = False) -> None:
    """A table a part: its layers or kernels, those that wait longest where there are many."""
    for part in waits:
        times = f", one of {part.repeat:,} repetitions" if part.repeat > 1 else ""
        unknown = "" if part.traced else " (too long to be traced: from counters)"
        first = "layer" if part.layers else "kernel"
        header = [first, "cycles", "work", "memory", "dependence", "control", "longest wait"]
        # Beside sentences of waiting, a terminal has no room for it.
        header += ["worst kernel"] if part.layers and every else []
        print_rows(
            f"Why the array waits: {part.part}{times}{unknown}",
            header,
            (cells[: len(header)] for cells in wait_cells(part, every=every)),
            text=("longest wait", "worst kernel"),
        )


def wait_cells(part: PartWaits, *, every: bool) -> list[tuple[str, ...]]:
    """The rows as text in program order; of more than ``MAX_KERNELS``, those that wait longest."""
    rows = part.rows
    shown = rows
    if not every and len(rows) > MAX_KERNELS:
        longest = sorted(rows, key=lambda row: -row.idle)[:MAX_KERNELS]
        shown = tuple(row for row in rows if row in longest)
    cells = [_cells(row, layered=bool(part.layers)) for row in shown]
    if left := len(rows) - len(shown):
        cycles = sum(row.cycles for row in rows) - sum(row.cycles for row in shown)
        empty = [""] * (len(cells[0]) - 2)
        cells.append((f"{left} more (--all)", f"{cycles:,}", *empty))
    return [*cells, ("all", *_cells(part.whole, layered=bool(part.layers))[1:])]


def _cells(row: WaitRow, *, layered: bool) -> tuple[str, ...]:
    shares = (row.work, row.memory, row.dependence, row.control)
    cells = (
        row.name,
        f"{row.cycles:,}",
        *("–" if share is None else f"{share:.1%}" for share in shares),
        f"{row.reason_share:.1%} {row.reason}" if row.reason else "",
    )
    return (*cells, row.worst) if layered else cells
