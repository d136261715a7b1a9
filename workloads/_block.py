"""Transformer blocks: one description of a layer, and the parts that run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from workloads._einsum import Cascade
from workloads._model import Part, Phase
from workloads._transformer import (
    Fragment,
    Heads,
    add,
    cascade,
    ffn,
    gated_ffn,
    layernorm,
    linear,
    product,
    rmsnorm,
    rotary,
    softmax,
    softmax_attention,
    tensor,
    total,
)

Norm = Literal["layer", "rms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is run: the phase, the sequences of the batch, and the length."""

    phase: Phase
    batch: int
    seq: int
    """Prefill: tokens of each sequence. Decode: tokens attended to, the new one included."""

    @property
    def lead(self) -> str:
        """The rank of the batch, or nothing for a single sequence."""
        return "b" if self.batch > 1 else ""

    @property
    def rows(self) -> str:
        """Ranks of the tokens that are computed."""
        return self.lead + "p"

    @property
    def queries(self) -> int:
        """Tokens of each sequence that are computed."""
        return self.seq if self.phase == "prefill" else 1

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return self.batch * self.queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts in the place of the feed-forward."""

    count: int
    top_k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A transformer layer: its dimensions and which of the published forms it takes."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    activation: str
    eps: float
    norm: Norm = "layer"
    pre_norm: bool = True
    """Whether a norm precedes each sublayer (GPT-2) or follows its residual (BERT)."""
    qkv_bias: bool = True
    out_bias: bool = True
    ffn_bias: bool = True
    gated: bool = False
    rotary: bool = False
    scaled: bool = True
    """Whether scores are multiplied by one over the root of the head's size."""
    causal: bool = False
    position_bias: bool = False
    """Whether a bias for each head and pair of tokens is added to the scores (T5), the mask folded in."""
    cross: bool = False
    """Whether a cross attention over an encoder's output follows the self attention."""
    window: int | None = None
    """Tokens that a key and value cache holds at most, or None for all."""
    experts: Experts | None = None


def block_parts(name: str, block: Block, *, run: Run, layers: int) -> tuple[Part, ...]:
    """The parts of ``layers`` equal blocks, the first called ``name``.

    Input ``X`` and output ``Z``, both [p, d]. Attention reads the input as queries with rank p and as
    keys with rank m. In a decode ``K`` and ``V`` (``KB`` and ``VB`` with biases, ``KR`` with rotation)
    are the new token's rows, which the step appends to the caches ``KC`` and ``VC``: these hold all
    the attended tokens, the new one last. A mixture of experts makes four parts: ``name`` up to the
    router, the experts' feed-forward over the tokens that each of them receives, and the combination.
    """
    attention, residual = _attention(block, run)
    if block.experts is None:
        feed, _ = _feed_forward(block, run, residual)
        return (_part(name, block, run, layers, attention, feed),)
    return _mixture(name, block, block.experts, run=run, layers=layers, attention=attention)


def norm_fragment(block: Block, out: str, source: str, *, rows: str) -> Fragment:
    """The block's kind of norm, from ``source`` to ``out``."""
    match block.norm:
        case "layer":
            return layernorm(out, source, rows=rows)
        case "rms":
            return rmsnorm(out, source, rows=rows)
    assert_never(block.norm)


def part(built: Cascade, *, repeat: int = 1, inputs: frozenset[str], constants: Mapping[str, float]) -> Part:
    """A part that names those of ``inputs`` and ``constants`` that its cascade reads."""
    read = {access.tensor for einsum in built.einsums for access in einsum.inputs}
    written = {einsum.output.tensor for einsum in built.einsums}
    used = {name: value for name, value in constants.items() if name in read}
    return Part(built, repeat, frozenset(inputs & (read - written)), used)


def _part(name: str, block: Block, run: Run, repeat: int, *fragments: Fragment) -> Part:
    built = cascade(name, _ranks(block, run), *fragments)
    inputs = {"X", "S", "MASK", "PB", "KC", "VC", "CKC", "CVC", "COSp", "SINp", "COSm", "SINm"}
    return part(built, repeat=repeat, inputs=frozenset(inputs), constants=constants(block))


def constants(block: Block) -> dict[str, float]:
    """The scalar tensors: ``SCALE`` of the scores, ``INV`` of the mean, ``EPS`` of the norm."""
    return {"SCALE": block.head_dim**-0.5, "INV": 1 / block.hidden, "EPS": block.eps}


def _ranks(block: Block, run: Run) -> dict[str, int]:
    keys = run.seq
    if run.phase == "decode" and block.window is not None:
        keys = min(keys, block.window)
    return {
        "b": run.batch,
        "p": run.queries,
        "m": keys,
        "n": run.seq,
        "d": block.hidden,
        "h": block.heads,
        "g": block.kv_heads,
        "r": block.heads // block.kv_heads,
        "e": block.head_dim,
        "s": 2,
        "i": max(block.head_dim // 2, 1),
        "f": block.head_dim,
        "j": block.inner,
    }


def _heads(block: Block, run: Run) -> Heads:
    grouped = block.kv_heads != block.heads
    added: tuple[tuple[str, str], ...] = ()
    if block.position_bias:
        added = (("PB", ("g" if grouped else "h") + ("r" if grouped else "") + "pm"),)
    elif block.causal and run.phase == "prefill":
        added = (("MASK", "pm"),)
    return Heads(
        lead=run.lead,
        shared="g" if grouped else "h",
        grouped="r" if grouped else "",
        inner="si" if block.rotary else "e",
        scaled=block.scaled,
        added=added,
    )


def _attention(block: Block, run: Run) -> tuple[Fragment, str]:
    """Self attention, then cross attention if any, each with residual and norm; and the result's name."""
    fragment, result = _self_attention(block, run)
    if not block.cross:
        return fragment, result
    crossed, result = _cross_attention(block, run, result)
    return (*fragment, *crossed), result


def _self_attention(block: Block, run: Run) -> tuple[Fragment, str]:
    source = "XN" if block.pre_norm else "X"
    heads = _heads(block, run)
    before = norm_fragment(block, "XN", "X", rows=run.rows) if block.pre_norm else ()
    token = "m" if run.phase == "prefill" else "p"
    qkv, (query, key, value) = _projections(block, run, heads, source=source, token=token)
    if run.phase == "decode":
        key, value = "KC", "VC"
    attended = softmax_attention("AV", query, key, value, heads=heads)
    after, result = _output(block, run, heads, names=("AV", "O", "X", "R1", "Y"))
    return (*before, *qkv, *attended, *after), result


def _projections(
    block: Block, run: Run, heads: Heads, *, source: str, token: str
) -> tuple[Fragment, tuple[str, str, str]]:
    """Queries of rank p, keys and values of rank ``token``, rotated where they are to be; their names."""
    of = [("Q", "p", heads.heads, heads.inner), ("K", token, heads.shared, heads.inner)]
    of.append(("V", token, heads.shared, heads.value))
    fragment: Fragment = ()
    names = []
    for out, rank, shared, inner in of:
        rows = run.lead + rank
        made = linear(out, source, rows=rows, ins="d", outs=shared + inner, bias=block.qkv_bias)
        name = made[-1].output.tensor
        if block.rotary and out != "V":
            made += rotary(f"{out}R", name, lead=run.lead, token=rank, heads=shared)
            name = f"{out}R"
        fragment += made
        names.append(name)
    return fragment, (names[0], names[1], names[2])


def _output(
    block: Block, run: Run, heads: Heads, *, names: tuple[str, str, str, str, str]
) -> tuple[Fragment, str]:
    """Output projection and residual, then the norm of a post-norm block; the result's name."""
    source, out, residual, summed, normed = names
    rows = run.rows
    made = linear(out, source, rows=rows, ins=heads.heads + "f", outs="d", bias=block.out_bias)
    total_ = add(tensor(summed, rows + "d"), made[-1].output, tensor(residual, rows + "d"))
    if block.pre_norm:
        return (*made, total_), summed
    return (*made, total_, *norm_fragment(block, normed, summed, rows=rows)), normed


def _cross_attention(block: Block, run: Run, residual: str) -> tuple[Fragment, str]:
    """Attention to the encoder's output ``S`` [n, d], whose keys and values a decode finds in caches."""
    heads = replace(_heads(block, run), prefix="C", key="n", added=())
    rows, of = run.rows, heads.lead + "n"
    before = norm_fragment(block, "CN", residual, rows=rows)
    made = before + linear("CQ", "CN", rows=rows, ins="d", outs=heads.heads + "e", bias=block.qkv_bias)
    query, key, value = made[-1].output.tensor, "CKC", "CVC"
    if run.phase == "prefill":
        keys = linear("CK", "S", rows=of, ins="d", outs=heads.shared + "e", bias=block.qkv_bias)
        values = linear("CV", "S", rows=of, ins="d", outs=heads.shared + "f", bias=block.qkv_bias)
        key, value = keys[-1].output.tensor, values[-1].output.tensor
        made += keys + values
    made += softmax_attention("CAV", query, key, value, heads=heads)
    after, result = _output(block, run, heads, names=("CAV", "CO", residual, "RC", "YC"))
    return made + after, result


def _feed_forward(block: Block, run: Run, residual: str) -> tuple[Fragment, str]:
    """Feed-forward with its residual and norm, from ``residual`` to ``Z``."""
    rows, source = run.rows, "YN" if block.pre_norm else residual
    before = norm_fragment(block, "YN", residual, rows=rows) if block.pre_norm else ()
    layers = gated_ffn if block.gated else ffn
    made, last = layers(source, rows=rows, activation=block.activation, bias=block.ffn_bias)
    out = "Z" if block.pre_norm else "R2"
    summed = add(tensor(out, rows + "d"), tensor(last, rows + "d"), tensor(residual, rows + "d"))
    after = () if block.pre_norm else norm_fragment(block, "Z", "R2", rows=rows)
    return (*before, *made, summed, *after), "Z"


def _mixture(
    name: str, block: Block, experts: Experts, *, run: Run, layers: int, attention: Fragment
) -> tuple[Part, ...]:
    """Router, experts and combination; each of the ``top_k * tokens`` pairs is computed once.

    Pairs are spread as evenly as whole tokens allow over as many experts as there are pairs for, so
    that one or two sizes of expert occur.
    """
    rows = run.rows
    router = norm_fragment(block, "YN", "R1", rows=rows) + linear(
        "RT", "YN", rows=rows, ins="d", outs="x", bias=False
    )
    gate = softmax("PX", tensor("RT", rows + "x"), rows=rows, names=("RM", "RN", "RD"))
    ranks = _ranks(block, run) | {"x": experts.count, "k": experts.top_k}
    inputs = frozenset({"X", "MASK", "KC", "VC", "COSp", "SINp", "COSm", "SINm"})
    first = part(
        cascade(name, ranks, attention, router, gate),
        repeat=layers,
        inputs=inputs,
        constants=constants(block),
    )
    pairs = tensor("EW", rows + "kd")
    combine: Fragment = (
        total(tensor("E", rows + "d"), pairs),
        add(tensor("Z", rows + "d"), tensor("E", rows + "d"), tensor("R1", rows + "d")),
    )
    last = part(
        cascade(f"{name}_combine", ranks, combine),
        repeat=layers,
        inputs=frozenset({"EW", "R1"}),
        constants={},
    )
    return (first, *_experts(name, block, experts, pairs=run.tokens * experts.top_k, layers=layers), last)


def _experts(name: str, block: Block, experts: Experts, *, pairs: int, layers: int) -> tuple[Part, ...]:
    active = min(experts.count, pairs)
    fewer, more = divmod(pairs, active)
    made, last = gated_ffn("XE", rows="t", activation=block.activation, bias=block.ffn_bias)
    weighed = product(tensor("EW", "td"), tensor(last, "td"), tensor("P", "t"))
    parts = []
    sizes = ((f"{name}_expert_large", fewer + 1, more), (f"{name}_expert", fewer, active - more))
    for label, tokens, number in sizes:
        if number:
            ranks = {"t": tokens, "d": block.hidden, "j": block.inner}
            built = cascade(label, ranks, made, (weighed,))
            parts.append(part(built, repeat=layers * number, inputs=frozenset({"XE", "P"}), constants={}))
    return tuple(parts)
