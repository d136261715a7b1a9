"""A small assembler: registers, rings, semaphores and loops by name, instructions in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from archsim._isa import Opcode
from archsim._program import Instruction, Operand


class Reg(IntEnum):
    """Address registers; the rings hold 0 or half of their memory region."""

    ZERO = 0
    X = 1
    W = 2
    P = 3
    RES = 4
    OUT = 5
    RING_X = 6
    RING_W = 7
    RING_P = 8
    RING_RES = 9
    RING_OUT = 10
    RING_ACC = 11
    RING_P_LOAD = 12


class Sem(IntEnum):
    """Semaphores: each buffer has a `full` from its writer and a `free` from its reader."""

    X_FULL = 0
    X_FREE = 1
    W_FULL = 2
    W_FREE = 3
    P_FULL = 4
    P_FREE = 5
    RES_FULL = 6
    RES_FREE = 7
    ACC_FULL = 8
    ACC_FREE = 9
    OUT_FULL = 10
    OUT_FREE = 11
    STORED = 12
    TABLE_FULL = 13
    TABLE_FREE = 14


SEMAPHORE_NAMES: Mapping[int, str] = {
    Sem.X_FULL: "array waits for streamed operand",
    Sem.X_FREE: "load waits for a free streamed buffer",
    Sem.W_FULL: "array waits for stationary operand",
    Sem.W_FREE: "load waits for a free stationary buffer",
    Sem.P_FULL: "vector waits for parameters",
    Sem.P_FREE: "load waits for a free parameter buffer",
    Sem.RES_FULL: "vector waits for its memory operand",
    Sem.RES_FREE: "load waits for a free operand buffer",
    Sem.ACC_FULL: "vector waits for the array",
    Sem.ACC_FREE: "array waits for free accumulators",
    Sem.OUT_FULL: "store waits for results",
    Sem.OUT_FREE: "vector waits for a free output buffer",
    Sem.STORED: "load waits for the previous kernel's results",
    Sem.TABLE_FULL: "vector waits for a function table",
    Sem.TABLE_FREE: "load waits for a function table to be read",
}


def mask(semaphores: Iterable[IntEnum]) -> int:
    """Bit mask of ``semaphores``."""
    bits = 0
    for semaphore in semaphores:
        bits |= 1 << semaphore
    return bits


@dataclass(frozen=True, slots=True)
class Loop:
    """A dimension cut into tiles: ``total`` units in steps of ``tile``, the last one ragged."""

    total: int
    tile: int
    steps: Mapping[Reg, int] = field(default_factory=dict)
    """What each full tile adds to the address registers."""

    @property
    def full(self) -> int:
        """Full tiles."""
        return self.total // self.tile

    @property
    def rest(self) -> int:
        """Units of the ragged last tile, or 0."""
        return self.total % self.tile

    @property
    def trips(self) -> int:
        """Tiles."""
        return self.full + (self.rest > 0)


@dataclass(slots=True)
class Assembler:
    """Collects instructions; every method appends. Registers and semaphores are whose that use it."""

    instructions: list[Instruction] = field(default_factory=list)
    sections: list[tuple[int, str]] = field(default_factory=list)
    tensors: dict[int, str] = field(default_factory=dict)
    """What each LOAD and STORE moves."""

    def section(self, name: str) -> None:
        """Name what follows, for listings and reports."""
        self.sections.append((len(self.instructions), name))

    def emit(
        self,
        opcode: Opcode,
        operands: tuple[Operand, ...] = (),
        fields: Mapping[str, int] | None = None,
        *,
        waits: Iterable[IntEnum] = (),
        signals: Iterable[IntEnum] = (),
        releases: Iterable[IntEnum] = (),
        tensor: str | None = None,
    ) -> None:
        """Append one instruction; ``tensor`` names what a LOAD or STORE moves."""
        if tensor is not None:
            self.tensors[len(self.instructions)] = tensor
        self.instructions.append(
            Instruction(opcode, operands, dict(fields or {}), mask(waits), mask(signals), mask(releases))
        )

    def add(self, reg: IntEnum, amount: int) -> None:
        """``reg += amount`` (modulo 2**32), nothing for zero."""
        if amount % 2**32:
            self.emit(Opcode.ADD, fields={"reg": reg, "imm": amount % 2**32})

    def set(self, reg: IntEnum, value: int) -> None:
        """``reg = value``."""
        self.emit(Opcode.SET, fields={"reg": reg, "imm": value})

    def ring(self, reg: IntEnum, half: int) -> None:
        """Switch the double buffer behind ``reg`` to its other half of ``half`` words."""
        self.emit(Opcode.RING, fields={"reg": reg, "imm": half, "limit": 2 * half})

    def loop(self, loop: Loop, body: Callable[[int, bool], None], *, peel: bool = False) -> None:
        """Run ``body(units, first)`` for each tile; ``peel`` emits the first one apart, with ``first`` true.

        The address registers are stepped after each full tile and restored at the end.
        """
        looped = loop.full
        stepped = loop.full if loop.trips > 1 else 0
        if looped and peel:
            body(loop.tile, True)
            self._step(loop, 1 if stepped else 0)
            looped -= 1
        if looped == 1:
            body(loop.tile, not peel)
            self._step(loop, 1 if stepped else 0)
        elif looped:
            self.emit(Opcode.LOOP, fields={"imm": looped})
            body(loop.tile, not peel)
            self._step(loop, 1)
            self.emit(Opcode.END)
        if loop.rest:
            body(loop.rest, not peel or loop.full == 0)
        self._step(loop, -stepped)

    def _step(self, loop: Loop, times: int) -> None:
        for reg, amount in loop.steps.items():
            self.add(reg, amount * times)
