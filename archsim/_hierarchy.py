"""The hierarchy: an abstract machine of memory levels around an array, as one immutable value.

``docs/mapping.md`` defines what a mapping on it costs. It is the machine of the exact mapper;
:class:`archsim.Architecture` is the one that is built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

TensorKind = Literal["input", "weight", "output"]
"""The role of a tensor in an Einsum: its first operand, any later operand, its result."""
KINDS: tuple[TensorKind, ...] = ("input", "weight", "output")

Dataflow = Literal["any", "input-stationary", "weight-stationary", "output-stationary", "row-stationary"]
DATAFLOWS: tuple[Dataflow, ...] = (
    "any",
    "input-stationary",
    "weight-stationary",
    "output-stationary",
    "row-stationary",
)

RaggedSteps = Literal["whole", "share"]
"""How the array's time counts the last, smaller tile of a rank that lanes do not divide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialDimension:
    """A direction in which instances of a level stand side by side."""

    name: str
    size: int
    """Instances along it."""
    ranks: tuple[str, ...] | None = None
    """The only ranks that may be spread over it; None for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One memory level; ``spatial`` says how many of it stand below one of the level outside."""

    name: str
    read_pj_per_bit: float
    write_pj_per_bit: float
    size_bits: int | None = None
    """Bits that one instance holds; None for no limit."""
    bandwidth_bits_per_cycle: float | None = None
    """Bits read and written in a cycle by one instance; None for no limit."""
    spatial: tuple[SpatialDimension, ...] = ()
    hold: tuple[str, ...] = ()
    """Tensors, or kinds of them, that the level must hold."""
    bypass: tuple[str, ...] = ()
    """Tensors, or kinds of them, that the level must not hold."""
    double_buffer: tuple[str, ...] = ()
    """Tensors, or kinds of them, whose tiles take twice their size."""

    @property
    def fanout(self) -> int:
        """Instances below one instance of the level outside."""
        return math.prod(dimension.size for dimension in self.spatial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Levels from the outermost, which holds everything, to the innermost, which feeds one MAC."""

    name: str
    clock_mhz: float
    levels: tuple[Level, ...]
    mac_pj: float
    input_bits: int = 8
    weight_bits: int = 8
    output_bits: int = 8
    dataflow: Dataflow = "any"
    ragged_steps: RaggedSteps = "whole"
    """``whole``: lanes that a temporal loop's last tile leaves without work are lost; ``share``: none are."""

    def bits(self, kind: TensorKind) -> int:
        """Bits of one element of a tensor of that kind."""
        return {"input": self.input_bits, "weight": self.weight_bits, "output": self.output_bits}[kind]

    @property
    def macs(self) -> int:
        """Multiply-accumulates in a cycle when every instance works."""
        return math.prod(level.fanout for level in self.levels)
