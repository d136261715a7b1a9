"""Attention as one kernel: cascades that are ``softmax(Q K) V`` and nothing else, in any of their forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from workloads import _attention as forms
from workloads._einsum import Access, Cascade
from workloads._errors import WorkloadError
from workloads._kernel import Product, Requantise, Softmax, kernels

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """``output[b, g, f, p]``: softmax over m of ``queries[b, g, e, p] * keys[b, e, m]``, times ``values``.

    ``values`` are ``[b, f, m]``; a dimension's place in its tensor is free.
    """

    queries: Access
    keys: Access
    values: Access
    output: Access
    batch: tuple[str, ...]
    """Ranks of heads of keys: of all four tensors."""
    group: tuple[str, ...]
    """Ranks of heads of queries that share keys: of queries and output."""
    positions: str
    """The rank of queries."""
    tokens: tuple[str, ...]
    """Ranks of keys: one, or tiles and keys of a tile."""
    features: str
    """The rank that queries and keys are multiplied over."""
    columns: str
    """The rank of a value's features."""
    scales: tuple[str, ...] = ()
    """Scalars that scale the scores."""
    einsums: tuple[int, ...]

    @property
    def name(self) -> str:
        """The kernel is named for the tensor that it makes."""
        return self.output.tensor


def attention_of(cascade: Cascade) -> Attention:
    """The attention that ``cascade`` is, whole: softmax as the kernels find it, or a form of the library.

    Raises WorkloadError where it is none.
    """
    found = _by_kernels(cascade) or _by_form(cascade)
    if found is None:
        raise WorkloadError(
            f"cascade {cascade.name} must be one attention, softmax(Q K) V without a mask and nothing else, "
            "to run as one"
        )
    return found


def _by_kernels(cascade: Cascade) -> Attention | None:
    """A product with a softmax behind it, and the product of that with the values."""
    steps = kernels(cascade)
    if len(steps) != 2 or not all(isinstance(step, Product) for step in steps):
        return None
    scores, result = steps
    assert isinstance(scores, Product)
    assert isinstance(result, Product)
    if not isinstance(scores.epilogue, Softmax) or result.epilogue != Requantise():
        return None
    if result.streamed.tensor != scores.output.tensor or result.inner != scores.cols:
        return None
    return _assembled(
        cascade,
        (scores.streamed, scores.stationary, result.stationary, result.output),
        scales=scores.epilogue.scales,
    )


_PLAIN = ("p", "m", "e", "f")
_TILED = ("p", "m1", "m0", "e", "f")
_FORMS: Mapping[str, tuple[Callable[..., Cascade], tuple[str, ...]]] = {
    "naive": (forms.naive, _PLAIN),
    "deferred": (forms.deferred, _PLAIN),
    "two-pass": (forms.two_pass, _TILED),
    "one-pass": (forms.one_pass, _TILED),
    "grouped-query-one-pass": (forms.grouped_query_one_pass, ("h", "g", *_TILED)),
}
"""Forms in which no softmax stands by itself, and their ranks in order."""


def _by_form(cascade: Cascade) -> Attention | None:
    """A form of the library, under any names of its tensors and ranks."""
    sizes = tuple(cascade.ranks.values())
    for build, ranks in _FORMS.values():
        if len(ranks) == len(sizes):
            form = build(**dict(zip(ranks, sizes, strict=True)))
            if _shape(form) == _shape(cascade):
                return _of_form(cascade, form)
    return None


def _of_form(cascade: Cascade, form: Cascade) -> Attention | None:
    """The operands where the form has those called Q, K, V and AV."""
    places = {
        access.tensor: (position, number)
        for position, einsum in enumerate(form.einsums)
        for number, access in enumerate((*einsum.inputs, einsum.output))
    }

    def found(name: str) -> Access:
        position, number = places[name]
        einsum = cascade.einsums[position]
        return (*einsum.inputs, einsum.output)[number]

    return _assembled(cascade, (found("Q"), found("K"), found("V"), found("AV")), scales=())


def _shape(cascade: Cascade) -> tuple[object, ...]:
    """The cascade with tensors and ranks numbered in the order in which they appear."""
    ranks = {rank: number for number, rank in enumerate(cascade.ranks)}
    tensors: dict[str, int] = {}

    def access(each: Access) -> tuple[object, ...]:
        indices = tuple((tuple((ranks[r], c) for r, c in i.terms), i.offset) for i in each.indices)
        return tensors.setdefault(each.tensor, len(tensors)), indices

    def lines() -> Iterator[tuple[object, ...]]:
        for einsum in cascade.einsums:
            operands = tuple(access(each) for each in (einsum.output, *einsum.inputs))
            yield (*operands, einsum.map, einsum.reduce, einsum.unary)

    return tuple(lines())


def _assembled(
    cascade: Cascade, operands: tuple[Access, Access, Access, Access], *, scales: tuple[str, ...]
) -> Attention | None:
    """The roles of the ranks, or None where an operand has one that attention has not."""
    queries, keys, values, output = operands
    if not all(access.is_plain for access in operands):
        return None
    q, k, v, out = (access.ranks for access in operands)
    batch = tuple(rank for rank in k if rank in q and rank in out)
    features = tuple(rank for rank in k if rank in q and rank not in out)
    tokens = tuple(rank for rank in k if rank not in q)
    columns = tuple(rank for rank in out if rank in v and rank not in batch)
    positions = tuple(rank for rank in q if rank in out and rank not in batch)
    if not (len(features) == len(columns) == 1 and positions and tokens):
        return None
    roles = (
        (q, (*batch, *positions, *features)),
        (k, (*batch, *features, *tokens)),
        (v, (*batch, *columns, *tokens)),
        (out, (*batch, *positions, *columns)),
    )
    if any(set(found) != set(wanted) for found, wanted in roles):
        return None
    return Attention(
        queries=queries,
        keys=keys,
        values=values,
        output=output,
        batch=batch,
        group=positions[:-1],
        positions=positions[-1],
        tokens=tokens,
        features=features[0],
        columns=columns[0],
        scales=scales,
        einsums=tuple(range(len(cascade.einsums))),
    )
