"""Attention cascades by name, at sizes that follow from a length."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from workloads import _attention as attention
from workloads import _linear_attention as linear
from workloads._einsum import Cascade
from workloads._errors import WorkloadError

DEFAULT_SEQ = 1024
FEATURES = 64
"""Features of a query, a key and a value."""
TILE = 128
"""Most keys of one tile."""
CHUNK = 64
"""Most tokens of one chunk."""
SPLITS = 8
"""Most splits of the keys in decode."""
KEY_HEADS, GROUP = 8, 4
"""Heads of keys, and query heads that share each."""
CHANNELS, STATE = 64, 16
"""Channels and states of the selective scan."""

LEARNED: Mapping[str, frozenset[str]] = MappingProxyType({"attention:mamba": frozenset({"A", "SKIP"})})
"""Inputs that are weights; all other inputs are activations, masks and decays."""


def library_cascade(name: str, *, seq: int = DEFAULT_SEQ) -> Cascade:
    """The cascade of :data:`LIBRARY` for ``seq`` keys, and as many queries but in decode.

    Keys are in tiles of up to ``TILE``, tokens in chunks of up to ``CHUNK``, as large as divide ``seq``.
    Raises :class:`WorkloadError` for an unknown name or no token.
    """
    if name not in LIBRARY:
        raise WorkloadError(f"an attention cascade must be one of {', '.join(LIBRARY)}, not {name!r}")
    if seq < 1:
        raise WorkloadError(f"seq must be at least 1, not {seq}")
    return LIBRARY[name](seq)


def _rows(build: Callable[..., Cascade]) -> Callable[[int], Cascade]:
    return lambda seq: build(p=seq, m=seq, e=FEATURES, f=FEATURES)


def _tiles(build: Callable[..., Cascade]) -> Callable[[int], Cascade]:
    return lambda seq: build(p=seq, e=FEATURES, f=FEATURES, **_tiling(seq))


def _tiling(keys: int) -> dict[str, int]:
    tile = math.gcd(keys, TILE)
    return {"m1": keys // tile, "m0": tile}


def _tokens(build: Callable[..., Cascade]) -> Callable[[int], Cascade]:
    return lambda seq: build(t=seq, e=FEATURES, f=FEATURES)


def _chunks(build: Callable[..., Cascade]) -> Callable[[int], Cascade]:
    return lambda seq: build(c=seq // math.gcd(seq, CHUNK), i=math.gcd(seq, CHUNK), e=FEATURES, f=FEATURES)


def _grouped(seq: int) -> Cascade:
    return attention.grouped_query(h=KEY_HEADS, g=GROUP, p=seq, m=seq, e=FEATURES, f=FEATURES)


def _grouped_one_pass(seq: int) -> Cascade:
    return attention.grouped_query_one_pass(
        h=KEY_HEADS, g=GROUP, p=seq, e=FEATURES, f=FEATURES, **_tiling(seq)
    )


def _split_k(seq: int) -> Cascade:
    splits = math.gcd(seq, SPLITS)
    return attention.split_k(s=splits, e=FEATURES, f=FEATURES, **_tiling(seq // splits))


def _mamba(seq: int) -> Cascade:
    return linear.mamba(t=seq, d=CHANNELS, n=STATE)


LIBRARY: Mapping[str, Callable[[int], Cascade]] = MappingProxyType(
    {
        "attention:naive": _rows(attention.naive),
        "attention:three-pass": _rows(attention.three_pass),
        "attention:deferred": _rows(attention.deferred),
        "attention:two-pass": _tiles(attention.two_pass),
        "attention:one-pass": _tiles(attention.one_pass),
        "attention:causal": _rows(attention.causal),
        "attention:causal-one-pass": _tiles(attention.causal_one_pass),
        "attention:grouped-query": _grouped,
        "attention:grouped-query-one-pass": _grouped_one_pass,
        "attention:split-k": _split_k,
        "attention:retnet": _tokens(linear.retnet),
        "attention:retnet-chunked": _chunks(linear.retnet_chunked),
        "attention:gla": _tokens(linear.gla),
        "attention:gla-chunked": _chunks(linear.gla_chunked),
        "attention:deltanet": _tokens(linear.deltanet),
        "attention:mamba": _mamba,
    }
)
"""Builders by name, each of a number of keys or tokens."""
