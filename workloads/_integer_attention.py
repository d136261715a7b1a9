"""One-pass attention in integers, bit for bit as the attention machine computes it.

``docs/attention-machine.md`` has the arithmetic. Keys come in tiles; a query keeps a running maximum,
denominator and numerators over them, each rescaled by ``2**`` of what the maximum has risen. The tile's
size shapes the bits: in another order of the keys the roundings fall elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads._errors import WorkloadError
from workloads._exp2 import FRACTION_BITS, exp2_fixed

Bytes = NDArray[np.int8]
Ints = NDArray[np.int64]

MAX_FEATURES = 256
"""Features of a query: a score then has at most 2**22 in magnitude."""
MAX_KEYS = 65535
"""Keys of a query: denominators then fit 32 bits, numerators 40."""
SCALE_BITS, MAX_SCALE_SHIFT = 16, 40
MULTIPLIER_BITS, MAX_SHIFT = 15, 31
QUOTIENT_BITS = 8
"""Fraction bits of a numerator over its denominator."""
MAX_QUOTIENT = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionScales:
    """What turns scores into exponents of two, and quotients into units of the result."""

    scale: int
    """A score's difference times this, shifted right by ``scale_shift``, is an exponent in 2**-14."""
    scale_shift: int
    multiplier: int
    """A quotient in 2**-8 times this, shifted right by ``shift`` with rounding, is the result."""
    shift: int


def attention_scales(
    *, queries: float, keys: float, values: float, output: float, scores: float = 1.0
) -> AttentionScales:
    """The integers for tensors whose units have these real values; ``scores`` is what scores are scaled by.

    The scale's relative error is at most 2**-16, the multiplier's 2**-15, in all but the smallest of ratios.
    Raises WorkloadError for units of which a score's, or a value's over the result's, is too large.
    """
    exponent = queries * keys * scores * math.log2(math.e) * 2**FRACTION_BITS
    scale, scale_shift = _mantissa(exponent, SCALE_BITS, MAX_SCALE_SHIFT, "a score's unit")
    ratio = values / (output * 2**QUOTIENT_BITS)
    multiplier, shift = _mantissa(ratio, MULTIPLIER_BITS, MAX_SHIFT, "a value's unit over the result's")
    return AttentionScales(scale=scale, scale_shift=scale_shift, multiplier=multiplier, shift=shift)


def _mantissa(ratio: float, bits: int, most: int, what: str) -> tuple[int, int]:
    """(m, s) with ``m / 2**s`` near ``ratio``: m below ``2**bits``, s as large as can be, up to ``most``."""
    if not 0 < ratio < math.inf:
        raise WorkloadError(f"{what} must be a positive number, not {ratio!r}")
    shift = min(most, bits - math.frexp(ratio)[1])
    if shift >= 0 and round(ratio * 2.0**shift) >= 1 << bits:
        shift -= 1
    if shift < 0:
        raise WorkloadError(f"{what} must be below {2**bits} units of the machine, not {ratio:g}")
    return round(ratio * 2.0**shift), shift


def attend(queries: Bytes, keys: Bytes, values: Bytes, scales: AttentionScales, *, tile: int) -> Bytes:
    """``softmax(queries * keys) * values`` over ``tile`` keys at once: int8 [heads, features, queries].

    ``queries`` are [heads, features, queries], ``keys`` and ``values`` [heads, features, keys]. With the
    scales of :func:`attention_scales`, the result is within 1 unit of the float softmax of the
    same int8 operands where the result's unit is that of the values (tested).
    """
    heads, features, count = queries.shape
    total = keys.shape[2]
    _require_sizes(features, total)
    maximum = np.zeros((heads, 1, count), np.int64)
    denominator = np.zeros((heads, 1, count), np.int64)
    numerators = np.zeros((heads, features, count), np.int64)
    for first in range(0, total, tile):
        scores = _product(np.swapaxes(keys[:, :, first : first + tile], 1, 2), queries)
        risen = scores.max(axis=1, keepdims=True)
        old, maximum = maximum, risen if first == 0 else np.maximum(maximum, risen)
        weights = _exponential(scores - maximum, scales)
        kept = np.zeros_like(maximum) if first == 0 else _exponential(old - maximum, scales)
        denominator = weights.sum(axis=1, keepdims=True) + _kept(denominator, kept)
        numerators = _product(values[:, :, first : first + tile], weights) + _kept(numerators, kept)
    return divide(numerators, denominator, scales)


def divide(numerators: Ints, denominators: Ints, scales: AttentionScales) -> Bytes:
    """The quotient in ``2**-QUOTIENT_BITS``, cut off towards zero, in units of the result."""
    magnitude = np.minimum((np.abs(numerators) << QUOTIENT_BITS) // denominators, MAX_QUOTIENT)
    half = 1 << scales.shift - 1 if scales.shift else 0
    scaled = np.sign(numerators) * magnitude * scales.multiplier + half >> scales.shift
    return np.asarray(np.clip(scaled, -128, 127).astype(np.int8))


def _require_sizes(features: int, keys: int) -> None:
    if not 1 <= features <= MAX_FEATURES:
        raise WorkloadError(f"features of an attention must be 1 to {MAX_FEATURES}, not {features}")
    if not 1 <= keys <= MAX_KEYS:
        raise WorkloadError(f"keys of an attention must be 1 to {MAX_KEYS}, not {keys}")


def _product(left: Bytes, right: Bytes | Ints) -> Ints:
    # Sums below 2**53 are exact in float64, which BLAS multiplies fast.
    return np.asarray((left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64))


def _exponential(difference: Ints, scales: AttentionScales) -> Ints:
    return exp2_fixed(difference * scales.scale >> scales.scale_shift)


def _kept(running: Ints, kept: Ints) -> Ints:
    """``running`` times a factor in 2**-15, rounded."""
    return np.asarray(running * kept + (1 << 14) >> 15)
