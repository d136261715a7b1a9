"""From the search's stages to the loop nest that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archsim._nest import Holder, Nest, Node, SpatialLoop, TemporalLoop
from mapper._exact_problem import Problem
from mapper._exact_stages import Run, Step


def nest_of(item: Problem, run: Run) -> Nest:
    """The loop nest of a complete mapping."""
    sizes = tuple(zip(item.ranks, item.sizes, strict=True))
    return Nest(item.einsum, sizes, item.shapes, tuple(_nodes(item, run)))


def _nodes(item: Problem, run: Run) -> Iterator[Node]:
    levels = item.hierarchy.levels
    yield from (Holder(levels[0].name, tensor.name) for tensor in item.tensors)
    tile = list(item.sizes)
    inside = [step.idx for step in run.steps[:-1]]
    below = [(0,) * len(item.ranks), *inside]
    for step, inner in zip(run.steps[::-1], below[: len(run.steps)][::-1], strict=True):
        if step.stage.dimension is None:
            yield from _held(item, step, tile)
            continue
        yield from _loops(item, step.idx, tile)
        dimension = levels[step.stage.level].spatial[step.stage.dimension].name
        for loop in _loops(item, inner, tile):
            yield SpatialLoop(dimension, loop.rank, loop.tile)
    yield from _loops(item, (0,) * len(item.ranks), tile)


def _held(item: Problem, step: Step, tile: list[int]) -> Iterator[Node]:
    level = item.hierarchy.levels[step.stage.level].name
    for tensor in step.order[::-1]:
        yield from _loops(item, step.tiles[tensor], tile)
        yield Holder(level, item.tensors[tensor].name)


def _loops(item: Problem, target: Sequence[int], tile: list[int]) -> Iterator[TemporalLoop]:
    """Loops that bring each rank down to its target; ``tile`` follows."""
    for number, rank in enumerate(item.ranks):
        size = int(item.tables.tiles[number, target[number]])
        if size < tile[number]:
            tile[number] = size
            yield TemporalLoop(rank, size)
