"""Traces: valid, complete, and written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from archsim._errors import ArchsimError
from archsim._simulate import simulate
from archsim._trace import trace_json, write_trace
from tests.unit.archsim.test_simulate import ARCH, END, loop, matmul, program, vector

LISTING = replace(
    program(loop(3), matmul(signals=1), vector(waits=1), END),
    sections=((0, "scores"),),
    semaphores={0: "sums ready"},
)
RUN = simulate(ARCH, LISTING, trace=True)


def test_every_instruction_is_a_slice_named_by_kernel_and_opcode() -> None:
    records = json.loads(trace_json(LISTING, RUN))["traceEvents"]
    slices = [each for each in records if each["ph"] == "X" and each["cat"] != "stall"]
    names = sorted(each["name"] for each in slices)
    assert names == ["(start) FETCH"] + ["scores MATMUL"] * 3 + ["scores VECTOR"] * 3
    spans = {(each["ts"], each["ts"] + each["dur"]) for each in slices}
    assert spans == {(event.pop, event.retire + 1) for event in RUN.events}


def test_waiting_is_named_by_its_semaphore_and_sums_to_the_stalls() -> None:
    records = json.loads(trace_json(LISTING, RUN))["traceEvents"]
    waits = [each for each in records if each.get("cat") == "stall"]
    assert {each["name"] for each in waits} == {"sums ready"}
    assert sum(each["dur"] for each in waits) == RUN.stalls(0)


def test_slices_of_one_track_do_not_overlap() -> None:
    records = json.loads(trace_json(LISTING, RUN))["traceEvents"]
    ends: dict[int, int] = {}
    for each in sorted((each for each in records if each["ph"] == "X"), key=lambda each: each["ts"]):
        assert each["ts"] >= ends.get(each["tid"], 0)
        ends[each["tid"]] = each["ts"] + each["dur"]


def test_counters_return_to_zero() -> None:
    records = json.loads(trace_json(LISTING, RUN))["traceEvents"]
    last = {each["name"]: each["args"]["instructions"] for each in records if each["ph"] == "C"}
    assert last == {"ARRAY in flight": 0, "LOAD in flight": 0, "VECTOR in flight": 0}


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_trace(path, LISTING, RUN)
    assert path.read_text(encoding="utf-8") == trace_json(LISTING, RUN)
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError, match="taken"):
        write_trace(path, LISTING, RUN)
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_a_run_without_events_has_no_trace() -> None:
    with pytest.raises(ArchsimError, match=r"^a trace must have events: simulate with trace=True$"):
        trace_json(LISTING, simulate(ARCH, LISTING))
