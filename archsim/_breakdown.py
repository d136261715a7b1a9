"""Where the array's cycles go: every cycle of a run has one cause, and they add up to the total.

The array is the machine's dearest part, so a run is told from where it stands. The causes and their
groups (work, memory, dependence, control) are those of ``archsim._causes``; ``archsim._waiting`` says
how the cause of a pause is found. A cycle counts for the section in whose favour the simulation counts
it, so that each section's causes add up to its cycles, and the sections to the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from archsim._architecture import Architecture
from archsim._causes import FIRST_WEIGHTS, STREAMING, WEIGHT_BOUND, Group, group_of
from archsim._counters import Counter
from archsim._errors import ArchsimError
from archsim._lower import OPENING
from archsim._program import Program
from archsim._simulate import EVENT_CAP, START, Simulation, section_of, simulate
from archsim._waiting import Slice, slices, steps
from workloads import layer_of

BURST_CAP = 1 << 23
"""Bursts of a run that is broken down; each takes 64 bytes of memory at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Cycles that have one cause."""

    cause: str
    cycles: int
    tensor: str = ""
    """What was in transfer, where that is told apart."""

    @property
    def group(self) -> Group:
        """The group of its cause."""
        return group_of(self.cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The cycles of a run, or of a part of it, by cause."""

    name: str
    cycles: int
    """The sum of the shares."""
    shares: tuple[Share, ...]
    """One a cause, the greatest first."""
    transfers: tuple[Share, ...] = ()
    """Memory's shares again, by cause and tensor, the greatest first."""

    def of(self, cause: str) -> int:
        """Cycles of one cause; 0 for one that did not occur."""
        return sum(share.cycles for share in self.shares if share.cause == cause)

    def in_group(self, group: Group) -> int:
        """Cycles of all causes of one group."""
        return sum(share.cycles for share in self.shares if share.group == group)

    @property
    def busy(self) -> int:
        """Cycles in which a product was in progress: the hardware's ARRAY_BUSY."""
        return sum(self.of(cause) for cause in (STREAMING, FIRST_WEIGHTS, WEIGHT_BOUND))

    @property
    def reason(self) -> Share | None:
        """The greatest cause besides work, with the tensor of most of its cycles; None if all is work."""
        first = next((share for share in self.shares if share.group != "work"), None)
        if first is None:
            return None
        tensors = (share.tensor for share in self.transfers if share.cause == first.cause)
        return Share(cause=first.cause, cycles=first.cycles, tensor=next(tensors, ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown(Spent):
    """The cycles of a run by cause, in all and section by section."""

    sections: tuple[Spent, ...] = ()
    """In the program's order; their cycles are those of ``Simulation.sections``."""


def breakdown(arch: Architecture, program: Program, *, program_address: int = 0) -> Breakdown:
    """The cycles of ``program`` on ``arch`` by what the array did or waited for.

    The run is traced, so ``program`` must execute fewer than ``EVENT_CAP`` engine instructions and
    ``BURST_CAP`` bursts; raises ``ArchsimError`` for a longer one, and for one that cannot run.
    """
    _refuse_long(program, simulate(arch, program, program_address=program_address))
    run = simulate(arch, program, trace=True, program_address=program_address)
    sections = _sections(arch, program, run)
    found = [(section.name, section.cycles) for section in run.sections]
    assert [(one.name, one.cycles) for one in sections] == found, (sections, found)
    return _whole(program.name, sections)


def combined(name: str, parts: Iterable[Breakdown]) -> Breakdown:
    """Programs that run one after another as one; sections of one name are added."""
    return _whole(name, _added((one.name, one) for part in parts for one in part.sections))


def layers(whole: Breakdown) -> tuple[Spent, ...]:
    """The sections added layer by layer, as their names say; one of no layer stays as it is.

    >>> layers(Breakdown(name="net", cycles=5, shares=(), sections=(
    ...     Spent(name="Q.0", cycles=2, shares=()), Spent(name="K.0", cycles=3, shares=()))))
    (Spent(name='layer 0', cycles=5, shares=(), transfers=()),)
    """
    return _added((layer_name(one), one) for one in whole.sections)


def layer_name(section: Spent) -> str:
    """What ``layers`` calls the layer of a section: its own name where it is of none, the start's as one."""
    layer = layer_of(section.name)
    if layer is None:
        return START if section.name == OPENING else section.name
    return f"layer {layer}"


def traceable(program: Program, run: Simulation) -> bool:
    """Whether ``program``, which took ``run``, is short enough for ``breakdown``."""
    return _engine_instructions(program, run) < EVENT_CAP and _bursts(run) < BURST_CAP


def _refuse_long(program: Program, run: Simulation) -> None:
    length, bursts = _engine_instructions(program, run), _bursts(run)
    most = f"{EVENT_CAP} engine instructions" if length >= EVENT_CAP else f"{BURST_CAP} bursts"
    if not traceable(program, run):
        raise ArchsimError(
            f"program {program.name!r} must execute fewer than {most} to be broken down,"
            f" not {length if length >= EVENT_CAP else bursts}"
        )


def _engine_instructions(program: Program, run: Simulation) -> int:
    pairs = zip(program.instructions, run.executions, strict=True)
    return sum(count for instruction, count in pairs if instruction.engine is not None)


def _bursts(run: Simulation) -> int:
    return run.counter(Counter.LOAD_BURSTS) + run.counter(Counter.STORE_BURSTS)


def _whole(name: str, sections: tuple[Spent, ...]) -> Breakdown:
    total = next(iter(_added((name, one) for one in sections)))
    return Breakdown(
        name=name, cycles=total.cycles, shares=total.shares, transfers=total.transfers, sections=sections
    )


def _added(named: Iterable[tuple[str, Spent]]) -> tuple[Spent, ...]:
    """Those of one name as one, in the order in which the names first occur."""
    groups: dict[str, list[Spent]] = {}
    for name, one in named:
        groups.setdefault(name, []).append(one)
    return tuple(
        Spent(
            name=name,
            cycles=sum(one.cycles for one in parts),
            shares=_summed(share for one in parts for share in one.shares),
            transfers=_summed(share for one in parts for share in one.transfers),
        )
        for name, parts in groups.items()
    )


def _summed(shares: Iterable[Share]) -> tuple[Share, ...]:
    """Shares of the same cause and tensor as one, the greatest first."""
    totals: dict[tuple[str, str], int] = {}
    for share in shares:
        key = share.cause, share.tensor
        totals[key] = totals.get(key, 0) + share.cycles
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Share(cause=c, tensor=tensor, cycles=n) for (c, tensor), n in ordered if n)


def _sections(arch: Architecture, program: Program, run: Simulation) -> tuple[Spent, ...]:
    names, _ = section_of(program)
    totals: list[dict[tuple[str, str], int]] = [{} for _ in names]
    for section, one, start, stop in _pieces(_stretches(program, run), slices(arch, program, run)):
        tensor, into = _tensor(program, run, one), totals[section]
        for cause, cycles in one.within(start, stop):
            into[cause, tensor] = into.get((cause, tensor), 0) + cycles
    found = [[Share(cause=c, tensor=tensor, cycles=n) for (c, tensor), n in each.items()] for each in totals]
    made = []
    for name, shares in zip(names, found, strict=True):
        causes = _summed(Share(cause=share.cause, cycles=share.cycles) for share in shares)
        made.append(
            Spent(
                name=name,
                cycles=sum(share.cycles for share in causes),
                shares=causes,
                transfers=_summed(share for share in shares if share.group == "memory"),
            )
        )
    return tuple(made)


def _tensor(program: Program, run: Simulation, piece: Slice) -> str:
    if piece.event is None:
        return ""
    return program.tensors.get(run.events[piece.event].instruction, "")


def _stretches(program: Program, run: Simulation) -> Iterator[tuple[int, int]]:
    """(first cycle after it, section) of consecutive stretches of a run: the simulation's own account.

    An instruction accounts for the cycles by which its execution or its retirement exceeds all that
    the simulation has gone through before. It goes through them in the order of execution, and through
    an engine's instruction, in the trace's order, once all that it waits for has been pushed: after the
    last push of those up to it in the trace. What is left is the start's.
    """
    _, owner = section_of(program)
    executed = list(steps(program, run))
    pushed_by = {step.event: number for number, step in enumerate(executed)}
    frontier, place, last = run.events[0].retire, 1, 0
    yield frontier, 0
    for number, step in enumerate(executed):
        moments = [(step.cycle, step.instruction)]
        while place < len(run.events) and (last := max(last, pushed_by[place])) == number:
            moments.append((run.events[place].retire, run.events[place].instruction))
            place += 1
        for moment, instruction in moments:
            if moment > frontier:
                frontier = moment
                yield frontier, int(owner[instruction])
    assert place == len(run.events), (place, len(run.events))
    yield run.cycles, 0


def _pieces(
    stretches: Iterable[tuple[int, int]], found: Iterable[Slice]
) -> Iterator[tuple[int, Slice, int, int]]:
    """(section, slice, first cycle, stop): the slices cut where a stretch ends."""
    ends = iter(stretches)
    end, section = next(ends)
    for one in found:
        start = one.start
        while start < one.stop:
            while end <= start:
                end, section = next(ends)
            stop = min(end, one.stop)
            yield section, one, start, stop
            start = stop
