"""Weight words: five trits a byte, column by column, in whole beats."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from archsim._architecture import Architecture, Array, ArrayKind, Bus, Scratchpad, Vector
from archsim._errors import ArchsimError
from archsim._trits import pack_words, unpack_words, weight_memory


def machine(rows: int, cols: int, bus_bytes: int) -> Architecture:
    """A ternary machine of three weight words."""
    return Architecture(
        name="trits",
        clock_mhz=100.0,
        array=Array(kind="ternary", rows=rows, cols=cols, weight_words=3),
        bus=Bus(bytes=bus_bytes),
        scratchpad=Scratchpad(banks=4, words_per_bank=64),
        accumulator_words=4,
        parameter_words=4,
        vector=Vector(buffer_words=4, rows=4),
    )


@pytest.mark.parametrize(("rows", "cols", "bus_bytes"), [(1, 1, 4), (3, 5, 4), (6, 5, 8), (20, 20, 16)])
def test_bytes_are_what_the_contract_says(rows: int, cols: int, bus_bytes: int) -> None:
    arch, random = machine(rows, cols, bus_bytes), Random(rows)
    trits = np.array([random.randint(-1, 1) for _ in range(3 * rows * cols)], np.int8)
    trits = trits.reshape(3, rows, cols)
    packed = pack_words(arch, trits)
    size = arch.weight_beats * bus_bytes
    assert len(packed) == 3 * size
    assert size % bus_bytes == 0
    for word in range(3):
        for i in range(size):
            places = range(5 * i, 5 * i + 5)
            inside = [int(trits[word, p % rows, p // rows]) if p < rows * cols else 0 for p in places]
            wanted = sum((t + 1) * 3**j for j, t in enumerate(inside)) if 5 * i < rows * cols else 0
            assert packed[word * size + i] == wanted
    memory = weight_memory(arch, packed)
    assert memory.shape == (3, -(-rows * cols // 5))
    assert (unpack_words(arch, memory) == trits).all()


def test_a_word_of_twenty_by_twenty_is_five_beats_of_sixteen_bytes() -> None:
    arch = machine(20, 20, 16)
    assert (arch.weight_bytes, arch.weight_beats) == (80, 5)


@pytest.mark.parametrize(
    ("rows", "cols", "kind", "fold"),
    [(16, 8, "ternary", 2), (24, 8, "ternary", 3), (16, 8, "dense", 1), (15, 5, "ternary", 1),
     (8, 8, "ternary", 1), (8, 16, "ternary", 1), (7, 2, "ternary", 3), (9, 1, "ternary", 9)],
)  # fmt: skip
def test_chunks_lie_side_by_side_where_columns_are_a_power_of_two(
    rows: int, cols: int, kind: ArrayKind, fold: int
) -> None:
    arch = machine(rows, cols, 8)
    arch = replace(arch, array=replace(arch.array, kind=kind))
    assert arch.fold == fold
    assert arch.fold * cols <= arch.word_bytes


def test_what_is_no_weight_word_is_refused() -> None:
    arch = machine(3, 5, 8)
    with pytest.raises(ArchsimError, match=r"^trits must have the shape \(words, 3, 5\), not \(2, 5, 3\)$"):
        pack_words(arch, np.zeros((2, 5, 3), np.int8))
    with pytest.raises(ArchsimError, match=r"^trits must be -1, 0 or 1, not others$"):
        pack_words(arch, np.full((2, 3, 5), 2, np.int8))
    for size in (7, 32):
        message = rf"^weights must be at most 3 words of 8 bytes, not {size} bytes$"
        with pytest.raises(ArchsimError, match=message):
            weight_memory(arch, bytes(size))
