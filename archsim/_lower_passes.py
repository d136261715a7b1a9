"""The vector unit's passes over a tile, one form an epilogue."""

from __future__ import annotations

from collections.abc import Sequence

from archsim._assembler import Assembler, Reg, Sem
from archsim._isa import Destination, Lookup, Opcode, Pre, Reduce, Residual, Source
from archsim._lower_memory import Memory
from archsim._plan import ProductPlan, RowPlan
from archsim._program import Operand
from archsim._tiling import align, granule_of
from workloads import Elementwise, Normalise, QuantisedKernel, Requantise


class _Writer:
    """Writes VECTOR instructions for one kernel; the fields of a pass are put together from parts."""

    def __init__(
        self,
        assembler: Assembler,
        memory: Memory,
        plan: ProductPlan | RowPlan,
        numbers: QuantisedKernel | None,
        slot: int,
    ) -> None:
        self.assembler = assembler
        self.memory = memory
        self.plan = plan
        self.numbers = numbers
        self.slot = slot
        self.granule = granule_of(memory.arch)
        self.residual_base = memory.res_base

    def _tile(self, rows: int, cols: int) -> dict[str, int]:
        group = self.plan.group
        return {"rows": rows, "chunks": -(-cols // group), "length": cols, "group": group}

    def _scaled(self, source: Source, stride: int) -> dict[str, int]:
        shift = self.numbers.affine.shift if self.numbers else 0
        return {"source": source, "src_stride": stride, "affine": 1, "shift": shift}

    def _from_accumulators(self, tile: dict[str, int]) -> dict[str, int]:
        return self._scaled(Source.ACCUMULATOR, tile["rows"])

    def _from_scratchpad(self, tile: dict[str, int]) -> dict[str, int]:
        return self._scaled(Source.SCRATCHPAD, align(tile["rows"], self.granule))

    def _normalised(self, tile: dict[str, int]) -> dict[str, int]:
        shift = self.numbers.norm_shift if self.numbers else 0
        fields = {"pre": Pre.NORM, "affine": 1, "shift": shift, "count": tile["length"]}
        return tile | self._from_buffer(tile) | fields | self._to_scratchpad(tile)

    def _quotient(self, tile: dict[str, int]) -> dict[str, int]:
        return tile | self._from_buffer(tile) | {"pre": Pre.SCALE} | self._to_scratchpad(tile)

    def _moments(self, epilogue: Normalise, tile: dict[str, int]) -> dict[str, int]:
        reduce = Reduce.MOMENTS if epilogue.centred else Reduce.SQUARES
        return self._to_buffer(tile) | {"count": tile["length"], "reduce": reduce, "reduce_first": 1}

    def _from_buffer(self, tile: dict[str, int]) -> dict[str, int]:
        return {"source": Source.BUFFER, "src_stride": tile["rows"]}

    def _to_buffer(self, tile: dict[str, int]) -> dict[str, int]:
        return {"destination": Destination.BUFFER, "dst_stride": tile["rows"]}

    def _to_scratchpad(self, tile: dict[str, int]) -> dict[str, int]:
        stride = align(tile["rows"], self.granule)
        return {"destination": Destination.SCRATCHPAD, "dst_stride": stride}

    def _residual(self, tile: dict[str, int], epilogue: Requantise | Normalise) -> dict[str, int]:
        if epilogue.residual is None:
            return {}
        return {
            "residual": Residual.ADD,
            "res_stride": align(tile["rows"], self.granule),
            "res_multiplier": self.numbers.residual_multiplier if self.numbers else 0,
            "res_shift": self.numbers.residual_shift if self.numbers else 0,
        }

    def _vector(
        self,
        fields: dict[str, int],
        *,
        waits: Sequence[Sem] = (),
        signals: Sequence[Sem] = (),
        releases: Sequence[Sem] = (),
        parameters: int = 0,
    ) -> None:
        """One VECTOR; operands follow from the fields, ``parameters`` is the offset of its set."""
        self.assembler.emit(
            Opcode.VECTOR,
            (
                self._source(fields),
                self._destination(fields),
                Operand(self.residual_base, Reg.RING_RES) if fields.get("residual") else Operand(0),
                Operand(parameters, Reg.RING_P) if fields.get("affine") else Operand(0),
            ),
            fields,
            waits=waits,
            signals=signals,
            releases=releases,
        )

    def _destination(self, fields: dict[str, int]) -> Operand:
        if fields.get("destination") == Destination.SCRATCHPAD:
            return Operand(self.memory.out_base, Reg.RING_OUT)
        return Operand(0)

    def _source(self, fields: dict[str, int]) -> Operand:
        if fields["source"] == Source.ACCUMULATOR:
            return Operand(0, Reg.RING_ACC)
        if fields["source"] == Source.SCRATCHPAD:
            return Operand(self.memory.res_base, Reg.RING_RES)
        return Operand(0)


class ProductPasses(_Writer):
    """The passes behind a product's accumulated tile."""

    def __init__(
        self,
        assembler: Assembler,
        memory: Memory,
        plan: ProductPlan,
        numbers: QuantisedKernel | None,
        slot: int,
    ) -> None:
        super().__init__(assembler, memory, plan, numbers, slot)
        self.epilogue = plan.kernel.epilogue

    def emit(
        self,
        *,
        rows: int,
        cols: int,
        phase: int | None,
        first: bool,
        waits: Sequence[Sem],
        frees: Sequence[Sem],
    ) -> bool:
        """The passes of a tile of ``rows`` x ``cols``; True if they leave a result to store.

        ``phase`` 0, 1, 2 are a softmax's sweeps over several column tiles: maximum, sum, quotient.
        ``waits`` and ``frees`` are the operand buffers read by this tile alone.
        """
        tile = self._tile(rows, cols)
        epilogue = self.epilogue
        if isinstance(epilogue, Requantise):
            self._requantise(tile, epilogue, waits, frees)
            return True
        if isinstance(epilogue, Normalise):
            self._normalise(tile, epilogue, waits, frees)
            return True
        return self._softmax(tile, phase, first, waits, frees)

    def _requantise(
        self, tile: dict[str, int], epilogue: Requantise, waits: Sequence[Sem], frees: Sequence[Sem]
    ) -> None:
        extra = self._residual(tile, epilogue)
        if epilogue.function:
            extra |= {"lookup": Lookup.TABLE, "slot": self.slot}
        self._vector(
            tile | self._from_accumulators(tile) | extra | self._to_scratchpad(tile),
            waits=[Sem.ACC_FULL, Sem.OUT_FREE, *waits],
            signals=[Sem.OUT_FULL, *frees],
            releases=[Sem.ACC_FREE],
        )

    def _normalise(
        self, tile: dict[str, int], epilogue: Normalise, waits: Sequence[Sem], frees: Sequence[Sem]
    ) -> None:
        self._vector(
            tile
            | self._from_accumulators(tile)
            | self._residual(tile, epilogue)
            | self._moments(epilogue, tile),
            waits=[Sem.ACC_FULL, *waits],
            releases=[Sem.ACC_FREE],
        )
        self._vector(
            self._normalised(tile),
            waits=[Sem.OUT_FREE],
            signals=[Sem.OUT_FULL, *frees],
            parameters=tile["chunks"],
        )

    def _softmax(
        self, tile: dict[str, int], phase: int | None, first: bool, waits: Sequence[Sem], frees: Sequence[Sem]
    ) -> bool:
        scores = tile | self._from_accumulators(tile)
        begin = int(first)
        exp = {"lookup": Lookup.EXP, "slot": self.slot}
        maximum = scores | {"reduce": Reduce.MAX, "reduce_first": begin}
        total = {"reduce": Reduce.SUM, "reduce_first": begin}
        if phase == 0:
            self._vector(maximum, waits=[Sem.ACC_FULL, *waits], signals=frees, releases=[Sem.ACC_FREE])
            return False
        if phase == 1:
            self._vector(
                scores | exp | total, waits=[Sem.ACC_FULL, *waits], signals=frees, releases=[Sem.ACC_FREE]
            )
            return False
        if phase is None:
            self._vector(maximum, waits=[Sem.ACC_FULL, *waits])
            self._vector(scores | exp | self._to_buffer(tile) | total, releases=[Sem.ACC_FREE])
        else:
            self._vector(
                scores | exp | self._to_buffer(tile), waits=[Sem.ACC_FULL, *waits], releases=[Sem.ACC_FREE]
            )
        self._vector(self._quotient(tile), waits=[Sem.OUT_FREE], signals=[Sem.OUT_FULL, *frees])
        return True


class RowPasses(_Writer):
    """The passes of a kernel that has no product: its tile comes from the scratchpad."""

    def __init__(
        self,
        assembler: Assembler,
        memory: Memory,
        plan: RowPlan,
        numbers: QuantisedKernel | None,
        slot: int,
    ) -> None:
        super().__init__(assembler, memory, plan, numbers, slot)
        self.kernel = plan.kernel
        self.pair = len(plan.sources) > 1
        self.held = [Sem.RES_FULL] if plan.sources else []
        self.freed = [Sem.RES_FREE] if plan.sources else []
        self.residual_base = memory.w_base

    def emit(self, rows: int) -> None:
        """The passes of a tile of ``rows`` rows of the whole width."""
        tile = self._tile(rows, self.plan.cols)
        if isinstance(self.kernel, Elementwise) or isinstance(self.kernel.epilogue, Requantise):
            self._elementwise(tile)
        elif isinstance(self.kernel.epilogue, Normalise):
            self._normalise(tile, self.kernel.epilogue)
        else:
            self._softmax(tile)

    def _elementwise(self, tile: dict[str, int]) -> None:
        source = self._from_scratchpad(tile) if self.held else self._from_buffer(tile)
        second = {"residual": Residual.ADD, "res_stride": source["src_stride"]} if self.pair else {}
        self._vector(
            tile | source | second | self._to_scratchpad(tile),
            waits=[Sem.OUT_FREE, *self.held],
            signals=[Sem.OUT_FULL, *self.freed],
        )

    def _normalise(self, tile: dict[str, int], epilogue: Normalise) -> None:
        self._vector(
            tile
            | self._from_scratchpad(tile)
            | self._residual(tile, epilogue)
            | self._moments(epilogue, tile),
            waits=self.held,
            signals=self.freed,
        )
        self._vector(
            self._normalised(tile),
            waits=[Sem.OUT_FREE],
            signals=[Sem.OUT_FULL],
            parameters=tile["chunks"],
        )

    def _softmax(self, tile: dict[str, int]) -> None:
        scores = tile | self._from_scratchpad(tile)
        first = {"reduce_first": 1}
        self._vector(scores | {"reduce": Reduce.MAX} | first, waits=self.held)
        exp = {"lookup": Lookup.EXP, "slot": self.slot, "reduce": Reduce.SUM} | first
        self._vector(scores | exp | self._to_buffer(tile), signals=self.freed)
        self._vector(self._quotient(tile), waits=[Sem.OUT_FREE], signals=[Sem.OUT_FULL])
