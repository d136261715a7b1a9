"""Where the array's cycles go: every cycle of a run has one cause, and they add up to the total.

The array is the machine's dearest part, so a run is told from where it stands:

    program fetch        from the start to the first instruction's execution
    streaming            a row enters the array: the work
    first weights        the stationary tile of a product's first step is read, and no row can enter
    weight-bound tiles   a tile has fewer rows than the next tile's weights take to read
    hand-over            an instruction leaves the array's queue, one cycle each
    sequencer            the array's queue is empty
    first operands       the first product waits for memory
    <a semaphore's name> the array waits for it; where it waits for several, for the one that comes last
    drain                the last product has been issued; vector unit and store finish
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from archsim._architecture import Architecture
from archsim._errors import ArchsimError
from archsim._isa import Engine, Opcode
from archsim._program import Instruction, Program
from archsim._simulate import EVENT_CAP, Event, simulate
from archsim._timing import SEQ_START

FETCH = "program fetch"
STREAMING = "streaming"
FIRST_WEIGHTS = "first weights"
WEIGHT_BOUND = "weight-bound tiles"
HAND_OVER = "hand-over"
SEQUENCER = "sequencer"
FIRST_OPERANDS = "first operands"
DRAIN = "drain"

_BUSY = (STREAMING, FIRST_WEIGHTS, WEIGHT_BOUND)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Cycles that have one cause."""

    cause: str
    cycles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The cycles of a run by cause, the greatest first."""

    program: str
    cycles: int
    """The run's total, which is the sum of the shares."""
    shares: tuple[Share, ...]

    def of(self, cause: str) -> int:
        """Cycles of one cause; 0 for one that did not occur."""
        return sum(share.cycles for share in self.shares if share.cause == cause)

    @property
    def busy(self) -> int:
        """Cycles in which a product was in progress: the hardware's ARRAY_BUSY."""
        return sum(self.of(cause) for cause in _BUSY)


def breakdown(arch: Architecture, program: Program, *, program_address: int = 0) -> Breakdown:
    """The cycles of ``program`` on ``arch`` by what the array did or waited for.

    The run is traced, so ``program`` must execute fewer than ``EVENT_CAP`` engine instructions; raises
    ``ArchsimError`` for a longer one, and for one that cannot run.
    """
    length = _engine_instructions(program, simulate(arch, program).executions)
    if length >= EVENT_CAP:
        raise ArchsimError(
            f"program {program.name!r} must execute fewer than {EVENT_CAP} engine instructions"
            f" to be broken down, not {length}"
        )
    run = simulate(arch, program, trace=True, program_address=program_address)
    fetch, array = run.events[0], [event for event in run.events if event.engine is Engine.ARRAY]
    totals: dict[str, int] = {}
    for cause, cycles in _parts(program, array, start=fetch.retire + 1 + SEQ_START, end=run.cycles):
        totals[cause] = totals.get(cause, 0) + cycles
    assert sum(totals.values()) == run.cycles, (totals, run.cycles)
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    shares = tuple(Share(cause=cause, cycles=cycles) for cause, cycles in ordered if cycles)
    return Breakdown(program=program.name, cycles=run.cycles, shares=shares)


def _engine_instructions(program: Program, executions: Iterable[int]) -> int:
    pairs = zip(program.instructions, executions, strict=True)
    return sum(count for instruction, count in pairs if instruction.engine is not None)


def _parts(program: Program, array: Iterable[Event], *, start: int, end: int) -> Iterator[tuple[str, int]]:
    """(cause, cycles) from cycle 0 to ``end``, in order of time up to the last product."""
    events = list(array)
    matmuls = [place for place, event in enumerate(events) if _is_product(program, event)]
    yield FETCH, start
    ready = start
    for place, event in enumerate(events[: matmuls[-1] + 1] if matmuls else ()):
        cause = FIRST_OPERANDS if place <= matmuls[0] else _cause(program, event)
        yield SEQUENCER, event.head - ready
        yield cause, event.pop - event.head
        yield HAND_OVER, 1
        yield from _busy(program.instructions[event.instruction])
        ready = event.issue + 1
    yield DRAIN, end - ready


def _is_product(program: Program, event: Event) -> bool:
    return program.instructions[event.instruction].opcode is Opcode.MATMUL


def _cause(program: Program, event: Event) -> str:
    if event.cause is None:
        return SEQUENCER
    return program.semaphores.get(event.cause, f"semaphore {event.cause}")


def _busy(instruction: Instruction) -> Iterator[tuple[str, int]]:
    """The cycles after the pop in which a MATMUL has the array; none for a SYNC_ARRAY."""
    if instruction.opcode is not Opcode.MATMUL:
        return
    rows, w_rows = instruction.field("rows"), instruction.field("w_rows")
    tiles = instruction.field("n_chunks") * instruction.field("k_chunks")
    yield STREAMING, tiles * rows
    yield FIRST_WEIGHTS, w_rows
    yield WEIGHT_BOUND, (tiles - 1) * max(0, w_rows - rows)
