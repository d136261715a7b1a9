"""When each tensor is complete, against the contract's formulas worked out by hand."""

from __future__ import annotations

import pytest

from archsim import (
    Architecture,
    ArchsimError,
    Array,
    Bus,
    Instruction,
    Memory,
    Operand,
    Program,
    Scratchpad,
    Vector,
    load_architecture,
    load_energy_table,
    lower,
    simulate,
    written_at,
)
from archsim._isa import Engine, Opcode
from archsim._timing import POP_CYCLES, SEQ_START, STORE_LEAD
from mapper import search
from workloads import load_model

RL, WL, WI, BURST = 20, 9, 2, 4
ARCH = Architecture(
    name="small",
    clock_mhz=100.0,
    array=Array(rows=4, cols=8),
    bus=Bus(bytes=8, max_burst_beats=BURST, outstanding=64),
    scratchpad=Scratchpad(banks=4, words_per_bank=64),
    accumulator_words=64,
    parameter_words=16,
    vector=Vector(buffer_words=64, rows=32),
    memory=Memory(read_latency=RL, write_latency=WL, write_interval=WI),
)
HALT = Instruction(Opcode.HALT)


def store(address: int, beats: int, *, segments: int = 1) -> Instruction:
    """A STORE of adjacent segments of ``beats`` beats."""
    fields = {"segments": segments, "beats": beats, "dram_stride": 8 * beats, "local_stride": beats}
    return Instruction(Opcode.STORE, (Operand(address), Operand(0)), fields)


def finish(last: int, bursts: int, *, first: int) -> int:
    """Last beat of a STORE popped in the cycle after ``last``: its first burst is of ``first`` beats."""
    after_first = last + 2 + STORE_LEAD + (first - 1) * WI
    return after_first + (bursts - 1) * (1 + STORE_LEAD + (BURST - 1) * WI)


def test_a_tensor_is_complete_with_the_last_beat_of_its_last_store() -> None:
    program = Program(
        "stores",
        # Y twice, Z in between; the last instruction has no tensor.
        (store(0, 3), store(4096, BURST, segments=3), store(32, BURST, segments=2), store(8192, 1), HALT),
        tensors={0: "Y", 1: "Z", 2: "Y"},
    )
    fetched = 1 + RL + 8 * 5 - 1
    popped = fetched + 1 + 1 + SEQ_START + POP_CYCLES
    first = finish(popped - 1, 1, first=3)
    middle = finish(first, 3, first=BURST)
    found = written_at(program, simulate(ARCH, program, trace=True))
    assert list(found.items()) == [("Y", finish(middle, 2, first=BURST)), ("Z", middle)]


def test_nothing_is_complete_where_nothing_is_stored() -> None:
    program = Program("empty", (HALT,))
    assert written_at(program, simulate(ARCH, program, trace=True)) == {}


def test_a_layers_tensors_are_complete_one_response_before_their_last_stores_retire() -> None:
    arch = load_architecture("edge-8x8")
    cascade = load_model("minilm", seq=8).parts[0].cascade
    tilings = [found.tiling for found in search(cascade, arch, table=load_energy_table(arch.technology))]
    program = lower(cascade, arch, tilings).program
    run = simulate(arch, program, trace=True)
    found = written_at(program, run)
    stored = {
        event.section: event.retire - 1 - arch.memory.write_latency
        for event in run.events
        if event.engine is Engine.STORE and program.instructions[event.instruction].opcode is Opcode.STORE
    }
    assert found == stored
    assert len(found) > 1


def test_a_run_that_was_not_traced_is_refused() -> None:
    program = Program("stores", (store(0, 3), HALT), tensors={0: "Y"})
    with pytest.raises(ArchsimError, match=r"^simulation of 'stores' must be traced, not without events$"):
        written_at(program, simulate(ARCH, program))


def test_a_trace_that_was_cut_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # The program fetch is an event too.
    for module in ("_simulate", "_finish"):
        monkeypatch.setattr(f"archsim.{module}.EVENT_CAP", 8)
    fits, long = (looped(trips) for trips in (7, 8))
    assert list(written_at(fits, simulate(ARCH, fits, trace=True))) == ["Y"]
    message = r"^trace of 'loop' must hold the whole run \(up to 8 instructions\), not its first 8 events$"
    with pytest.raises(ArchsimError, match=message):
        written_at(long, simulate(ARCH, long, trace=True))


def looped(trips: int) -> Program:
    """A STORE in a loop."""
    loop = (Instruction(Opcode.LOOP, (), {"imm": trips}), store(0, 1), Instruction(Opcode.END), HALT)
    return Program("loop", loop, tensors={1: "Y"})
