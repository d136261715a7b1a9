"""Lowering of one product kernel: the loop nest, its loads, and the passes behind each tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from archsim._assembler import Assembler, Loop, Reg, Sem
from archsim._isa import Opcode, Space
from archsim._lower_memory import Memory
from archsim._lower_passes import ProductPasses
from archsim._plan import ProductPlan
from archsim._program import Operand
from archsim._storage import Storage
from archsim._tiling import Tiling, align, granule_of
from workloads import Access, QuantisedKernel, Softmax


@dataclass(frozen=True, slots=True)
class _Buffer:
    """One operand's double buffer: registers and semaphores that go with it."""

    reg: Reg
    ring: Reg
    full: Sem
    free: Sem
    array_reads: bool
    """Whether the array (through releases) or the vector unit (through signals) frees it."""


_X = _Buffer(Reg.X, Reg.RING_X, Sem.X_FULL, Sem.X_FREE, True)
_W = _Buffer(Reg.W, Reg.RING_W, Sem.W_FULL, Sem.W_FREE, True)
_P = _Buffer(Reg.P, Reg.RING_P, Sem.P_FULL, Sem.P_FREE, False)
_RES = _Buffer(Reg.RES, Reg.RING_RES, Sem.RES_FULL, Sem.RES_FREE, False)


@dataclass(slots=True)
class _Tile:
    """Extents of the tile being emitted: known once the loops around it have been entered."""

    rows: int
    cols: int
    inner: int

    def chunks(self, group: int) -> int:
        """Column chunks."""
        return -(-self.cols // group)


class ProductLowering:
    """Emits the program of one product; ``emit`` is called once."""

    def __init__(
        self,
        assembler: Assembler,
        memory: Memory,
        plan: ProductPlan,
        tiling: Tiling,
        numbers: QuantisedKernel | None,
        slot: int,
    ) -> None:
        self.assembler = assembler
        self.memory = memory
        self.plan = plan
        self.tiling = tiling
        self.granule = granule_of(memory.arch)
        self.word = memory.arch.word_bytes
        self.tile = _Tile(plan.rows, plan.cols, plan.inner_chunks)
        self.passes = ProductPasses(assembler, memory, plan, numbers, slot)
        self.loops = self._loops()
        self.inner = Loop(plan.inner_chunks, tiling.inner_chunks, self._inner_steps())
        self.phased = isinstance(plan.kernel.epilogue, Softmax) and self._col_loop().trips > 1
        self.depths = {buffer: self._depth(buffer) for buffer in self._buffers()}

    def emit(self) -> None:
        """Base addresses, then the nest."""
        memory, plan = self.memory, self.plan
        self.parameters = memory.reserve(
            f"parameters:{plan.kernel.name}", 8 * plan.parameter_sets * plan.col_chunks, "parameter"
        )
        self.assembler.set(Reg.X, memory.address(plan.streamed.tensor))
        self.assembler.set(Reg.W, memory.address(plan.stationary.tensor))
        self.assembler.set(Reg.P, memory.address(self.parameters.tensor))
        self.assembler.set(Reg.OUT, memory.address(plan.output.tensor))
        if plan.residual is not None:
            self.assembler.set(Reg.RES, memory.address(plan.residual.tensor))
        self._level(0)

    # The loops, outermost first: batch ranks, then rows and columns in the tiling's order.

    def _loops(self) -> tuple[tuple[str, Loop], ...]:
        batch = [(f"batch{i}", Loop(size, 1, self._batch_steps(i))) for i, size in enumerate(self.plan.batch)]
        pair = [("rows", self._row_loop()), ("cols", self._col_loop())]
        if self.tiling.cols_outer:
            pair.reverse()
        return tuple(batch + pair)

    def _row_loop(self) -> Loop:
        rows = min(self.tiling.rows, self.plan.rows)
        step = rows * self.word
        return Loop(self.plan.rows, rows, {Reg.X: step, Reg.OUT: step, Reg.RES: step * self._has_residual()})

    def _col_loop(self) -> Loop:
        chunks = min(self.tiling.col_chunks, self.plan.col_chunks)
        out = chunks * self.plan.output.padded_rows * self.word
        if self.plan.transposed:
            weights = chunks * self.plan.group * self.word
        else:
            weights = chunks * self.plan.stationary.padded_rows * self.word
        steps = {
            Reg.W: weights,
            Reg.OUT: out,
            Reg.RES: out * self._has_residual(),
            Reg.P: 8 * chunks * self.word,
        }
        return Loop(self.plan.cols, chunks * self.plan.group, steps)

    def _batch_steps(self, position: int) -> dict[Reg, int]:
        kernel = self.plan.kernel
        rank = kernel.batch[position]
        pairs = (
            (Reg.X, self.plan.streamed, kernel.streamed),
            (Reg.W, self.plan.stationary, kernel.stationary),
        )
        steps = {
            reg: batch_stride(storage, access, rank, position) * self.word for reg, storage, access in pairs
        }
        steps[Reg.OUT] = batch_stride(self.plan.output, kernel.output, rank, position) * self.word
        steps[Reg.RES] = steps[Reg.OUT] * self._has_residual()
        return steps

    def _inner_steps(self) -> dict[Reg, int]:
        chunks = min(self.tiling.inner_chunks, self.plan.inner_chunks)
        lanes = self.plan.stationary.padded_rows if self.plan.transposed else self.plan.inner_group
        return {
            Reg.X: chunks * self.plan.streamed.padded_rows * self.word,
            Reg.W: chunks * lanes * self.word,
        }

    def _has_residual(self) -> int:
        return int(self.plan.residual is not None)

    # Where each operand is loaded: inside the innermost loop that changes it.

    def _buffers(self) -> tuple[_Buffer, ...]:
        return (_P, _W, _RES, _X) if self._has_residual() else (_P, _W, _X)

    def _depth(self, buffer: _Buffer) -> int:
        inner = len(self.loops) + 1
        if self.inner.trips > 1 and buffer in (_X, _W):
            return inner
        depth = 0
        for level, (name, loop) in enumerate(self.loops):
            if loop.trips > 1 and self._changes(buffer, name, loop):
                depth = level + 1
        while depth < len(self.loops) and self.loops[depth][1].trips == 1:
            depth += 1
        return depth

    @staticmethod
    def _changes(buffer: _Buffer, name: str, loop: Loop) -> bool:
        if name.startswith("batch"):
            return loop.steps.get(buffer.reg, 0) != 0
        ranks = {_X: ("rows",), _W: ("cols",), _P: ("cols",), _RES: ("rows", "cols")}
        return name in ranks[buffer]

    # The nest.

    def _level(self, depth: int) -> None:
        """Everything inside the first ``depth`` loops."""
        self._within(depth, lambda: self._descend(depth))

    def _within(self, depth: int, body: Callable[[], None]) -> None:
        """Load what belongs to this depth, run ``body``, hand the buffers back."""
        buffers = [buffer for buffer in self._buffers() if self.depths[buffer] == depth]
        for buffer in buffers:
            self._load(buffer)
        outside = [buffer for buffer in buffers if depth < self._use_depth(buffer)]
        for buffer in outside:
            opcode = Opcode.SYNC_ARRAY if buffer.array_reads else Opcode.SYNC_VECTOR
            self.assembler.emit(opcode, waits=[buffer.full])
        body()
        for buffer in outside:
            if buffer.array_reads:
                self.assembler.emit(Opcode.SYNC_ARRAY, releases=[buffer.free])
            else:
                self.assembler.emit(Opcode.SYNC_VECTOR, signals=[buffer.free])
        for buffer in buffers:
            self._turn(buffer)

    def _use_depth(self, buffer: _Buffer) -> int:
        """Depth at which the instruction that reads the buffer stands."""
        if buffer.array_reads and self.inner.trips > 1:
            return len(self.loops) + 1
        return len(self.loops)

    def _descend(self, depth: int) -> None:
        if depth == len(self.loops):
            self._output_tile(phase=None, first=True)
            return
        name, loop = self.loops[depth]
        if name == "cols" and self.phased:
            for phase in range(3):
                self._run_loop(name, loop, depth, phase)
        else:
            self._run_loop(name, loop, depth, None)

    def _run_loop(self, name: str, loop: Loop, depth: int, phase: int | None) -> None:
        def body(units: int, first: bool) -> None:
            if name == "rows":
                self.tile.rows = units
            elif name == "cols":
                self.tile.cols = units
            if phase is None:
                self._level(depth + 1)
            else:
                self._within(depth + 1, lambda: self._output_tile(phase=phase, first=first))

        self.assembler.loop(loop, body, peel=phase in (0, 1))

    def _output_tile(self, *, phase: int | None, first: bool) -> None:
        """Accumulate over the inner chunks, then the passes, then the store."""
        self._accumulate()
        tile = self.tile
        held = [b for b in self._buffers() if not b.array_reads and self.depths[b] == self._use_depth(b)]
        waits, frees = [b.full for b in held], [b.free for b in held]
        rows, cols = tile.rows, tile.cols
        stores = self.passes.emit(rows=rows, cols=cols, phase=phase, first=first, waits=waits, frees=frees)
        self.assembler.ring(Reg.RING_ACC, self.memory.capacity.accumulator)
        if stores:
            self._store()
            self.assembler.ring(Reg.RING_OUT, self.memory.capacity.operand)

    def _accumulate(self) -> None:
        whole = self.inner.trips == 1

        def body(chunks: int, first: bool) -> None:
            self.tile.inner = chunks
            if whole:
                self._matmul(first=True, last=True)
            else:
                self._within(len(self.loops) + 1, lambda: self._matmul(first=first, last=False))

        self.assembler.loop(self.inner, body, peel=not whole)
        if not whole:
            self.assembler.emit(Opcode.SYNC_ARRAY, signals=[Sem.ACC_FULL])

    def _matmul(self, *, first: bool, last: bool) -> None:
        plan, tile, memory = self.plan, self.tile, self.memory
        direct = [b for b in (_X, _W) if self.depths[b] == self._use_depth(b)]
        tile_rows = align(tile.rows, self.granule)
        if plan.transposed:
            columns = align(tile.chunks(plan.group) * plan.group, self.granule)
            w_rows, w_n_stride, w_k_stride = plan.group, plan.group, columns
        else:
            depth = align(tile.inner * plan.inner_group, self.granule)
            w_rows, w_n_stride, w_k_stride = plan.inner_group, depth, plan.inner_group
        self.assembler.emit(
            Opcode.MATMUL,
            (
                Operand(memory.x_base, Reg.RING_X),
                Operand(memory.w_base, Reg.RING_W),
                Operand(0, Reg.RING_ACC),
            ),
            {
                "rows": tile.rows,
                "k_chunks": tile.inner,
                "n_chunks": tile.chunks(plan.group),
                "w_rows": w_rows,
                "x_k_stride": tile_rows,
                "w_n_stride": w_n_stride,
                "w_k_stride": w_k_stride,
                "acc_n_stride": tile.rows,
                "transpose": int(plan.transposed),
                "accumulate": int(not first),
            },
            waits=[b.full for b in direct] + [Sem.ACC_FREE] * first,
            signals=[Sem.ACC_FULL] * last,
            releases=[b.free for b in direct],
        )

    # Memory traffic of one tile.

    def _load(self, buffer: _Buffer) -> None:
        fields, base, ring = {_X: self._load_x, _W: self._load_w, _P: self._load_p, _RES: self._load_res}[
            buffer
        ]()
        self.assembler.emit(
            Opcode.LOAD,
            (Operand(0, buffer.reg), Operand(base, ring)),
            fields,
            waits=[buffer.free],
            signals=[buffer.full],
            tensor=self._tensor(buffer),
        )

    def _tensor(self, buffer: _Buffer) -> str:
        if buffer is _P:
            return self.parameters.tensor
        if buffer is _RES:
            assert self.plan.residual is not None
            return self.plan.residual.tensor
        return (self.plan.streamed if buffer is _X else self.plan.stationary).tensor

    def _chunks_inside(self, depth: int) -> tuple[int, int, int]:
        """(rows, columns, inner chunks) of an operand loaded at ``depth``: whole in the loops inside."""
        names = [name for name, loop in self.loops[:depth] if loop.trips > 1]
        rows = self.tile.rows if "rows" in names else self.plan.rows
        cols = self.tile.cols if "cols" in names else self.plan.cols
        inner = self.tile.inner if depth > len(self.loops) else self.plan.inner_chunks
        return rows, cols, inner

    def _load_x(self) -> tuple[dict[str, int], int, Reg]:
        rows, _, inner = self._chunks_inside(self.depths[_X])
        rows = align(rows, self.granule)
        dram = self.plan.streamed.padded_rows
        fields = self.memory.transfer(segments=inner, rows=rows, dram_rows=dram, local_rows=rows)
        return fields, self.memory.x_base, Reg.RING_X

    def _load_w(self) -> tuple[dict[str, int], int, Reg]:
        _, cols, inner = self._chunks_inside(self.depths[_W])
        chunks = -(-cols // self.plan.group)
        dram = self.plan.stationary.padded_rows
        if self.plan.transposed:
            segments, local = inner, align(chunks * self.plan.group, self.granule)
        else:
            segments, local = chunks, align(inner * self.plan.inner_group, self.granule)
        rows = min(local, dram)
        fields = self.memory.transfer(segments=segments, rows=rows, dram_rows=dram, local_rows=local)
        return fields, self.memory.w_base, Reg.RING_W

    def _load_p(self) -> tuple[dict[str, int], int, Reg]:
        _, cols, _ = self._chunks_inside(self.depths[_P])
        words = 8 * self.plan.parameter_sets * -(-cols // self.plan.group)
        fields = self.memory.transfer(segments=1, rows=words, dram_rows=words, local_rows=words)
        return fields | {"space": Space.PARAMETERS}, 0, Reg.RING_P_LOAD

    def _load_res(self) -> tuple[dict[str, int], int, Reg]:
        rows, cols, _ = self._chunks_inside(self.depths[_RES])
        return self._panel_transfer(rows, cols), self.memory.res_base, Reg.RING_RES

    def _panel_transfer(self, rows: int, cols: int) -> dict[str, int]:
        rows = align(rows, self.granule)
        chunks = -(-cols // self.plan.group)
        dram = self.plan.output.padded_rows
        return self.memory.transfer(segments=chunks, rows=rows, dram_rows=dram, local_rows=rows)

    def _store(self) -> None:
        self.assembler.emit(
            Opcode.STORE,
            (Operand(0, Reg.OUT), Operand(self.memory.out_base, Reg.RING_OUT)),
            self._panel_transfer(self.tile.rows, self.tile.cols),
            waits=[Sem.OUT_FULL],
            signals=[Sem.OUT_FREE],
            tensor=self.plan.output.tensor,
        )

    def _turn(self, buffer: _Buffer) -> None:
        if buffer is _P:
            self.assembler.ring(Reg.RING_P, self.memory.capacity.parameter)
            self.assembler.ring(Reg.RING_P_LOAD, 8 * self.memory.capacity.parameter)
        else:
            self.assembler.ring(buffer.ring, self.memory.capacity.operand)


def batch_stride(storage: Storage, access: Access, rank: str, position: int) -> int:
    """Words from one point of batch rank ``rank`` to the next; 0 where the tensor lacks it."""
    dim = _dimension(access, rank) if "@gathered" not in storage.tensor else position
    if dim is None:
        return 0
    stride = storage.panels * storage.padded_rows
    for outer in reversed(storage.outer):
        if outer == dim:
            return stride
        stride *= storage.shape[outer]
    stride = 1
    for row in reversed(storage.row):
        if row == dim:
            return stride
        stride *= storage.shape[row]
    return 0


def _dimension(access: Access, rank: str) -> int | None:
    found = [d for d, index in enumerate(access.indices) if any(name == rank for name, _ in index.terms)]
    return found[0] if found else None
