"""A model's Einsums as the problems that a search has to solve: equal ones once, whatever their names.

What a mapping costs depends on ranks' sizes and on how tensors are indexed, not on what they are called,
on offsets, on dimensions of one, or on which operator is applied. So a canonical form stands for all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from archsim._errors import ArchsimError
from archsim._hierarchy import Hierarchy, Level, SpatialDimension
from archsim._nest import Holder, Nest, Node, SpatialLoop, TemporalLoop, extents, tensors_of
from mapper._errors import MapperError
from workloads import Access, Cascade, Einsum, Index

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Canonical:
    """A search's whole input but its objective, in names that say nothing."""

    einsum: Einsum
    """Over ranks r0, r1 ... and tensors t0, t1 ..., without ranks of size one."""
    sizes: tuple[tuple[str, int], ...]
    shapes: Shapes
    """Shapes that cut off what an access would reach."""
    hierarchy: Hierarchy
    """With the constraints that concern the Einsum, in its names."""

    @property
    def text(self) -> str:
        """What two problems of the same cost have alike."""
        machine = replace(self.hierarchy, name="", clock_mhz=1.0)
        return f"{self.einsum}\n{self.sizes}\n{self.shapes}\n{machine}"

    @property
    def like(self) -> Nest:
        """A nest without nodes, for reading one from text."""
        return Nest(self.einsum, self.sizes, self.shapes, ())


@dataclass(frozen=True, slots=True)
class Use:
    """An Einsum of the model that is solved with others of its form."""

    part: str
    einsum: Einsum
    repeat: int


@dataclass(frozen=True, slots=True)
class Distinct:
    """A problem, and the Einsums of the model that it stands for."""

    canonical: Canonical
    uses: tuple[Use, ...]
    ranks: tuple[tuple[str, int], ...]
    """Ranks of the first use."""
    shapes: Shapes
    """Declared shapes of its tensors."""

    @property
    def einsum(self) -> Einsum:
        """The first use."""
        return self.uses[0].einsum

    @property
    def count(self) -> int:
        """How often the model runs it, all uses and repetitions."""
        return sum(use.repeat for use in self.uses)

    @property
    def points(self) -> int:
        """Points of the iteration space, once."""
        found = 1
        for _, size in self.ranks:
            found *= size
        return found

    def named(self, nest: Nest) -> Nest:
        """A nest of the canonical form in the names of the first use."""
        ranks, tensors = _names(self.einsum, dict(self.ranks))
        back = {new: old for old, new in (*ranks.items(), *tensors.items())}
        nodes = tuple(_renamed(node, back) for node in nest.nodes)
        return Nest(self.einsum, self.ranks, self.shapes, nodes)


@dataclass(frozen=True, slots=True)
class Unmapped:
    """An Einsum that no loop nest of the language expresses."""

    use: Use
    reason: str


def distinct(
    parts: Iterable[tuple[Cascade, int]], hierarchy: Hierarchy
) -> tuple[tuple[Distinct, ...], tuple[Unmapped, ...]]:
    """The problems of cascades that run so many times, in order of their first Einsum, and what is none.

    Raises MapperError where a level must both hold and bypass a tensor.
    """
    found: dict[Canonical, Distinct] = {}
    left: list[Unmapped] = []
    for cascade, repeat in parts:
        for einsum in cascade.einsums:
            use = Use(cascade.name, einsum, repeat)
            try:
                tensors_of(einsum)
            except ArchsimError as error:
                left.append(Unmapped(use, str(error)))
                continue
            if einsum.is_constant:
                left.append(Unmapped(use, "a constant: it reads nothing"))
                continue
            canonical = canonical_of(einsum, cascade.ranks, hierarchy, cascade.shapes)
            known = found.get(canonical)
            ranks = tuple((rank, cascade.ranks[rank]) for rank in einsum.ranks)
            shapes = tuple(
                (name, cascade.shapes[name]) for name in tensors_of(einsum) if name in cascade.shapes
            )
            found[canonical] = (
                Distinct(canonical, (use,), ranks, shapes)
                if known is None
                else replace(known, uses=(*known.uses, use))
            )
    return tuple(found.values()), tuple(left)


def canonical_of(
    einsum: Einsum, ranks: Mapping[str, int], hierarchy: Hierarchy, shapes: Mapping[str, tuple[int, ...]]
) -> Canonical:
    """The canonical form of one Einsum on a hierarchy."""
    rank_names, tensor_names = _names(einsum, ranks)
    clipped = dict(_clipping(einsum, ranks, shapes))
    accesses = [_plain(access, rank_names, tensor_names) for access in (*einsum.inputs, einsum.output)]
    reduced = set(rank_names.values()) - set(accesses[-1].ranks)
    plain = Einsum(
        output=accesses[-1],
        inputs=tuple(accesses[:-1]),
        map="mul" if len(einsum.inputs) > 1 else "identity",
        reduce="add" if reduced else None,
    )
    by_new_name = {new: ranks[old] for old, new in rank_names.items()}
    return Canonical(
        einsum=plain,
        sizes=tuple((rank, by_new_name[rank]) for rank in plain.ranks),
        shapes=tuple((new, clipped[old]) for old, new in tensor_names.items() if old in clipped),
        hierarchy=_localised(hierarchy, einsum, (rank_names, tensor_names)),
    )


def problem_key(text: str) -> str:
    """A file name for whatever depends on ``text`` alone."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _names(einsum: Einsum, ranks: Mapping[str, int]) -> tuple[dict[str, str], dict[str, str]]:
    """Old to new names of ranks and tensors; ranks of one are left out unless there are no others."""
    large = [rank for rank in einsum.ranks if ranks[rank] > 1] or list(einsum.ranks[:1])
    return (
        {rank: f"r{number}" for number, rank in enumerate(large)},
        {tensor: f"t{number}" for number, tensor in enumerate(tensors_of(einsum))},
    )


def _plain(access: Access, ranks: Mapping[str, str], tensors: Mapping[str, str]) -> Access:
    indices = (
        tuple((ranks[rank], factor) for rank, factor in index.terms if rank in ranks)
        for index in access.indices
    )
    return Access(tensors[access.tensor], tuple(Index(terms) for terms in indices if terms))


def _clipping(
    einsum: Einsum, ranks: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Declared shapes that are smaller than what is touched, in the dimensions that are kept."""
    large = _names(einsum, ranks)[0]
    for tensor, (access, _) in tensors_of(einsum).items():
        if tensor in shapes and extents(access, ranks) != extents(access, ranks, shapes[tensor]):
            sizes = zip(access.indices, shapes[tensor], strict=True)
            yield tensor, tuple(size for index, size in sizes if large.keys() & set(index.ranks))


def _localised(
    hierarchy: Hierarchy, einsum: Einsum, names: tuple[Mapping[str, str], Mapping[str, str]]
) -> Hierarchy:
    """The hierarchy with tensors and ranks by their canonical names, others left out."""
    return replace(hierarchy, levels=tuple(_local_level(level, einsum, names) for level in hierarchy.levels))


def _local_level(level: Level, einsum: Einsum, names: tuple[Mapping[str, str], Mapping[str, str]]) -> Level:
    ranks, tensors = names

    def named(listed: tuple[str, ...]) -> tuple[str, ...]:
        kinds = tensors_of(einsum).items()
        return tuple(tensors[tensor] for tensor, (_, kind) in kinds if {tensor, kind} & set(listed))

    hold, bypass = named(level.hold), named(level.bypass)
    if both := set(hold) & set(bypass):
        tensor = next(old for old, new in tensors.items() if new in both)
        raise MapperError(f"{level.name} must hold or bypass {tensor}, not both")
    return replace(
        level,
        hold=hold,
        bypass=bypass,
        double_buffer=named(level.double_buffer),
        spatial=tuple(_local_side(dimension, ranks) for dimension in level.spatial),
    )


def _local_side(dimension: SpatialDimension, ranks: Mapping[str, str]) -> SpatialDimension:
    if dimension.ranks is None:
        return dimension
    return replace(dimension, ranks=tuple(new for old, new in ranks.items() if old in dimension.ranks))


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    match node:
        case Holder():
            return Holder(node.level, names[node.tensor])
        case SpatialLoop():
            return SpatialLoop(node.dimension, names[node.rank], node.tile)
        case TemporalLoop():
            return TemporalLoop(names[node.rank], node.tile)
