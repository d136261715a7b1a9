"""Search: the best tiling of each kernel under the closed-form estimate, over all tilings considered.

Kernels follow one another without overlap, so each is searched by itself; kernels of equal shape
are searched once. The space of a kernel is every combination of a row tile, a column tile, an
inner tile and an order of the row and column loops. Tiles are all sizes where a dimension is
small, and elsewhere those that cut it in nearly equal parts: the smallest tile for each number of
trips, thinned beyond ``DENSE`` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archsim import (
    Architecture,
    ArchsimError,
    AttentionPlan,
    Counts,
    EnergyTable,
    Mapping,
    Plan,
    ProductPlan,
    RowPlan,
    Tiling,
    Tilings,
    attention_tiling,
    count_attention,
    count_product,
    count_rows,
    energy_per_count,
    granule_of,
    legal,
    mapping_of,
    plan,
)
from mapper._errors import MapperError
from workloads import Cascade

Objective = Literal["latency", "energy", "edp"]
OBJECTIVES: tuple[Objective, ...] = ("latency", "energy", "edp")

DENSE = 64
"""Dimensions up to this size, and numbers of trips up to it, are all considered."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A tiling of one kernel with its estimated cost."""

    kernel: str
    tiling: Tiling
    mapping: Mapping
    cycles: int
    energy_pj: float
    evaluated: int
    """Legal tilings in the space that was searched."""


@dataclass(frozen=True, slots=True)
class Space:
    """Every legal tiling considered for a kernel, and what each costs."""

    tilings: Tilings
    cycles: Ints
    energy_pj: Floats

    def best(self, objective: Objective, among: NDArray[np.bool_] | None = None) -> int:
        """Position of the optimum: ties go to the other measure, then to the first tiling.

        ``among`` are the tilings considered, all of them if it is None or has none.
        """
        latency, energy = self.cycles.astype(np.float64), self.energy_pj
        keys = {
            "latency": (energy, latency),
            "energy": (latency, energy),
            "edp": (latency, latency * energy),
        }[objective]
        left_out = np.zeros(len(latency), np.bool_) if among is None or not among.any() else ~among
        return int(np.lexsort((*keys, left_out))[0])


def search(
    cascade: Cascade,
    arch: Architecture,
    objective: Objective = "latency",
    *,
    table: EnergyTable,
    progress: Callable[[str], None] | None = None,
    even: bool = False,
) -> tuple[Candidate, ...]:
    """The best tiling of each kernel of ``cascade`` on ``arch``, in the order of the kernels.

    With ``even``, the best of those that cut each dimension in equal parts, where there are any: a
    program needs instructions of their own for parts of another size.
    Raises MapperError where a kernel has no tiling that fits, with the tightest reason.
    """
    if objective not in OBJECTIVES:
        raise MapperError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
    known: dict[object, tuple[int, Space]] = {}
    found: list[Candidate] = []
    for item in plan(cascade, arch).plans:
        key = _shape(item)
        if key not in known:
            if progress is not None:
                progress(item.kernel.name)
            space = explore(item, arch, table)
            known[key] = space.best(objective, _even(item, space.tilings) if even else None), space
        position, space = known[key]
        tiling = space.tilings.one(position)
        found.append(
            Candidate(
                kernel=item.kernel.name,
                tiling=tiling,
                mapping=mapping_of(item, tiling, arch),
                cycles=int(space.cycles[position]),
                energy_pj=float(space.energy_pj[position]),
                evaluated=len(space.cycles),
            )
        )
    return tuple(found)


def explore(item: Plan, arch: Architecture, table: EnergyTable) -> Space:
    """Every legal tiling considered for one kernel, costed."""
    if isinstance(item, AttentionPlan):
        return _attention_space(item, arch, table)
    tilings = _grid(item, granule_of(arch))
    tilings = _take(tilings, legal(item, tilings, arch))
    if not len(tilings.rows):
        raise MapperError(_nothing_fits(item, arch))
    counts = (
        count_product(item, arch, tilings)
        if isinstance(item, ProductPlan)
        else count_rows(item, arch, tilings.rows)
    )
    return Space(tilings, np.asarray(counts.cycles), _energy(counts, arch, table))


def _attention_space(item: AttentionPlan, arch: Architecture, table: EnergyTable) -> Space:
    """The one tiling of an attention: as many key tiles on chip as are of use."""
    tiling = attention_tiling(item, arch)
    counts = count_attention(item, arch, tiling.inner_chunks)
    tilings = Tilings(
        np.array([tiling.rows]),
        np.array([tiling.col_chunks]),
        np.array([tiling.inner_chunks]),
        np.array([tiling.cols_outer]),
    )
    return Space(tilings, counts.cycles.reshape(1), _energy(counts, arch, table).reshape(1))


def _energy(counts: Counts, arch: Architecture, table: EnergyTable) -> Floats:
    cost = energy_per_count(arch, table)
    energy = sum(cost[counter] * np.asarray(count, np.float64) for counter, count in counts.counters.items())
    return np.asarray(energy, np.float64)


def tiles(total: int, granule: int = 1) -> tuple[int, ...]:
    """Tile sizes considered for a dimension of ``total`` units cut at multiples of ``granule``.

    >>> tiles(6)
    (1, 2, 3, 4, 5, 6)
    >>> tiles(1000)[-5:]
    (200, 250, 334, 500, 1000)
    """
    if total <= DENSE:
        return (*range(granule, total, granule), total)
    equal = (-(-total // trips) for trips in _trip_counts(total))
    return tuple(sorted({min(total, -(-size // granule) * granule) for size in equal}))


def _trip_counts(total: int) -> Iterator[int]:
    """1, 2, 3 ... up to ``DENSE``, then growing by an eighth."""
    trips = 1
    while trips <= total:
        yield trips
        trips += max(1, (trips - DENSE + 8) // 8) if trips >= DENSE else 1
    yield total


def _grid(item: ProductPlan | RowPlan, granule: int) -> Tilings:
    rows = tiles(item.rows, granule)
    if not isinstance(item, ProductPlan):
        ones = np.ones(len(rows), np.int64)
        return Tilings(np.array(rows, np.int64), ones, ones, np.zeros(len(rows), np.bool_))
    axes: Sequence[Sequence[int]] = (rows, tiles(item.col_chunks), tiles(item.inner_chunks), (0, 1))
    grid = np.meshgrid(*(np.array(axis, np.int64) for axis in axes), indexing="ij")
    flat = [axis.reshape(-1) for axis in grid]
    return Tilings(flat[0], flat[1], flat[2], flat[3].astype(np.bool_))


def _take(tilings: Tilings, mask: NDArray[np.bool_]) -> Tilings:
    return Tilings(
        tilings.rows[mask], tilings.col_chunks[mask], tilings.inner_chunks[mask], tilings.cols_outer[mask]
    )


def _even(item: Plan, tilings: Tilings) -> NDArray[np.bool_]:
    """Which tilings have tiles of one size only."""
    whole = item.rows % tilings.rows == 0
    if isinstance(item, ProductPlan):
        whole &= item.col_chunks % tilings.col_chunks == 0
        whole &= item.inner_chunks % tilings.inner_chunks == 0
    return np.asarray(whole, np.bool_)


def _shape(item: Plan) -> object:
    """What a plan's cost depends on: all but the tensors' names and positions."""
    if isinstance(item, AttentionPlan):
        return item
    if not isinstance(item, ProductPlan):
        return (type(item.kernel), item.blocks, item.rows, item.cols, item.group, len(item.sources))
    kernel = item.kernel
    epilogue = (
        type(kernel.epilogue),
        item.residual is not None,
        getattr(kernel.epilogue, "function", None) is None,
    )
    moves = tuple((rank in kernel.streamed.ranks, rank in kernel.stationary.ranks) for rank in kernel.batch)
    sizes = (
        item.batch,
        item.rows,
        item.col_blocks,
        item.block_cols,
        item.inner_chunks,
        item.inner_group,
        item.group,
    )
    storage = (item.streamed.padded_rows, item.stationary.padded_rows, item.output.padded_rows)
    return (epilogue, moves, sizes, storage, item.transposed)


def _nothing_fits(item: Plan, arch: Architecture) -> str:
    smallest = Tiling(rows=granule_of(arch))
    try:
        mapping_of(item, smallest, arch)
    except ArchsimError as error:
        return f"no tiling fits: {error}"
    return f"kernel {item.kernel.name} must have a tiling that fits {arch.name}; none considered does"
