"""Block RAM by shape: how many blocks a memory becomes, and whether it becomes any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archsim._architecture import Architecture
from archsim._isa import INSTRUCTION_BYTES

ROM_ENTRIES, ROM_BITS = 1280, 16
"""Mantissas of reciprocals and reciprocal roots."""
TABLE_ENTRIES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShape:
    """A memory: its component, words, bits of a word, bits that are written at once, readers, copies."""

    component: str
    words: int
    bits: int
    grain: int
    readers: int = 1
    copies: int = 1


def memories(arch: Architecture) -> Iterator[MemoryShape]:
    """Every memory that may become block RAM."""
    beat, word, cols = 8 * arch.bus.bytes, 8 * arch.word_bytes, arch.array.cols
    pad, vector = arch.scratchpad, arch.vector
    lanes = arch.bank_row_bytes // arch.word_bytes
    yield MemoryShape(
        component="scratchpad",
        words=pad.words_per_bank // lanes,
        bits=word,
        grain=min(beat, word),
        copies=pad.banks * lanes,
    )
    kept = beat * -(-64 * cols // beat)
    yield MemoryShape(component="parameters", words=arch.parameter_words, bits=kept, grain=min(beat, kept))
    yield MemoryShape(component="program", words=arch.program_words, bits=8 * INSTRUCTION_BYTES, grain=beat)
    sums = 32 * cols
    yield MemoryShape(component="array", words=arch.accumulator_words, bits=sums, grain=sums, readers=2)
    yield MemoryShape(component="vector", words=vector.buffer_words, bits=16 * cols, grain=16 * cols)
    for bits, readers in ((40, 1), (48, 1), (32, 2), (22, 1)):
        yield MemoryShape(component="vector", words=vector.rows, bits=bits, grain=bits, readers=readers)
    yield MemoryShape(component="vector", words=ROM_ENTRIES, bits=ROM_BITS, grain=0)
    tables = TABLE_ENTRIES * vector.tables
    yield MemoryShape(component="lane", words=tables, bits=16, grain=16, copies=cols)


_SHAPES = {
    # Lattice FPGA-TN-02204, table 2: words and bits of an 18 Kbit block, pseudo-dual-port.
    "ecp5": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    # AMD UG473, table 1-7, and UG573: an 18 Kbit block, simple dual port.
    "xc7": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    "xcup": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
}
_BLOCK_COST = {"ecp5": 128, "xc7": 129, "xcup": 129}
_SMALL = {"ecp5": (16, 4, 4), "xc7": (32, 6, 8), "xcup": (32, 6, 8)}
"""Words, bits and cost of the memory in LUTs that Yosys weighs against a block."""


def blocks(shape: MemoryShape, *, family: str) -> int:
    """18 Kbit blocks of one copy of ``shape``; 0 where look-up tables are cheaper, as Yosys weighs them."""
    grain = shape.grain or shape.bits
    each = min(-(-shape.words // words) * -(-grain // bits) for words, bits in _SHAPES[family])
    needed = shape.readers * -(-shape.bits // grain) * each
    words, bits, cost = _SMALL[family]
    deep = -(-shape.words // words)
    # Beside the small memories themselves, a multiplexer over as many as one word of address names.
    small = shape.readers * (cost * deep * -(-shape.bits // bits) + shape.bits * (deep // 2))
    return needed if needed * _BLOCK_COST[family] < small else 0
