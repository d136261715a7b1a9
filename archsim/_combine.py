"""Sums of Estimates: parts of a model, each run several times, as one Estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from archsim._estimate_value import Estimate, Row

Key = TypeVar("Key")


def combine(name: str, parts: Sequence[tuple[Estimate, int]]) -> Estimate:
    """``parts`` one after another, each (estimate, times); shares are weighted by cycles.

    The rows are those of the parts, with their cycles and energy over all repetitions.
    """
    first = parts[0][0]
    cycles = sum(estimate.cycles * times for estimate, times in parts)
    return Estimate(
        name=name,
        level=first.level,
        cycles=cycles,
        seconds=sum(estimate.seconds * times for estimate, times in parts),
        actions=_summed(parts, lambda estimate: estimate.actions),
        energy_pj=_summed(parts, lambda estimate: estimate.energy_pj),
        macs=sum(estimate.macs * times for estimate, times in parts),
        utilization={
            engine: share / max(1, cycles)
            for engine, share in _summed(
                parts, lambda estimate: {k: v * estimate.cycles for k, v in estimate.utilization.items()}
            ).items()
        },
        stalls=_summed(parts, lambda estimate: estimate.stalls),
        bytes=_summed(parts, lambda estimate: estimate.bytes),
        rows=tuple(row for estimate, times in parts for row in _rows(estimate.rows, times)),
        counters=_summed(parts, lambda estimate: estimate.counters),
    )


def _rows(rows: Iterable[Row], times: int) -> Iterable[Row]:
    for row in rows:
        yield replace(
            row,
            name=row.name if times == 1 else f"{row.name} x{times}",
            cycles=row.cycles * times,
            macs=row.macs * times,
            energy_pj=row.energy_pj * times,
        )


def _summed(
    parts: Sequence[tuple[Estimate, int]], of: Callable[[Estimate], Mapping[Key, Any]]
) -> dict[Key, Any]:
    total: dict[Key, Any] = {}
    for estimate, times in parts:
        for key, value in of(estimate).items():
            total[key] = total.get(key, 0) + value * times
    return total
