"""Cascades whose program would not fit the program memory: several programs, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from archsim._architecture import Architecture
from archsim._lower import Lowered, lower_planned, program_length
from archsim._plan import Planned, plan
from archsim._tiling import Tiling
from workloads import Cascade, Quantised


def programs(
    cascade: Cascade, arch: Architecture, tilings: Sequence[Tiling], *, quantised: Quantised | None = None
) -> tuple[Lowered, ...]:
    """``lower``, cut into as few programs in order as the program memory asks for."""
    planned = plan(cascade, arch)
    if program_length(cascade, planned, arch, tilings) <= arch.program_words or quantised is not None:
        return (lower_planned(cascade, planned, arch, tilings, quantised=quantised),)
    made = []
    for first, last in _cuts(cascade, planned, arch, tilings):
        part = replace(planned, plans=planned.plans[first:last])
        made.append(lower_planned(cascade, part, arch, tilings[first:last]))
    return tuple(made)


def _cuts(
    cascade: Cascade, planned: Planned, arch: Architecture, tilings: Sequence[Tiling]
) -> Iterator[tuple[int, int]]:
    """Runs of kernels that fit, each as long as its kernels' lengths allow."""
    lengths = [
        program_length(cascade, replace(planned, plans=(item,)), arch, (tiling,))
        for item, tiling in zip(planned.plans, tilings, strict=True)
    ]
    first, total = 0, 0
    for position, length in enumerate(lengths):
        if position > first and total + length > arch.program_words:
            yield first, position
            first, total = position, 0
        total += length
    yield first, len(lengths)
