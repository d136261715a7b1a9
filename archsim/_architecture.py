"""The architecture: every width, depth and count of a machine, as one immutable value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ArrayKind = Literal["dense", "fusemax", "ternary"]
"""What a processing element does: multiply and accumulate; also make a softmax's exponentials; or add,
subtract or skip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """The 2D array of processing elements."""

    kind: ArrayKind = "dense"
    rows: int
    """Reduction lanes, R; of kind fusemax, keys."""
    cols: int
    """Output lanes, C; of kind fusemax, queries."""
    weight_words: int = 0
    """Words of R x C trits that a ternary array's weight memory holds."""
    group: int = 1
    """Activations whose sums a ternary array makes once for all columns: 1 or 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """The AXI4 master port to memory."""

    bytes: int
    """Bytes of a data beat, B."""
    max_burst_beats: int = 64
    outstanding: int = 4
    """Bursts that a DMA engine may have in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratchpad:
    """Banked on-chip memory of words as wide as the array's longer side."""

    banks: int
    words_per_bank: int

    @property
    def words(self) -> int:
        """Words over all banks."""
        return self.banks * self.words_per_bank


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """The 1D vector unit, one lane for each array column."""

    buffer_words: int
    """Words of the int16 buffer between passes; of kind fusemax, of the value memory."""
    rows: int
    """Row records (maximum, sum, mean, scale) kept at once; of kind fusemax, denominator records."""
    tables: int = 2
    """Function tables of 256 entries."""
    gated: bool = False
    """Whether it has int16 residuals, INTERPOLATE and ABSMAX (``docs/ternary-machine.md``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory behind the bus: fixed latency, in order, at most one beat an interval."""

    read_latency: int = 32
    """Cycles from a read address handshake to its first beat."""
    read_interval: int = 1
    write_latency: int = 16
    """Cycles from a write burst's last beat to its response."""
    write_interval: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A machine: what ``rtl.build`` generates and ``archsim.simulate`` times."""

    name: str
    clock_mhz: float
    array: Array
    bus: Bus
    scratchpad: Scratchpad
    accumulator_words: int
    """Of kind fusemax 0, as ``parameter_words``: it has neither."""
    parameter_words: int
    vector: Vector
    program_words: int = 512
    """Instructions that the program memory holds."""
    queue_depth: int = 4
    """Entries of each engine's instruction queue."""
    memory: Memory = field(default_factory=Memory)
    technology: str = "45nm"
    """Name of the energy table."""

    @property
    def word_bytes(self) -> int:
        """Bytes of a scratchpad word, L: a power of two that holds either side of the array."""
        return max(2, 1 << (max(self.array.rows, self.array.cols) - 1).bit_length())

    @property
    def bank_row_bytes(self) -> int:
        """Bytes of a physical scratchpad row: a word or a bus beat, whichever is wider."""
        return max(self.bus.bytes, self.word_bytes)

    @property
    def weight_bytes(self) -> int:
        """Bytes of a ternary array's weight word: five trits a byte."""
        return -(-self.array.rows * self.array.cols // 5)

    @property
    def weight_beats(self) -> int:
        """Bus beats of a weight word in DRAM."""
        return -(-self.weight_bytes // self.bus.bytes)

    @property
    def fold(self) -> int:
        """Chunks of C lanes that VECTOR places side by side in a scratchpad word.

        More than one on a ternary array whose C is a power of two and at most half of R.
        """
        rows, cols = self.array.rows, self.array.cols
        if self.array.kind != "ternary" or cols & (cols - 1):
            return 1
        return max(1, rows // cols)
