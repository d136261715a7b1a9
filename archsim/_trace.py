"""Traces for a browser: the Chrome/Perfetto JSON format, one cycle as one microsecond.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU defines the format;
https://ui.perfetto.dev and chrome://tracing show it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from archsim._errors import ArchsimError
from archsim._isa import Engine
from archsim._program import Program
from archsim._simulate import Event, Simulation

PROCESS = 1

Record = dict[str, Any]


def trace_json(program: Program, simulation: Simulation) -> str:
    """The trace as text: a track per engine, slices named by kernel and opcode, counters below.

    A slice lasts from the pop to the retirement; instructions of one engine that overlap are drawn
    on further tracks of that engine. ``simulation`` must come from ``simulate(..., trace=True)``.
    """
    if not simulation.events:
        raise ArchsimError("a trace must have events: simulate with trace=True")
    records = [
        {"ph": "M", "pid": PROCESS, "name": "process_name", "args": {"name": program.name}},
        *_tracks(program, simulation.events),
        *_counters(simulation.events),
    ]
    document = {
        "traceEvents": records,
        "displayTimeUnit": "ns",
        "otherData": {"cycles": simulation.cycles, "complete": simulation.complete, "unit": "1 us = 1 cycle"},
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def write_trace(path: Path, program: Program, simulation: Simulation) -> None:
    """Write the trace to ``path``: to a temporary name first, then renamed, so that no half file is left."""
    text = trace_json(program, simulation)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _tracks(program: Program, events: Iterable[Event]) -> Iterator[Record]:
    """Slices of work and of waiting, and the names of the tracks that they are on."""
    lanes: dict[Engine, list[int]] = {engine: [] for engine in Engine}
    for event in events:
        ends = lanes[event.engine]
        lane = next((index for index, end in enumerate(ends) if end <= event.pop), len(ends))
        if lane == len(ends):
            ends.append(0)
            yield _track_name(event.engine, lane)
        ends[lane] = event.retire + 1
        yield _work(program, event, _track(event.engine, lane))
        if event.pop > event.head and event.cause is not None:
            yield _wait(program, event)
    for engine in Engine:
        yield {**_named(engine, f"{engine.name} waiting"), "tid": _track(engine, 0) + 99}


def _track(engine: Engine, lane: int) -> int:
    return 100 * (engine + 1) + min(lane, 98)


def _track_name(engine: Engine, lane: int) -> Record:
    return {**_named(engine, engine.name + "'" * lane), "tid": _track(engine, lane)}


def _named(engine: Engine, name: str) -> Record:
    return {
        "ph": "M",
        "pid": PROCESS,
        "tid": _track(engine, 0),
        "name": "thread_name",
        "args": {"name": name},
    }


def _work(program: Program, event: Event, track: int) -> Record:
    fetch = event.instruction < 0
    text = "program fetch" if fetch else str(program.instructions[event.instruction])
    opcode = "FETCH" if fetch else program.instructions[event.instruction].opcode.name
    return {
        "ph": "X",
        "pid": PROCESS,
        "tid": track,
        "ts": event.pop,
        "dur": event.retire - event.pop + 1,
        "name": f"{event.section} {opcode}",
        "cat": event.engine.name,
        "args": {
            "instruction": event.instruction,
            "listing": text,
            "push": event.push,
            "issue": event.issue,
            "operands": list(event.operands),
        },
    }


def _wait(program: Program, event: Event) -> Record:
    cause = event.cause
    assert cause is not None
    return {
        "ph": "X",
        "pid": PROCESS,
        "tid": _track(event.engine, 0) + 99,
        "ts": event.head,
        "dur": event.pop - event.head,
        "name": program.semaphores.get(cause, f"semaphore {cause}"),
        "cat": "stall",
        "args": {"instruction": event.instruction},
    }


def _counters(events: Iterable[Event]) -> Iterator[Record]:
    """How many instructions of each engine are in flight, as it changes."""
    changes: dict[tuple[int, Engine], int] = {}
    for event in events:
        changes[event.push, event.engine] = changes.get((event.push, event.engine), 0) + 1
        gone = (event.retire + 1, event.engine)
        changes[gone] = changes.get(gone, 0) - 1
    level = dict.fromkeys(Engine, 0)
    for (cycle, engine), change in sorted(changes.items()):
        level[engine] += change
        yield {
            "ph": "C",
            "pid": PROCESS,
            "ts": cycle,
            "name": f"{engine.name} in flight",
            "args": {"instructions": level[engine]},
        }
