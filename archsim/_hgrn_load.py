"""The program that loads a MatMul-free language model: what stays on chip, and a state of zeros."""

from __future__ import annotations

from dataclasses import dataclass

from archsim._assembler import Assembler, Sem
from archsim._hgrn_layout import CONSTANTS, SIGMOID, SILU, ZERO, Layout
from archsim._isa import TABLE_ENTRIES, Destination, Opcode, Source, Space
from archsim._program import Operand

MAX_BEATS = MAX_LENGTH = (1 << 16) - 1


@dataclass(slots=True)
class LoadProgram:
    """Emits the load program of a placed model."""

    at: Layout
    out: Assembler

    def emit(self) -> None:
        """Append the whole program."""
        at, regions = self.at, self.at.regions()
        size = at.arch.word_bytes
        self.out.section("load")
        tables = 2 * TABLE_ENTRIES * size // at.arch.bus.bytes
        self._load(regions["tables"].address, 0, Space.SCRATCHPAD, beats=tables, tensor="tables")
        words = at.all_parameters if at.parameters_resident else CONSTANTS
        place = regions["parameters"].address
        self._many(place, Space.PARAMETERS, words, at.parameter_bytes, step=8, tensor="parameters")
        self.out.emit(Opcode.SYNC_LOAD, signals=[Sem.TABLE_FULL])
        for slot in (SIGMOID, SILU):
            waits = [Sem.TABLE_FULL] if slot == SIGMOID else []
            self.out.emit(Opcode.TABLE, (Operand(slot * TABLE_ENTRIES),), {"slot": slot}, waits=waits)
        self._zero_state()
        if at.weights_resident:
            place = regions["weights"].address
            self._many(place, Space.WEIGHTS, at.all_weights, at.weight_bytes, step=1, tensor="weights")
        self.out.emit(Opcode.HALT)

    def _zero_state(self) -> None:
        cols = self.at.arch.array.cols
        most = MAX_LENGTH // cols
        chunks = self.at.sizes.layers * self.at.hidden
        for first in range(0, chunks, most):
            count = min(most, chunks - first)
            fields = {
                "rows": 1,
                "chunks": count,
                "length": count * cols,
                "group": cols,
                "dst_stride": 1,
                "source": Source.BUFFER,
                "affine": 1,
                "uniform": 1,
                "destination": Destination.BUFFER,
            }
            operands = (Operand(self.at.x), Operand(self.at.state + first), Operand(0), Operand(ZERO))
            self.out.emit(Opcode.VECTOR, operands, fields)

    def _load(self, address: int, local: int, space: Space, *, beats: int, tensor: str) -> None:
        fields = {"space": space, "segments": 1, "beats": beats}
        self.out.emit(Opcode.LOAD, (Operand(address), Operand(local)), fields, tensor=tensor)

    def _many(
        self, address: int, space: Space, words: int, word_bytes: int, *, step: int, tensor: str
    ) -> None:
        """Words of ``word_bytes`` from local address 0 on, ``step`` addresses each, in segments that fit."""
        beats = word_bytes // self.at.arch.bus.bytes
        most = MAX_BEATS // beats
        full, rest = divmod(words, most)
        if full:
            fields = {
                "space": space,
                "segments": full,
                "beats": most * beats,
                "dram_stride": most * word_bytes,
                "local_stride": most * step,
            }
            self.out.emit(Opcode.LOAD, (Operand(address), Operand(0)), fields, tensor=tensor)
        if rest:
            done = full * most
            self._load(address + done * word_bytes, done * step, space, beats=rest * beats, tensor=tensor)
