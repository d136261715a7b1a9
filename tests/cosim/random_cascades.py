"""Random cascades that the machine runs with values, by family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from archsim._architecture import Architecture
from workloads import Cascade, Product, kernels, parse
from workloads._block import Block, Run, block_parts
from workloads._transformer import (
    Fragment,
    Heads,
    add,
    cascade,
    layernorm,
    linear,
    product,
    rmsnorm,
    softmax,
    softmax_attention,
    tensor,
    unary,
)

Rng = np.random.Generator
Draw = Callable[[Rng, int], "Workload"]

MOST_PE_CYCLES = 5000
"""Multiply-accumulates of a cascade over those of the array in a cycle, at most."""
FUNCTIONS = (None, "relu", "gelu", "silu", "sigmoid", "tanh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A cascade, which of its inputs are activations, and the values of its scalars; the rest are weights."""

    cascade: Cascade
    activations: tuple[str, ...]
    constants: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of cascade; ``make`` draws one with dimensions up to a size."""

    name: str
    make: Draw

    def draw(self, rng: Rng, arch: Architecture) -> Workload:
        """One that runs in some thousands of cycles on ``arch``."""
        lanes, most = arch.array.rows * arch.array.cols, 40
        while True:
            work = self.make(rng, most)
            if multiplies(work.cascade) <= MOST_PE_CYCLES * lanes:
                return work
            most = max(4, most * 3 // 4)


def multiplies(cascade: Cascade) -> int:
    """Multiply-accumulates of all products of a cascade."""
    products = [kernel for kernel in kernels(cascade) if isinstance(kernel, Product)]
    ranks = [(*k.batch, *k.rows, *k.cols, *k.inner) for k in products]
    return sum(prod(cascade.ranks[rank] for rank in each) for each in ranks)


def size(rng: Rng, most: int) -> int:
    """A dimension from 1 to ``most``, often one beside a power of two."""
    near = 2 ** int(rng.integers(1, 6)) + int(rng.integers(-1, 2))
    return min(near, most) if rng.random() < 0.4 else int(rng.integers(1, most + 1))


def flip(rng: Rng) -> bool:
    """True or false."""
    return bool(rng.random() < 0.5)


def _function(rng: Rng) -> str | None:
    chosen: str | None = rng.choice(np.array(FUNCTIONS, object))
    return chosen


def _layer(
    rng: Rng, out: str, source: str, *, ins: str, outs: str, residual: str | None
) -> tuple[Fragment, str]:
    """A product with any of scale, bias, residual and function behind it, and the result's name."""
    made: Fragment = (
        product(tensor(out, "p" + outs), tensor(source, "p" + ins), tensor(f"W{out}", ins + outs)),
    )
    if flip(rng):
        ranks = outs if flip(rng) else ""
        scaled = tensor(f"{out}S", "p" + outs)
        made += (product(scaled, made[-1].output, tensor(f"A{out}", ranks)),)
    if flip(rng):
        made += (add(tensor(f"{out}B", "p" + outs), made[-1].output, tensor(f"B{out}", outs)),)
    if residual is not None:
        made += (add(tensor(f"{out}R", "p" + outs), made[-1].output, tensor(residual, "p" + outs)),)
    if function := _function(rng):
        made += (unary(tensor(f"{out}F", "p" + outs), made[-1].output, function),)
    return made, made[-1].output.tensor


def draw_linear(rng: Rng, most: int) -> Workload:
    """One product, its residual an input of its own."""
    added = flip(rng)
    ranks = {rank: size(rng, most) for rank in "pab"}
    made, _ = _layer(rng, "Y", "X", ins="a", outs="b", residual="T" if added else None)
    return Workload(cascade=cascade("linear", ranks, made), activations=("X", "T") if added else ("X",))


def draw_chain(rng: Rng, most: int) -> Workload:
    """Two or three products, with a residual over two of them where the dimensions return."""
    ranks = {rank: size(rng, most) for rank in "pabc"}
    made, hidden = _layer(rng, "Y1", "X", ins="a", outs="b", residual=None)
    returns = flip(rng)
    second, result = _layer(
        rng, "Y2", hidden, ins="b", outs="a" if returns else "c", residual="X" if returns else None
    )
    made += second
    if flip(rng):
        made += _layer(rng, "Y3", result, ins="a" if returns else "c", outs="b", residual=None)[0]
    return Workload(cascade=cascade("chain", ranks, made), activations=("X",))


def draw_heads(rng: Rng, most: int) -> Workload:
    """Attention heads on given queries, keys and values."""
    ranks = {"h": int(rng.integers(1, 4)), "p": size(rng, most), "m": size(rng, most)}
    ranks |= {"e": size(rng, min(most, 20)), "f": size(rng, min(most, 20))}
    made = softmax_attention("O", "Q", "K", "V", heads=Heads(scaled=True))
    constants = {"SCALE": float(ranks["e"] ** -0.5)}
    return Workload(cascade=cascade("heads", ranks, made), activations=("Q", "K", "V"), constants=constants)


def draw_attention(rng: Rng, most: int) -> Workload:
    """Attention with its projections, so that keys are held transposed, and sometimes its output and norm."""
    ranks = {"h": int(rng.integers(1, 4)), "p": size(rng, most // 2), "m": size(rng, most // 2)}
    ranks |= {
        "d": size(rng, most // 2),
        "e": size(rng, min(most // 2, 12)),
        "f": size(rng, min(most // 2, 12)),
    }
    bias = flip(rng)
    made = tuple(
        einsum
        for out, rows, outs in (("Q", "p", "he"), ("K", "m", "he"), ("V", "m", "hf"))
        for einsum in linear(out, "X" if rows == "p" else "S", rows=rows, ins="d", outs=outs, bias=bias)
    )
    suffix = "B" if bias else ""
    made += softmax_attention("AV", "Q" + suffix, "K" + suffix, "V" + suffix, heads=Heads())
    if flip(rng):
        made += linear("O", "AV", rows="p", ins="hf", outs="d", bias=flip(rng))
        made += (add(tensor("R", "pd"), made[-1].output, tensor("X", "pd")),)
    constants = {"SCALE": float(ranks["e"] ** -0.5)}
    return Workload(cascade=cascade("attention", ranks, made), activations=("X", "S"), constants=constants)


def draw_normed(rng: Rng, most: int) -> Workload:
    """A product and a normalisation of its rows, with a residual or without."""
    ranks = {rank: size(rng, most) for rank in "pad"}
    ranks["d"] = max(2, ranks["d"])
    made = linear("F1", "X", rows="p", ins="a", outs="d", bias=flip(rng))
    residual = flip(rng)
    if residual:
        made += (add(tensor("R", "pd"), made[-1].output, tensor("T", "pd")),)
    norm = layernorm if flip(rng) else rmsnorm
    made += norm("Z", made[-1].output.tensor, rows="p")
    return Workload(
        cascade=cascade("normed", ranks, made),
        activations=("X", "T") if residual else ("X",),
        constants=_statistics(ranks["d"]),
    )


def draw_rows(rng: Rng, most: int) -> Workload:
    """A softmax or a normalisation alone, over the rows of one matrix or of several."""
    ranks = {"b": int(rng.integers(1, 4)), "p": size(rng, most), "d": max(2, size(rng, most))}
    rows = "bp" if flip(rng) else "p"
    kind = int(rng.integers(3))
    if kind == 0:
        made = softmax("Z", tensor("X", rows + "d"), rows=rows, names=("GM", "SN", "SD"))
    else:
        made = (layernorm if kind == 1 else rmsnorm)("Z", "X", rows=rows)
    return Workload(
        cascade=cascade("rows", ranks, made),
        activations=("X",),
        constants=_statistics(ranks["d"]) if kind else {},
    )


def draw_encoder(rng: Rng, most: int) -> Workload:
    """A whole transformer layer."""
    return _encoder(rng, most, gated=False)


def draw_gated(rng: Rng, most: int) -> Workload:
    """A layer whose feed-forward has a gate, which is elementwise: for timing only."""
    return _encoder(rng, most, gated=True)


def draw_convolution(rng: Rng, most: int) -> Workload:
    """A convolution, whose input is gathered into a matrix: for timing only."""
    sizes = {
        "p": size(rng, most),
        "q": size(rng, most),
        "r": int(rng.integers(1, 4)),
        "s": int(rng.integers(1, 4)),
    }
    sizes |= {"c": size(rng, min(most, 16)), "m": size(rng, most)}
    stride = int(rng.integers(1, 3))
    ranks = ", ".join(f"{rank}={extent}" for rank, extent in sizes.items())
    einsum = f"Y[p, q, m] = X[{stride}*p + r, q + s, c] * W[r, s, c, m]"
    return Workload(cascade=parse(f"cascade convolution\nranks {ranks}\n\n{einsum}\n"), activations=("X",))


def _encoder(rng: Rng, most: int, *, gated: bool) -> Workload:
    heads, head_dim = int(rng.integers(1, 4)), int(rng.integers(2, 2 + max(1, most // 5)))
    block = Block(
        hidden=heads * head_dim,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        inner=size(rng, most),
        activation=str(rng.choice(["relu", "gelu", "silu"])),
        eps=1e-12,
        norm="layer" if flip(rng) else "rms",
        pre_norm=flip(rng),
        qkv_bias=flip(rng),
        out_bias=flip(rng),
        ffn_bias=flip(rng),
        gated=gated,
    )
    run = Run(phase="prefill", batch=1, seq=size(rng, max(2, most // 2)))
    part = block_parts("layer", block, run=run, layers=1)[0]
    return Workload(
        cascade=part.cascade, activations=tuple(sorted(part.inputs)), constants=dict(part.constants)
    )


def _statistics(length: int) -> dict[str, float]:
    return {"INV": 1 / length, "EPS": 1e-12}


FAMILIES = (
    Family("linear", draw_linear),
    Family("chain", draw_chain),
    Family("heads", draw_heads),
    Family("attention", draw_attention),
    Family("normed", draw_normed),
    Family("rows", draw_rows),
    Family("encoder", draw_encoder),
    Family("linear", draw_linear),
)
"""``linear`` twice: it alone has every function, scale and residual, and different lanes and groups."""

TIMED_FAMILIES = (*FAMILIES, Family("gated", draw_gated), Family("convolution", draw_convolution))
"""With those that the machine only times: kernels of one Einsum each, and operands laid out twice."""
