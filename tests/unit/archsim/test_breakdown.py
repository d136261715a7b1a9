"""Where the array's cycles go, against the contract's formulas worked out by hand."""

from __future__ import annotations

import pytest

from archsim import (
    Architecture,
    ArchsimError,
    Array,
    Bus,
    Counter,
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
)
from archsim._breakdown import (
    DRAIN,
    FETCH,
    FIRST_OPERANDS,
    FIRST_WEIGHTS,
    HAND_OVER,
    SEQUENCER,
    STREAMING,
    WEIGHT_BOUND,
    Breakdown,
    breakdown,
)
from archsim._isa import Opcode
from archsim._timing import SEQ_CYCLES, SEQ_START, array_latency
from mapper import search
from workloads import load_model

RL = 20
ARCH = Architecture(
    name="small",
    clock_mhz=100.0,
    array=Array(rows=4, cols=8),
    bus=Bus(bytes=8, max_burst_beats=64, outstanding=2),
    scratchpad=Scratchpad(banks=4, words_per_bank=1024),
    accumulator_words=256,
    parameter_words=16,
    vector=Vector(buffer_words=64, rows=32),
    memory=Memory(read_latency=RL),
)
HALT = Instruction(Opcode.HALT)


def start(instructions: int) -> int:
    """First execute cycle: the program is fetched in one burst of eight beats an instruction."""
    last_beat = 1 + RL + 8 * instructions - 1
    return last_beat + 1 + 1 + SEQ_START


def matmul(rows: int, *, tiles: int = 1, waits: int = 0) -> Instruction:
    """``tiles`` tiles of ``rows`` rows and four stationary words."""
    fields = {"rows": rows, "w_rows": 4, "k_chunks": tiles, "n_chunks": 1}
    return Instruction(Opcode.MATMUL, (Operand(0), Operand(1024), Operand(0)), fields, waits)


def load(beats: int, signals: int) -> Instruction:
    """A LOAD of one segment."""
    fields = {"segments": 1, "beats": beats}
    return Instruction(Opcode.LOAD, (Operand(0), Operand(2048)), fields, signals=signals)


def shares(found: Breakdown) -> dict[str, int]:
    """Cause -> cycles; they must be the whole run."""
    assert sum(share.cycles for share in found.shares) == found.cycles
    assert [share.cycles for share in found.shares] == sorted((s.cycles for s in found.shares), reverse=True)
    return {share.cause: share.cycles for share in found.shares}


def test_one_product() -> None:
    found = breakdown(ARCH, Program("one", (matmul(10, tiles=2), HALT)))
    assert shares(found) == {
        FETCH: start(2),
        # Pushed in its execute cycle, visible at the queue's head in the next.
        SEQUENCER: 1,
        HAND_OVER: 1,
        FIRST_WEIGHTS: 4,
        STREAMING: 2 * 10,
        # The last sum is written, HALT sees it in the next cycle, and counts itself.
        DRAIN: array_latency(4, 8) + 1,
    }
    assert found.busy == 24


def test_tiles_shorter_than_their_weights() -> None:
    found = shares(breakdown(ARCH, Program("short", (matmul(1, tiles=5), HALT))))
    assert (found[STREAMING], found[FIRST_WEIGHTS], found[WEIGHT_BOUND]) == (5, 4, 4 * 3)


def test_waits_have_the_last_semaphores_name() -> None:
    listing = (load(1, 1), load(50, 2), matmul(10, waits=1), matmul(10, waits=2), HALT)
    found = shares(breakdown(ARCH, Program("waits", listing, semaphores={1: "waits for the second"})))
    first_push = start(5) + 2 * SEQ_CYCLES
    # Pop, address, latency, written, retired, visible: from the LOAD's push to the MATMUL's pop.
    first_pop = start(5) + 1 + 1 + RL + 1 + 1
    second_pop = start(5) + SEQ_CYCLES + 1 + 1 + RL + 49 + 1 + 1
    assert found[SEQUENCER] == first_push + 1 - start(5)
    assert found[FIRST_OPERANDS] == first_pop - (first_push + 1)
    assert found["waits for the second"] == second_pop - (first_pop + 4 + 10 + 1)
    assert found[HAND_OVER] == 2
    assert found[STREAMING] == 20


def test_without_a_product_there_is_only_the_rest() -> None:
    found = shares(breakdown(ARCH, Program("none", (load(1, 0), HALT))))
    assert found.keys() == {FETCH, DRAIN}
    assert found[FETCH] == start(2)


@pytest.mark.parametrize(("name", "seq"), [("edge-16x16", 32), ("cloud-128x128", 256)])
def test_a_models_layer_is_accounted_for(name: str, seq: int) -> None:
    arch = load_architecture(name)
    cascade = load_model("bert-base", seq=seq).part("block").cascade
    tilings = [found.tiling for found in search(cascade, arch, table=load_energy_table(arch.technology))]
    lowered = lower(cascade, arch, tilings)
    run = simulate(arch, lowered.program, program_address=lowered.program_address)
    found = breakdown(arch, lowered.program, program_address=lowered.program_address)
    assert found.cycles == run.cycles == sum(shares(found).values())
    assert found.busy == run.counter(Counter.ARRAY_BUSY)
    assert found.of(STREAMING) == run.counter(Counter.ARRAY_ROWS)


def test_too_long_to_trace() -> None:
    loop = Instruction(Opcode.LOOP, fields={"imm": 1 << 18})
    program = Program("long", (loop, matmul(4), Instruction(Opcode.END), HALT))
    message = (
        r"^program 'long' must execute fewer than 262144 engine instructions to be broken down, not 262144$"
    )
    with pytest.raises(ArchsimError, match=message):
        breakdown(ARCH, program)
