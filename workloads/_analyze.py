"""What follows from a cascade: shapes, roles of tensors, operation counts, order, and well-formedness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from workloads._einsum import Access, Cascade, Einsum
from workloads._errors import WorkloadError

MAX_PIECES = 256
"""Most Einsums that write one tensor."""

Box = tuple[tuple[int, int], ...]
"""First and last index along each dimension."""


class VerificationError(WorkloadError):
    """A cascade is not well formed; ``einsum`` is the position of the Einsum at fault, where it is one."""

    def __init__(self, message: str, einsum: int | None = None) -> None:
        super().__init__(message)
        self.einsum = einsum


@dataclass(frozen=True, slots=True)
class Loop:
    """Iterations of ``rank`` from 0 up, each of which runs ``body`` in order."""

    rank: str
    body: tuple[Step, ...]


Step = int | Loop
"""An Einsum's position in the cascade, run over all its ranks that no enclosing loop binds; or a loop."""


def iteration_space(cascade: Cascade) -> tuple[dict[str, int], ...]:
    """For each Einsum, the sizes of its ranks: the output's in order, then the reduced ones."""
    return tuple(sizes(einsum, cascade.ranks) for einsum in cascade.einsums)


def sizes(einsum: Einsum, ranks: Mapping[str, int]) -> dict[str, int]:
    """The sizes of the ranks of one Einsum: its iteration space."""
    return {rank: ranks[rank] for rank in einsum.ranks}


def macs(cascade: Cascade) -> int:
    """Multiply-accumulates of all matrix products and convolutions.

    An Einsum that sums products counts the product of the sizes of all its ranks, positions that
    read padding included; any other counts none.
    """
    return sum(einsum_macs(einsum, cascade.ranks) for einsum in cascade.einsums)


def einsum_macs(einsum: Einsum, ranks: Mapping[str, int]) -> int:
    """Multiply-accumulates of one Einsum; see :func:`macs`."""
    return math.prod(sizes(einsum, ranks).values()) if einsum.is_product else 0


def writers(cascade: Cascade) -> dict[str, tuple[int, ...]]:
    """For each tensor that is written, the positions of the Einsums that write it."""
    result: dict[str, list[int]] = {}
    for position, einsum in enumerate(cascade.einsums):
        result.setdefault(einsum.output.tensor, []).append(position)
    return {tensor: tuple(positions) for tensor, positions in result.items()}


def readers(cascade: Cascade) -> dict[str, tuple[int, ...]]:
    """For each tensor that is read, the positions of the Einsums that read it."""
    result: dict[str, list[int]] = {}
    for position, einsum in enumerate(cascade.einsums):
        for tensor in dict.fromkeys(access.tensor for access in einsum.inputs):
            result.setdefault(tensor, []).append(position)
    return {tensor: tuple(positions) for tensor, positions in result.items()}


def inputs(cascade: Cascade) -> tuple[str, ...]:
    """Tensors that are read and never written, in order of first use: what a caller gives."""
    written = writers(cascade)
    return tuple(tensor for tensor in readers(cascade) if tensor not in written)


def outputs(cascade: Cascade) -> tuple[str, ...]:
    """The results, in order: tensors that are written and never read.

    The tensors of a recurrence read each other; such a one is a result if nothing outside the
    recurrence reads it and its last element is not read inside either (the final state).
    """
    shapes = tensor_shapes(cascade)
    read = readers(cascade)
    written = writers(cascade)
    part_of: dict[int, frozenset[int]] = {}
    for part in nx.strongly_connected_components(dependence_graph(cascade)):
        part_of.update(dict.fromkeys(part, frozenset(part)))
    result = []
    for tensor, positions in written.items():
        own = frozenset().union(*(part_of[position] for position in positions))
        uses = [a for r in read.get(tensor, ()) for a in cascade.einsums[r].inputs if a.tensor == tensor]
        outside = not own.issuperset(read.get(tensor, ()))
        if not uses or (not outside and _extent(uses, cascade.ranks) != shapes[tensor]):
            result.append(tensor)
    return tuple(result)


def weights(cascade: Cascade) -> tuple[str, ...]:
    """Inputs that are only ever a second or later operand, in order of first use.

    By convention the first operand of an Einsum is the streamed one and the later ones are held:
    ``X[m, d] * W[d, n]``, ``Y[m, n] + B[n]``. A key-value cache counts as held too.
    """
    first = {einsum.inputs[0].tensor for einsum in cascade.einsums if einsum.inputs}
    return tuple(tensor for tensor in inputs(cascade) if tensor not in first)


def tensor_shapes(cascade: Cascade) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, in order of first appearance.

    A declared shape stands. Otherwise a written tensor is as large as what is written, and an
    input the smallest that holds every read.
    """
    reads: dict[str, list[Access]] = {}
    writes: dict[str, list[Access]] = {}
    for einsum in cascade.einsums:
        for access in einsum.inputs:
            reads.setdefault(access.tensor, []).append(access)
        reads.setdefault(einsum.output.tensor, [])
        writes.setdefault(einsum.output.tensor, []).append(einsum.output)
    return {
        tensor: cascade.shapes.get(tensor) or _extent(writes.get(tensor, accesses), cascade.ranks)
        for tensor, accesses in reads.items()
    }


def _extent(accesses: Sequence[Access], ranks: Mapping[str, int]) -> tuple[int, ...]:
    boxes = [box(access, ranks) for access in accesses]
    return tuple(max(last for _, last in spans) + 1 for spans in zip(*boxes, strict=True))


def box(access: Access, ranks: Mapping[str, int]) -> Box:
    """First and last index that ``access`` touches along each dimension."""
    return tuple(index.range(ranks) for index in access.indices)


def dependence_graph(cascade: Cascade) -> nx.DiGraph[int]:
    """Positions of Einsums as nodes, with an edge from each writer to each reader of a tensor (``tensor``).

    An iterative tensor makes a cycle; :func:`schedule` breaks it.
    """
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(cascade.einsums)))
    written = writers(cascade)
    for reader, einsum in enumerate(cascade.einsums):
        for access in einsum.inputs:
            for writer in written.get(access.tensor, ()):
                graph.add_edge(writer, reader, tensor=access.tensor)
    return graph


def verify(cascade: Cascade) -> None:
    """Refuse a cascade that has no meaning, with :class:`VerificationError`.

    Every rank has a size; a tensor has one number of dimensions; it is written once, or in pieces
    that do not overlap and leave no gap; what is read is within the tensor, or its shape is
    declared; and every value is computed before it is used, iterative ranks counting upwards.
    """
    for position, einsum in enumerate(cascade.einsums):
        for rank in einsum.ranks:
            if rank not in cascade.ranks:
                known = ", ".join(cascade.ranks) or "none declared"
                raise VerificationError(f"a rank must be one of {known}, not {rank!r} in {einsum}", position)
    _verify_dimensions(cascade)
    _verify_writes(cascade)
    _verify_reads(cascade)
    schedule(cascade)


def _verify_dimensions(cascade: Cascade) -> None:
    dimensions = {tensor: len(shape) for tensor, shape in cascade.shapes.items()}
    used = set()
    for position, einsum in enumerate(cascade.einsums):
        for access in (*einsum.inputs, einsum.output):
            used.add(access.tensor)
            wanted = dimensions.setdefault(access.tensor, len(access.indices))
            if len(access.indices) != wanted:
                raise VerificationError(
                    f"{access.tensor} must have {wanted} dimensions, not {access}", position
                )
    for tensor in cascade.shapes:
        if tensor not in used:
            raise VerificationError(f"a tensor with a declared shape must be used, not {tensor!r}")


def _verify_writes(cascade: Cascade) -> None:
    shapes = tensor_shapes(cascade)
    for tensor, positions in writers(cascade).items():
        if len(positions) > MAX_PIECES:
            message = f"{tensor} must be written in at most {MAX_PIECES} pieces, not {len(positions)}"
            raise VerificationError(message, positions[-1])
        boxes = [box(cascade.einsums[position].output, cascade.ranks) for position in positions]
        for (_, one), (later, other) in itertools.combinations(zip(positions, boxes, strict=True), 2):
            if _overlap(one, other):
                raise VerificationError(
                    f"{tensor} must be written once, not again by {cascade.einsums[later]}", later
                )
        written = sum(_volume(piece) for piece in boxes)
        outside = any(
            high >= size for piece in boxes for (_, high), size in zip(piece, shapes[tensor], strict=True)
        )
        if outside or written != math.prod(shapes[tensor]):
            shape = "x".join(str(size) for size in shapes[tensor]) or "scalar"
            message = f"{tensor} must be written in whole, {shape}, not {written} elements of it"
            raise VerificationError(message, positions[-1])


def _overlap(one: Box, other: Box) -> bool:
    return all(a <= d and c <= b for (a, b), (c, d) in zip(one, other, strict=True))


def _volume(piece: Box) -> int:
    return math.prod(high - low + 1 for low, high in piece)


def _verify_reads(cascade: Cascade) -> None:
    shapes = tensor_shapes(cascade)
    for position, einsum in enumerate(cascade.einsums):
        for access in einsum.inputs:
            if access.tensor in cascade.shapes:
                continue
            for (low, high), size in zip(box(access, cascade.ranks), shapes[access.tensor], strict=True):
                if low < 0 or high >= size:
                    raise VerificationError(
                        f"an index of {access} must be 0 to {size - 1}, not {low} to {high} "
                        f"(declare the tensor's shape to read zeros outside it)",
                        position,
                    )


def schedule(cascade: Cascade) -> tuple[Step, ...]:
    """An order in which every value is computed before it is used; iterative Einsums stand in loops.

    Raises :class:`VerificationError` where there is none.
    """
    return _ordered(cascade, tuple(range(len(cascade.einsums))), ())


def _ordered(cascade: Cascade, positions: Sequence[int], bound: tuple[str, ...]) -> tuple[Step, ...]:
    """Steps of ``positions``, all in loops over ``bound``: strongly connected parts become loops."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(positions)
    graph.add_edges_from((w, r) for w, r, _ in _edges(cascade, positions, bound))
    condensed = nx.condensation(graph)
    members = {node: sorted(condensed.nodes[node]["members"]) for node in condensed}
    order = nx.lexicographical_topological_sort(condensed, key=lambda node: members[node][0])
    steps: list[Step] = []
    for node in order:
        part = members[node]
        cyclic = len(part) > 1 or graph.has_edge(part[0], part[0])
        steps.append(_loop(cascade, part, bound) if cyclic else part[0])
    _require_text_order(cascade, graph, members.values())
    return tuple(steps)


def _require_text_order(cascade: Cascade, graph: nx.DiGraph[int], parts: Iterable[Sequence[int]]) -> None:
    part_of = {position: index for index, part in enumerate(parts) for position in part}
    for writer, reader in graph.edges:
        if writer > reader and part_of[writer] != part_of[reader]:
            tensor = cascade.einsums[writer].output.tensor
            raise VerificationError(
                f"{tensor} must be written before it is read by {cascade.einsums[reader]}", reader
            )


def _loop(cascade: Cascade, part: Sequence[int], bound: tuple[str, ...]) -> Loop:
    common = set.intersection(*(set(cascade.einsums[position].output.ranks) for position in part))
    for rank in cascade.einsums[part[0]].output.ranks:
        if rank in common and rank not in bound and _counts_up(cascade, part, (bound, rank)):
            return Loop(rank, _ordered(cascade, part, (*bound, rank)))
    tensors = ", ".join(dict.fromkeys(cascade.einsums[position].output.tensor for position in part))
    raise VerificationError(
        f"{tensors} must be computed before use along one rank, counting upwards", part[0]
    )


def _counts_up(cascade: Cascade, part: Sequence[int], ranks: tuple[tuple[str, ...], str]) -> bool:
    bound, rank = ranks
    distances = [_distance(*pair, rank) for _, _, pair in _edges(cascade, part, bound)]
    return all(d is not None and d >= 0 for d in distances) and any(distances)


def _edges(
    cascade: Cascade, positions: Sequence[int], bound: Sequence[str]
) -> Iterator[tuple[int, int, tuple[Access, Access]]]:
    """(writer, reader, accesses) where one iteration of the loops over ``bound`` may depend on itself."""
    written: dict[str, list[int]] = {}
    for position in positions:
        written.setdefault(cascade.einsums[position].output.tensor, []).append(position)
    for reader in positions:
        for access in cascade.einsums[reader].inputs:
            for writer in written.get(access.tensor, ()):
                output = cascade.einsums[writer].output
                if not _overlap(box(output, cascade.ranks), box(access, cascade.ranks)):
                    continue
                if all(_distance(output, access, rank) == 0 for rank in bound):
                    yield writer, reader, (output, access)


def _distance(output: Access, access: Access, rank: str) -> int | None:
    """Iterations of ``rank`` from writing an element to reading it; None where it is not one number."""
    for written, read in zip(output.indices, access.indices, strict=True):
        if rank in written.ranks:
            return written.offset - read.offset if read.terms == ((rank, 1),) else None
    return None
