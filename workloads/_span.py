"""Sets of index values as seen from one point of an Einsum: the arithmetic behind dependence analysis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from workloads._einsum import Index

Bound = int | float
"""An integer, or minus or plus infinity where a recurrence reaches as far back as there is anything."""


Interval = tuple[Bound, Bound]

_ENDS = 8


@dataclass(frozen=True, slots=True)
class Span:
    """The values ``terms + k`` for ``low <= k <= high``; ``terms`` are over the ranks of a given point."""

    terms: tuple[tuple[str, int], ...] = ()
    """(rank of the point, nonzero coefficient), sorted by rank."""
    low: Bound = 0
    high: Bound = 0
    dense: bool = True
    """Whether every ``k`` is meant, not only some."""

    def coefficient(self, rank: str) -> int:
        """How fast the values move along ``rank``."""
        return next((c for name, c in self.terms if name == rank), 0) if self.terms else 0

    def shifted(self, offset: int) -> Span:
        """The values, each plus ``offset``."""
        return Span(self.terms, self.low + offset, self.high + offset, self.dense) if offset else self

    def within(self, other: Span) -> bool:
        """Whether ``other`` holds each of these values at every point, or is as much a window as this."""
        if self.terms != other.terms or not other.dense:
            return False
        return (other.low <= self.low and self.high <= other.high) or (self.is_window and other.is_window)

    @property
    def is_wide(self) -> bool:
        """Whether it may be part of a whole fiber: several values that do not move, or values without end."""
        return (not self.terms and self.low < self.high) or math.isinf(self.high - self.low)

    @property
    def is_window(self) -> bool:
        """Whether it is a few values around the point: never a fiber, whatever their number."""
        return bool(self.terms) and self.low < self.high and not math.isinf(self.high - self.low)

    def range(self, sizes: Mapping[str, int]) -> tuple[Bound, Bound]:
        """Smallest and largest value over all points."""
        low, high = Index(self.terms).range(sizes)
        return self.low + low, self.high + high

    def meets(self, other: Span, sizes: Mapping[str, int], fixed: str) -> bool:
        """Whether at some point the two have a value in common, for all values of rank ``fixed`` alike."""
        if self.terms == other.terms:
            return self.low <= other.high and other.low <= self.high
        gap = combined([(1, self), (-1, other)])
        if gap.coefficient(fixed):
            return False
        low, high = gap.range(sizes)
        return low <= 0 <= high


def point(ranks: Iterable[str]) -> dict[str, Span]:
    """The point itself: each rank has its own value."""
    return {rank: Span(((rank, 1),)) for rank in ranks}


def every(size: int) -> Span:
    """All values of a rank of this size."""
    return Span((), 0, size - 1)


def at(index: Index, ranks: Mapping[str, Span]) -> Span:
    """The values of ``index`` where its ranks take the values ``ranks``."""
    if len(index.terms) == 1 and index.terms[0][1] == 1:
        return ranks[index.terms[0][0]].shifted(index.offset)
    return combined([(c, ranks[rank]) for rank, c in index.terms]).shifted(index.offset)


def through(span: Span, ranks: Mapping[str, Span]) -> Span:
    """``span`` of a point seen from another, from which that point's ranks take the values ``ranks``."""
    if not span.terms:
        return span
    if len(span.terms) == 1 and span.terms[0][1] == 1 and span.low == span.high and span.dense:
        return ranks[span.terms[0][0]].shifted(int(span.low))
    own = Span((), span.low, span.high, span.dense)
    return combined([(1, own), *((c, ranks[rank]) for rank, c in span.terms)])


def combined(parts: Iterable[tuple[int, Span]]) -> Span:
    """The values of a sum of coefficient times span, each span's value chosen freely."""
    terms: dict[str, int] = {}
    low: Bound = 0
    high: Bound = 0
    steps: list[tuple[int, Bound]] = []
    dense = True
    for factor, span in parts:
        for rank, c in span.terms:
            terms[rank] = terms.get(rank, 0) + factor * c
        ends = (factor * span.low, factor * span.high)
        low, high = low + min(ends), high + max(ends)
        steps.append((abs(factor), span.high - span.low))
        dense = dense and span.dense
    left = tuple(sorted((rank, c) for rank, c in terms.items() if c))
    return Span(left, low, high, dense and _no_gaps(steps))


def _no_gaps(steps: list[tuple[int, Bound]]) -> bool:
    """Whether sums of (step, extent) parts take every value: 16 * m1 + m0 does with sixteen m0."""
    reach: Bound = 0
    for step, extent in sorted(steps):
        if extent and step > reach + 1:
            return False
        reach += step * extent
    return True


def covers(spans: Iterable[Span], fiber: Span, *, rank: str, sizes: Mapping[str, int], length: int) -> bool:
    """Whether ``spans`` hold ``fiber`` at all values of ``rank`` but the point's own, whichever that is.

    The point's other ranks are at their last values or at their first, where recurrences reach furthest.
    ``length`` is the tensor's along this dimension, beyond which there is nothing to hold.
    """
    step = fiber.coefficient(rank)
    if not step:
        return False
    fixed = Span(fiber.terms, *_exact(fiber))
    gaps = [gap for gap in (combined([(1, span), (-1, fixed)]) for span in spans) if gap.dense]
    lanes = _lanes(fixed, step, size=sizes[rank], length=length)
    if lanes[0] >= lanes[1]:
        return False
    corners = {name: sizes[name] - 1 for gap in gaps for name, _ in gap.terms if name != rank}
    return any(
        _covered_from(gaps, at, step, rank=rank, size=sizes[rank], lanes=lanes)
        for at in (corners, dict.fromkeys(corners, 0))[: 1 + bool(corners)]
    )


def _covered_from(
    gaps: Sequence[Span], at: Mapping[str, int], step: int, *, rank: str, size: int, lanes: tuple[int, int]
) -> bool:
    """Whether the gaps cover all lanes where the other ranks are ``at``, for each of ``rank`` alike."""
    resting, moving = [], []
    for gap in gaps:
        offset = sum(c * at[name] for name, c in gap.terms if name != rank)
        interval = _in_steps(gap.shifted(offset), step)
        if gap.coefficient(rank) == -step:
            resting.append(interval)
        elif not gap.coefficient(rank):
            moving.append(interval)
    if not resting and not _unbounded(moving):
        return False
    return all(_covered_at(here, resting, moving, lanes) for here in _samples(size))


def _unbounded(moving: Sequence[Interval]) -> bool:
    """Whether some reach back and some ahead without end: a window is no fiber, however short the rank."""
    return any(low == -math.inf for low, _ in moving) and any(high == math.inf for _, high in moving)


def _lanes(fixed: Span, step: int, *, size: int, length: int) -> tuple[int, int]:
    """First and last value of the rank that count and at which the fiber has an element."""
    edge = ends(size)
    if len(fixed.terms) > 1:
        return edge, size - 1 - edge
    first, last = sorted(((0 - fixed.low) / step, (length - 1 - fixed.low) / step))
    return max(edge, math.ceil(first)), min(size - 1 - edge, math.floor(last))


def ends(size: int) -> int:
    """Coordinates left out at either end of a rank: a recurrence starts and ends with elements of its own."""
    return min(_ENDS, size // 4)


def _samples(size: int) -> Iterable[int]:
    """Coordinates at which coverage is tried: all, or the ends and the middle of a long rank."""
    if size <= 2 * _ENDS:
        return range(size)
    return (*range(_ENDS), size // 2, *range(size - _ENDS, size))


def _covered_at(
    here: int, resting: Sequence[Interval], moving: Sequence[Interval], lanes: tuple[int, int]
) -> bool:
    """Whether the intervals, some of which move along with ``here``, hold all other lanes."""
    intervals = sorted([*resting, *((here + low, here + high) for low, high in moving)])
    first, last = lanes
    below = _covered(intervals, first, min(here - 1, last))
    return below and _covered(intervals, max(here + 1, first), last)


def _exact(span: Span) -> tuple[int, int]:
    """One value of the offsets, for a fiber that stands for several."""
    value = next((int(v) for v in (span.high, span.low) if not math.isinf(v)), 0)
    return value, value


def _in_steps(gap: Span, step: int) -> Interval:
    low, high = sorted((gap.low / step, gap.high / step))
    return low if math.isinf(low) else math.ceil(low), high if math.isinf(high) else math.floor(high)


def _covered(intervals: Iterable[Interval], low: Bound, high: Bound) -> bool:
    for first, last in intervals:
        if first <= low <= last:
            low = last + 1
    return low > high
