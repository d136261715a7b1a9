"""A MatMul-free model's programs: bits of the oracle, no conflicts, and counts in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from archsim import (
    Architecture,
    ArchsimError,
    Array,
    Bus,
    Counter,
    LoweredHgrn,
    Scratchpad,
    Vector,
    hgrn_image,
    hgrn_step_image,
    load_architecture,
    logit_bytes,
    logits_of,
    lower_hgrn,
    simulate,
)
from archsim._execute import execute, power_on
from archsim._hgrn_image import weight_words
from workloads import HgrnSizes, TernaryModel, matmul_free, own_text, quantise_hgrn, random_hgrn

SMALL = HgrnSizes(vocab=21, hidden=24, layers=2, inner=40)
ODD = HgrnSizes(vocab=19, hidden=21, layers=3, inner=37)
MACHINE = Architecture(
    name="tiny",
    clock_mhz=100,
    array=Array(kind="ternary", rows=8, cols=4, weight_words=1024),
    bus=Bus(bytes=4),
    scratchpad=Scratchpad(banks=4, words_per_bank=128),
    accumulator_words=64,
    parameter_words=256,
    vector=Vector(buffer_words=256, rows=1, tables=2, gated=True),
)
RING = replace(MACHINE, array=replace(MACHINE.array, weight_words=32), parameter_words=96)


def model_of(sizes: HgrnSizes) -> TernaryModel:
    floats = random_hgrn(sizes, sizes.hidden)
    return quantise_hgrn(floats, own_text(floats, sequences=4, length=12))


def texts(lowered: LoweredHgrn, model: TernaryModel, tokens: list[int]) -> list[bytes]:
    """Memory after each token's step, from a machine that was loaded once."""
    image = hgrn_image(lowered, model)
    machine = power_on(lowered.arch)
    execute(lowered.arch, lowered.load, image, memories=machine)
    steps = (
        hgrn_step_image(lowered, model, token, memory=image).ljust(len(image), b"\0") for token in tokens
    )
    return [execute(lowered.arch, lowered.step, step, memories=machine) for step in steps]


@pytest.mark.parametrize("arch", [MACHINE, RING], ids=["resident", "ring"])
@pytest.mark.parametrize(
    ("rows", "cols", "bus"), [(8, 4, 4), (4, 4, 4), (6, 4, 8), (16, 4, 16), (12, 4, 4), (5, 3, 4)]
)
@pytest.mark.parametrize("sizes", [SMALL, ODD], ids=["even", "odd"])
def test_a_text_has_the_oracles_bits(
    arch: Architecture, rows: int, cols: int, bus: int, sizes: HgrnSizes
) -> None:
    arch = replace(arch, array=replace(arch.array, rows=rows, cols=cols), bus=Bus(bytes=bus))
    if not arch.array.weight_words > 32:
        arch = replace(arch, array=replace(arch.array, weight_words=8 * -(-sizes.inner // 4)))
    model, tokens = model_of(sizes), [5, 0, 18, 5]
    lowered = lower_hgrn(sizes, arch, model.shifts)
    state = model.start()
    for token, memory in zip(tokens, texts(lowered, model, tokens), strict=True):
        state, logits = model.step(state, [token])
        assert (logits_of(lowered.layout, memory) == logits[0]).all()
        region = lowered.layout.regions()["logits"]
        # Lanes behind the last logit of a word are whatever they were.
        assert len(logit_bytes(lowered.layout, logits[0])) == region.size_bytes


@pytest.mark.parametrize("vocab", [1, 4, 61, 300])
@pytest.mark.parametrize("arch", [MACHINE, RING], ids=["resident", "ring"])
def test_logits_of_any_number_are_tiled(arch: Architecture, vocab: int) -> None:
    sizes = replace(SMALL, vocab=vocab, layers=1)
    model = model_of(sizes)
    lowered = lower_hgrn(sizes, replace(arch, accumulator_words=20), model.shifts)
    (memory,) = texts(lowered, model, [0])
    assert (logits_of(lowered.layout, memory) == model.step(model.start(), [0])[1][0]).all()


@pytest.mark.parametrize(
    "arch", [MACHINE, RING, replace(RING, queue_depth=1)], ids=["resident", "ring", "q1"]
)
@pytest.mark.parametrize("vocab", [21, 300])
def test_no_port_is_used_twice(arch: Architecture, vocab: int) -> None:
    lowered = lower_hgrn(replace(SMALL, vocab=vocab), arch)
    for program, address in ((lowered.load, lowered.load_address), (lowered.step, lowered.step_address)):
        simulate(arch, program, program_address=address, trace=True, check_conflicts=True)


def test_a_loaded_machine_starts_from_a_state_of_zeros() -> None:
    model = model_of(SMALL)
    lowered = lower_hgrn(SMALL, MACHINE, model.shifts)
    image = hgrn_image(lowered, model)
    machine = power_on(MACHINE)
    machine.buffer[:] = 77
    execute(MACHINE, lowered.load, image, memories=machine)
    step = hgrn_step_image(lowered, model, 3).ljust(len(image), b"\0")
    memory = execute(MACHINE, lowered.step, step, memories=machine)
    assert (logits_of(lowered.layout, memory) == model.step(model.start(), [3])[1][0]).all()


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_counts_are_a_closed_form(layers: int) -> None:
    """Slots are blocks of trits, and chunks of passes.

    A layer's passes are 14 over d (input v, q; s, h - s, f, its product, h; gate, output, q; sum; v, q;
    sum) and 3 over j (gate, product, q); before them comes the embedding, behind them v, q and three over
    the vocabulary.
    """
    sizes = replace(SMALL, layers=layers)
    arch = replace(MACHINE, array=replace(MACHINE.array, weight_words=4096), parameter_words=512)
    lowered = lower_hgrn(sizes, arch)
    run = simulate(arch, lowered.step, program_address=lowered.step_address)
    d, j, v = 24 // 4, 40 // 4, -(-21 // 4)
    words = layers * (4 * d * 3 + 2 * j * 3 + d * 5) + v * 3
    slots = layers * (14 * d + 3 * j) + (1 + 2) * d + 3 * v
    assert run.counters[Counter.ARRAY_ROWS] == run.counters[Counter.ARRAY_WEIGHT_ROWS] == words
    assert run.counters[Counter.VECTOR_SLOTS] == slots
    assert run.counters[Counter.TABLE_READS] == layers * (3 * d + j)
    assert len(lowered.step.instructions) == len(lower_hgrn(SMALL, arch).step.instructions) - 2 * (
        layers == 1
    )


def test_weights_that_fit_are_loaded_once_and_others_each_time() -> None:
    resident, ring = lower_hgrn(SMALL, MACHINE), lower_hgrn(SMALL, RING)
    size = resident.layout.all_weights * MACHINE.weight_beats

    def weights(lowered: LoweredHgrn, *, load: bool) -> int:
        program = lowered.load if load else lowered.step
        address = lowered.load_address if load else lowered.step_address
        run = simulate(lowered.arch, program, program_address=address)
        return sum(
            run.executions[index] * program.instructions[index].field("beats")
            for index, tensor in program.tensors.items()
            if tensor == "weights"
        )

    assert (weights(resident, load=True), weights(resident, load=False)) == (size, 0)
    assert (weights(ring, load=True), weights(ring, load=False)) == (0, size)


def test_words_of_weights_are_blocks_of_the_matrix() -> None:
    model = model_of(ODD)
    placed = lower_hgrn(ODD, MACHINE).layout
    words = weight_words(placed, model.blocks[0].gate)
    n, k = placed.blocks("gate")
    assert words.shape == (n * k, 8, 4)
    for out, column in ((0, 0), (5, 20), (36, 7)):
        word = words[out // 4 * k + column // 8]
        assert word[column % 8, out % 4] == model.blocks[0].gate.trits[out, column]
    assert words.astype(int).sum() == model.blocks[0].gate.trits.astype(int).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": replace(MACHINE.vector, gated=False)}, "a ternary array and a gated vector unit"),
        ({"array": Array(rows=8, cols=4)}, "a ternary array and a gated vector unit"),
        ({"array": replace(MACHINE.array, rows=2)}, "at least as many array.rows as array.cols"),
        ({"accumulator_words": 16}, "accumulator.words of tiny must be at least 20, not 16"),
        (
            {"vector": replace(MACHINE.vector, buffer_words=32)},
            "vector.buffer_words of tiny must be at least 44",
        ),
        ({"parameter_words": 64}, "parameters.words of tiny must be at least 65, not 64"),
        ({"array": replace(MACHINE.array, weight_words=8)}, "array.weight_words of tiny must be at least 12"),
        (
            {"scratchpad": Scratchpad(banks=2, words_per_bank=256)},
            "scratchpad.banks of tiny must be at least 4",
        ),
        ({"program_words": 16}, "program.words of tiny must be at least 42, not 16"),
    ],
)
def test_a_machine_that_is_too_small_is_told_what_it_needs(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArchsimError, match=message):
        lower_hgrn(SMALL, replace(MACHINE, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["matmulfree-370m", "matmulfree-1.3b", "matmulfree-2.7b"])
def test_published_models_stream_at_the_ports_pace(name: str) -> None:
    """On the library's machine the port carries weights in 97 of 100 cycles at least."""
    sizes = matmul_free(name)
    assert sizes is not None
    arch = load_architecture("ternary-40x40")
    lowered = lower_hgrn(sizes, arch)
    run = simulate(arch, lowered.step, program_address=lowered.step_address)
    assert run.counters[Counter.LOAD_BEATS] / run.cycles > 0.97
    assert lowered.layout.all_weights * 5 <= run.counters[Counter.LOAD_BEATS]


def test_lanes_past_a_row_meet_trits_of_zero() -> None:
    words = weight_words(lower_hgrn(ODD, MACHINE).layout, model_of(ODD).blocks[0].i)
    k = 3
    assert (words.reshape(-1, k, 8, 4)[:, -1, 21 - 16 :] == 0).all()
    assert np.abs(words).max() == 1
