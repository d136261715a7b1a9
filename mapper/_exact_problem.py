"""The exact search's tables: an Einsum on a hierarchy as arrays, and the ways to hold its tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from archsim._hierarchy import Hierarchy, Level, SpatialDimension, TensorKind
from archsim._nest import moved, tensors_of
from mapper._errors import MapperError
from mapper._exact_arrays import Bools, Ints, Tables
from workloads import Access, Einsum

Factors = Literal["auto", "perfect", "imperfect"]
MOST_TILES = 1024
"""Combinations of tiles that are tried for the least traffic of a dimension."""
FACTORS: tuple[Factors, ...] = ("auto", "perfect", "imperfect")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One operand or the result."""

    name: str
    access: Access
    kind: TensorKind
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """An Einsum's ranks and tensors, the output last, as the kernels read them."""

    einsum: Einsum
    hierarchy: Hierarchy
    ranks: tuple[str, ...]
    sizes: tuple[int, ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    tensors: tuple[Tensor, ...]
    imperfect: bool
    tables: Tables

    @property
    def macs(self) -> int:
        """Points of the iteration space."""
        return math.prod(self.sizes)

    def key_steps(self) -> Ints:
        """Weights that number tile vectors."""
        counts = self.tables.tiles.argmax(axis=1) + 1
        return np.concatenate([[1], np.cumprod(counts[:-1])]).astype(np.int64)


def problem(
    einsum: Einsum,
    ranks: Mapping[str, int],
    hierarchy: Hierarchy,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    factors: Factors,
) -> Problem:
    """The tables; raises MapperError for an Einsum without inputs, ArchsimError for one it cannot map."""
    if einsum.is_constant:
        raise MapperError(f"a mapped Einsum must read a tensor, not {einsum}")
    if factors not in FACTORS:
        raise MapperError(f"factors must be one of {', '.join(FACTORS)}, not {factors!r}")
    found = tensors_of(einsum)
    tensors = tuple(
        Tensor(name, access, kind, hierarchy.bits(kind)) for name, (access, kind) in found.items()
    )
    sizes = tuple(ranks[rank] for rank in einsum.ranks)
    imperfect = factors == "imperfect" or (factors == "auto" and not fills(hierarchy, einsum.ranks, sizes))
    clipped = tuple((tensor.name, shapes[tensor.name]) for tensor in tensors if tensor.name in shapes)
    return Problem(
        einsum=einsum,
        hierarchy=hierarchy,
        ranks=einsum.ranks,
        sizes=sizes,
        shapes=clipped,
        tensors=tensors,
        imperfect=imperfect,
        tables=_tables(
            tensors, dict(zip(einsum.ranks, sizes, strict=True)), hierarchy, dict(clipped), imperfect
        ),
    )


def _tables(
    tensors: tuple[Tensor, ...], sizes: dict[str, int], hierarchy: Hierarchy, shapes: Shapes, imperfect: bool
) -> Tables:
    """What the kernels read.

    Columns number candidates, ascending, rows ranks: their tiles; how many tiles each cuts the rank into
    (``trips``), and as time counts them (``steps``); the candidates that a temporal loop (``outer``) and a
    spatial one (``side``) may cut into it, as starts in a list. ``benefits`` tells, for a tensor, the
    ranks of which a larger tile spares it traffic. Dimensions and their terms follow one another.
    """
    ranks = tuple(sizes)
    options = [_candidates(size, imperfect) for size in sizes.values()]
    tiles = np.maximum(_padded(options), 1)
    shares = np.array(list(sizes.values()), np.float64)[:, None] / tiles
    widest = max(d.size for level in hierarchy.levels for d in (*level.spatial, _NO_SIDE))
    outer_start, outer_list = _lists([_around(option, imperfect) for option in options])
    side_start, side_list = _lists([_beside(option, widest) for option in options])
    least = [_least(tensor, dict(zip(ranks, options, strict=True)), shapes) for tensor in tensors]
    return Tables(
        sizes=np.array(list(sizes.values()), np.int64),
        tiles=tiles,
        trips=np.ceil(shares),
        steps=shares if hierarchy.ragged_steps == "share" else np.ceil(shares),
        outer_start=outer_start,
        outer_list=outer_list,
        side_start=side_start,
        side_list=side_list,
        relevant=np.array([[rank in tensor.access.ranks for rank in ranks] for tensor in tensors], np.bool_),
        benefits=_benefits(tensors, ranks, tuple(sizes.values()), shapes),
        least=np.array(least),
        **_dimensions(tensors, ranks, shapes),
    )


def fills(hierarchy: Hierarchy, ranks: tuple[str, ...], sizes: tuple[int, ...]) -> bool:
    """Whether divisors of the ranks' sizes can fill every spatial dimension.

    Each prime of the dimensions' sizes must be found in ranks that may lie there (Hall's condition).
    """
    dimensions = [d for level in hierarchy.levels for d in level.spatial if d.size > 1]
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(dimensions, n) for n in range(1, len(dimensions) + 1)
    ):
        wanted = math.prod(dimension.size for dimension in chosen)
        offered = math.prod(
            size
            for rank, size in zip(ranks, sizes, strict=True)
            if any(d.ranks is None or rank in d.ranks for d in chosen)
        )
        if offered % wanted:
            return False
    return True


def _candidates(size: int, imperfect: bool) -> list[int]:
    """Tiles of a rank, ascending: its divisors, or every size."""
    if imperfect:
        return list(range(1, size + 1))
    root = math.isqrt(size)
    low = [tile for tile in range(1, root + 1) if size % tile == 0]
    return sorted({*low, *(size // tile for tile in low)})


def _around(tiles: list[int], imperfect: bool) -> list[list[int]]:
    """For each candidate those that a temporal loop may cut into it: itself first, the whole rank last.

    Of all multiples that cut the rank into as many tiles only the least can be useful: it holds less,
    and whatever lies around the others lies around its multiple.
    """
    size = tiles[-1]
    if not imperfect:
        return [[n for n in range(i, len(tiles)) if tiles[n] % t == 0] for i, t in enumerate(tiles)]
    found = []
    for tile in tiles:
        pieces = -(-size // tile)
        useful = {tile * times for times in _least_times(pieces)}
        found.append([*sorted(each - 1 for each in useful if each < size), size - 1])
    return found


def _least_times(pieces: int) -> set[int]:
    """The least divisor of ``pieces``, rounded up, for each number of groups that it leaves."""
    root = math.isqrt(pieces)
    return {-(-pieces // groups) for groups in range(1, root + 2)} | set(range(1, min(root + 1, pieces) + 1))


def _beside(tiles: list[int], widest: int) -> list[list[int]]:
    """For each candidate those that lanes may share in equal parts: its multiples."""
    position = {tile: n for n, tile in enumerate(tiles)}
    found = []
    for tile in tiles:
        multiples = (tile * lanes for lanes in range(1, min(widest, tiles[-1] // tile) + 1))
        found.append([position[each] for each in multiples if each in position])
    return found


def _lists(rows: list[list[list[int]]]) -> tuple[Ints, Ints]:
    """Rows of lists as starts and one list a row."""
    starts = [[0, *itertools.accumulate(len(each) for each in row)] for row in rows]
    return _padded(starts), _padded([list(itertools.chain.from_iterable(row)) for row in rows])


def _padded(rows: list[list[int]]) -> Ints:
    table = np.zeros((len(rows), max(len(row) for row in rows)), np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _benefits(
    tensors: tuple[Tensor, ...], ranks: tuple[str, ...], sizes: tuple[int, ...], shapes: Shapes
) -> Bools:
    """Ranks that a tensor lacks; those of a sum, whose tiles overlap; those that reach over its edge."""
    benefits = np.ones((len(tensors), len(ranks)), np.bool_)
    for number, tensor in enumerate(tensors):
        for dimension, index in enumerate(tensor.access.indices):
            for rank, _ in index.terms if len(index.terms) == 1 else ():
                size, shape = sizes[ranks.index(rank)], shapes.get(tensor.name)
                benefits[number, ranks.index(rank)] = shape is not None and shape[dimension] < size
    return benefits


def _least(tensor: Tensor, options: Mapping[str, list[int]], shapes: Shapes) -> float:
    """Fewest elements moved, dimension by dimension; where there are many tiles, something less."""
    shape = shapes.get(tensor.name)
    sizes = {rank: tiles[-1] for rank, tiles in options.items()}
    least = 1
    for number, index in enumerate(tensor.access.indices):
        single = Access(tensor.name, (index,))
        clip = None if shape is None else (shape[number],)
        if len(index.terms) == 1 and (shape is None or shape[number] >= sizes[index.ranks[0]]):
            least *= sizes[index.ranks[0]]
            continue
        if math.prod(len(options[rank]) for rank in index.ranks) > MOST_TILES:
            touched = max(sizes[rank] for rank in index.ranks)
            least *= touched if clip is None else min(touched, clip[0])
            continue
        every = itertools.product(*(options[rank] for rank in index.ranks))
        least *= min(
            moved(single, dict(zip(index.ranks, tiles, strict=True)), sizes, clip) for tiles in every
        )
    return float(least)


def _dimensions(tensors: tuple[Tensor, ...], ranks: tuple[str, ...], shapes: Shapes) -> dict[str, Ints]:
    dim_start, dim_clip, term_start, term_rank, term_factor = [0], [], [0], [], []
    for tensor in tensors:
        for number, index in enumerate(tensor.access.indices):
            dim_clip.append(shapes[tensor.name][number] if tensor.name in shapes else 1 << 60)
            for rank, factor in index.terms:
                term_rank.append(ranks.index(rank))
                term_factor.append(abs(factor))
            term_start.append(len(term_rank))
        dim_start.append(len(dim_clip))
    names = ("dim_start", "dim_clip", "term_start", "term_rank", "term_factor")
    lists = (dim_start, dim_clip, term_start, term_rank, term_factor)
    return {name: np.array(values, np.int64) for name, values in zip(names, lists, strict=True)}


_NO_SIDE = SpatialDimension(name="", size=1)

Pattern = tuple[tuple[int, ...], ...]
"""For each level, the numbers of the tensors that it holds."""


def patterns(item: Problem) -> Iterator[Pattern]:
    """Every allowed choice of which level holds which tensors."""
    everything = tuple(range(len(item.tensors)))
    inner = [list(_subsets(item, level)) for level in item.hierarchy.levels[1:]]
    for chosen in itertools.product(*inner):
        if all(any(orders(item, level, held)) or not held for level, held in enumerate(chosen, start=1)) and (
            chosen[-1] or item.hierarchy.dataflow in ("any", "row-stationary")
        ):
            yield (everything, *chosen)


def _subsets(item: Problem, level: Level) -> Iterator[tuple[int, ...]]:
    options = []
    for number, tensor in enumerate(item.tensors):
        names = {tensor.name, tensor.kind}
        must, never = bool(names & set(level.hold)), bool(names & set(level.bypass))
        if must and never:
            raise MapperError(f"{level.name} must hold or bypass {tensor.name}, not both")
        options.append([(number,)] if must else [()] if never else [(), (number,)])
    for chosen in itertools.product(*options):
        yield tuple(itertools.chain.from_iterable(chosen))


def orders(item: Problem, level: int, held: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of a level's holders, innermost first, that the dataflow allows."""
    stationary = item.hierarchy.dataflow.removesuffix("-stationary")
    last = level == len(item.hierarchy.levels) - 1
    for order in itertools.permutations(held):
        outermost = item.tensors[order[-1]].kind if order else None
        if not last or stationary not in ("input", "weight", "output") or outermost == stationary:
            yield order


def sides_of(item: Problem, level: int, dimension: int) -> Bools:
    """Ranks that may be spread over a spatial dimension.

    Row-stationary (Eyeriss: a filter row and an input row meet in a processing element): over the first
    dimension of a level filter rows, over the second output rows; the ranks of further sums over neither.
    """
    named = item.hierarchy.levels[level].spatial[dimension].ranks
    allowed = [named is None or rank in named for rank in item.ranks]
    if item.hierarchy.dataflow == "row-stationary":
        sums = [
            index.ranks for tensor in item.tensors for index in tensor.access.indices if len(index.terms) > 1
        ]
        output = item.tensors[-1].access.ranks
        for number, rank in enumerate(item.ranks):
            if any(rank in ranks for ranks in sums):
                allowed[number] &= rank in sums[0] and (rank in output) == (dimension == 1)
    return np.array(allowed, np.bool_)
