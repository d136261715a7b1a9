"""Passes over a rank: how often a cascade must come back to a fiber, whatever the mapping.

An Einsum's point at one coordinate of a rank comes back to a fiber if it descends, along that rank, from
the fiber's element there, and needs every other element of the same fiber to have been visited before.
Such a point is in a later pass than those visits, under every mapping. The definition is that of N. Nayak
et al., FuseMax, MICRO 2024, made precise for cascades of any dependences; ``docs/passes.md``
has it with examples. Nothing is rewritten: a cascade that defers a division is another cascade.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workloads._analyze import box, tensor_shapes, verify
from workloads._einsum import Access, Cascade
from workloads._errors import WorkloadError
from workloads._reach import Fiber, Ranks, reach
from workloads._span import Span, covers, point, through

Place = tuple[int, str]
"""An Einsum and one of its ranks."""


@dataclass(frozen=True, slots=True)
class Revisit:
    """Two Einsums that cannot be in the same pass, since the later needs the earlier's whole fiber."""

    number: int
    """The pass that it forces, counted from 1; so at least 2."""
    first: int
    """The Einsum that must have visited every other element: its position in the cascade."""
    again: int
    """The Einsum that comes back to the element: its position."""
    tensor: str
    """Whose fiber they both visit."""


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor that is visited before one trip along a rank ends, and needed in a later one."""

    tensor: str
    trip: int
    """The trip after which it is kept, counted from 1."""
    live: int
    """Elements to be kept on chip, for one coordinate of the ranks that may stand outside: a whole fiber."""
    reread: int
    """Elements that the next trip reads again from memory where they are not kept, all fibers together."""
    produced: bool
    """Whether the cascade computes it, so that it must be written to memory before."""


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes of a cascade over one rank, and what follows from them.

    A pass is a traversal of one fiber; a trip is a traversal of the rank that several Einsums share. Each
    pass needs a trip of its own, and so does an Einsum that waits for a whole fiber to begin on another one.
    """

    cascade: Cascade
    rank: str
    count: int
    """The least number of passes over any fiber of the rank: 1 where no element is needed again."""
    revisits: tuple[Revisit, ...]
    """For each pass after the first, the first pair of Einsums that forces it."""
    trips: tuple[tuple[int, ...], ...]
    """Positions of the Einsums with this rank, by the earliest trip in which they can run; each fuses."""
    held: tuple[Held, ...]
    """What must be kept, or read again, from trip to trip."""

    @property
    def live(self) -> int:
        """Elements kept on chip so that nothing is read twice: the most over any end of a trip.

        Each Einsum runs in its earliest trip; a visit along another rank's name is not counted.
        """
        after = {item.trip: 0 for item in self.held}
        for item in self.held:
            after[item.trip] += item.live
        return max(after.values(), default=0)

    @property
    def traffic(self) -> int:
        """Elements moved to and from memory beyond the compulsory ones where nothing is kept."""
        spilled = {item.tensor: item.reread for item in self.held if item.produced and item.reread}
        return sum(item.reread for item in self.held) + sum(spilled.values())

    def document(self) -> dict[str, Any]:
        """The result as plain values, for JSON; Einsums by the tensor that they write."""
        revisits = [
            {"pass": item.number, "after": after, "again": again, "tensor": item.tensor}
            for item in self.revisits
            for after, again in [self.names((item.first, item.again))]
        ]
        return {
            "size": self.cascade.ranks[self.rank],
            "passes": self.count,
            "revisits": revisits,
            "trips": [list(self.names(trip)) for trip in self.trips],
            "held": [asdict(item) for item in self.held],
            "live_elements": self.live,
            "traffic_elements": self.traffic,
        }

    def names(self, trip: Sequence[int]) -> tuple[str, ...]:
        """The tensors that the Einsums of ``trip`` write."""
        return tuple(self.cascade.einsums[position].output.tensor for position in trip)

    def __str__(self) -> str:
        lines = [f"{self.rank}: {self.count} {'pass' if self.count == 1 else 'passes'}"]
        for item in self.revisits:
            first, again = self.names((item.first, item.again))
            lines.append(f"  pass {item.number}: {again} visits {item.tensor} again after {first}")
        for number, trip in enumerate(self.trips, 1):
            lines.append(f"  trip {number}: {', '.join(self.names(trip))}")
        for held in self.held:
            kept = f"  after trip {held.trip}: keep {held.tensor}, {held.live} elements"
            lines.append(f"{kept}, or read {held.reread} again" if held.reread else kept)
        return "\n".join(lines)


def passes(cascade: Cascade, rank: str) -> Passes:
    """The passes of ``cascade`` over ``rank``; raises :class:`WorkloadError` where it has no such rank."""
    if rank not in cascade.ranks:
        known = ", ".join(cascade.ranks)
        raise WorkloadError(f"a rank of {cascade.name} must be one of {known}, not {rank!r}")
    verify(cascade)
    return _Analysis(cascade).over(rank)


def all_passes(cascade: Cascade) -> dict[str, Passes]:
    """The passes of ``cascade`` over each of its ranks, in their order."""
    verify(cascade)
    analysis = _Analysis(cascade)
    return {rank: analysis.over(rank) for rank in cascade.ranks}


@dataclass(frozen=True, slots=True)
class _Visit:
    """That one place must have visited ``span`` of a fiber before another visits it again."""

    first: Place
    span: Span


@dataclass(frozen=True, slots=True)
class _Way:
    """One way in which one place visits a fiber before another does."""

    distance: int
    """How many Einsums are between the place and the fiber."""
    first: Place
    seen: tuple[Span, ...]
    """The fiber's index values as the later place sees them; equal ones are one object."""
    moving: frozenset[str]
    """Ranks of the later place with which the visit moves, along which it is part of that place itself."""
    wide: bool
    """Whether the visit may go along the whole of the fiber."""


@dataclass(frozen=True, slots=True)
class _Before:
    """That an Einsum must have run at ``span`` of a rank."""

    position: int
    span: Span
    free: frozenset[str]
    """Its ranks that do not follow the later Einsum's own: those over which the wait extends."""


class _Analysis:
    """The passes and trips of every Einsum along every rank of one cascade."""

    def __init__(self, cascade: Cascade) -> None:
        self._cascade = cascade
        self._shapes = tensor_shapes(cascade)
        self._reach = reach(cascade)
        self._ranks = [einsum.ranks for einsum in cascade.einsums]
        self._places = [(e, rank) for e, ranks in enumerate(self._ranks) for rank in ranks]
        self._ancestors = self._all_ancestors()
        self._lineages = {place: self._reach.lineage(*place) for place in self._places}
        self._visitors = self._by_tensor()
        self._seen: dict[tuple[Span, ...], tuple[Span, ...]] = {}
        self._known_ways: dict[tuple[int, int], _Way] = {}
        self._known_spans: dict[int, dict[Span, Span]] = {}
        self._sorted_ways: dict[tuple[int, str, int], list[_Way]] = {}
        self._visits = {place: self._required_visits(place) for place in self._places}
        self._causes: dict[Place, dict[int, Revisit]] = {place: {} for place in self._places}
        self._settle(self._count_passes)
        self._earlier = {place: self._required_places(place) for place in self._places}
        self._trips = {place: self._pass(place) for place in self._places}
        self._settle(self._count_trips)

    def over(self, rank: str) -> Passes:
        """The result for one rank; a rank of one element has nothing to come back to."""
        places = [place for place in self._places if place[1] == rank]
        if self._cascade.ranks[rank] == 1:
            return Passes(self._cascade, rank, 1, (), (tuple(e for e, _ in places),) if places else (), ())
        count = max((self._pass(place) for place in places), default=1)
        causes = [self._causes[place] for place in places]
        revisits = tuple(
            min((found[n] for found in causes if n in found), key=lambda item: (item.again, item.first))
            for n in range(2, count + 1)
        )
        numbers = sorted({self._trips[place] for place in places})
        trips = tuple(tuple(e for e, _ in places if self._trips[e, rank] == n) for n in numbers)
        held = tuple(item for trip in range(1, len(trips)) for item in self._held(rank, trips, trip))
        return Passes(self._cascade, rank, count, revisits, trips, held)

    def _settle(self, improve: Callable[[Place], bool]) -> None:
        """Apply ``improve`` to every place until it changes none; dependences have no cycle, so it ends."""
        for _ in range(len(self._places) + 2):
            improved = [improve(place) for place in self._places]
            if not any(improved):
                return
        raise AssertionError("passes must settle")

    def _pass(self, place: Place) -> int:
        return max(self._causes[place], default=1)

    def _all_ancestors(self) -> dict[Place, Mapping[int, list[Ranks]]]:
        """Ancestors of every place; ranks along which there is no recurrence share them."""
        stepped = {rank for loops in self._reach.loops.values() for _, rank in loops}
        shared: dict[object, Mapping[int, list[Ranks]]] = {}
        found = {}
        for place in self._places:
            start = tuple(self._reach.start(*place).items())
            key = (place[0], start, place[1] in stepped and place[1])
            if key not in shared:
                shared[key] = self._reach.ancestors(*place)
            found[place] = shared[key]
        return found

    def _by_tensor(self) -> dict[tuple[str, int], dict[int, list[tuple[int, str, Fiber]]]]:
        """(tensor, dimension) -> Einsum -> the fibers that it carries there: how near, along which rank."""
        found: dict[tuple[str, int], dict[int, list[tuple[int, str, Fiber]]]] = {}
        for (position, rank), fibers in self._lineages.items():
            written = self._reach.written_fibers(position, rank)
            for distance, fiber in enumerate((*fibers, *written)):
                there = found.setdefault((fiber.tensor, fiber.axis), {}).setdefault(position, [])
                there.append((distance, rank, fiber))
        return found

    def _required_visits(self, place: Place) -> dict[Fiber, list[_Visit]]:
        """Fibers that ``place`` carries, nearest first, to the visits of them that it requires."""
        found: dict[Fiber, list[_Visit]] = {}
        start = self._reach.start(*place)
        for fiber in self._lineages[place]:
            mine = Fiber(fiber.tensor, tuple(through(span, start) for span in fiber.spans), fiber.axis)
            ways = [way for way in self._ways(place, fiber) if place[1] not in way.moving]
            along: dict[int, Span | None] = {}
            for way in ways:
                if id(way.seen) not in along:
                    along[id(way.seen)] = self._same_fiber(mine, way.seen, place[1])
            if any(way.wide and along[id(way.seen)] for way in ways):
                spans = ((way.first, along[id(way.seen)]) for way in ways)
                found[mine] = [_Visit(first, span) for first, span in spans if span]
        return found

    def _ways(self, place: Place, fiber: Fiber) -> list[_Way]:
        """How others visit fibers of that tensor before ``place``, nearest first."""
        ancestors = self._ancestors[place]
        key = id(ancestors), fiber.tensor, fiber.axis
        if key not in self._sorted_ways:
            visitors, known = self._visitors.get((fiber.tensor, fiber.axis), {}), self._known_ways
            found = [
                known.get((id(other), id(ranks))) or self._way((earlier, rank), distance, other, ranks)
                for earlier in ancestors
                if earlier in visitors
                for distance, rank, other in visitors[earlier]
                for ranks in ancestors[earlier]
            ]
            self._sorted_ways[key] = sorted(found, key=lambda way: way.distance)
        return self._sorted_ways[key]

    def _way(self, first: Place, distance: int, other: Fiber, ranks: Ranks) -> _Way:
        """The way on which ``first`` visits ``other`` where its ranks are seen as ``ranks``.

        Both come from tables that live as long as this analysis, so that their addresses tell them apart.
        """
        known = self._known_spans.setdefault(id(ranks), {})
        for span in other.spans:
            if span not in known:
                known[span] = through(span, ranks)
        seen = tuple(known[span] for span in other.spans)
        spans = (span for name, span in ranks.items() if name != first[1])
        moving = frozenset(rank for span in spans for rank, _ in span.terms)
        wide = any(ranks[name].is_wide for name, _ in other.spans[other.axis].terms)
        way = _Way(distance, first, self._seen.setdefault(seen, seen), moving, wide)
        return self._known_ways.setdefault((id(other), id(ranks)), way)

    def _same_fiber(self, fiber: Fiber, seen: tuple[Span, ...], rank: str) -> Span | None:
        """Where a visit of ``seen`` is along ``fiber``; None where it is of another fiber."""
        for axis, (one, two) in enumerate(zip(fiber.spans, seen, strict=True)):
            if axis != fiber.axis and not one.meets(two, self._cascade.ranks, rank):
                return None
        return seen[fiber.axis]

    def _count_passes(self, place: Place) -> bool:
        known = self._causes[place]
        before = len(known)
        for carrier in self._reach.carriers(*place):
            known.update({n: cause for n, cause in self._causes[carrier].items() if n not in known})
        while found := self._forced(place, self._pass(place)):
            tensor, first = found
            known.update({n: cause for n, cause in self._causes[first].items() if n not in known})
            number = self._pass(place) + 1
            known[number] = Revisit(number, first[0], place[0], tensor)
        return len(known) > before

    def _forced(self, place: Place, number: int) -> tuple[str, Place] | None:
        """The tensor of a fiber that ``place`` visits again after pass ``number``, and who did then."""
        rank = place[1]
        for fiber, visits in self._visits[place].items():
            late = [visit for visit in visits if self._pass(visit.first) >= number]
            if not late:
                continue
            whole = functools.partial(
                covers,
                fiber=fiber.spans[fiber.axis],
                rank=rank,
                sizes=self._cascade.ranks,
                length=self._shapes[fiber.tensor][fiber.axis],
            )
            if whole({visit.span for visit in late}):
                alone = (visit.first for visit in late if whole((visit.span,)))
                return fiber.tensor, next(alone, late[0].first)
        return None

    def _required_places(self, place: Place) -> list[_Before]:
        """Places along the same rank that a point requires at its own coordinates of all other ranks."""
        position, rank = place
        own = self._reach.start(position, rank)
        found = []
        for earlier, all_ranks in self._ancestors[place].items():
            names = self._ranks[earlier]
            if rank not in names:
                continue
            shared = [name for name in names if name in own and name != rank]
            for ranks in all_ranks:
                if all(own[name].meets(ranks[name], self._cascade.ranks, rank) for name in shared):
                    tied = {name for name in shared if ranks[name].coefficient(name)}
                    found.append(_Before(earlier, ranks[rank], frozenset(names) - tied))
        return found

    def _count_trips(self, place: Place) -> bool:
        position, rank = place
        number = before = self._trips[place]
        whole, sizes = point((rank,))[rank], self._cascade.ranks
        number = max([number, *(self._trips[item.position, rank] for item in self._earlier[place])])
        while True:
            late = [i.span for i in self._earlier[place] if self._trips[i.position, rank] >= number]
            if not covers(late, whole, rank=rank, sizes=sizes, length=sizes[rank]):
                break
            number += 1
        self._trips[position, rank] = number
        return number > before

    def _held(self, rank: str, trips: Sequence[Sequence[int]], trip: int) -> Iterator[Held]:
        """What is visited up to ``trip`` and read after it."""
        einsums = self._cascade.einsums
        done = {e for group in trips[:trip] for e in group}
        visited = {
            access.tensor
            for e in done
            for access in (*einsums[e].inputs, einsums[e].output)
            if rank in access.ranks
        }
        later = [
            (e, a) for group in trips[trip:] for e in group for a in einsums[e].inputs if rank in a.ranks
        ]
        for tensor in dict.fromkeys(access.tensor for _, access in later if access.tensor in visited):
            reads = [(e, access) for e, access in later if access.tensor == tensor]
            again = [access for e, access in reads if e in trips[trip]]
            live = max(self._live(e, access, rank=rank, done=done) for e, access in reads)
            reread = max((self._volume(access) for access in again), default=0)
            yield Held(tensor, trip, live, reread, tensor in self._reach.written)

    def _live(self, position: int, access: Access, *, rank: str, done: Collection[int]) -> int:
        """Elements of ``access`` along ``rank``, and along every rank that the wait is for as well."""
        waited = {rank}
        for item in self._earlier[position, rank]:
            if item.position in done and not item.span.coefficient(rank):
                waited |= item.free
        return math.prod(self._cascade.ranks[name] for name in access.ranks if name in waited)

    def _volume(self, access: Access) -> int:
        return math.prod(high - low + 1 for low, high in box(access, self._cascade.ranks))
