"""The MatMul-free language model in floats, token by token: the oracle of its quantisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads._hgrn import LEAST_MAGNITUDE, LEVELS, LINEAR_EPS, HgrnSizes
from workloads._operators import sigmoid, silu
from workloads._trits import Trits, trit_sums

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ternary:
    """A linear layer: trits [outputs, inputs], each worth ``scale``."""

    trits: Trits
    scale: float

    def __call__(self, x: Floats) -> Floats:
        """The layer of ``x`` [..., inputs], its input normalised and quantised as the model's is."""
        normed = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + LINEAR_EPS)
        unit = np.maximum(np.abs(normed).max(axis=-1, keepdims=True), LEAST_MAGNITUDE) / LEVELS
        found: Floats = trit_sums(np.rint(normed / unit), self.trits) * unit * self.scale
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatBlock:
    """One layer's weights; gains and the lower bound are [hidden]."""

    mixer_gain: Floats
    i: Ternary
    f: Ternary
    g: Ternary
    lower: Floats
    """Least value of the forget gate."""
    output_gain: Floats
    o: Ternary
    feed_gain: Floats
    gate: Ternary
    up: Ternary
    down: Ternary


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """Values on the way through one block that a quantisation has to hold, each [..., columns]."""

    i: Floats
    f: Floats
    g: Floats
    state: Floats
    gate: Floats
    up: Floats
    middle: Floats
    """The residual stream between mixer and feed-forward."""
    out: Floats
    """The residual stream behind the block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatModel:
    """All weights of a MatMul-free language model."""

    sizes: HgrnSizes
    embeddings: Floats
    """[vocab, hidden]."""
    blocks: tuple[FloatBlock, ...]
    gain: Floats
    head: Ternary

    def start(self, batch: int = 1) -> Floats:
        """The state before the first token: zeros [layers, batch, hidden]."""
        return np.zeros((self.sizes.layers, batch, self.sizes.hidden))

    def step(self, state: Floats, tokens: npt.ArrayLike) -> tuple[Floats, Floats]:
        """(state, logits [batch, vocab]) after one more token of each sequence."""
        after, logits, _ = self.traced(state, tokens)
        return after, logits

    def traced(self, state: Floats, tokens: npt.ArrayLike) -> tuple[Floats, Floats, tuple[Sites, ...]]:
        """``step``, with what was seen in each block."""
        x = self.embeddings[np.asarray(tokens)]
        seen = []
        for block, before in zip(self.blocks, state, strict=True):
            seen.append(run_block(block, x, before, eps=self.sizes.eps))
            x = seen[-1].out
        logits = self.head(normalised(x, self.gain, self.sizes.eps))
        return np.stack([sites.state for sites in seen]), logits, tuple(seen)


def normalised(x: Floats, gain: Floats, eps: float) -> Floats:
    """RMSNorm of the last axis."""
    found: Floats = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * gain
    return found


def run_block(block: FloatBlock, x: Floats, state: Floats, *, eps: float) -> Sites:
    """One block on ``x`` and ``state``, both [..., hidden]."""
    a = normalised(x, block.mixer_gain, eps)
    i, f, g = block.i(a), block.f(a), block.g(a)
    forget = block.lower + (1 - block.lower) * sigmoid(f)
    h = forget * state + silu(i) * (1 - forget)
    middle = block.o(normalised(h, block.output_gain, eps) * silu(g)) + x
    b = normalised(middle, block.feed_gain, eps)
    gate, up = block.gate(b), block.up(b)
    out = block.down(silu(gate) * up) + middle
    return Sites(i=i, f=f, g=g, state=h, gate=gate, up=up, middle=middle, out=out)


def lower_bounds(raw: Floats) -> Floats:
    """Least values of the forget gates [layers, hidden]: the learned ones' softmax, summed over layers."""
    shifted = np.exp(raw - raw.max(axis=0))
    shares: Floats = shifted / shifted.sum(axis=0)
    found: Floats = np.cumsum(shares, axis=0) - shares[0]
    return found


def text_bits(model_logits: Sequence[npt.NDArray[Any]], tokens: npt.ArrayLike) -> float:
    """Bits per token that logits, one a position, give to ``tokens``, the ones that followed."""
    logits = np.asarray(model_logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    taken = np.take_along_axis(logs, np.asarray(tokens)[..., None], axis=-1)
    return float(-taken.mean() / np.log(2))


def random_hgrn(sizes: HgrnSizes, seed: int) -> FloatModel:
    """A model of random weights with the spread of a trained one's, for tests and for timing."""
    rng = np.random.default_rng(seed)
    d, j = sizes.hidden, sizes.inner
    lower = lower_bounds(rng.normal(size=(sizes.layers, d))) if sizes.lower_bounds else None
    blocks = tuple(
        FloatBlock(
            mixer_gain=_gain(rng, d),
            i=_ternary(rng, d, d),
            f=_ternary(rng, d, d),
            g=_ternary(rng, d, d),
            lower=np.zeros(d) if lower is None else lower[layer],
            output_gain=_gain(rng, d),
            o=_ternary(rng, d, d),
            feed_gain=_gain(rng, d),
            gate=_ternary(rng, j, d),
            up=_ternary(rng, j, d),
            down=_ternary(rng, d, j),
        )
        for layer in range(sizes.layers)
    )
    return FloatModel(
        sizes=sizes,
        embeddings=rng.normal(size=(sizes.vocab, d)),
        blocks=blocks,
        gain=_gain(rng, d),
        head=_ternary(rng, sizes.vocab, d),
    )


def _gain(rng: np.random.Generator, size: int) -> Floats:
    return rng.uniform(0.5, 1.5, size)


def _ternary(rng: np.random.Generator, outs: int, ins: int) -> Ternary:
    """Trits two thirds of which are not zero, worth so much that outputs have unit variance."""
    trits = rng.integers(-1, 2, (outs, ins)).astype(np.int8)
    return Ternary(trits, float(rng.uniform(0.8, 1.6) / np.sqrt(ins * 2 / 3)))
