"""A mapping of one Einsum on a hierarchy: loops and holders from the outermost to the innermost.

It prints as a small language, one node a line, indented below each temporal loop:

    DRAM holds A[4, 8], B[8, 2], Z[4, 2]
    for k in 2 (tiles of 4)
      GLB holds A[4, 4]
      spatial X: m in 4
      for n in 2
        ...
        compute

A tile is what the loop's body still covers of the rank, and 1 where none is written. ``docs/mapping.md``
gives each node's meaning.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from archsim._errors import ArchsimError
from archsim._hierarchy import TensorKind
from workloads import Access, Einsum


@dataclass(frozen=True, slots=True)
class TemporalLoop:
    """Iterations one after the other, each over ``tile`` of the rank."""

    rank: str
    tile: int


@dataclass(frozen=True, slots=True)
class SpatialLoop:
    """Iterations side by side along a spatial dimension, each over ``tile`` of the rank."""

    dimension: str
    rank: str
    tile: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A level holds the tensor's tile from here inwards: it is fetched anew each time this is reached."""

    level: str
    tensor: str


Node = TemporalLoop | SpatialLoop | Holder


@dataclass(frozen=True, slots=True)
class Nest:
    """The loop nest of one Einsum over ranks of the given sizes; compute is below the last node."""

    einsum: Einsum
    sizes: tuple[tuple[str, int], ...]
    """Each rank's size, in the Einsum's order of ranks."""
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    """Declared shapes: no tile of such a tensor is larger in any dimension."""
    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        return "\n".join([*_lines(self), ""])


def tensors_of(einsum: Einsum) -> dict[str, tuple[Access, TensorKind]]:
    """Each tensor of the Einsum with its access and kind: inputs as written, then the output.

    Raises ArchsimError where a tensor is accessed in two ways, or a rank occurs in two dimensions of one.
    """
    found: dict[str, tuple[Access, TensorKind]] = {}
    later: TensorKind = "weight"
    kinds: tuple[TensorKind, ...] = ("input", *(later for _ in einsum.inputs[1:]), "output")
    operands = zip((*einsum.inputs, einsum.output), kinds if einsum.inputs else kinds[1:], strict=True)
    for access, kind in operands:
        if (known := found.get(access.tensor)) and known[0] == access:
            continue  # A square reads its operand once.
        if known:
            raise ArchsimError(
                f"a tensor of a mapped Einsum must be accessed in one way, not {access.tensor} in two"
            )
        if sum(len(index.terms) for index in access.indices) != len(access.ranks):
            raise ArchsimError(f"a rank of a mapped access must be in one dimension, not as in {access}")
        found[access.tensor] = (access, kind)
    return found


def extents(
    access: Access, tiles: Mapping[str, int], shape: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Elements along each dimension that a tile of the iteration space touches.

    A dimension indexed by one rank has as many as the tile; one indexed by a sum has those that the
    sum spans, or one for each combination where the strides leave gaps; never more than ``shape``.
    """
    result = []
    for number, index in enumerate(access.indices):
        span = 1 + sum(abs(factor) * (tiles[rank] - 1) for rank, factor in index.terms)
        touched = min(span, math.prod(tiles[rank] for rank in index.ranks))
        result.append(touched if shape is None else min(touched, shape[number]))
    return tuple(result)


def moved(
    access: Access, tiles: Mapping[str, int], sizes: Mapping[str, int], shape: tuple[int, ...] | None = None
) -> int:
    """Elements of all tiles together, each rank cut into tiles once and the last of them smaller."""
    total = 1
    for number, index in enumerate(access.indices):
        one = Access(access.tensor, (index,))
        clip = None if shape is None else (shape[number],)
        cuts = [_cuts(sizes[rank], tiles[rank]) for rank in index.ranks]
        total *= sum(
            math.prod(count for count, _ in cut)
            * extents(one, {rank: tile for rank, (_, tile) in zip(index.ranks, cut, strict=True)}, clip)[0]
            for cut in itertools.product(*cuts)
        )
    return total


def _cuts(size: int, tile: int) -> list[tuple[int, int]]:
    """How many tiles of which size: the full ones, and the last where it is smaller."""
    full, rest = divmod(size, tile)
    return [(full, tile), *([(1, rest)] if rest else [])]


def _lines(nest: Nest) -> Iterator[str]:
    tiles = dict(nest.sizes)
    tensors, shapes = tensors_of(nest.einsum), dict(nest.shapes)
    depth = 0
    for group in _grouped(nest.nodes):
        first, indent = group[0], "  " * depth
        if isinstance(first, Holder):
            held = [
                _held(tensors[node.tensor][0], tiles, shapes) for node in group if isinstance(node, Holder)
            ]
            yield f"{indent}{first.level} holds {', '.join(held)}"
            continue
        loops = [node for node in group if not isinstance(node, Holder)]
        texts = [_loop(loop, tiles) for loop in loops]
        if isinstance(first, SpatialLoop):
            yield f"{indent}spatial {first.dimension}: {', '.join(texts)}"
        else:
            yield f"{indent}for {texts[0]}"
            depth += 1
    yield "  " * depth + "compute"


def _grouped(nodes: tuple[Node, ...]) -> Iterator[list[Node]]:
    """Neighbours that share a line: holders of one level, loops along one spatial dimension."""
    group: list[Node] = []
    for node in nodes:
        if group and _line_of(group[0]) != _line_of(node):
            yield group
            group = []
        group.append(node)
        if isinstance(node, TemporalLoop):
            yield group
            group = []
    if group:
        yield group


def _line_of(node: Node) -> tuple[str, str]:
    if isinstance(node, Holder):
        return "level", node.level
    return ("dimension", node.dimension) if isinstance(node, SpatialLoop) else ("rank", node.rank)


def _loop(loop: TemporalLoop | SpatialLoop, tiles: dict[str, int]) -> str:
    trips = -(-tiles[loop.rank] // loop.tile)
    tiles[loop.rank] = loop.tile
    return f"{loop.rank} in {trips}" + ("" if loop.tile == 1 else f" (tiles of {loop.tile})")


def _held(access: Access, tiles: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> str:
    sizes = extents(access, tiles, shapes.get(access.tensor))
    return f"{access.tensor}[{', '.join(str(size) for size in sizes)}]"


_LOOP = re.compile(r"(?P<rank>[A-Za-z_][\w.]*) in \d+(?: \(tiles of (?P<tile>[1-9]\d{0,12})\))?")
_TENSOR = re.compile(r"(?P<tensor>[A-Za-z_][\w.]*)\[[\d, ]*\]")


def parse_nest(text: str, like: Nest) -> Nest:
    """The nest that ``text`` describes, over the Einsum and the sizes of ``like``.

    ``parse_nest(str(nest), nest) == nest``. Raises ArchsimError with the line that is not one of the
    language; whether the nest is legal on a machine is for ``evaluate_nest`` to say.
    """
    nodes: list[Node] = []
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines.pop() != "compute":
        raise ArchsimError("a loop nest must end with the line 'compute'")
    for line in lines:
        nodes += _parse_line(line)
    ranks, tensors = dict(like.sizes), tensors_of(like.einsum)
    for node in nodes:
        name, known = (node.tensor, list(tensors)) if isinstance(node, Holder) else (node.rank, list(ranks))
        if name not in known:
            raise ArchsimError(f"a loop nest must be over {', '.join(known)}, not {name!r}")
    return Nest(like.einsum, like.sizes, like.shapes, tuple(nodes))


def _parse_line(line: str) -> list[Node]:
    if line.startswith("for ") and (loop := _LOOP.fullmatch(line[4:])):
        return [TemporalLoop(loop["rank"], int(loop["tile"] or 1))]
    head, _, rest = line.partition(" holds ")
    if (
        rest
        and (held := [_TENSOR.fullmatch(part) for part in re.split(r", (?=[A-Za-z_])", rest)])
        and all(held)
    ):
        return [Holder(head, match["tensor"]) for match in held if match]
    head, _, rest = line.removeprefix("spatial ").partition(": ")
    if line.startswith("spatial ") and all(loops := [_LOOP.fullmatch(part) for part in rest.split(", ")]):
        return [SpatialLoop(head, loop["rank"], int(loop["tile"] or 1)) for loop in loops if loop]
    raise ArchsimError(
        f"a line of a loop nest must be 'L holds T', 'for R in N' or 'spatial D: ...', not {line!r}"
    )
