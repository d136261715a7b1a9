"""Powers of two in fixed point by a polynomial: the exponential of the attention machine, bit for bit.

``docs/attention-machine.md`` has the contract. A degree-five polynomial of the fraction needs five
multiplications, which a processing element does with the multiplier that it has for its products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

EXP2_COEFFICIENTS = (62, 297, 1824, 7872, 22713, 32768)
"""c5 .. c0 of ``2**g`` on [0, 1) in units of 2**-15.

The minimax polynomial of relative error under ``p(0) = 1``, rounded, and then the neighbour of it for
which the largest relative error of the rounded evaluation is least. c0 is exactly 1, so that exp(0) is.
"""
FRACTION_BITS = 14
"""Bits of an exponent's fraction."""
ONE = 1 << 15
"""The number that stands for 1.0."""
LOWEST = -(1 << 18)
"""Least exponent, -16: its power is 0."""
EXP2_ERROR = 2.8e-5
"""Largest relative error of the polynomial over all fractions, rounding included."""


def exp2_fixed(y: Ints) -> Ints:
    """``2**(y / 2**14)`` in units of 2**-15, for y <= 0; below y = ``LOWEST`` it is 0.

    >>> exp2_fixed(np.array([0, -16384, -(1 << 20)])).tolist()
    [32768, 16384, 0]
    """
    bounded = np.maximum(np.asarray(y, np.int64), LOWEST)
    octaves, fraction = -(bounded >> FRACTION_BITS), bounded & (1 << FRACTION_BITS) - 1
    power = np.full_like(fraction, EXP2_COEFFICIENTS[0])
    for coefficient in EXP2_COEFFICIENTS[1:]:
        power = (power * fraction + (1 << FRACTION_BITS - 1) >> FRACTION_BITS) + coefficient
    return np.asarray(power >> octaves)
