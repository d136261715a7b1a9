"""A spatial machine as one value: a 2D array, lanes beside it, a buffer and a memory, and their costs.

It is the abstract machine that attention accelerators are compared on. ``docs/fusemax.md`` says how
it is bound, timed and priced; :class:`archsim.Architecture` is the machine that is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archsim._errors import ArchsimError

Unit = Literal["array", "vector"]
"""Where an Einsum runs: the 2D array, or the 1D array of lanes."""

OPERATORS = ("mac", "add", "max", "divide", "exp")
"""What a processing element or a lane may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What one operation costs in time and energy."""

    cycles: int
    """Cycles for which it keeps its element or lane busy."""
    pj: float
    """Energy in pJ."""
    macs: int = 0
    """Multiply-accumulates that it is made of, on the element's own multiplier; 0 for a unit of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """The memory on chip."""

    bytes: int
    read_pj_per_word: float
    write_pj_per_word: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dram:
    """The memory off chip."""

    bytes_per_second: int
    pj_per_bit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What a published model leaves out or takes for granted; by default only the counts are charged."""

    difference_in_exp: bool = False
    """Whether a lane subtracts and exponentiates an element in one cycle: the subtraction takes no time."""
    results_stream: bool = False
    """Whether lanes take results as these leave the array, without a visit to the buffer."""
    block_bytes: int | None = None
    """Bytes dealt out to a block of query rows of a one-pass cascade; None for the whole buffer."""
    spilled_rows: int = 1024
    """Query rows for which keys and values are read once where scores go to memory."""
    array_fill: bool = False
    """Whether filling and draining the array takes its rows and columns in cycles, once for a row block."""
    register_pj_per_operation: float = 0.0
    """Energy of the register file for each operation in pJ."""
    leakage_pj_per_cycle: float = 0.0
    """Energy that leaks from the whole machine in a cycle in pJ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Silicon area in square micrometres."""

    element_um2: float
    lane_um2: float
    buffer_um2_per_byte: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Several machines that share one memory."""

    count: int
    latency_cycles: int
    """From a core's request to the first word from memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spatial:
    """A 2D array of elements and a 1D array of lanes around one buffer."""

    name: str
    clock_mhz: float
    word_bits: int
    rows: int
    """Elements along the keys."""
    cols: int
    """Elements along the queries."""
    lanes: int
    array_operators: frozenset[str]
    lane_operators: frozenset[str]
    operators: Mapping[str, Operator]
    buffer: Buffer
    dram: Dram
    element_words: int = 1
    """Scores that an element's register file keeps in place."""
    assumptions: Assumptions = Assumptions()
    area: Area | None = None
    cores: Cores | None = None
    """How many of these share the memory; None where it stands alone. All else is of one core."""

    def __post_init__(self) -> None:
        for what, operators in (("array", self.array_operators), ("vector", self.lane_operators)):
            if missing := sorted(operators - self.operators.keys()):
                raise ArchsimError(f"operators must price {missing[0]!r}, which {what}.operators names")

    @property
    def word_bytes(self) -> int:
        """Bytes of a word."""
        return self.word_bits // 8

    @property
    def buffer_words(self) -> int:
        """Words that the buffer holds."""
        return self.buffer.bytes // self.word_bytes

    @property
    def elements(self) -> int:
        """Processing elements of the 2D array."""
        return self.rows * self.cols

    @property
    def area_um2(self) -> float:
        """Area of arrays and buffer; raises ArchsimError where the machine says none."""
        if self.area is None:
            raise ArchsimError(f"area of {self.name} must be given to compare machines by area")
        arrays = self.elements * self.area.element_um2 + self.lanes * self.area.lane_um2
        return arrays + self.buffer.bytes * self.area.buffer_um2_per_byte

    def can(self, unit: Unit, operators: Mapping[str, int]) -> bool:
        """Whether ``unit`` has all these operators."""
        return operators.keys() <= (self.array_operators if unit == "array" else self.lane_operators)

    def cycles(self, operators: Mapping[str, int]) -> int:
        """Cycles of these operations, one after another, on one element or lane."""
        hidden = self.assumptions.difference_in_exp and operators.keys() == {"add", "exp"}
        return sum(
            self.operators[name].cycles * count
            for name, count in operators.items()
            if not (hidden and name == "add")
        )
