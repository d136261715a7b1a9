"""What a kernel is to the machine: sizes in lanes and chunks, operands in panels, tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from archsim._architecture import Architecture
from archsim._attention_plan import AttentionPlan, plan_attention
from archsim._errors import ArchsimError
from archsim._storage import Storage
from workloads import (
    EXP2,
    Access,
    Cascade,
    Elementwise,
    Kernel,
    Normalise,
    Product,
    Requantise,
    Rowwise,
    Softmax,
)
from workloads import kernels as kernels_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Words of each on-chip memory that one buffer (half of a double buffer) may take."""

    operand: int
    """Scratchpad words of each of the four regions: streamed, stationary, output, memory operand."""
    accumulator: int
    parameter: int
    buffer: int
    records: int

    @staticmethod
    def of(arch: Architecture) -> Capacity:
        """The scratchpad's banks are dealt out in four equal regions, each a double buffer."""
        if arch.scratchpad.banks < 4:
            raise ArchsimError(f"scratchpad.banks must be at least 4, not {arch.scratchpad.banks}")
        granule = max(1, arch.bus.bytes // arch.word_bytes)
        half = arch.scratchpad.banks // 4 * arch.scratchpad.words_per_bank // 2
        return Capacity(
            operand=half // granule * granule,
            accumulator=arch.accumulator_words // 2,
            parameter=arch.parameter_words // 2,
            buffer=arch.vector.buffer_words,
            records=arch.vector.rows,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductPlan:
    """A product on the array: loops over batch points, rows, column chunks, inner chunks."""

    kernel: Product
    batch: tuple[int, ...]
    """Sizes of the batch ranks."""
    rows: int
    col_blocks: int
    """Blocks of columns, each padded to whole chunks (the heads of a projection)."""
    block_cols: int
    """Columns of a block."""
    inner_chunks: int
    inner_group: int
    """Reduction lanes in use."""
    group: int
    """Output lanes in use."""
    streamed: Storage
    stationary: Storage
    output: Storage
    transposed: bool
    """Whether the stationary operand lies with its inner rank along the lanes."""
    stationary_is_weight: bool

    @property
    def cols(self) -> int:
        """Columns; where there are several blocks, those that pad each to whole chunks included."""
        if self.col_blocks == 1:
            return self.block_cols
        return self.col_blocks * -(-self.block_cols // self.group) * self.group

    @property
    def col_chunks(self) -> int:
        """Chunks of ``group`` columns."""
        return -(-self.cols // self.group)

    @property
    def parameter_sets(self) -> int:
        """Parameter words a chunk needs: one, and another for a normalisation's gain and offset."""
        return 2 if isinstance(self.kernel.epilogue, Normalise) else 1

    @property
    def residual(self) -> Access | None:
        """The operand that the epilogue reads from memory."""
        epilogue = self.kernel.epilogue
        return None if isinstance(epilogue, Softmax) else epilogue.residual


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPlan:
    """A kernel of the vector unit alone: passes over words of a tensor in memory."""

    kernel: Rowwise | Elementwise
    blocks: int
    rows: int
    cols: int
    group: int
    sources: tuple[Storage, ...]
    output: Storage

    @property
    def chunks(self) -> int:
        """Words of a row."""
        return -(-self.cols // self.group)

    @property
    def parameter_sets(self) -> int:
        """Parameter words a chunk needs."""
        normalises = isinstance(self.kernel, Rowwise) and isinstance(self.kernel.epilogue, Normalise)
        return 2 if normalises else 1


MatrixPlan = ProductPlan | RowPlan
"""What a dense array runs."""
Plan = MatrixPlan | AttentionPlan

Ranks = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """Plans of all kernels of a cascade, and the storages they agreed on."""

    plans: tuple[Plan, ...]
    storages: tuple[Storage, ...]
    """Every tensor in memory, in order of first use."""
    copies: tuple[str, ...]
    """Tensors that two kernels want in different layouts; a program with any is for timing only."""


def plan(cascade: Cascade, arch: Architecture) -> Planned:
    """Lay out the tensors of ``cascade`` and size its kernels for ``arch``."""
    if arch.array.kind == "fusemax":
        attention = plan_attention(cascade, arch)
        tensors = (attention.queries, attention.keys, attention.values, attention.output)
        return Planned((attention,), tensors, ())
    return _Planner(cascade, arch).run()


def shape_of(access: Access, cascade: Cascade) -> tuple[int, ...]:
    """Extents of the tensor behind ``access``, from the ranks' sizes (indices from 0)."""
    return tuple(
        1 + index.offset + sum(max(0, factor) * (cascade.ranks[rank] - 1) for rank, factor in index.terms)
        for index in access.indices
    )


def table_name(plan: Plan) -> str | None:
    """Name of the table that a kernel looks up: exp2 for softmax, its own for a function."""
    kernel = plan.kernel
    epilogue = kernel.epilogue if isinstance(kernel, Product | Rowwise) else None
    if isinstance(epilogue, Softmax):
        return EXP2
    if isinstance(epilogue, Requantise) and epilogue.function:
        return f"{epilogue.function}:{kernel.name}"
    return None


class _Planner:
    def __init__(self, cascade: Cascade, arch: Architecture) -> None:
        self.cascade = cascade
        self.arch = arch
        self.kernels = kernels_of(cascade)
        self.produced = {kernel.output.tensor for kernel in self.kernels}
        self.storages: dict[str, Storage] = {}
        self.copies: list[str] = []
        self.granule = max(1, arch.bus.bytes // arch.word_bytes)
        rows, cols = arch.array.rows, arch.array.cols
        alone = len(self.kernels) == 1
        self.inner_group = rows if alone else min(rows, cols)
        self.group = cols if alone else min(rows, cols)

    def run(self) -> Planned:
        plans = tuple(self._plan(kernel) for kernel in self.kernels)
        return Planned(plans, tuple(self.storages.values()), tuple(self.copies))

    def _plan(self, kernel: Kernel) -> Plan:
        return self._product(kernel) if isinstance(kernel, Product) else self._rowwise(kernel)

    def _size(self, ranks: tuple[str, ...]) -> int:
        return prod(self.cascade.ranks[rank] for rank in ranks)

    def _product(self, kernel: Product) -> ProductPlan:
        weight = kernel.stationary.tensor not in self.produced and not self._streams(kernel.stationary.tensor)
        gathered = not (kernel.streamed.is_plain and kernel.stationary.is_plain) and len(kernel.inner) > 1
        inner = ((), kernel.inner) if gathered else (kernel.inner[:-1], kernel.inner[-1:])
        cols = self._columns(kernel)
        streamed = self._operand(
            kernel.streamed, (kernel.batch + inner[0], kernel.rows, inner[1]), group=self.inner_group
        )
        stationary, transposed = (
            (self._weight(kernel, inner[1], cols), False) if weight else self._stationary(kernel)
        )
        tile = kernel.batch + cols[0], kernel.rows, cols[1]
        residual = None if isinstance(kernel.epilogue, Softmax) else kernel.epilogue.residual
        if residual is not None:
            self._operand(residual, tile)
        return ProductPlan(
            kernel=kernel,
            batch=tuple(self.cascade.ranks[rank] for rank in kernel.batch),
            rows=self._size(kernel.rows),
            col_blocks=self._size(cols[0]),
            block_cols=self._size(cols[1]),
            inner_chunks=self._size(inner[0]) * -(-self._size(inner[1]) // self.inner_group),
            inner_group=self.inner_group,
            group=self.group,
            streamed=streamed,
            stationary=stationary,
            output=self._operand(kernel.output, tile),
            transposed=transposed,
            stationary_is_weight=weight,
        )

    def _columns(self, kernel: Product) -> tuple[Ranks, Ranks]:
        """The column ranks as (blocks, columns of a block).

        Heads are blocks where a product reads them one by one, each padded to whole panels; columns
        that no product reads, or that a weight's own layout joins, are one block.
        """
        apart = kernel.output.is_plain and kernel.stationary.is_plain and self._multiplied(kernel.name)
        return (kernel.cols[:-1], kernel.cols[-1:]) if apart else ((), kernel.cols)

    def _multiplied(self, tensor: str) -> bool:
        """Whether a product reads ``tensor``, or nothing does (a result keeps its ranks apart)."""
        readers = [k for k in self.kernels if tensor in _read(k)]
        return not readers or any(isinstance(k, Product) for k in readers)

    def _streams(self, tensor: str) -> bool:
        """Whether some kernel reads ``tensor`` as an activation: streamed, or added on."""
        return any(isinstance(k, Product) and k.streamed.tensor == tensor for k in self.kernels)

    def _operand(
        self, access: Access, ranks: tuple[Ranks, Ranks, Ranks], *, group: int | None = None
    ) -> Storage:
        """Storage of an operand with (outer, row, column) ranks; a matrix of its own where it overlaps."""
        if not access.is_plain:
            return self._gathered(access.tensor, ranks, group=group or self.group)
        return self._place(access, *ranks, group=group)

    def _gathered(self, tensor: str, ranks: tuple[Ranks, Ranks, Ranks], *, group: int) -> Storage:
        """A layout made for one kernel: a convolution's windows, a view, gathered as a matrix."""
        self.copies.append(tensor)
        outer, row, col = ranks
        shape = (*(self.cascade.ranks[rank] for rank in outer), self._size(row), self._size(col))
        dims = len(shape)
        storage = Storage(
            tensor=f"{tensor}@gathered",
            shape=shape,
            outer=tuple(range(dims - 2)),
            row=(dims - 2,),
            col=(dims - 1,),
            group=group,
            granule=self.granule,
        )
        return self._distinct(storage)

    def _weight(self, kernel: Product, inner: Ranks, cols: tuple[Ranks, Ranks]) -> Storage:
        access = kernel.stationary
        if not access.is_plain or (inner == kernel.inner and len(inner) > 1):
            return self._gathered(access.tensor, (kernel.batch, kernel.inner, kernel.cols), group=self.group)
        dims = _dims(access)
        storage = Storage(
            tensor=access.tensor,
            shape=shape_of(access, self.cascade),
            outer=tuple(dims[rank] for rank in kernel.batch + cols[0] if rank in dims),
            row=tuple(dims[rank] for rank in kernel.inner),
            col=tuple(dims[rank] for rank in cols[1]),
            group=self.group,
            row_multiple=self.inner_group,
            granule=self.granule,
        )
        return self._register(storage)

    def _stationary(self, kernel: Product) -> tuple[Storage, bool]:
        """An activation held in the array: along its lanes lies either its column or its inner rank."""
        access = kernel.stationary
        if not access.is_plain:
            ranks = kernel.batch, kernel.inner, kernel.cols
            return self._gathered(access.tensor, ranks, group=self.group), False
        dims = _dims(access)
        known = self.storages.get(access.tensor)
        transposed = known is not None and known.col == (dims[kernel.inner[-1]],)
        row, col = (kernel.cols, kernel.inner) if transposed else (kernel.inner, kernel.cols)
        group = self.inner_group if transposed else self.group
        return self._place(access, kernel.batch + col[:-1], row, col[-1:], group=group), transposed

    def _rowwise(self, kernel: Rowwise | Elementwise) -> RowPlan:
        if isinstance(kernel, Elementwise):
            return self._elementwise(kernel)
        epilogue = kernel.epilogue
        residual = None if isinstance(epilogue, Softmax) else epilogue.residual
        ranks = kernel.rows[:-1], kernel.rows[-1:], kernel.cols
        sources = [self._place(a, *ranks) for a in (kernel.source, residual) if a is not None]
        output = self._place(kernel.output, *ranks)
        return RowPlan(
            kernel=kernel,
            blocks=output.blocks,
            rows=output.rows,
            cols=output.cols,
            group=output.group,
            sources=tuple(sources),
            output=output,
        )

    def _elementwise(self, kernel: Elementwise) -> RowPlan:
        """Timed as a run of words over the iteration space, lanes full."""
        flat = [self._flat(access) for access in kernel.inputs if prod(shape_of(access, self.cascade)) > 1]
        self.copies.append(kernel.output.tensor)
        return RowPlan(
            kernel=kernel,
            blocks=1,
            rows=-(-self._size(kernel.ranks) // self.group),
            cols=self.group,
            group=self.group,
            sources=tuple(flat[:2]),
            output=self._flat(kernel.output),
        )

    def _flat(self, access: Access) -> Storage:
        """A tensor as a run of full words, for kernels that are timed only."""
        words = -(-prod(shape_of(access, self.cascade)) // self.group)
        storage = Storage(
            tensor=f"{access.tensor}@flat",
            shape=(words, self.group),
            outer=(),
            row=(0,),
            col=(1,),
            group=self.group,
            granule=self.granule,
        )
        return self._distinct(storage)

    def _distinct(self, storage: Storage) -> Storage:
        """``storage`` under a name of its own, or the equal one there is."""
        while self.storages.setdefault(storage.tensor, storage) != storage:
            storage = replace(storage, tensor=storage.tensor + "'")
        return self.storages[storage.tensor]

    def _place(
        self,
        access: Access,
        outer: tuple[str, ...],
        row: tuple[str, ...],
        col: tuple[str, ...],
        *,
        group: int | None = None,
    ) -> Storage:
        """The storage of ``access`` with these ranks outside, as rows and along the lanes."""
        dims = _dims(access)
        storage = Storage(
            tensor=access.tensor,
            shape=shape_of(access, self.cascade),
            outer=tuple(dims[rank] for rank in outer if rank in dims),
            row=tuple(dims[rank] for rank in row if rank in dims),
            col=tuple(dims[rank] for rank in col if rank in dims),
            group=group or self.group,
            granule=self.granule,
        )
        return self._register(storage)

    def _register(self, storage: Storage) -> Storage:
        known = self.storages.setdefault(storage.tensor, storage)
        if known == storage:
            return known
        self.copies.append(storage.tensor)
        return self._distinct(replace(storage, tensor=f"{storage.tensor}@copy"))


def _read(kernel: Kernel) -> set[str]:
    """Tensors that ``kernel`` reads besides weights of its epilogue."""
    if isinstance(kernel, Elementwise):
        return {access.tensor for access in kernel.inputs}
    residual = None if isinstance(kernel.epilogue, Softmax) else kernel.epilogue.residual
    sources = (kernel.streamed, kernel.stationary) if isinstance(kernel, Product) else (kernel.source,)
    return {access.tensor for access in (*sources, residual) if access is not None}


def _dims(access: Access) -> dict[str, int]:
    """Dimension of each rank of a plain access."""
    return {index.terms[0][0]: dim for dim, index in enumerate(access.indices) if index.terms}
