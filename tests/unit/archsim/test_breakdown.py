"""Where the array's cycles go, against the contract's formulas worked out by hand."""

from __future__ import annotations

from dataclasses import replace

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
    _breakdown,
    _simulate,
    load_architecture,
    load_energy_table,
    lower,
    simulate,
)
from archsim._breakdown import Share, Spent, breakdown, combined, layers
from archsim._causes import (
    ARRAY_DRAIN,
    FETCH,
    FIRST_WEIGHTS,
    GROUPS,
    HALT,
    HAND_OVER,
    READ_BANDWIDTH,
    READ_LATENCY,
    RESULT,
    SEQUENCER,
    STREAMING,
    VECTOR_UNIT,
    WEIGHT_BOUND,
    WRITES,
)
from archsim._isa import Destination, Opcode
from archsim._simulate import START
from archsim._timing import (
    HALT_CYCLES,
    NEXT_CYCLES,
    POP_CYCLES,
    SEQ_CYCLES,
    SEQ_START,
    STORE_LEAD,
    TOKEN_CYCLES,
    array_latency,
    vector_latency,
)
from mapper import search
from workloads import encoder_cascade, load_model

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
END = Instruction(Opcode.HALT)


def start(instructions: int) -> int:
    """First execute cycle: the program is fetched in one burst of eight beats an instruction."""
    last_beat = 1 + RL + 8 * instructions - 1
    return last_beat + 1 + 1 + SEQ_START


def matmul(rows: int, *, tiles: int = 1, **masks: int) -> Instruction:
    """``tiles`` tiles of ``rows`` rows and four stationary words."""
    fields = {"rows": rows, "w_rows": 4, "k_chunks": tiles, "n_chunks": 1}
    return Instruction(Opcode.MATMUL, (Operand(0), Operand(1024), Operand(0)), fields, **masks)


def load(beats: int, signals: int, waits: int = 0) -> Instruction:
    """A LOAD of one segment."""
    fields = {"segments": 1, "beats": beats}
    return Instruction(Opcode.LOAD, (Operand(0), Operand(2048)), fields, waits, signals)


def vector(rows: int, waits: int, signals: int) -> Instruction:
    """A pass over ``rows`` accumulator words into the scratchpad."""
    fields = {"rows": rows, "chunks": 1, "length": 8, "group": 8, "destination": Destination.SCRATCHPAD}
    return Instruction(Opcode.VECTOR, (Operand(0), Operand(3072)), fields, waits, signals)


def store(beats: int, waits: int, signals: int) -> Instruction:
    """A STORE of one segment."""
    fields = {"segments": 1, "beats": beats}
    return Instruction(Opcode.STORE, (Operand(0), Operand(3072)), fields, waits, signals)


def shares(found: Spent) -> dict[str, int]:
    """Cause -> cycles; they must be the whole run."""
    assert sum(share.cycles for share in found.shares) == found.cycles
    assert sum(found.in_group(group) for group in GROUPS) == found.cycles
    assert [share.cycles for share in found.shares] == sorted((s.cycles for s in found.shares), reverse=True)
    return {share.cause: share.cycles for share in found.shares}


def test_one_product() -> None:
    found = breakdown(ARCH, Program("one", (matmul(10, tiles=2), END)))
    assert shares(found) == {
        FETCH: start(2),
        # Pushed in its execute cycle, at the queue's head and armed in the next, then popped.
        SEQUENCER: 1,
        HAND_OVER: POP_CYCLES,
        FIRST_WEIGHTS: 4,
        STREAMING: 2 * 10,
        # The last sum is written; that nothing is in flight is seen, and HALT counts itself.
        ARRAY_DRAIN: array_latency(4, 8),
        HALT: HALT_CYCLES,
    }
    assert found.busy == 24


def test_tiles_shorter_than_their_weights() -> None:
    found = shares(breakdown(ARCH, Program("short", (matmul(1, tiles=5), END))))
    assert (found[STREAMING], found[FIRST_WEIGHTS], found[WEIGHT_BOUND]) == (5, 4, 4 * 3)


def test_a_pause_is_split_into_latency_and_bandwidth() -> None:
    listing = (load(1, 1), load(50, 2), matmul(10, waits=1), matmul(10, waits=2), END)
    found = shares(breakdown(ARCH, Program("waits", listing)))
    # LOAD's push, its pop, then request, latency and the write, until the product pops.
    first_pop = start(5) + POP_CYCLES + 1 + RL + 1 + TOKEN_CYCLES
    # Between the first product's last row and the second LOAD's last datum; its write is one more cycle.
    last_beat = start(5) + SEQ_CYCLES + POP_CYCLES + 1 + RL + 49
    bandwidth = last_beat + 1 - (first_pop + 1 + 4 + 10)
    assert found == {
        FETCH: start(5),
        SEQUENCER: 1,
        HAND_OVER: POP_CYCLES + 2 * TOKEN_CYCLES,
        READ_LATENCY: (1 + RL + 1) + 1,
        READ_BANDWIDTH: bandwidth,
        FIRST_WEIGHTS: 2 * 4,
        STREAMING: 2 * 10,
        ARRAY_DRAIN: array_latency(4, 8),
        HALT: HALT_CYCLES,
    }


def streamed(rows: int, *, trips: int) -> Program:
    """Tiles of eight beats, double buffered: loaded, and multiplied by ``rows`` rows."""
    credit = Instruction(Opcode.SYNC_ARRAY, releases=2)
    loop = Instruction(Opcode.LOOP, fields={"imm": trips})
    body = (load(8, signals=1, waits=2), matmul(rows, waits=1, releases=2), Instruction(Opcode.END))
    return Program("streamed", (credit, credit, loop, *body, END), sections=((2, "gemm"),), tensors={3: "W"})


def test_a_memory_bound_product_waits_for_bandwidth() -> None:
    interval, trips = 10, 7
    arch = replace(ARCH, memory=Memory(read_latency=RL, read_interval=interval))
    found = breakdown(arch, streamed(10, trips=trips))
    # The bus never rests: a tile comes every 80 cycles, in some of which its token reaches the array. This
    # works in 14 and sees the last datum being written in one; before the first tile all but the first datum.
    pause = 8 * interval - TOKEN_CYCLES - (4 + 10) - 1
    assert found.of(READ_BANDWIDTH) == 7 * interval + (trips - 1) * pause
    assert found.of(READ_LATENCY) == (1 + RL + 1) + (trips - 1)
    assert found.busy == trips * (4 + 10)
    assert found.in_group("memory") == found.of(READ_BANDWIDTH) + found.of(READ_LATENCY)
    gemm = found.sections[-1]
    assert gemm.reason == Share(cause=READ_BANDWIDTH, cycles=found.of(READ_BANDWIDTH), tensor="W")
    assert [(share.cause, share.tensor) for share in found.transfers] == [
        (READ_BANDWIDTH, "W"),
        (READ_LATENCY, "W"),
    ]


def test_a_compute_bound_product_waits_for_its_first_tile_alone() -> None:
    for trips in (2, 20):
        found = breakdown(ARCH, streamed(40, trips=trips))
        assert found.of(READ_LATENCY) == 1 + RL + 1
        assert found.of(READ_BANDWIDTH) == 7
        assert found.busy == trips * 44
        assert found.in_group("dependence") == array_latency(4, 8)


def test_a_kernel_waits_for_the_previous_ones_result() -> None:
    memory = Memory(read_latency=RL, write_latency=17, write_interval=3)
    first = (load(1, 1), matmul(10, waits=1, signals=2), vector(10, 2, 4), store(10, 4, 0))
    barrier = (Instruction(Opcode.SYNC_STORE, signals=8), Instruction(Opcode.SYNC_LOAD, waits=8))
    second = (load(1, 1), matmul(10, waits=1), END)
    program = Program("two", (*first, *barrier, *second), sections=((0, "one"), (5, "two")))
    found = breakdown(replace(ARCH, memory=memory), program)
    assert shares(found) == {
        FETCH: start(9),
        SEQUENCER: 1,
        # One LOAD is behind its push, one behind a pop; products, passes, STORE, SYNC_LOAD behind tokens.
        HAND_OVER: POP_CYCLES + NEXT_CYCLES + 5 * TOKEN_CYCLES,
        READ_LATENCY: 2 * (1 + RL + 1),
        FIRST_WEIGHTS: 2 * 4,
        STREAMING: 2 * 10,
        ARRAY_DRAIN: 2 * array_latency(4, 8),
        VECTOR_UNIT: 10 + vector_latency(8),
        # Request to first datum, nine more, response, and the cycles in which it comes and retires.
        RESULT: STORE_LEAD + 9 * 3 + 17 + 2,
        HALT: HALT_CYCLES,
    }
    one, two = found.sections[1:]
    # A section accounts for the cycles up to its last retirement, which is in the next one's first cycle.
    assert (one.of(RESULT), two.of(RESULT)) == (found.of(RESULT) - 1, 1)
    assert (one.of(VECTOR_UNIT), two.of(VECTOR_UNIT)) == (10 + vector_latency(8), 0)


def test_a_store_in_the_way_is_memorys() -> None:
    """Here a product waits for a buffer that a STORE frees, and no LOAD for what it wrote."""
    memory = Memory(read_latency=RL, write_latency=50, write_interval=5)
    listing = (store(4, 0, 0), store(4, 0, 1), matmul(10, waits=1), END)
    found = breakdown(replace(ARCH, memory=memory), Program("full", listing))
    # Both STOREs' data: request, lead, six intervals, the next request and its lead, response, retirement.
    assert found.of(WRITES) == STORE_LEAD + 6 * 5 + max(5, 1 + STORE_LEAD) + 50 + 2
    assert found.of(RESULT) == 0


def test_a_full_queue_is_followed_to_what_fills_it() -> None:
    """The sequencer cannot push the product before the third LOAD, nor that before the first is popped."""
    arch = replace(ARCH, queue_depth=1)
    wait = Instruction(Opcode.SYNC_LOAD, waits=2)
    vectors = (vector(30, 0, 1), vector(30, 1, 2))
    listing = (*vectors, wait, load(1, 0), load(1, 0), matmul(10), END)
    found = breakdown(arch, Program("full", listing))
    # Without the queue's limit the product, which waits for nothing, would start after six pushes.
    assert found.of(VECTOR_UNIT) == 2 * (30 + vector_latency(8))
    assert found.of(READ_LATENCY) == 0
    free = breakdown(replace(arch, queue_depth=8), Program("full", listing))
    assert free.of(SEQUENCER) == 5 * SEQ_CYCLES + 1


@pytest.mark.parametrize("late", [0, 1, 2])
def test_an_engine_still_at_work_holds_back_what_was_pushed(late: int) -> None:
    """The second pass is pushed two to four cycles before the first one's end."""
    latency = 3 + late + vector_latency(8)
    steps = latency // SEQ_CYCLES
    wait = Instruction(Opcode.SET, fields={"reg": 1, "imm": 1})
    passes = (vector(3 + late, 0, 0), *[wait] * (steps - 1), vector(5, 0, 1))
    found = breakdown(ARCH, Program("passes", (*passes, matmul(10, waits=1), END)))
    assert found.of(VECTOR_UNIT) == latency + 5 + vector_latency(8)
    # The first pass's push, and from there to its pop; the second's pop alone; the product's token.
    assert (found.of(SEQUENCER), found.of(HAND_OVER)) == (1, POP_CYCLES + 1 + TOKEN_CYCLES)


def test_without_a_product_there_is_only_the_rest() -> None:
    found = shares(breakdown(ARCH, Program("none", (load(1, 0), END))))
    # The fetch, the push, the pop; the run ends when the data are written.
    assert found == {
        FETCH: start(2),
        SEQUENCER: 1,
        HAND_OVER: POP_CYCLES,
        READ_LATENCY: 1 + RL + 1,
        HALT: HALT_CYCLES,
    }


def test_nothing_at_all_is_the_sequencers() -> None:
    step = Instruction(Opcode.SET, fields={"reg": 1, "imm": 1})
    found = shares(breakdown(ARCH, Program("none", (step, step, END))))
    assert found == {FETCH: start(3), SEQUENCER: 2 * SEQ_CYCLES, HALT: 1}


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
    assert [(one.name, sum(shares(one).values())) for one in found.sections] == [
        (section.name, section.cycles) for section in run.sections
    ]


def test_layers_of_an_encoder() -> None:
    cascade = encoder_cascade(load_model("minilm", seq=16))
    arch = replace(load_architecture("edge-16x16"), program_words=4096)
    tilings = [one.tiling for one in search(cascade, arch, table=load_energy_table(arch.technology))]
    found = breakdown(arch, lower(cascade, arch, tilings).program)
    by_layer = layers(found)
    assert [one.name for one in by_layer] == [START, *(f"layer {i}" for i in range(6))]
    assert sum(one.cycles for one in by_layer) == found.cycles
    names = [section.name for section in found.sections]
    assert len(names) == len(set(names))
    assert names[:2] == [START, "start"]
    assert by_layer[0].cycles == found.sections[0].cycles + found.sections[1].cycles
    third = [section for section in found.sections if section.name.endswith(".2")]
    for share in by_layer[3].shares:
        assert share.cycles == sum(section.of(share.cause) for section in third)


def test_programs_one_after_another_add_up() -> None:
    found = breakdown(ARCH, streamed(10, trips=3))
    twice = combined("both", (found, found))
    assert (twice.name, twice.cycles) == ("both", 2 * found.cycles)
    assert shares(twice) == {cause: 2 * cycles for cause, cycles in shares(found).items()}
    assert [one.name for one in twice.sections] == [START, "gemm"]


def test_too_long_to_trace() -> None:
    loop = Instruction(Opcode.LOOP, fields={"imm": 1 << 18})
    program = Program("long", (loop, matmul(4), Instruction(Opcode.END), END))
    message = (
        r"^program 'long' must execute fewer than 262144 engine instructions to be broken down, not 262144$"
    )
    with pytest.raises(ArchsimError, match=message):
        breakdown(ARCH, program)


def test_too_many_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_breakdown, "BURST_CAP", 5)
    program = streamed(4, trips=4)
    # The program's fetch, and one for each tile.
    with pytest.raises(ArchsimError, match=r"must execute fewer than 5 bursts to be broken down, not 5$"):
        breakdown(ARCH, program)


def test_bursts_that_the_trace_has_no_room_for_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = replace(ARCH, memory=Memory(read_latency=RL, read_interval=3, write_interval=2))
    listing = (load(150, 1), store(100, 1, 2), load(40, 4, 2), matmul(10, waits=4), END)
    program = Program("long", listing)
    whole = breakdown(arch, program)
    assert whole.of(READ_BANDWIDTH) > 150
    monkeypatch.setattr(_simulate, "BURSTS_PER_EVENT", 0)
    assert not simulate(arch, program, trace=True).complete
    assert breakdown(arch, program) == whole
