"""Fragments of transformers: tuples of Einsums to be joined into a cascade.

A tensor's ranks are written as a string of one-letter ranks. The letters:

- b sequence of the batch, p token that asks, m token that is asked, d hidden;
- h head, g group of heads that share keys, r head within a group, e query and key, f value;
- s half and i element of it (rotary), j inner of the feed-forward, v vocabulary or class;
- x expert, k slot of the top-k, t token of an expert.

Scales and epsilons are scalar tensors, which a part lists as constants. Statistics multiply before
they sum in an Einsum of their own, so that sums of products are matrix products and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workloads._einsum import Access, Cascade, Einsum, Index, access

Fragment = tuple[Einsum, ...]


def tensor(name: str, ranks: str = "") -> Access:
    """``tensor("Q", "phe")`` is ``Q[p, h, e]``."""
    return access(name, *ranks)


def product(output: Access, left: Access, right: Access) -> Einsum:
    """Product of two tensors, summed over the ranks that ``output`` lacks."""
    einsum_ranks = {*left.ranks, *right.ranks} - set(output.ranks)
    return Einsum(output, (left, right), "mul", "add" if einsum_ranks else None)


def unary(output: Access, source: Access, operator: str) -> Einsum:
    """``output = operator(source)``, elementwise."""
    return Einsum(output, (source,), "identity", unary=operator)


def total(output: Access, source: Access, operator: str = "add") -> Einsum:
    """``source`` reduced over the ranks that ``output`` lacks."""
    return Einsum(output, (source,), "identity", operator)


def add(output: Access, left: Access, right: Access) -> Einsum:
    """``output = left + right``."""
    return Einsum(output, (left, right), "add")


def subtract(output: Access, left: Access, right: Access) -> Einsum:
    """``output = left - right``."""
    return Einsum(output, (left, right), "sub")


def cascade(name: str, ranks: Mapping[str, int], *fragments: Fragment) -> Cascade:
    """The fragments in order, with the sizes of those ranks that they use."""
    einsums = tuple(einsum for fragment in fragments for einsum in fragment)
    used = {rank for einsum in einsums for rank in einsum.ranks}
    return Cascade(name, {rank: size for rank, size in ranks.items() if rank in used}, einsums)


def linear(out: str, source: str, *, rows: str, ins: str, outs: str, bias: bool) -> Fragment:
    """``out = source * Wout``, then ``outB = out + Bout`` if there is a bias.

    ``out`` loses a leading ``F`` or keeps its name in the weight's: Q gives WQ and BQ, F1 gives W1 and B1.
    """
    stem = out.removeprefix("F")
    result = tensor(out, rows + outs)
    matmul = product(result, tensor(source, rows + ins), tensor(f"W{stem}", ins + outs))
    if not bias:
        return (matmul,)
    return matmul, add(tensor(f"{out}B", rows + outs), result, tensor(f"B{stem}", outs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The ranks of an attention's operands, and which of its optional steps it has."""

    lead: str = ""
    """``b`` where sequences differ, or nothing."""
    shared: str = "h"
    """Rank of heads that have keys of their own."""
    grouped: str = ""
    """Rank of the heads that share one of these, or nothing."""
    query: str = "p"
    key: str = "m"
    inner: str = "e"
    value: str = "f"
    prefix: str = ""
    """Put before each tensor's name; ``C`` in cross attention."""
    scaled: bool = True
    added: tuple[tuple[str, str], ...] = ()
    """(tensor, ranks) to add to the scores in turn: masks, position biases."""

    @property
    def heads(self) -> str:
        """Ranks of the queries' heads."""
        return self.shared + self.grouped


def softmax_attention(out: str, q: str, k: str, v: str, *, heads: Heads) -> Fragment:
    """``out = softmax(q * k * SCALE + added) * v``, softmax over the key tokens in three passes."""
    t, scores = heads.prefix, heads.lead + heads.heads + heads.query + heads.key
    rows = heads.lead + heads.heads + heads.query
    asked = heads.lead + heads.key + heads.shared
    query = tensor(q, heads.lead + heads.query + heads.heads + heads.inner)
    last = tensor(f"{t}QK", scores)
    einsums = [product(last, query, tensor(k, asked + heads.inner))]
    if heads.scaled:
        einsums.append(product(tensor(f"{t}QS", scores), last, tensor("SCALE")))
        last = einsums[-1].output
    for name, ranks in heads.added:
        einsums.append(add(tensor(f"{last.tensor}A", scores), last, tensor(name, ranks)))
        last = einsums[-1].output
    weights = softmax(f"{t}A", last, rows=rows, names=(f"{t}GM", f"{t}SN", f"{t}SD"))
    result = tensor(out, heads.lead + heads.query + heads.heads + heads.value)
    return (*einsums, *weights, product(result, tensor(f"{t}A", scores), tensor(v, asked + heads.value)))


def softmax(out: str, source: Access, *, rows: str, names: tuple[str, str, str]) -> Fragment:
    """``out = exp(source - max) / sum`` over the ranks of ``source`` that are not in ``rows``.

    ``names`` are those of the maximum, of the numerators and of their sum.
    """
    numerator = Access(names[1], source.indices)
    maximum, denominator = tensor(names[0], rows), tensor(names[2], rows)
    return (
        total(maximum, source, "max"),
        Einsum(numerator, (source, maximum), "sub", unary="exp"),
        total(denominator, numerator),
        Einsum(Access(out, source.indices), (numerator, denominator), "div"),
    )


def layernorm(out: str, source: str, *, rows: str, over: str = "d") -> Fragment:
    """``out = (source - mean) * rsqrt(variance + EPS) * Gout + Bout`` over rank ``over``.

    ``INV`` is the scalar one over the rank's size.
    """
    x, full = tensor(source, rows + over), rows + over
    mean, centred = tensor(f"{out}M", rows), tensor(f"{out}C", full)
    sums = tensor(f"{out}S", rows)
    gained = tensor(f"{out}G", full)
    return (
        total(sums, x),
        product(mean, sums, tensor("INV")),
        subtract(centred, x, mean),
        *_reciprocal_root(out, centred, rows=rows),
        product(tensor(f"{out}N", full), centred, tensor(f"{out}R", rows)),
        product(gained, tensor(f"{out}N", full), tensor(f"G{out}", over)),
        add(tensor(out, full), gained, tensor(f"B{out}", over)),
    )


def rmsnorm(out: str, source: str, *, rows: str, over: str = "d") -> Fragment:
    """``out = source * rsqrt(mean of squares + EPS) * Gout`` over rank ``over``."""
    x, scaled = tensor(source, rows + over), tensor(f"{out}N", rows + over)
    return (
        *_reciprocal_root(out, x, rows=rows),
        product(scaled, x, tensor(f"{out}R", rows)),
        product(tensor(out, rows + over), scaled, tensor(f"G{out}", over)),
    )


def _reciprocal_root(out: str, source: Access, *, rows: str) -> Fragment:
    """``outR = rsqrt(mean of squares of source + EPS)``."""
    squares = Access(f"{out}Q", source.indices)
    sums, variance = tensor(f"{out}V", rows), tensor(f"{out}E", rows)
    return (
        product(squares, source, source),
        total(sums, squares),
        product(variance, sums, tensor("INV")),
        Einsum(tensor(f"{out}R", rows), (variance, tensor("EPS")), "add", unary="rsqrt"),
    )


def ffn(source: str, *, rows: str, activation: str, bias: bool) -> tuple[Fragment, str]:
    """Two linear layers with ``activation`` between, and the result's name."""
    first = linear("F1", source, rows=rows, ins="d", outs="j", bias=bias)
    second = linear("F2", "G", rows=rows, ins="j", outs="d", bias=bias)
    middle = unary(tensor("G", rows + "j"), first[-1].output, activation)
    return (*first, middle, *second), second[-1].output.tensor


def gated_ffn(source: str, *, rows: str, activation: str, bias: bool) -> tuple[Fragment, str]:
    """``(activation(source * WG) * (source * WU)) * W2``, and the result's name."""
    gate = linear("FG", source, rows=rows, ins="d", outs="j", bias=bias)
    up = linear("FU", source, rows=rows, ins="d", outs="j", bias=bias)
    down = linear("F2", "H", rows=rows, ins="j", outs="d", bias=bias)
    opened = unary(tensor("G", rows + "j"), gate[-1].output, activation)
    gated = product(tensor("H", rows + "j"), opened.output, up[-1].output)
    return (*gate, opened, *up, gated, *down), down[-1].output.tensor


def rotary(out: str, source: str, *, lead: str, token: str, heads: str) -> Fragment:
    """``out = source * COS + swapped * SIN``, elementwise, ``swapped`` the other half of each pair.

    Rank ``s`` is the half, ``i`` the element. ``COS`` and ``SIN`` hold the angles of the token's
    position, ``SIN`` with the sign of the half (minus in the first). The tables of query and key
    tokens are ``COSp``, ``SINp``, ``COSm``, ``SINm``. Source: Su et al., RoFormer, equation 34,
    with halves in the place of neighbours as in the published Llama weights.
    """
    full = lead + token + heads + "si"
    here, table = tensor(source, full), token + "si"
    swapped = Access(source, tuple(_other_half(i) if i.ranks == ("s",) else i for i in here.indices))
    return (
        product(tensor(f"{out}C", full), here, tensor(f"COS{token}", table)),
        product(tensor(f"{out}S", full), swapped, tensor(f"SIN{token}", table)),
        add(tensor(out, full), tensor(f"{out}C", full), tensor(f"{out}S", full)),
    )


def _other_half(half: Index) -> Index:
    """Zero for one and one for zero."""
    return Index(tuple((rank, -1) for rank in half.ranks), 1)
