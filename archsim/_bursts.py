"""The bursts of a traced run: when each was requested and when its data came, from the transfers' pops.

A trace keeps few bursts for each of its instructions; long transfers of short bursts have more. Their
times follow from the pops alone (``docs/machine.md``), and are worked out here for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim._architecture import Architecture
from archsim._isa import INSTRUCTION_BYTES, Engine, Opcode
from archsim._program import Program
from archsim._simulate import Event
from archsim._timing import STORE_LEAD

Integers = NDArray[np.int64]

PAGE_BYTES = 4096
"""Bursts end at multiples of this many bytes (AXI4)."""
_WORD = (1 << 32) - 1
_F = TypeVar("_F", bound=Callable[..., object])


def _jit(function: _F) -> _F:
    """Numba's ``njit`` with the type that the function has."""
    return cast("_F", njit(cache=True)(function))


@dataclass(frozen=True, slots=True)
class Bursts:
    """The bursts of one engine in their order."""

    request: Integers
    """Cycle of the address handshake."""
    first: Integers
    """Cycle of the first data beat."""
    last: Integers
    owner: Integers
    """Place in the trace of the transfer."""
    end: dict[int, int]
    """Place in the trace of a transfer -> its last burst."""


def bursts_of(
    arch: Architecture, program: Program, events: Sequence[Event], engine: Engine, *, count: int
) -> Bursts:
    """The ``count`` bursts of all transfers of LOAD or STORE, the program's fetch among LOAD's."""
    places = [place for place, event in enumerate(events) if _is_transfer(program, event, engine)]
    shapes = [_shape(arch, program, events[place]) for place in places]
    table = np.array(shapes, np.int64).reshape(len(shapes), 5)
    times = np.zeros((3, count), np.int64)
    ends = np.zeros(len(places), np.int64)
    memory = arch.memory
    figures = (
        (0, memory.read_latency, memory.read_interval, 0)
        if engine is Engine.LOAD
        else (1, STORE_LEAD, memory.write_interval, memory.write_latency)
    )
    bus = (arch.bus.bytes, arch.bus.max_burst_beats, arch.bus.outstanding)
    made = _fill(table, bus, figures, times, ends)
    assert made == count, (made, count)
    owner = np.repeat(np.array(places, np.int64), np.diff(ends, prepend=0))
    last = {place: int(end) - 1 for place, end in zip(places, ends, strict=True)}
    return Bursts(request=times[0], first=times[1], last=times[2], owner=owner, end=last)


def _is_transfer(program: Program, event: Event, engine: Engine) -> bool:
    if event.engine is not engine:
        return False
    if event.instruction < 0:
        return True
    return program.instructions[event.instruction].opcode in (Opcode.LOAD, Opcode.STORE)


def _shape(arch: Architecture, program: Program, event: Event) -> tuple[int, int, int, int, int]:
    """(pop, address, segments, beats, stride) of a transfer."""
    if event.instruction < 0:
        beats = -(-INSTRUCTION_BYTES * len(program.instructions) // arch.bus.bytes)
        return event.pop, event.operands[0], 1, beats, 0
    field = program.instructions[event.instruction].field
    return event.pop, event.operands[0], field("segments"), field("beats"), field("dram_stride")


@_jit
def _fill(
    table: Integers,
    bus: tuple[int, int, int],
    figures: tuple[int, int, int, int],
    times: Integers,
    ends: Integers,
) -> int:
    """Write each burst's request, first and last beat, and each transfer's end: the number of bursts.

    ``figures`` are whether the transfers write, the cycles from a request to the first beat, from beat
    to beat, and from the last beat to the response.
    """
    width, longest, flying = bus
    writes, latency, interval, tail = figures
    count, beat = 0, -(1 << 40)
    for number in range(len(table)):
        request, address, segments, beats, stride = table[number]
        for segment in range(segments):
            place = (address + segment * stride) & _WORD
            left = beats
            while left > 0:
                length = min(left, longest, (PAGE_BYTES - place % PAGE_BYTES) // width)
                if count >= flying:
                    request = max(request, times[2, count - flying] + tail)
                if writes:
                    request = max(request, beat)
                request += 1
                first = max(request + latency, beat + interval)
                beat = first + (length - 1) * interval
                times[0, count], times[1, count], times[2, count] = request, first, beat
                count += 1
                place += length * width
                left -= length
        ends[number] = count
    return count
