"""Function tables: which slot holds which, and the instructions that load them."""

from __future__ import annotations

from archsim._architecture import Architecture
from archsim._assembler import Assembler, Sem
from archsim._isa import TABLE_ENTRIES, Opcode
from archsim._lower_memory import Memory
from archsim._plan import Plan, table_name
from archsim._program import Operand


class TableBank:
    """Loads a table before the first kernel that looks it up; where all slots are full, over the last one."""

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
        if len(self.slots) < self.size:
            self.slots.append(name)
        else:
            self.slots = [*self.slots[:-1], name]
        region = self.memory.reserve(f"table:{name}", TABLE_ENTRIES, "table")
        words = TABLE_ENTRIES
        transfer = self.memory.transfer(segments=1, rows=words, dram_rows=words, local_rows=words)
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
