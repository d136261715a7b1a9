"""The Program: what the sequencer fetches and the simulator times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from archsim._isa import ENGINE_OF, PAYLOAD, Engine, Opcode


@dataclass(frozen=True, slots=True)
class Operand:
    """An address: a base plus an address register (register 0 reads 0)."""

    base: int
    reg: int = 0

    def __str__(self) -> str:
        return f"{self.base}" if self.reg == 0 else f"{self.base}+r{self.reg}"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: masks of semaphores, up to four address operands, and named fields."""

    opcode: Opcode
    operands: tuple[Operand, ...] = ()
    fields: Mapping[str, int] = field(default_factory=dict)
    waits: int = 0
    signals: int = 0
    releases: int = 0

    @property
    def engine(self) -> Engine | None:
        """The engine that runs it, or None for the sequencer."""
        return ENGINE_OF.get(self.opcode)

    def field(self, name: str) -> int:
        """Value of payload field ``name``; fields not given are zero."""
        return self.fields.get(name, 0)

    def __str__(self) -> str:
        words = [self.opcode.name.lower()]
        words += [str(operand) for operand in self.operands]
        words += [f"{name}={self.fields[name]}" for name, _ in PAYLOAD[self.opcode] if name in self.fields]
        for label in ("waits", "signals", "releases"):
            if mask := getattr(self, label):
                words.append(f"{label}={','.join(str(i) for i in range(16) if mask >> i & 1)}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Region:
    """A tensor's place in DRAM: panels of ``group`` columns, ``rows`` words of L bytes each."""

    tensor: str
    address: int
    """First byte."""
    rows: int
    """Words of a panel, padding included."""
    panels: int
    group: int
    """Columns of a panel."""
    size_bytes: int
    kind: str
    """``input``, ``weight``, ``parameter``, ``table``, ``output`` or ``intermediate``."""
    valid_rows: int = 0
    """Rows of a panel that hold elements; those behind them only fill the last bus beat."""


@dataclass(frozen=True, slots=True)
class Program:
    """Instructions with hardware loops, the DRAM regions they address, and names for people."""

    name: str
    instructions: tuple[Instruction, ...]
    regions: tuple[Region, ...] = ()
    semaphores: Mapping[int, str] = field(default_factory=dict)
    """What each semaphore stands for, for reports."""
    sections: tuple[tuple[int, str], ...] = ()
    """(index of first instruction, kernel name), in order."""
    tensors: Mapping[int, str] = field(default_factory=dict)
    """Index of a LOAD or STORE -> the region that it moves."""

    @property
    def dram_bytes(self) -> int:
        """Size of the memory image."""
        return max((region.address + region.size_bytes for region in self.regions), default=0)

    def __str__(self) -> str:
        names = dict(self.sections)
        lines: list[str] = []
        depth = 0
        for index, instruction in enumerate(self.instructions):
            if index in names:
                lines.append(f"; {names[index]}")
            depth -= instruction.opcode is Opcode.END
            lines.append(f"{index:4d} {'  ' * depth}{instruction}")
            depth += instruction.opcode is Opcode.LOOP
        return "\n".join(lines)
