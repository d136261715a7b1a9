"""DRAM traffic of one-pass attention, as the fused search finds it, for buffers of any size."""

from __future__ import annotations

from dataclasses import dataclass

from archsim._hierarchy import Hierarchy, Level
from mapper._errors import MapperError
from mapper._fused import FusedResult, fused_search
from workloads import Access, Cascade, Einsum, Index


@dataclass(frozen=True, slots=True)
class AttentionTraffic:
    """What one attention head moves to and from memory."""

    buffer_bits: int
    dram_bits: float
    result: FusedResult
    """The mapping that does so, and whether it is proved."""


def attention_cascade(*, queries: int, keys: int, dim: int) -> Cascade:
    """One head: scores, weights, and their product with the values, each one Einsum.

    Softmax is taken as an associative reduction over the keys: a weight is the exponential of its score,
    and results over parts of the keys are merged by rescaling, as the one-pass cascade does. Its running
    maximum and denominator, two numbers a query, are counted nowhere.
    """
    scores = Einsum(_access("S", "p", "m"), (_access("Q", "p", "e"), _access("K", "m", "e")), "mul", "add")
    weights = Einsum(_access("P", "p", "m"), (_access("S", "p", "m"),), "identity", unary="exp")
    result = Einsum(_access("AV", "p", "f"), (_access("P", "p", "m"), _access("V", "m", "f")), "mul", "add")
    ranks = {"p": queries, "m": keys, "e": dim, "f": dim}
    return Cascade("attention", ranks, (scores, weights, result))


def _access(tensor: str, *ranks: str) -> Access:
    return Access(tensor, tuple(Index(((rank, 1),)) for rank in ranks))


def attention_traffic(
    buffer_bits: int, *, queries: int = 4096, keys: int = 4096, dim: int = 64, bits: int = 16
) -> AttentionTraffic:
    """The least traffic of one head on a memory, one buffer of ``buffer_bits`` and arithmetic below it.

    Elements take ``bits`` bits. Raises MapperError where the buffer holds less than one element of each
    tensor that must be there.
    """
    if buffer_bits < bits:
        raise MapperError(f"buffer_bits must be at least one element's {bits}, not {buffer_bits}")
    cascade = attention_cascade(queries=queries, keys=keys, dim=dim)
    result = fused_search(cascade, buffer_machine(buffer_bits, bits), "traffic", factors="perfect")
    return AttentionTraffic(buffer_bits, result.cost.dram_bits, result)


def buffer_machine(buffer_bits: int, bits: int = 16) -> Hierarchy:
    """A memory whose every bit costs 1 pJ, and a buffer that costs nothing."""
    memory = Level(name="DRAM", read_pj_per_bit=1.0, write_pj_per_bit=1.0)
    buffer = Level(name="buffer", read_pj_per_bit=0.0, write_pj_per_bit=0.0, size_bits=buffer_bits)
    return Hierarchy(
        name="two-levels",
        clock_mhz=1000.0,
        levels=(memory, buffer),
        mac_pj=0.0,
        input_bits=bits,
        weight_bits=bits,
        output_bits=bits,
    )
