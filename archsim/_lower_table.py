"""Function tables: which slot holds which, and the instructions that load them."""

from __future__ import annotations

from archsim._architecture import Architecture
from archsim._assembler import Assembler, Sem
from archsim._errors import ArchsimError
from archsim._isa import Opcode
from archsim._lower_memory import Memory
from archsim._plan import Plan
from archsim._program import Operand
from workloads import EXP2, Product, Requantise, Rowwise, Softmax

ENTRIES = 256


class TableBank:
    """Keeps the most recently loaded tables resident, and loads a missing one before its kernel."""

    def __init__(self, assembler: Assembler, memory: Memory, arch: Architecture) -> None:
        self.assembler = assembler
        self.memory = memory
        self.slots: list[str] = []
        self.size = arch.vector.tables

    def ensure(self, plan: Plan) -> int:
        """Slot of the table that ``plan`` looks up, loaded if need be; 0 where it needs none."""
        name = table_name(plan)
        if name is None:
            return 0
        if name not in self.slots:
            self._load(name)
        return self.slots.index(name)

    def _load(self, name: str) -> None:
        words = self.memory.arch.scratchpad.words
        if words < ENTRIES:
            raise ArchsimError(
                f"scratchpad must have {ENTRIES} words to load the table of {name}, not {words}"
            )
        if len(self.slots) < self.size:
            self.slots.append(name)
        else:
            self.slots = [*self.slots[:-1], name]
        region = self.memory.reserve(f"table:{name}", ENTRIES, "table")
        transfer = self.memory.transfer(segments=1, rows=ENTRIES, dram_rows=ENTRIES, local_rows=ENTRIES)
        base = self.memory.x_base
        self.assembler.emit(
            Opcode.LOAD,
            (Operand(self.memory.address(region.tensor)), Operand(base)),
            transfer,
            signals=[Sem.TABLE_FULL],
            tensor=region.tensor,
        )
        self.assembler.emit(
            Opcode.TABLE,
            (Operand(base),),
            {"slot": self.slots.index(name)},
            waits=[Sem.TABLE_FULL],
            signals=[Sem.TABLE_FREE],
        )
        self.assembler.emit(Opcode.SYNC_LOAD, waits=[Sem.TABLE_FREE])


def table_name(plan: Plan) -> str | None:
    """Name of the table that a kernel looks up: exp2 for softmax, its own for a function."""
    kernel = plan.kernel
    epilogue = kernel.epilogue if isinstance(kernel, Product | Rowwise) else None
    if isinstance(epilogue, Softmax):
        return EXP2
    if isinstance(epilogue, Requantise) and epilogue.function:
        return f"{epilogue.function}:{kernel.name}"
    return None
