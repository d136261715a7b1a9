"""Mappings: a kernel's loop nest, with what each memory holds and what is unrolled in space.

    A on edge-16x16
    dram holds QB, KB, A
    for h in 12 (tiles of 1)
      for p in 1 (tiles of 16)
        scratchpad holds QB, KB
        for e in 1 (tiles of 32)
          array holds KB; spatial rows: e in 16, cols: m in 16; for p in 16
        scratchpad holds A

A loop names the kernel's ranks that it walks together, its trips and the size of its tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from archsim._architecture import Architecture
from archsim._attention_plan import AttentionPlan
from archsim._errors import ArchsimError
from archsim._plan import Plan, ProductPlan, RowPlan
from archsim._tiling import Tiling, check


@dataclass(frozen=True, slots=True)
class Hold:
    """From here inwards, ``component`` keeps the tile of these tensors that the loops outside leave."""

    component: str
    tensors: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.component} holds {', '.join(self.tensors)}"


@dataclass(frozen=True, slots=True)
class Temporal:
    """A loop in time over ``ranks``, joined: ``trips`` tiles of at most ``tile`` points."""

    ranks: tuple[str, ...]
    trips: int
    tile: int

    def __str__(self) -> str:
        return f"for {'*'.join(self.ranks) or '1'} in {self.trips} (tiles of {self.tile})"


@dataclass(frozen=True, slots=True)
class Spatial:
    """A loop unrolled over a dimension of the array."""

    dimension: str
    ranks: tuple[str, ...]
    lanes: int

    def __str__(self) -> str:
        return f"spatial {self.dimension}: {'*'.join(self.ranks) or '1'} in {self.lanes}"


Node = Hold | Temporal | Spatial


@dataclass(frozen=True, slots=True)
class Mapping:
    """The loop nest of one kernel, outermost node first."""

    kernel: str
    architecture: str
    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        lines = [f"{self.kernel} on {self.architecture}"]
        depth = 0
        for node in self.nodes:
            lines.append("  " * depth + str(node))
            match node:
                case Temporal():
                    depth += 1
                case Hold() | Spatial():
                    pass
                case _:
                    assert_never(node)
        return "\n".join(lines)


def mapping_of(plan: Plan, tiling: Tiling, arch: Architecture) -> Mapping:
    """The loop nest that ``tiling`` stands for."""
    check(plan, tiling, arch)
    return Mapping(plan.kernel.name, arch.name, _nodes(plan, tiling))


def _nodes(plan: Plan, tiling: Tiling) -> tuple[Node, ...]:
    match plan:
        case ProductPlan():
            return _product_nodes(plan, tiling)
        case RowPlan():
            return _row_nodes(plan, tiling)
        case AttentionPlan():
            return _attention_nodes(plan, tiling)
        case _:
            assert_never(plan)


def tiling_of(plan: Plan, mapping: Mapping, arch: Architecture) -> Tiling:
    """The tiling of a mapping that this machine can run; ArchsimError where it cannot."""
    if mapping.kernel != plan.kernel.name:
        raise ArchsimError(f"mapping must be of kernel {plan.kernel.name}, not {mapping.kernel!r}")
    loops = [node for node in mapping.nodes if isinstance(node, Temporal)]
    tiling = _tiling(plan, loops)
    check(plan, tiling, arch)
    if mapping_of(plan, tiling, arch).nodes != mapping.nodes:
        raise ArchsimError(
            f"mapping of {mapping.kernel} must be a nest that {arch.name} runs, such as\n"
            f"{mapping_of(plan, tiling, arch)}\nnot\n{mapping}"
        )
    return tiling


def _tiling(plan: Plan, loops: list[Temporal]) -> Tiling:
    match plan:
        case ProductPlan():
            return _product_tiling(plan, loops)
        case RowPlan():
            return _row_tiling(plan, loops)
        case AttentionPlan():
            return _attention_tiling(plan, loops)
        case _:
            assert_never(plan)


def _product_nodes(plan: ProductPlan, tiling: Tiling) -> tuple[Node, ...]:
    kernel = plan.kernel
    inputs = tuple(dict.fromkeys((kernel.streamed.tensor, kernel.stationary.tensor)))
    extra = (plan.residual.tensor,) if plan.residual is not None else ()
    nodes: list[Node] = [Hold("dram", (*inputs, *extra, kernel.name))]
    nodes += [Temporal((rank,), size, 1) for rank, size in zip(kernel.batch, plan.batch, strict=True)]
    rows = Temporal(kernel.rows, -(-plan.rows // tiling.rows), tiling.rows)
    width = tiling.col_chunks * plan.group
    cols = Temporal(kernel.cols, -(-plan.cols // width), width)
    nodes += [cols, rows] if tiling.cols_outer else [rows, cols]
    nodes.append(Hold("scratchpad", (*extra, kernel.name)))
    depth = tiling.inner_chunks * plan.inner_group
    nodes.append(Temporal(kernel.inner, -(-plan.inner_chunks // tiling.inner_chunks), depth))
    nodes.append(Hold("scratchpad", inputs))
    nodes.append(Temporal(kernel.cols, min(tiling.col_chunks, plan.col_chunks), plan.group))
    nodes.append(Temporal(kernel.inner, min(tiling.inner_chunks, plan.inner_chunks), plan.inner_group))
    nodes.append(Hold("array", (kernel.stationary.tensor,)))
    nodes.append(Temporal(kernel.rows, min(tiling.rows, plan.rows), 1))
    nodes += [Spatial("rows", kernel.inner, plan.inner_group), Spatial("cols", kernel.cols, plan.group)]
    return tuple(nodes)


def _product_tiling(plan: ProductPlan, loops: list[Temporal]) -> Tiling:
    kernel = plan.kernel
    outer = loops[len(plan.batch) : len(plan.batch) + 3]
    if len(outer) < 3:
        raise ArchsimError(f"mapping of {kernel.name} must have loops over rows, columns and inner ranks")
    # A dot product has neither ranks of rows nor of columns, and one order.
    ordered = kernel.rows != kernel.cols
    cols_outer = ordered and (outer[0].ranks, outer[1].ranks) == (kernel.cols, kernel.rows)
    rows, cols = (outer[1], outer[0]) if cols_outer else (outer[0], outer[1])
    return Tiling(
        rows=rows.tile,
        col_chunks=-(-cols.tile // plan.group),
        inner_chunks=-(-outer[2].tile // plan.inner_group),
        cols_outer=cols_outer,
    )


def _row_nodes(plan: RowPlan, tiling: Tiling) -> tuple[Node, ...]:
    tensors = (*(storage.tensor for storage in plan.sources), plan.output.tensor)
    return (
        Hold("dram", tensors),
        Temporal(("block",), plan.blocks, 1),
        Temporal(("row",), -(-plan.rows // tiling.rows), tiling.rows),
        Hold("scratchpad", tensors),
        Temporal(("row",), min(tiling.rows, plan.rows), 1),
        Temporal(("chunk",), plan.chunks, plan.group),
        Spatial("lanes", ("column",), plan.group),
    )


def _row_tiling(plan: Plan, loops: list[Temporal]) -> Tiling:
    if len(loops) < 2:
        raise ArchsimError(f"mapping of {plan.kernel.name} must have loops over blocks and rows")
    return Tiling(rows=loops[1].tile)


def _attention_nodes(plan: AttentionPlan, tiling: Tiling) -> tuple[Node, ...]:
    kernel = plan.kernel
    queries, keys, values = (each.tensor for each in (kernel.queries, kernel.keys, kernel.values))
    slots, positions, tokens = tiling.inner_chunks, (kernel.positions,), kernel.tokens
    on_chip = Hold("scratchpad", (keys, values))
    blocks = Temporal((*kernel.group, *positions), plan.groups * plan.blocks, plan.block_queries)
    trips = Temporal(tokens, -(-plan.tiles // slots), slots * plan.tile_keys)
    nodes: list[Node] = [Hold("dram", (queries, keys, values, kernel.name))]
    nodes.append(Temporal(kernel.batch, plan.heads, 1))
    nodes += [trips, on_chip, blocks] if slots >= plan.tiles else [blocks, trips, on_chip]
    nodes.append(Hold("scratchpad", (queries, kernel.name)))
    nodes.append(Temporal(tokens, min(slots, plan.tiles), plan.tile_keys))
    nodes += [
        Spatial("rows", tokens, plan.tile_keys),
        Spatial("cols", positions, plan.block_queries),
        Temporal((kernel.features,), plan.features, 1),
    ]
    return tuple(nodes)


def _attention_tiling(plan: AttentionPlan, loops: list[Temporal]) -> Tiling:
    spans = [loop.tile for loop in loops[1:3] if loop.ranks == plan.kernel.tokens]
    if len(spans) != 1:
        raise ArchsimError(f"mapping of {plan.kernel.name} must have a loop over keys and one over queries")
    return Tiling(rows=plan.features, inner_chunks=-(-spans[0] // plan.tile_keys))
