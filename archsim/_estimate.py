"""Two cheap levels: ``bound``, which no mapping beats, and ``estimate``, in closed form for one mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from archsim._account import account
from archsim._architecture import Architecture
from archsim._attention_plan import AttentionPlan
from archsim._count import (
    Counts,
    count_product,
    count_rows,
    count_table,
    table_cycles,
)
from archsim._count_attention import count_attention, least_cycles
from archsim._counters import Counter
from archsim._energy import EnergyTable
from archsim._errors import ArchsimError
from archsim._estimate_value import Estimate, Row
from archsim._isa import INSTRUCTION_BYTES
from archsim._plan import Plan, Planned, ProductPlan, plan, shape_of
from archsim._tiling import Tiling, Tilings, check
from workloads import Access, Cascade, Index, Product, Requantise, Rowwise, Softmax, einsum_macs


def kernel_macs(plan: Plan, cascade: Cascade) -> int:
    """Multiply-accumulates of the kernel: those of its Einsums, by the rule of ``workloads.macs``."""
    return sum(einsum_macs(cascade.einsums[position], cascade.ranks) for position in plan.kernel.einsums)


def bound(cascade: Cascade, arch: Architecture, table: EnergyTable) -> Estimate:
    """What no mapping can beat: the roofline of all products and of the compulsory traffic.

    Every multiply-accumulate takes a PE-cycle; every byte that the cascade reads and does not
    make, or makes and does not read, crosses the bus once. Energy counts those actions alone.
    """
    planned = plan(cascade, arch)
    macs = sum(kernel_macs(item, cascade) for item in planned.plans)
    read, written = _compulsory(cascade)
    beat = arch.bus.bytes
    reads = {name: -(-size // beat) for name, size in read.items()}
    writes = {name: -(-size // beat) for name, size in written.items()}
    lanes = arch.array.rows * arch.array.cols
    counters = dict.fromkeys(Counter, 0) | {
        Counter.LOAD_BEATS: sum(reads.values()),
        Counter.STORE_BEATS: sum(writes.values()),
        Counter.ARRAY_ROWS: -(-macs // lanes),
        Counter.ARRAY_BUSY: -(-macs // lanes),
    }
    tiles = (least_cycles(item) for item in planned.plans if isinstance(item, AttentionPlan))
    cycles = max(
        counters[Counter.ARRAY_ROWS],
        sum(tiles),
        -(-sum(read.values()) // beat) * arch.memory.read_interval,
        -(-sum(written.values()) // beat) * arch.memory.write_interval,
    )
    return account(
        name=cascade.name,
        level="bound",
        arch=arch,
        table=table,
        cycles=cycles,
        counters=counters,
        macs=macs,
        reads=reads,
        writes=writes,
    )


def estimate(
    cascade: Cascade,
    arch: Architecture,
    tilings: Sequence[Tiling],
    table: EnergyTable,
    *,
    instructions: int = 0,
) -> Estimate:
    """Exact action counts of ``cascade`` under one tiling a kernel, and cycles that no run undercuts.

    Kernels follow one another without overlap, as the program's barriers have it. With
    ``instructions``, the fetch of a program of that length is counted too.
    """
    return estimate_planned(cascade, plan(cascade, arch), arch, tilings, table, instructions=instructions)


def estimate_planned(
    cascade: Cascade,
    planned: Planned,
    arch: Architecture,
    tilings: Sequence[Tiling],
    table: EnergyTable,
    *,
    instructions: int = 0,
) -> Estimate:
    """``estimate`` for plans already made, of which ``planned`` may hold a part: one program's."""
    if len(tilings) != len(planned.plans):
        raise ArchsimError(f"tilings must be one a kernel ({len(planned.plans)}), not {len(tilings)}")
    fetch = -(-INSTRUCTION_BYTES * instructions // arch.bus.bytes)
    counters = dict.fromkeys(Counter, 0) | {Counter.LOAD_BEATS: fetch}
    cycles = fetch * arch.memory.read_interval
    reads: dict[str, int] = {}
    writes: dict[str, int] = {}
    rows: list[Row] = []
    tables = _Tables(arch.vector.tables)
    for item, tiling in zip(planned.plans, tilings, strict=True):
        check(item, tiling, arch)
        one = kernel_counts(item, tiling, arch)
        spent = int(one.cycles)
        own = {counter: int(count) for counter, count in one.counters.items()}
        if name := tables.missing(item):
            loaded = count_table(arch)
            own = {c: own.get(c, 0) + loaded.get(c, 0) for c in own.keys() | loaded.keys()}
            spent += table_cycles(arch)
            reads[f"table:{name}"] = reads.get(f"table:{name}", 0) + loaded[Counter.LOAD_BEATS]
        for counter, count in own.items():
            counters[counter] += count
        for beats, into in ((one.reads, reads), (one.writes, writes)):
            for tensor, moved in beats.items():
                into[tensor] = into.get(tensor, 0) + int(moved)
        cycles += spent
        rows.append(_row(item, cascade, arch, table, spent, own, one))
    return account(
        name=cascade.name,
        level="estimate",
        arch=arch,
        table=table,
        cycles=cycles,
        counters=counters,
        macs=sum(kernel_macs(item, cascade) for item in planned.plans),
        reads=reads,
        writes=writes,
        rows=rows,
    )


def kernel_counts(item: Plan, tiling: Tiling, arch: Architecture) -> Counts:
    """Counts of one kernel under one tiling (arrays of one element)."""
    if isinstance(item, AttentionPlan):
        return count_attention(item, arch, tiling.inner_chunks)
    if not isinstance(item, ProductPlan):
        return count_rows(item, arch, np.array(tiling.rows))
    many = Tilings(
        np.array(tiling.rows),
        np.array(tiling.col_chunks),
        np.array(tiling.inner_chunks),
        np.array(tiling.cols_outer),
    )
    return count_product(item, arch, many)


def _row(
    item: Plan,
    cascade: Cascade,
    arch: Architecture,
    table: EnergyTable,
    cycles: int,
    counters: Mapping[Counter, int],
    one: Counts,
) -> Row:
    macs = kernel_macs(item, cascade)
    full = dict.fromkeys(Counter, 0) | dict(counters)
    priced = account(
        name=item.kernel.name,
        level="estimate",
        arch=arch,
        table=table,
        cycles=cycles,
        counters=full,
        macs=macs,
        reads={tensor: int(beats) for tensor, beats in one.reads.items()},
        writes={tensor: int(beats) for tensor, beats in one.writes.items()},
    )
    return Row(
        name=item.kernel.name,
        cycles=cycles,
        macs=macs,
        utilization=priced.utilization["mac"],
        energy_pj=priced.energy_total_pj,
    )


class _Tables:
    """Which function tables are resident, by the program's rule: the last slot is replaced."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.resident: list[str] = []

    def missing(self, item: Plan) -> str | None:
        """Name of the table that has to be loaded for ``item``, or None."""
        name = _table_of(item)
        if name is None or name in self.resident:
            return None
        if len(self.resident) == self.slots:
            self.resident.pop()
        self.resident.append(name)
        return name


def _table_of(item: Plan) -> str | None:
    epilogue = item.kernel.epilogue if isinstance(item.kernel, Product | Rowwise) else None
    if isinstance(epilogue, Softmax):
        return "exp2"
    if isinstance(epilogue, Requantise) and epilogue.function is not None:
        return f"{epilogue.function}:{item.kernel.name}"
    return None


def _compulsory(cascade: Cascade) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of the tensors read and not made, and of those made and not read."""
    read: dict[str, int] = {}
    written: dict[str, int] = {}
    for einsum in cascade.einsums:
        for access in einsum.inputs:
            read[access.tensor] = max(read.get(access.tensor, 0), _touched(access, cascade))
        written[einsum.output.tensor] = _touched(einsum.output, cascade)
    return (
        {name: size for name, size in read.items() if name not in written},
        {name: size for name, size in written.items() if name not in read},
    )


def _touched(access: Access, cascade: Cascade) -> int:
    """Elements that ``access`` touches at least: a stride skips some, a diagonal most."""
    shape = shape_of(access, cascade)
    counts = [min(n, _values(i, cascade.ranks)) for n, i in zip(shape, access.indices, strict=True)]
    shared = sum(len(index.ranks) for index in access.indices) > len(access.ranks)
    return max(counts) if shared else prod(counts)


def _values(index: Index, ranks: Mapping[str, int]) -> int:
    """Values that ``index`` takes: all of them where each rank fills the steps of the next, else fewer."""
    step, count = 1, 1
    for factor, size in sorted((abs(factor), ranks[rank]) for rank, factor in index.terms):
        if count == 1:
            step, count = factor, size
        elif factor % step == 0 and factor // step <= count:
            count += factor // step * (size - 1)
        else:
            count = max(count, size)
    return count
