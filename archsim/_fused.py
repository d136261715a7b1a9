"""A mapping of a whole cascade: fused runs of Einsums, each with its shared loops and its bodies.

It prints as the shared part once, then every Einsum's own nest below it:

    GLB keeps V[2, 8, 4]
    fused
      for h in 2
        GLB holds S[1, 8, 8]
        S[h, p, m] = Q[h, p, e] * K[h, m, e]
          for e in 4
            ...
            compute
        A[h, p, f] = S[h, p, m] * V[h, m, f]
          ...

``docs/mapping.md`` gives the meaning, under "Fusion across a cascade".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from archsim._errors import ArchsimError
from archsim._hierarchy import Hierarchy, TensorKind
from archsim._nest import Holder, Nest, Node, SpatialLoop, TemporalLoop, extents, tensors_of
from archsim._nest import _grouped as grouped
from archsim._nest import _held as held_text
from archsim._nest import _loop as loop_text
from workloads import Access, Cascade, Einsum


@dataclass(frozen=True, slots=True)
class FusedRun:
    """Neighbouring Einsums that take turns inside shared loops; one alone has no shared part."""

    first: int
    """Position of the first among the cascade's mapped Einsums."""
    shared: tuple[TemporalLoop | Holder, ...]
    """Loops that all have, and holders of the mapping's level between and below them."""
    bodies: tuple[tuple[Node, ...], ...]
    """Each Einsum's own loops and holders inside the shared ones, those of the outermost level left out."""

    @property
    def positions(self) -> range:
        """The run's Einsums."""
        return range(self.first, self.first + len(self.bodies))


@dataclass(frozen=True, slots=True)
class FusedNest:
    """How a cascade runs on a hierarchy: its runs in order, and what stays on chip between them."""

    cascade: Cascade
    level: str
    """The level of every shared holder and of what is kept."""
    kept: tuple[str, ...]
    """Tensors held whole from the run that first uses them to the one that last does."""
    runs: tuple[FusedRun, ...]

    def __str__(self) -> str:
        return "\n".join([*_lines(self), ""])


@dataclass(frozen=True, slots=True)
class Uses:
    """Who writes and who reads each tensor, by the position among the mapped Einsums."""

    einsums: tuple[Einsum, ...]
    """The cascade's Einsums without the constants, which cost nothing."""
    tensors: tuple[Mapping[str, tuple[Access, TensorKind]], ...]
    """Each Einsum's tensors."""
    writer: Mapping[str, int]
    readers: Mapping[str, tuple[int, ...]]

    def users(self, tensor: str) -> tuple[int, ...]:
        """Writer and readers, in order."""
        writer = (self.writer[tensor],) if tensor in self.writer else ()
        return (*writer, *self.readers.get(tensor, ()))

    def made_in(self, tensor: str, positions: range) -> bool:
        """Whether the tensor is both written and read by these Einsums."""
        return self.writer.get(tensor, -1) in positions and any(
            reader in positions for reader in self.readers.get(tensor, ())
        )

    def drained(self, tensor: str, positions: range) -> bool:
        """Whether somebody outside ``positions`` wants a tensor written there."""
        readers = self.readers.get(tensor, ())
        return not readers or any(reader not in positions for reader in readers)


def uses(cascade: Cascade) -> Uses:
    """Raises ArchsimError for a tensor that is written twice, or read before it is written."""
    einsums = tuple(einsum for einsum in cascade.einsums if not einsum.is_constant)
    tensors = tuple(tensors_of(einsum) for einsum in einsums)
    writer: dict[str, int] = {}
    readers: dict[str, tuple[int, ...]] = {}
    for position, accesses in enumerate(tensors):
        for tensor, (_, kind) in accesses.items():
            if kind != "output":
                readers[tensor] = (*readers.get(tensor, ()), position)
            elif tensor in writer or tensor in readers:
                raise ArchsimError(f"a mapped tensor must be written once, before it is read, not {tensor}")
            else:
                writer[tensor] = position
    return Uses(einsums, tensors, writer, readers)


def shareable(found: Uses, positions: range) -> tuple[str, ...]:
    """Ranks that Einsums at ``positions`` can share without computing anything twice.

    Every Einsum has the rank. A tensor made in the run has it, alone in one and the same dimension
    wherever it is written or read there: a rank that its writer reduces is complete only after a whole
    pass over it.
    """
    first = found.einsums[positions[0]].ranks
    return tuple(
        rank
        for rank in first
        if all(rank in found.einsums[n].ranks for n in positions)
        and all(
            _plain(found, tensor, rank, positions)
            for tensor in found.writer
            if found.made_in(tensor, positions)
        )
    )


def _plain(found: Uses, tensor: str, rank: str, positions: range) -> bool:
    accesses = [found.tensors[n][tensor][0] for n in found.users(tensor) if n in positions]
    places = {_dimension(access, rank) for access in accesses}
    return len(places) == 1 and None not in places


def _dimension(access: Access, rank: str) -> int | None:
    """The dimension that is indexed by this rank and nothing else."""
    for number, index in enumerate(access.indices):
        if index.terms == ((rank, 1),) and index.offset == 0:
            return number
    return None


def element_bits(found: Uses, tensor: str, hierarchy: Hierarchy, level: int, positions: range) -> int:
    """Bits that an element takes at a level: the most that any of its users there asks for."""
    doubled = hierarchy.levels[level].double_buffer
    kinds = [found.tensors[n][tensor][1] for n in found.users(tensor) if n in positions]
    return max(hierarchy.bits(kind) * (2 if {tensor, kind} & set(doubled) else 1) for kind in kinds)


def tile_elements(
    found: Uses, tensor: str, tiles: Mapping[str, int], cascade: Cascade, positions: range
) -> int:
    """Elements of the largest tile that the tensor's users at ``positions`` touch."""
    shape = cascade.shapes.get(tensor)
    accesses = [found.tensors[n][tensor][0] for n in found.users(tensor) if n in positions]
    return max(math.prod(extents(access, tiles, shape)) for access in accesses)


def whole_nest(mapping: FusedNest, found: Uses, hierarchy: Hierarchy, position: int) -> Nest:
    """One Einsum's complete nest, from the outermost level's holders through the shared part to compute."""
    run = next(run for run in mapping.runs if position in run.positions)
    mine = found.tensors[position]
    outermost = [Holder(hierarchy.levels[0].name, tensor) for tensor in mine]
    kept = [Holder(mapping.level, tensor) for tensor in mapping.kept if tensor in mine]
    shared = [node for node in run.shared if not isinstance(node, Holder) or node.tensor in mine]
    einsum = found.einsums[position]
    ranks = mapping.cascade.ranks
    shapes = tuple((t, mapping.cascade.shapes[t]) for t in mine if t in mapping.cascade.shapes)
    nodes = (*outermost, *kept, *shared, *run.bodies[position - run.first])
    return Nest(einsum, tuple((rank, ranks[rank]) for rank in einsum.ranks), shapes, nodes)


def _lines(mapping: FusedNest) -> Iterator[str]:
    found = uses(mapping.cascade)
    cascade = mapping.cascade
    if mapping.kept:
        texts = [_text(found, tensor, cascade.ranks, cascade) for tensor in mapping.kept]
        yield f"{mapping.level} keeps {', '.join(texts)}"
    for run in mapping.runs:
        tiles = dict(cascade.ranks)
        if run.shared:
            yield "fused"
        outside = _Walk(found, cascade, tiles, 1 if run.shared else 0)
        yield from outside.lines(run.shared)
        for position, body in zip(run.positions, run.bodies, strict=True):
            yield "  " * outside.depth + str(found.einsums[position])
            inside = _Walk(found, cascade, dict(tiles), outside.depth + 1)
            yield from inside.lines(body)
            yield "  " * inside.depth + "compute"


@dataclass(slots=True)
class _Walk:
    """Follows tiles and the indentation through a nest's nodes."""

    found: Uses
    cascade: Cascade
    tiles: dict[str, int]
    depth: int

    def lines(self, nodes: tuple[Node, ...]) -> Iterator[str]:
        """The nodes' lines; ``tiles`` and ``depth`` are then those of what follows."""
        for group in grouped(nodes):
            first, indent = group[0], "  " * self.depth
            if isinstance(first, Holder):
                held = [node.tensor for node in group if isinstance(node, Holder)]
                texts = [_text(self.found, tensor, self.tiles, self.cascade) for tensor in held]
                yield f"{indent}{first.level} holds {', '.join(texts)}"
                continue
            texts = [loop_text(node, self.tiles) for node in group if not isinstance(node, Holder)]
            if isinstance(first, SpatialLoop):
                yield f"{indent}spatial {first.dimension}: {', '.join(texts)}"
            else:
                self.depth += 1
                yield f"{indent}for {texts[0]}"


def _text(found: Uses, tensor: str, tiles: Mapping[str, int], cascade: Cascade) -> str:
    access = found.tensors[found.users(tensor)[0]][tensor][0]
    return held_text(access, dict(tiles), dict(cascade.shapes))
