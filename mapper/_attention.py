"""The best way to run attention on a spatial machine, and the machines that are worth their area.

The search tries every exact cascade of the taxonomy, tiles of as many keys as an element's words hold,
and both ways to overlap; FuseMax's own mapping is one of the candidates. Machines vary in
sides, lanes and buffer.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from archsim._errors import ArchsimError
from archsim._estimate_value import Estimate
from archsim._fusemax import BATCH, Encoder
from archsim._spatial import Spatial
from archsim._spatial_bind import bind
from archsim._spatial_estimate import Schedule, estimate_bound
from archsim._spatial_traffic import block_rows
from mapper._errors import MapperError
from workloads import Cascade
from workloads._attention import deferred, one_pass, three_pass

SIDES = tuple(1 << n for n in range(4, 10))
"""Sides of the arrays that the sweep tries."""
BUFFERS = tuple(1 << n for n in range(18, 26, 2))
"""Bytes of the buffers that it tries."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best mapping of one layer's attention on one machine."""

    cascade: str
    tile: int
    """Keys of a tile; all of them where the cascade keeps whole rows."""
    schedule: Schedule
    block: int
    """Query rows for which keys and values are read once; 0 where the cascade keeps whole rows."""
    estimate: Estimate

    def __str__(self) -> str:
        return f"{self.cascade}, {f'tiles of {self.tile} keys' if self.block else 'whole rows'}"


@dataclass(frozen=True, slots=True)
class Design:
    """A machine of the sweep with its area and the latency of the best mapping on it."""

    machine: Spatial
    area_cm2: float
    latency_s: float
    found: Found


def best(encoder: Encoder, length: int, *, machine: Spatial) -> Found:
    """The mapping with the fewest cycles, then the least energy.

    Raises MapperError where none fits the machine.
    """
    found = list(candidates(encoder, length, machine=machine))
    if not found:
        raise MapperError(f"buffer.bytes must hold a tile of {length} keys, not {machine.buffer.bytes} bytes")
    return min(found, key=lambda each: (each.estimate.cycles, each.estimate.energy_total_pj))


def candidates(encoder: Encoder, length: int, *, machine: Spatial) -> Iterator[Found]:
    """Every mapping that the search tries and that fits."""
    heads = BATCH * encoder.heads
    for cascade, tile in _cascades(length, encoder.head_features, machine):
        bound = bind(cascade, machine)
        try:
            block = block_rows(bound) if bound.tiles else 0
        except ArchsimError:
            continue
        # Tiles that wait for each other never beat the same tiles overlapped.
        schedules: tuple[Schedule, ...] = ("pipelined",) if bound.tiles else ("pipelined", "apart")
        for schedule in schedules:
            estimate = estimate_bound(bound, schedule=schedule, times=heads)
            yield Found(cascade.name, tile, schedule, block, estimate)


@functools.lru_cache(maxsize=4096)
def _one_pass(length: int, tile: int, features: int) -> Cascade:
    return one_pass(p=length, m1=length // tile, m0=tile, e=features, f=features)


@functools.lru_cache(maxsize=64)
def _by_rows(length: int, features: int) -> tuple[Cascade, ...]:
    return tuple(build(p=length, m=length, e=features, f=features) for build in (three_pass, deferred))


def _cascades(length: int, features: int, machine: Spatial) -> Iterator[tuple[Cascade, int]]:
    for cascade in _by_rows(length, features):
        yield cascade, length
    tile = machine.rows
    while tile <= min(length // 2, machine.rows * machine.element_words):
        yield _one_pass(length, tile, features), tile
        tile *= 2


def sweep(encoder: Encoder, length: int, *, machine: Spatial) -> list[Design]:
    """Designs of all sides, lanes and buffers around ``machine``, the smallest first.

    Energy of a buffer's word is the machine's own: the sweep compares area and latency.
    """
    found = []
    for design in _machines(machine, BUFFERS, ratio=2):
        try:
            mapping = best(encoder, length, machine=design)
        except MapperError:
            continue
        found.append(Design(design, design.area_um2 * 1e-8, mapping.estimate.seconds, mapping))
    return sorted(found, key=lambda each: (each.area_cm2, each.latency_s))


def same_area(encoder: Encoder, length: int, *, machine: Spatial) -> list[Design]:
    """Designs of other aspect ratios, lanes and buffers that take at most the area of ``machine``.

    For each shape of the arrays the largest buffer, in MiB, that the area leaves; the fastest first.
    """
    found = []
    for design in _machines(machine, (0,), ratio=16):
        room = _room_bytes(machine, design) >> 20 << 20
        if design.elements == machine.elements and room > 0:
            fitted = replace(design, buffer=replace(machine.buffer, bytes=room))
            mapping = best(encoder, length, machine=fitted)
            found.append(Design(fitted, fitted.area_um2 * 1e-8, mapping.estimate.seconds, mapping))
    return sorted(found, key=lambda each: (each.latency_s, each.area_cm2))


AREA_ROWS = (64, 128, 256, 512)
AREA_BUFFERS = (1 << 20, 1 << 22, 1 << 24)
AREA_STEP = 16
"""Columns come in multiples of this where a machine is made to fill an area."""


def fastest_of_area(encoder: Encoder, length: int, *, machine: Spatial) -> Design:
    """The fastest machine in the area of ``machine``, then the smallest, with the best mapping on it.

    Rows are powers of two, lanes half as many as columns or as many, buffers 1 to 16 MiB; columns are as many
    as the area leaves, so that what a smaller buffer spares becomes elements. ``machine`` itself is tried.
    """
    tried = [machine, *_filling(machine)]
    found = []
    for design in tried:
        with contextlib.suppress(MapperError):
            mapping = best(encoder, length, machine=design)
            found.append(Design(design, design.area_um2 * 1e-8, mapping.estimate.seconds, mapping))
    return min(found, key=lambda each: (each.latency_s, each.area_cm2))


def _filling(machine: Spatial) -> Iterator[Spatial]:
    """Machines of as many columns as the area of ``machine`` leaves beside rows and buffer."""
    assert machine.area is not None
    for rows, size, share in itertools.product(AREA_ROWS, AREA_BUFFERS, (2, 1)):
        room = machine.area_um2 - size * machine.area.buffer_um2_per_byte
        column = rows * machine.area.element_um2 + machine.area.lane_um2 / share
        cols = int(room / column) // AREA_STEP * AREA_STEP
        if cols:
            buffer = replace(machine.buffer, bytes=size)
            name = f"{rows}x{cols}+{cols // share}"
            yield replace(machine, name=name, rows=rows, cols=cols, lanes=cols // share, buffer=buffer)


def _room_bytes(machine: Spatial, design: Spatial) -> int:
    """Bytes of buffer that the arrays of ``design`` leave of the area of ``machine``."""
    left = machine.area_um2 - design.area_um2
    return int(left / machine.area.buffer_um2_per_byte) if machine.area and left > 0 else 0


def _machines(machine: Spatial, buffers: tuple[int, ...], *, ratio: int) -> Iterator[Spatial]:
    """Sides of powers of two, at most ``ratio`` times apart, and half as many lanes as columns or as many."""
    sides = [(r, c) for r in SIDES for c in SIDES if max(r, c) <= ratio * min(r, c)]
    for (rows, cols), size in itertools.product(sides, buffers):
        for lanes in (cols // 2, cols):
            buffer = replace(machine.buffer, bytes=size)
            name = f"{rows}x{cols}+{lanes}"
            yield replace(machine, name=name, rows=rows, cols=cols, lanes=lanes, buffer=buffer)


def pareto(designs: Iterable[Design]) -> list[Design]:
    """The designs that no other beats in area and latency both, the smallest first."""
    front: list[Design] = []
    for design in sorted(designs, key=lambda each: (each.area_cm2, each.latency_s)):
        if not front or design.latency_s < front[-1].latency_s:
            front.append(design)
    return front
