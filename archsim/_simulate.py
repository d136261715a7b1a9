"""Cycle-exact simulation: the program's instructions as a timed event graph.

Engines run in order and wait for tokens, so every time in the machine is a maximum of sums of
earlier times. ``simulate`` follows the instruction stream once and computes, for each engine
instruction, its push, its pop s, its last issue e and its retirement r, as ``docs/machine.md``
defines them, at a cost that depends on the number of instructions and bursts and not on cycles.

**Why skipping periods is exact.** At each END the kernel writes down the state relative to the
sequencer's present ``now``. All that happens later is a function of that state and of the code:

- Trip counts are constants, so the instructions executed from here on do not depend on any value.
- Every push to come is later than ``now``, and so is every pop not yet known: a blocked head waits,
  at the end of a chain, for a token of an instruction not yet pushed. Later times are maxima over
  sums of earlier ones in which each earlier time competes with one later than ``now``; a time
  before ``now`` can therefore be replaced by ``now``. There are two exceptions. The last beat keeps
  the bus for an interval, so that what counts is its end; and the cycle since which a blocked head
  has been waiting (its stall counters need it) is kept as it is.
- Addresses enter time only where they cut bursts, modulo 4096, and ring registers only in whether
  they wrap. The loop compares the registers that do so in its body, the first modulo 4096 and the
  second exactly; all others it ignores.

If two ENDs of one activation of a loop have equal states, the machine's evolution from the second
is that from the first, shifted: each further period adds the same cycles, the same counts and (a
register being set or stepped by constants) the same change of every register. The kernel then adds
as many whole periods as remain and goes on with the rest. An engine that has stood blocked at one
head through the whole period took no part in it; its times stay where they are. Snapshots are
compared with one kept at iterations 1, 2, 4, 8 ... (Brent's algorithm), so that any period is
found once it fits between two powers of two. Inner loops skip within each activation, outer loops
over activations; equality of the whole state makes the levels independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim import _simulate_kernel as kernel
from archsim._architecture import Architecture
from archsim._counters import COUNTERS, STALL_BASE, Counter
from archsim._errors import ArchsimError
from archsim._isa import ENGINE_OF, INSTRUCTION_BYTES, OPERANDS, REGISTERS, SEMAPHORES, Engine
from archsim._program import Program
from archsim._simulate_conflicts import refuse_conflicts
from archsim._simulate_kernel import Code, Integers, Notes, Saved, State, Tallies, simulate_kernel
from archsim._simulate_table import actions, encode
from archsim._verify import verify

EVENT_CAP = 1 << 18
"""Instructions that a trace holds; later ones are timed but not kept."""
BURSTS_PER_EVENT = 4
"""Bursts for which a trace has room, on average."""
START = "(start)"
"""Name of the section that the program fetch and instructions before the first section belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One kernel's share of a run."""

    name: str
    cycles: int
    """Cycles by which its instructions extended the run; the sections' cycles sum to the total."""
    counters: tuple[int, ...]
    """In the order of ``Counter``, stalls included; the sections' counters sum to the total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One engine instruction's times, in cycles."""

    engine: Engine
    instruction: int
    """Index in the program; -1 is the program fetch."""
    section: str
    push: int
    head: int
    """First cycle in which queue and engine were ready for its pop; what holds it back longer is a token."""
    pop: int
    issue: int
    """Last issue: address handshake (LOAD), data beat (STORE), streamed word, slot."""
    retire: int
    cause: int | None
    """Semaphore for which the pop was waiting last, if it waited."""
    operands: tuple[int, ...]
    """Resolved addresses."""
    bursts: tuple[tuple[int, int, int], ...]
    """Of a transfer: (address handshake, first beat, beats)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What a run costs: total cycles, the machine's counters, and both per kernel."""

    program: str
    cycles: int
    counters: tuple[int, ...]
    """In the order of ``Counter``, then one stall counter for each semaphore."""
    sections: tuple[Section, ...]
    executions: tuple[int, ...]
    """How often each instruction ran."""
    events: tuple[Event, ...] = ()
    """With ``trace``: every engine instruction, up to ``EVENT_CAP``."""
    complete: bool = True
    """Whether the events are all there."""

    def counter(self, which: Counter) -> int:
        """One named counter."""
        return self.counters[which]

    def stalls(self, semaphore: int) -> int:
        """Cycles in which an engine waited for ``semaphore``."""
        return self.counters[STALL_BASE + semaphore]


@dataclass(frozen=True, slots=True)
class _Run:
    """The arrays that the kernel fills."""

    code: Code
    state: State
    tallies: Tallies
    notes: Notes


def simulate(
    arch: Architecture,
    program: Program,
    *,
    plain: bool = False,
    trace: bool = False,
    check_conflicts: bool = False,
    program_address: int = 0,
) -> Simulation:
    """Cycles and counters of ``program`` on ``arch``, equal to the hardware's.

    ``plain`` executes every iteration instead of skipping whole periods; the result is the same.
    ``trace`` runs plainly and keeps each instruction's times. ``check_conflicts`` runs plainly and
    refuses programs in which two engines meet on one port of a bank, or a word is read in the cycle
    in which it is written. ``program_address`` is the program's place in DRAM, on which the bursts
    of its fetch depend (modulo 4096). Raises ``ArchsimError`` for a program that ``verify`` refuses,
    that deadlocks, or that lets a semaphore exceed 65,535.
    """
    verify(arch, program)
    if program_address % max(arch.bus.bytes, INSTRUCTION_BYTES):
        multiple = max(arch.bus.bytes, INSTRUCTION_BYTES)
        raise ArchsimError(f"program_address must be a multiple of {multiple}, not {program_address}")
    code = encode(arch, program, program_address=program_address)
    keep = trace or check_conflicts
    run = _allocate(code, EVENT_CAP if keep else 0)
    status, value, fetch_bursts = simulate_kernel(*_arrays(run), plain or keep)
    if status == kernel.DEADLOCK:
        raise ArchsimError(_explain_deadlock(program, run))
    if status == kernel.TOO_MANY_TOKENS:
        semaphore = int(run.state.n[kernel.N_OVERFLOW]) - 1
        raise ArchsimError(
            f"semaphore {semaphore} must count at most 65535 tokens, not more (instruction {value})"
        )
    if check_conflicts and not _is_complete(run):
        raise ArchsimError(f"program {program.name!r} must be shorter for its conflicts to be checked")
    result = _collect(arch, program, run, int(value), int(fetch_bursts))
    if check_conflicts:
        refuse_conflicts(arch, program, result)
    return result


def _allocate(code: Code, events: int) -> _Run:
    count, slots = len(code.rows), len(code.wait_semaphore)
    depth, flying = int(code.machine[kernel.M_DEPTH]), int(code.machine[kernel.M_OUTSTANDING])
    times = kernel.T_RINGS + 2 * flying + kernel.ENGINES * depth
    state = State(
        t=np.full(times, kernel.LONG_AGO, np.int64),
        n=np.zeros(kernel.NUMBERS, np.int64),
        pending=np.zeros((kernel.ENGINES, depth, kernel.P_OPERAND + OPERANDS), np.int64),
        tokens=np.empty((SEMAPHORES, kernel.TOKENS), np.int64),
        heads=np.zeros(SEMAPHORES, np.int64),
        tails=np.zeros(SEMAPHORES, np.int64),
        registers=np.zeros(REGISTERS, np.int64),
    )
    return _Run(
        code=code,
        state=state,
        tallies=Tallies(*(np.zeros(size, np.int64) for size in (count, count, count, slots))),
        notes=Notes(
            events=np.empty((events, kernel.EVENT_COLUMNS), np.int64),
            bursts=np.empty((events * BURSTS_PER_EVENT, kernel.BURST_COLUMNS), np.int64),
        ),
    )


def _arrays(run: _Run) -> tuple[Code, State, Tallies, Notes, Saved]:
    """The kernel's arguments, with room for one snapshot per loop level."""
    count, slots, levels = len(run.code.rows), len(run.code.wait_semaphore), kernel.LOOP_DEPTH
    # Times as they are; twice as many numbers per queue entry; counts per engine, semaphore and register.
    size = 2 * len(run.state.t) + 2 * run.state.pending.size + kernel.SNAPSHOT_TOKENS + 64
    sizes = (size, kernel.NUMBERS, REGISTERS, count, count, count, slots, 4)
    return (
        run.code,
        run.state,
        run.tallies,
        run.notes,
        Saved(*(np.zeros((levels, n), np.int64) for n in sizes)),
    )


def _explain_deadlock(program: Program, run: _Run) -> str:
    """Name each blocked engine, its instruction and the semaphore that it waits for."""
    blocked = []
    numbers, depth = run.state.n, run.state.pending.shape[1]
    for engine in Engine:
        popped, need = int(numbers[kernel.N_POPS + engine]), int(numbers[kernel.N_NEED + engine])
        if numbers[kernel.N_PUSHES + engine] == popped:
            continue
        index = int(run.state.pending[engine, popped % depth, kernel.P_PC])
        slot = int(run.code.wait_first[index]) + (need & -need).bit_length() - 1
        semaphore = int(run.code.wait_semaphore[slot])
        name = f" ({program.semaphores[semaphore]})" if semaphore in program.semaphores else ""
        blocked.append(
            f"{engine.name} waits at instruction {index} ({program.instructions[index]}) "
            f"for semaphore {semaphore}{name}, which is never signalled again"
        )
    return f"program {program.name!r} must not deadlock: " + "; ".join(blocked)


def _collect(arch: Architecture, program: Program, run: _Run, cycles: int, fetch_bursts: int) -> Simulation:
    counts = _instruction_counters(arch, program, run)
    names, owner = section_of(program)
    sums = np.zeros((len(names), COUNTERS), np.int64)
    np.add.at(sums, owner, counts)
    sums[0, Counter.LOAD_BEATS] += run.code.machine[kernel.M_FETCH_BEATS]
    sums[0, Counter.LOAD_BURSTS] += fetch_bursts
    sums[0, Counter.CYCLES] += cycles - int(run.tallies.credit.sum())
    sections = tuple(
        Section(name=name, cycles=row[Counter.CYCLES], counters=tuple(row))
        for name, row in zip(names, sums.tolist(), strict=True)
    )
    return Simulation(
        program=program.name,
        cycles=cycles,
        counters=tuple(sums.sum(axis=0).tolist()),
        sections=sections,
        executions=tuple(run.tallies.executed.tolist()),
        events=_events(program, run),
        complete=_is_complete(run),
    )


def section_of(program: Program) -> tuple[list[str], Integers]:
    """The sections' names, ``START`` first, and for each instruction the number of its section."""
    owner = np.zeros(len(program.instructions), np.int64)
    for number, (first, _) in enumerate(program.sections, start=1):
        owner[first:] = number
    return [START, *(name for _, name in program.sections)], owner


def _instruction_counters(arch: Architecture, program: Program, run: _Run) -> Integers:
    """Counters that each instruction of the program accounts for: (instructions, counters)."""
    code, tallies = run.code, run.tallies
    counts = np.zeros((len(code.rows), COUNTERS), np.int64)
    counts[:, :STALL_BASE] = actions(arch, program) * tallies.executed[:, None]
    counts[:, Counter.CYCLES] = tallies.credit
    engine = code.rows[:, kernel.C_ENGINE]
    counts[:, Counter.LOAD_BURSTS] = np.where(engine == Engine.LOAD, tallies.bursts, 0)
    counts[:, Counter.STORE_BURSTS] = np.where(engine == Engine.STORE, tallies.bursts, 0)
    index = np.repeat(np.arange(len(code.rows)), np.diff(code.wait_first))
    counts[index, STALL_BASE + code.wait_semaphore] = tallies.stalls
    return counts


def _events(program: Program, run: _Run) -> tuple[Event, ...]:
    total, room = int(run.state.n[kernel.N_EVENTS]), len(run.notes.events)
    filled = int(run.state.n[kernel.N_BURSTS])
    bursts: dict[int, list[tuple[int, int, int]]] = {}
    for event, request, first, beats in run.notes.bursts[:filled].tolist():
        bursts.setdefault(event, []).append((request, first, beats))
    names, owner = section_of(program)
    sections = [START, *(names[number] for number in owner)]
    return tuple(
        _event(program, row, sections[row[kernel.E_PC] + 1], tuple(bursts.get(number, ())))
        for number, row in enumerate(run.notes.events[: min(total, room)].tolist())
    )


def _is_complete(run: _Run) -> bool:
    """Whether the event and burst tables hold the whole run; trivially where none are kept."""
    numbers, notes = run.state.n, run.notes
    if len(notes.events) == 0:
        return True
    return bool(
        numbers[kernel.N_EVENTS] <= len(notes.events) and numbers[kernel.N_BURSTS] < len(notes.bursts)
    )


def _event(program: Program, row: list[int], section: str, bursts: tuple[tuple[int, int, int], ...]) -> Event:
    index, push, head, pop, issue, retire, cause = row[: kernel.E_OPERAND]
    return Event(
        engine=ENGINE_OF[program.instructions[index].opcode] if index >= 0 else Engine.LOAD,
        instruction=index,
        section=section,
        push=push,
        head=head,
        pop=pop,
        issue=issue,
        retire=retire,
        cause=cause if cause >= 0 else None,
        operands=tuple(row[kernel.E_OPERAND :]),
        bursts=bursts,
    )
