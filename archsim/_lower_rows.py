"""Lowering of a kernel of the vector unit alone: tiles of rows in, passes, tiles of rows out."""

from __future__ import annotations

from archsim._assembler import Assembler, Loop, Reg, Sem
from archsim._isa import Opcode, Space
from archsim._lower_memory import Memory
from archsim._lower_passes import RowPasses
from archsim._plan import RowPlan
from archsim._program import Operand
from archsim._storage import Storage
from archsim._tiling import Tiling, align, granule_of
from workloads import QuantisedKernel


class RowLowering:
    """Emits the program of one row kernel; ``emit`` is called once.

    One source takes the memory operand's double buffer; two take one buffer of it and the
    stationary region (idle here), so that the vector unit reads them from different banks.
    """

    def __init__(
        self,
        assembler: Assembler,
        memory: Memory,
        plan: RowPlan,
        tiling: Tiling,
        numbers: QuantisedKernel | None,
        slot: int,
    ) -> None:
        self.assembler = assembler
        self.memory = memory
        self.plan = plan
        self.rows = Loop(plan.rows, min(tiling.rows, plan.rows), self._steps(min(tiling.rows, plan.rows)))
        self.granule = granule_of(memory.arch)
        self.passes = RowPasses(assembler, memory, plan, numbers, slot)
        self.pair = len(plan.sources) > 1

    def emit(self) -> None:
        """Base addresses and parameters, then the loops over blocks and row tiles."""
        memory, plan, assembler = self.memory, self.plan, self.assembler
        words = 8 * plan.parameter_sets * plan.chunks
        region = memory.reserve(f"parameters:{plan.kernel.name}", words, "parameter")
        assembler.set(Reg.P, memory.address(region.tensor))
        for reg, storage in zip((Reg.X, Reg.RES), plan.sources, strict=False):
            assembler.set(reg, memory.address(storage.tensor))
        assembler.set(Reg.OUT, memory.address(plan.output.tensor))
        if self.pair:
            assembler.set(Reg.RING_RES, 0)
        fields = memory.transfer(segments=1, rows=words, dram_rows=words, local_rows=words)
        assembler.emit(
            Opcode.LOAD,
            (Operand(0, Reg.P), Operand(0, Reg.RING_P_LOAD)),
            fields | {"space": Space.PARAMETERS},
            waits=[Sem.P_FREE],
            signals=[Sem.P_FULL],
            tensor=region.tensor,
        )
        assembler.emit(Opcode.SYNC_VECTOR, waits=[Sem.P_FULL])
        steps = {reg: s.panels * s.padded_rows * memory.arch.word_bytes for reg, s in self._streams().items()}
        assembler.loop(
            Loop(plan.blocks, 1, steps), lambda _units, _first: assembler.loop(self.rows, self._tile)
        )
        assembler.emit(Opcode.SYNC_VECTOR, signals=[Sem.P_FREE])
        assembler.ring(Reg.RING_P, memory.capacity.parameter)
        assembler.ring(Reg.RING_P_LOAD, 8 * memory.capacity.parameter)

    def _streams(self) -> dict[Reg, Storage]:
        sources = dict(zip((Reg.X, Reg.RES), self.plan.sources, strict=False))
        return sources | {Reg.OUT: self.plan.output}

    def _steps(self, rows: int) -> dict[Reg, int]:
        return dict.fromkeys(self._streams(), rows * self.memory.arch.word_bytes)

    def _tile(self, rows: int, _first: bool) -> None:
        assembler, memory = self.assembler, self.memory
        for reg, storage in zip((Reg.X, Reg.RES), self.plan.sources, strict=False):
            base = memory.res_base if reg is Reg.X else memory.w_base
            assembler.emit(
                Opcode.LOAD,
                (Operand(0, reg), Operand(base, Reg.RING_RES)),
                self._transfer(rows, storage),
                waits=[Sem.RES_FREE],
                signals=[Sem.RES_FULL],
                tensor=storage.tensor,
            )
        if self.pair:
            assembler.emit(Opcode.SYNC_VECTOR, waits=[Sem.RES_FULL])
        self.passes.emit(rows)
        if self.pair:
            assembler.emit(Opcode.SYNC_VECTOR, signals=[Sem.RES_FREE])
        assembler.emit(
            Opcode.STORE,
            (Operand(0, Reg.OUT), Operand(memory.out_base, Reg.RING_OUT)),
            self._transfer(rows, self.plan.output),
            waits=[Sem.OUT_FULL],
            signals=[Sem.OUT_FREE],
            tensor=self.plan.output.tensor,
        )
        assembler.ring(Reg.RING_OUT, memory.capacity.operand)
        if not self.pair and self.plan.sources:
            assembler.ring(Reg.RING_RES, memory.capacity.operand)

    def _transfer(self, rows: int, storage: Storage) -> dict[str, int]:
        rows = align(rows, self.granule)
        return self.memory.transfer(
            segments=self.plan.chunks, rows=rows, dram_rows=storage.padded_rows, local_rows=rows
        )
