"""Large models: skipping periods is exact, and a million tokens cost what their distinct loop bodies cost."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from archsim import (
    Architecture,
    ArchsimError,
    Array,
    Counter,
    Estimate,
    Lowered,
    Program,
    Tiling,
    bound,
    estimate,
    load_architecture,
    load_energy_table,
    lower,
    plan,
    simulate,
)
from archsim._assembler import Reg
from archsim._isa import Opcode
from archsim._program import Instruction
from archsim._tiling import violations
from mapper import search
from workloads import Cascade, load_model, quantise_cascade
from workloads._model import Phase

MILLION = 1 << 20
PERIOD = 16
"""A multiple of the trips after which a tile of whole 512-byte beats starts at the same place of a page,
and of the halves of a double buffer."""
LAYER = "block"
ADDRESSES = (Reg.X, Reg.W, Reg.P, Reg.RES, Reg.OUT)
SCORES = "A"
"""The kernel whose result has the square of the sequence length."""


@cache
def layer(
    spec: str, name: str, seq: int, phase: Phase = "prefill", part: str = LAYER
) -> tuple[Cascade, Lowered]:
    """One part of a model and its program on a library architecture, by the mapper's best tilings."""
    arch = load_architecture(name)
    cascade = load_model(spec, seq=seq, phase=phase).part(part).cascade
    found = search(cascade, arch, table=load_energy_table(arch.technology))
    return cascade, lower(cascade, arch, [candidate.tiling for candidate in found])


def bert(seq: int) -> tuple[Cascade, Lowered, Architecture]:
    """An encoder layer of BERT-base on the largest machine of the library."""
    return *layer("bert-base", "cloud-256x256", seq), load_architecture("cloud-256x256")


@pytest.mark.parametrize(
    ("spec", "name", "seq", "phase", "part"),
    [
        ("bert-base", "cloud-256x256", 4096, "prefill", LAYER),
        ("bert-base", "edge-16x16", 384, "prefill", LAYER),
        ("gpt2", "edge-16x16", 256, "prefill", LAYER),
        ("llama-3-8b", "cloud-128x128", 2048, "prefill", LAYER),
        ("llama-3-8b", "cloud-128x128", 8192, "decode", LAYER),
        ("t5-small", "cloud-128x128", 512, "prefill", "decoder"),
        ("mixtral-8x7b", "cloud-128x128", 1024, "prefill", "block_expert"),
    ],
)
def test_skipping_periods_changes_no_cycle_and_no_counter(
    spec: str, name: str, seq: int, phase: Phase, part: str
) -> None:
    _, lowered = layer(spec, name, seq, phase, part)
    arch, address = load_architecture(name), lowered.program_address
    periodic = simulate(arch, lowered.program, program_address=address)
    plain = simulate(arch, lowered.program, program_address=address, plain=True)
    assert periodic == plain


def test_beyond_the_address_space() -> None:
    # 13 GB of attention scores: the address registers wrap, in both runs at the same places.
    _, lowered, arch = bert(32768)
    assert not lowered.addressable
    assert simulate(arch, lowered.program) == simulate(arch, lowered.program, plain=True)


def test_million_tokens_do_what_the_loops_say() -> None:
    _, lowered, arch = bert(MILLION)
    run = simulate(arch, lowered.program)
    assert run.executions == executions(lowered.program)
    assert sum(run.executions) > 10**9


def test_million_tokens_agree_with_the_closed_form() -> None:
    cascade, lowered, arch = bert(MILLION)
    run = simulate(arch, lowered.program)
    predicted = _estimate(cascade, lowered, arch)
    for counter in (
        Counter.LOAD_BEATS,
        Counter.STORE_BEATS,
        Counter.ARRAY_ROWS,
        Counter.ARRAY_WEIGHT_ROWS,
        Counter.ARRAY_BUSY,
        Counter.VECTOR_SLOTS,
        Counter.VECTOR_BUSY,
        Counter.ACCUMULATOR_READS,
        Counter.ACCUMULATOR_WRITES,
        Counter.SCRATCHPAD_READS,
        Counter.SCRATCHPAD_WRITES,
        Counter.PARAMETER_READS,
        Counter.BUFFER_READS,
        Counter.BUFFER_WRITES,
        Counter.TABLE_READS,
    ):
        expected = predicted.counters[counter.name.lower()]
        assert run.counter(counter) == expected, counter.name
    table = load_energy_table(arch.technology)
    assert bound(cascade, arch, table).cycles <= predicted.cycles <= run.cycles


@pytest.mark.parametrize("kernel", range(8))
def test_a_million_tokens_are_affine_in_the_trips_of_the_outermost_loop(kernel: int) -> None:
    """In the steady state ``PERIOD`` more trips of an outermost loop always cost the same."""
    _, lowered, arch = bert(MILLION)
    loop = outermost_loops(lowered.program)[kernel]
    trips = lowered.program.instructions[loop].field("imm")
    totals = [simulate(arch, with_trips(lowered.program, loop, trips + PERIOD * i)).cycles for i in range(4)]
    steps = np.diff(totals)
    assert (steps > 0).all()
    assert len(set(steps)) == 1


@pytest.mark.slow
def test_one_head_of_a_million_tokens_in_full() -> None:
    """Every instruction of one head's scores, executed one by one."""
    _, lowered, arch = bert(MILLION)
    names = [name for _, name in lowered.program.sections]
    loop = outermost_loops(lowered.program)[names.index(SCORES) - 1]
    assert lowered.program.instructions[loop].field("imm") == 12
    program = only(with_trips(lowered.program, loop, 1), SCORES)
    assert simulate(arch, program) == simulate(arch, program, plain=True)


def test_time_depends_on_addresses_modulo_a_page_only() -> None:
    """What makes the wrapped addresses of a program beyond 4 GiB harmless."""
    _, lowered, arch = bert(4096)
    pages = np.random.default_rng(7).integers(1, 1 << 20, len(ADDRESSES))
    shift = {int(reg): 4096 * int(page) for reg, page in zip(ADDRESSES, pages, strict=True)}
    moved = replace(
        lowered.program,
        instructions=tuple(_moved(each, shift) for each in lowered.program.instructions),
    )
    assert moved.instructions != lowered.program.instructions
    assert simulate(arch, moved) == simulate(arch, lowered.program)
    off_page = {reg: step + arch.bus.bytes for reg, step in shift.items()}
    cut = replace(moved, instructions=tuple(_moved(each, off_page) for each in lowered.program.instructions))
    assert simulate(arch, cut) != simulate(arch, lowered.program)


def test_values_must_fit_the_address_space() -> None:
    side = 1 << 17
    arch = load_architecture("cloud-256x256")
    cascade = load_model(f"gemm:{side}x1x{side}").parts[0].cascade
    tilings = [found.tiling for found in search(cascade, arch, table=load_energy_table(arch.technology))]
    assert not lower(cascade, arch, tilings).addressable
    quantised = quantise_cascade(cascade_of_one_by_one(), {"W": np.ones((1, 1))}, [{"X": np.ones((1, 1))}])
    with pytest.raises(
        ArchsimError, match=r"^gemm must take at most 4294967296 bytes of memory to run with values, not"
    ):
        lower(cascade, arch, tilings, quantised=quantised)


@pytest.mark.parametrize("spec", ["gemm:100000x4096x4096", "gemm:4096x131072x4096"])
def test_tiles_respect_the_16_bit_fields(spec: str) -> None:
    # With a word of 256 bytes over a bus of 4, a panel of 1024 rows is more beats than a field can say.
    big = load_architecture("cloud-256x256")
    arch = replace(big, bus=replace(big.bus, bytes=4, max_burst_beats=256), parameter_words=4096)
    cascade = load_model(spec).parts[0].cascade
    tilings = [found.tiling for found in search(cascade, arch, table=load_energy_table(arch.technology))]
    assert simulate(arch, lower(cascade, arch, tilings).program).cycles > 0
    (item,) = plan(cascade, arch).plans
    refused = list(violations(item, replace(tilings[0], rows=1024), arch))
    assert "row tile must be at most 65535 bus beats a panel, not 65536" in refused


def test_a_row_of_more_columns_than_a_field_can_say_is_refused() -> None:
    arch = replace(load_architecture("cloud-256x256"), array=Array(rows=2, cols=256), parameter_words=4096)
    (item,) = plan(load_model("gemm:1x2x131072").parts[0].cascade, arch).plans
    reasons = violations(item, Tiling(rows=1, col_chunks=256), arch)
    assert list(reasons) == ["column tile must be at most 65535 columns, not 65536"]
    assert not list(violations(item, Tiling(rows=1, col_chunks=255), arch))


def cascade_of_one_by_one() -> Cascade:
    """The smallest product: its scales serve any other one where no value is computed."""
    return load_model("gemm:1x1x1").parts[0].cascade


def executions(program: Program) -> tuple[int, ...]:
    """How often each instruction runs: the product of the trips of the loops around it."""
    counts, trips = [], [1]
    for instruction in program.instructions:
        counts.append(trips[-1])
        if instruction.opcode is Opcode.LOOP:
            trips.append(trips[-1] * instruction.field("imm"))
        elif instruction.opcode is Opcode.END:
            counts[-1] = trips.pop()
    return tuple(counts)


def outermost_loops(program: Program) -> list[int]:
    """Index of the first outermost LOOP of each kernel."""
    found: dict[str, int] = {}
    depth, sections = 0, dict(program.sections)
    name = ""
    for index, instruction in enumerate(program.instructions):
        name = sections.get(index, name)
        if instruction.opcode is Opcode.LOOP and depth == 0:
            found.setdefault(name, index)
        depth += (instruction.opcode is Opcode.LOOP) - (instruction.opcode is Opcode.END)
    return list(found.values())


def with_trips(program: Program, loop: int, trips: int) -> Program:
    """``program`` with another number of trips of the loop at ``loop``."""
    listing = list(program.instructions)
    listing[loop] = Instruction(Opcode.LOOP, fields={"imm": trips})
    return replace(program, instructions=tuple(listing))


def only(program: Program, kernel: str) -> Program:
    """The start of ``program``, one of its kernels without the wait for the one before, and its end."""
    names = [name for _, name in program.sections]
    firsts = [first for first, _ in program.sections]
    place = names.index(kernel)
    start = program.instructions[firsts[0] : firsts[1]]
    body = program.instructions[firsts[place] + 1 : firsts[place + 1]]
    return Program(kernel, (*start, *body, program.instructions[-1]), program.regions, program.semaphores)


def _moved(instruction: Instruction, shift: dict[int, int]) -> Instruction:
    reg = instruction.field("reg")
    if instruction.opcode is not Opcode.SET or reg not in shift:
        return instruction
    address = (instruction.field("imm") + shift[reg]) % 2**32
    return replace(instruction, fields={"reg": reg, "imm": address})


def _estimate(cascade: Cascade, lowered: Lowered, arch: Architecture) -> Estimate:
    return estimate(
        cascade,
        arch,
        list(lowered.tilings),
        load_energy_table(arch.technology),
        instructions=len(lowered.program.instructions),
    )
