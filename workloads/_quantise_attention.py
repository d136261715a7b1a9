"""An attention cascade in int8: one scale for each of its four tensors, and the oracle of its bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from workloads._attention_kernel import Attention, attention_of
from workloads._einsum import Access, Cascade
from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._integer_attention import AttentionScales, attend, attention_scales

Floats = NDArray[np.float64]
Bytes = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedAttention:
    """The integers of an attention on an array of ``tile`` rows (``docs/attention-machine.md``)."""

    kernel: Attention
    scales: AttentionScales
    tile: int
    """Keys of a tile: the machine's array rows."""


def attention_numbers(
    cascade: Cascade,
    weights: Mapping[str, Floats],
    samples: Sequence[Mapping[str, Floats]],
    *,
    tile: int,
) -> tuple[QuantisedAttention, dict[str, float]]:
    """The integers, and the real value of a unit of each of the four tensors: its peak over samples / 127.

    ``weights`` hold the scalars that scale the scores. Raises WorkloadError for a cascade that is not
    an attention, or has a tensor of weights.
    """
    kernel = attention_of(cascade)
    if not samples:
        raise WorkloadError("samples to calibrate on must be at least one, not none")
    unknown = sorted(weights.keys() - set(kernel.scales))
    if unknown:
        raise WorkloadError(f"weights of an attention must be scales of its scores, not {', '.join(unknown)}")
    units = dict.fromkeys((access.tensor for access in _operands(kernel)), 0.0)
    for sample in samples:
        tensors = evaluate(cascade, {**weights, **sample})
        for name in units:
            units[name] = max(units[name], float(np.abs(tensors[name]).max()) / 127)
    units = {name: unit or 1.0 / 127 for name, unit in units.items()}
    q, k, v, out = (units[access.tensor] for access in _operands(kernel))
    factor = prod(float(np.asarray(weights[name])) for name in kernel.scales)
    scales = attention_scales(queries=q, keys=k, values=v, output=out, scores=factor)
    return QuantisedAttention(kernel=kernel, scales=scales, tile=tile), units


def run_attention(step: QuantisedAttention, tensors: Mapping[str, Bytes], cascade: Cascade) -> Bytes:
    """The int8 result of ``step``, exactly as the machine computes it, in the output's own shape."""
    kernel, sizes = step.kernel, cascade.ranks
    heads, tokens = kernel.batch + kernel.group, kernel.tokens
    queries = _matrices(kernel.queries, tensors, (heads, (kernel.features,), (kernel.positions,)), sizes)
    keys = _matrices(kernel.keys, tensors, (kernel.batch, (kernel.features,), tokens), sizes)
    values = _matrices(kernel.values, tensors, (kernel.batch, (kernel.columns,), tokens), sizes)
    shared = prod(sizes[rank] for rank in kernel.group)
    keys, values = np.repeat(keys, shared, axis=0), np.repeat(values, shared, axis=0)
    result = attend(queries, keys, values, step.scales, tile=step.tile)
    order = (*heads, kernel.columns, kernel.positions)
    shaped = result.reshape([sizes[rank] for rank in order])
    return np.ascontiguousarray(np.transpose(shaped, [order.index(rank) for rank in kernel.output.ranks]))


def _operands(kernel: Attention) -> tuple[Access, Access, Access, Access]:
    return kernel.queries, kernel.keys, kernel.values, kernel.output


def _matrices(
    access: Access,
    tensors: Mapping[str, Bytes],
    groups: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    sizes: Mapping[str, int],
) -> Bytes:
    """The tensor as (heads, rows, columns): its dimensions permuted and joined."""
    if access.tensor not in tensors:
        raise WorkloadError(f"tensors must include {access.tensor!r}, not only {', '.join(sorted(tensors))}")
    order = [access.ranks.index(rank) for group in groups for rank in group]
    shape = [prod(sizes[rank] for rank in group) for group in groups]
    return np.transpose(tensors[access.tensor], order).reshape(shape)
