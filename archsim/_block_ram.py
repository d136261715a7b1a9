"""Block RAM by shape: how many blocks a memory becomes, and whether it becomes any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from archsim._architecture import Architecture
from archsim._isa import INSTRUCTION_BYTES

ROM_ENTRIES, ROM_BITS = 1536, 16
"""Mantissas of reciprocals and reciprocal roots."""
TABLE_ENTRIES = 256
STEP_BITS = 17
"""Bits of the step to the next entry, beside each entry of a gated lane's tables."""
WEIGHT_BANK_WORDS = 2048
"""Words of a bank of a ternary array's weight memory."""


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
    yield from _filled(arch)
    match arch.array.kind:
        case "dense":
            yield _accumulators(arch)
            yield from _vector(arch)
        case "ternary":
            yield _accumulators(arch)
            yield from _weights(arch)
            yield from _vector(arch)
        case "fusemax":
            yield from _attend_lanes(arch)
        case _:
            assert_never(arch.array.kind)


def _filled(arch: Architecture) -> Iterator[MemoryShape]:
    """Those that LOAD fills a beat at a time."""
    beat, word, pad = 8 * arch.bus.bytes, 8 * arch.word_bytes, arch.scratchpad
    lanes = arch.bank_row_bytes // arch.word_bytes
    chunk = 8 * arch.array.cols if arch.fold > 1 else word
    yield MemoryShape(
        component="scratchpad",
        words=pad.words_per_bank // lanes,
        bits=word,
        grain=min(beat, chunk),
        copies=pad.banks * lanes,
    )
    yield MemoryShape(component="program", words=arch.program_words, bits=8 * INSTRUCTION_BYTES, grain=beat)
    if arch.array.kind != "fusemax":
        kept = beat * -(-64 * arch.array.cols // beat)
        words = arch.parameter_words
        yield MemoryShape(component="parameters", words=words, bits=kept, grain=min(beat, kept))


def _accumulators(arch: Architecture) -> MemoryShape:
    """Read by ARRAY and by VECTOR, which takes a copy for each."""
    bits = 32 * arch.array.cols
    return MemoryShape(component="array", words=arch.accumulator_words, bits=bits, grain=bits, readers=2)


def _weights(arch: Architecture) -> Iterator[MemoryShape]:
    """Banks of packed trits, the last one for what is left."""
    bits, depth = 8 * arch.weight_bytes, arch.array.weight_words
    for first in range(0, depth, WEIGHT_BANK_WORDS):
        words = min(WEIGHT_BANK_WORDS, depth - first)
        yield MemoryShape(component="array", words=words, bits=bits, grain=bits)


def _vector(arch: Architecture) -> Iterator[MemoryShape]:
    """Buffer, row records, mantissas, and a lane's function tables."""
    vector, cols = arch.vector, arch.array.cols
    wide, readers = 16 * cols, 2 if vector.gated else 1
    yield MemoryShape(component="vector", words=vector.buffer_words, bits=wide, grain=wide, readers=readers)
    for bits, readers in ((40, 1), (48, 1), (32, 2), (22, 1)):
        yield MemoryShape(component="vector", words=vector.rows, bits=bits, grain=bits, readers=readers)
    yield MemoryShape(component="vector", words=ROM_ENTRIES, bits=ROM_BITS, grain=0)
    entry = 16 + STEP_BITS if vector.gated else 16
    words = TABLE_ENTRIES * vector.tables
    yield MemoryShape(component="lane", words=words, bits=entry, grain=entry, copies=cols)


def _attend_lanes(arch: Architecture) -> Iterator[MemoryShape]:
    """Numerators, read by the lane and by the divider; denominators, by the divider."""
    vector, cols = arch.vector, arch.array.cols
    for words, bits, readers in ((vector.buffer_words, 40, 2), (vector.rows, 32, 1)):
        yield MemoryShape(
            component="attend_lane", words=words, bits=bits, grain=bits, readers=readers, copies=cols
        )


_SHAPES = {
    # Lattice FPGA-TN-02204, table 2: words and bits of an 18 Kbit block, pseudo-dual-port.
    "ecp5": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    # AMD UG473, table 1-7, and UG573: an 18 Kbit block, simple dual port.
    "xc7": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    "xcup": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
}
_NINE = 9
_BLOCK_COST = {"ecp5": 128, "xc7": 129, "xcup": 129}
_SMALL = {"ecp5": (16, 4, 4), "xc7": (32, 6, 8), "xcup": (32, 6, 8)}
"""Words, bits and cost of the memory in LUTs that Yosys weighs against a block."""


def piece_of(family: str) -> tuple[int, int]:
    """Words and bits of the smallest memory that look-up tables make."""
    words, bits, _ = _SMALL[family]
    return words, bits


def blocks(shape: MemoryShape, *, family: str) -> int:
    """18 Kbit blocks of one copy of ``shape``; 0 where look-up tables are cheaper, as Yosys weighs them."""
    return shape.readers * _arranged(shape, family)[0] if _is_large(shape, family) else 0


def blocks_deep(shape: MemoryShape, *, family: str) -> int:
    """Blocks among which a bit is chosen as it is read; 0 where there are none."""
    return _arranged(shape, family)[1] if _is_large(shape, family) else 0


def _arranged(shape: MemoryShape, family: str) -> tuple[int, int]:
    """Blocks for one reader of ``shape``, the fewest, and how deep they stand, the least of those."""
    grain = shape.grain or shape.bits
    grains = -(-shape.bits // grain)
    ways = ((-(-shape.words // words), bits) for words, bits in _SHAPES[family])
    return min((deep * _side_by_side(grains, grain, bits), deep) for deep, bits in ways)


def _is_large(shape: MemoryShape, family: str) -> bool:
    """Whether blocks are cheaper than look-up tables."""
    words, bits, cost = _SMALL[family]
    deep = -(-shape.words // words)
    # Beside the small memories themselves, a multiplexer over as many as one word of address names.
    small = cost * deep * -(-shape.bits // bits) + shape.bits * (deep // 2)
    return _arranged(shape, family)[0] * _BLOCK_COST[family] < small


def _side_by_side(grains: int, grain: int, bits: int) -> int:
    """Blocks of ``bits`` beside each other for ``grains`` that are written one by one.

    A block of nine bits or more has a write enable for each nine of them, so that grains share blocks.
    """
    if bits < _NINE:
        return grains * -(-grain // bits)
    return -(-grains * -(-grain // _NINE) * _NINE // bits)
