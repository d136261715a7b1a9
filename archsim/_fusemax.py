"""The comparison that FuseMax publishes, computed: models, lengths and configurations to rows of figures.

Source: N. Nayak et al., FuseMax: Leveraging Extended Einsums to Optimize Attention Accelerator Design,
MICRO 2024 (arXiv 2406.10491). ``docs/fusemax.md`` says how each figure follows from a cascade, a machine
and a schedule; the published values, in ``library/published/fusemax.yaml``, are read for comparison alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from archsim._combine import combine
from archsim._estimate_value import Estimate
from archsim._spatial import Spatial
from archsim._spatial_estimate import Schedule, estimate_spatial
from archsim._spatial_file import load_spatial
from workloads import Cascade, parse
from workloads._attention import one_pass, three_pass

Scope = Literal["attention", "layer"]
SCOPES: tuple[Scope, ...] = ("attention", "layer")
BATCH = 64
LENGTHS: Mapping[str, int] = MappingProxyType(
    {"1K": 1 << 10, "4K": 1 << 12, "16K": 1 << 14, "64K": 1 << 16, "256K": 1 << 18, "1M": 1 << 20}
)


@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder layer."""

    features: int
    heads: int
    head_features: int
    hidden: int


ENCODERS: Mapping[str, Encoder] = MappingProxyType(
    {
        "BERT": Encoder(768, 12, 64, 3072),
        "TrXL": Encoder(1024, 16, 64, 4096),
        "T5": Encoder(512, 8, 64, 2048),
        "XLM": Encoder(2048, 16, 128, 8192),
    }
)
"""BERT-base, Transformer-XL, T5-small and XLM, as FuseMax evaluates them (section 6)."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A cascade's passes, the machine that runs it, and how."""

    title: str
    machine: str
    passes: Literal[1, 3]
    schedule: Schedule


CONFIGURATIONS: Mapping[str, Configuration] = MappingProxyType(
    {
        "unfused": Configuration("Unfused", "flat", 3, "apart"),
        "flat": Configuration("FLAT", "flat", 3, "pipelined"),
        "cascade": Configuration("+Cascade", "flat-one-pass", 1, "pipelined"),
        "architecture": Configuration("+Architecture", "fusemax", 1, "tile"),
        "fusemax": Configuration("FuseMax", "fusemax", 1, "pipelined"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One figure of the comparison: a row of ``archsim reproduce fusemax``."""

    scope: Scope
    model: str
    length: int
    config: str
    cycles: int
    latency_s: float
    util_2d: float
    util_1d: float
    dram_bytes: int
    energy_pj: float
    cycles_over_mac_bound: float
    """Cycles over those of the multiply-accumulates alone on a full 2D array."""
    dram_over_compulsory: float
    """Bytes over those of every operand read and every result written once."""
    dram_over_io_bound: float
    """Bytes over the order of the lower bound on attention's I/O, and compulsory ones of linear layers."""

    def document(self) -> dict[str, Any]:
        """The row as plain values, for JSON."""
        return asdict(self)


def reproduce() -> list[Point]:
    """Both scopes of all 120 points, in the order of scopes, models, lengths and configurations."""
    points: dict[tuple[Scope, str, int, str], Point] = {}
    machines = {what.machine: load_spatial(what.machine) for what in CONFIGURATIONS.values()}
    for model, encoder in ENCODERS.items():
        for length in LENGTHS.values():
            for config, what in CONFIGURATIONS.items():
                machine = machines[what.machine]
                attention = attend(encoder, length, machine=machine, what=what)
                both = {"attention": attention, "layer": whole(attention, encoder, length, machine=machine)}
                for scope in SCOPES:
                    points[scope, model, length, config] = _point(
                        both[scope], (scope, model, length, config), encoder, machine
                    )
    return sorted(points.values(), key=lambda point: SCOPES.index(point.scope))


def attention_cascade(encoder: Encoder, length: int, *, passes: Literal[1, 3], tile: int) -> Cascade:
    """Attention of one head; a one-pass cascade in tiles of ``tile`` keys."""
    features = encoder.head_features
    if passes == 3:
        return three_pass(p=length, m=length, e=features, f=features)
    return one_pass(p=length, m1=length // tile, m0=tile, e=features, f=features)


def attend(encoder: Encoder, length: int, *, machine: Spatial, what: Configuration) -> Estimate:
    """Attention of all heads and sequences."""
    cascade = attention_cascade(encoder, length, passes=what.passes, tile=machine.rows)
    return estimate_spatial(cascade, machine, schedule=what.schedule, times=BATCH * encoder.heads)


def linear_shapes(encoder: Encoder) -> dict[str, tuple[int, int]]:
    """Features in and out of the linear layers by name."""
    inner = encoder.heads * encoder.head_features
    return {
        "Q": (encoder.features, inner),
        "K": (encoder.features, inner),
        "V": (encoder.features, inner),
        "O": (inner, encoder.features),
        "FFN1": (encoder.features, encoder.hidden),
        "FFN2": (encoder.hidden, encoder.features),
    }


def linear(tokens: int, features: tuple[int, int], *, machine: Spatial) -> Estimate:
    """A linear layer on the 2D array: the longer of its work and its words."""
    inputs, outputs = features
    cascade = Cascade("linear", {"n": outputs, "t": tokens, "d": inputs}, _product().einsums)
    return estimate_spatial(cascade, machine, schedule="apart")


@functools.cache
def _product() -> Cascade:
    return parse("cascade linear\nranks n=1, t=1, d=1\n\nY[n, t] = W[d, n] * X[d, t]")


def whole(attention: Estimate, encoder: Encoder, length: int, *, machine: Spatial) -> Estimate:
    """The layer: projections, attention, output projection and both halves of the feed-forward network."""
    tokens = BATCH * length
    shapes = linear_shapes(encoder).values()
    parts = [(linear(tokens, shape, machine=machine), 1) for shape in dict.fromkeys(shapes)]
    counts = [list(shapes).count(shape) for shape in dict.fromkeys(shapes)]
    repeated = [(part, count) for (part, _), count in zip(parts, counts, strict=True)]
    return combine("layer", [(attention, 1), *repeated])


def _point(estimate: Estimate, key: tuple[Scope, str, int, str], encoder: Encoder, machine: Spatial) -> Point:
    scope, model, length, config = key
    compulsory, bound = _least_bytes(encoder, length, scope=scope, machine=machine)
    dram = estimate.bytes["dram"]
    return Point(
        scope=scope,
        model=model,
        length=length,
        config=config,
        cycles=estimate.cycles,
        latency_s=estimate.seconds,
        util_2d=estimate.utilization["array"],
        util_1d=estimate.utilization.get("vector", 0.0),
        dram_bytes=dram,
        energy_pj=estimate.energy_total_pj,
        cycles_over_mac_bound=estimate.cycles * machine.elements / estimate.macs,
        dram_over_compulsory=dram / compulsory,
        dram_over_io_bound=dram / bound,
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """How far attention on a machine is from what physics asks; the fields are those of :class:`Point`."""

    cycles_over_mac_bound: float
    dram_over_compulsory: float
    dram_over_io_bound: float


def attention_limits(encoder: Encoder, length: int, estimate: Estimate, *, machine: Spatial) -> Limits:
    """The distances of one mapping of attention, with the machine's own elements and buffer."""
    compulsory, bound = _least_bytes(encoder, length, scope="attention", machine=machine)
    dram = estimate.bytes["dram"]
    cycles = estimate.cycles * machine.elements / estimate.macs
    return Limits(cycles, dram / compulsory, dram / bound)


def _least_bytes(encoder: Encoder, length: int, *, scope: Scope, machine: Spatial) -> tuple[float, float]:
    """Compulsory bytes, and the order of the lower bound, of one scope."""
    heads, features = BATCH * encoder.heads, encoder.head_features
    compulsory = heads * 4 * length * features * machine.word_bytes
    bound = heads * attention_io_words(length, features, machine.buffer_words) * machine.word_bytes
    if scope == "layer":
        for inputs, outputs in linear_shapes(encoder).values():
            words = BATCH * length * (inputs + outputs) + inputs * outputs
            compulsory += words * machine.word_bytes
            bound += words * machine.word_bytes
    return compulsory, bound


def attention_io_words(length: int, features: int, buffer_words: int) -> float:
    """The order of the least words that one head of attention moves, constants left out.

    ``N^2 d^2 / M`` for buffers of at least ``d^2`` words, ``N^2 d / sqrt(M)`` below. Source: B. Saha and
    C. Ye, The I/O Complexity of Attention, or How Optimal is FlashAttention?, ICML 2024 (arXiv 2402.07443).

    >>> attention_io_words(1024, 64, 4096), attention_io_words(1024, 64, 1024)
    (1048576.0, 2097152.0)
    """
    if buffer_words >= features**2:
        return length**2 * features**2 / buffer_words
    return float(length**2 * features / buffer_words**0.5)
