"""Packing of ternary weights: five trits a byte (1.6 bits each), or four (2 bits each).

Trit t (-1, 0, 1) is the digit t + 1. Base 3 puts five of them, least significant first, into 0 .. 242;
base 4 puts four into a byte's pairs of bits. The last byte is filled up with digits of 0, which mean nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads._errors import WorkloadError

Trits = npt.NDArray[np.int8]
Packed = npt.NDArray[np.uint8]

_ALONE = 1 << 18
"""Multiplications up to which a BLAS does a product on one thread."""
_SMALL = 1 << 24
_DIGITS = {3: 5, 4: 4}
"""Base -> digits of a byte."""


def trit_sums(x: npt.NDArray[Any], trits: Trits) -> npt.NDArray[np.float64]:
    """``x @ trits.T`` [..., outputs] in float64: exact for integers, as long as sums stay below 2**53.

    A small product is cut into pieces so small that BLAS starts no threads for them: on a busy machine
    starting them takes a hundred times as long as the product.
    """
    values = x.reshape(-1, x.shape[-1]).astype(np.float64)
    weights = trits.T.astype(np.float64)
    if values.shape[0] * trits.size > _SMALL:
        return (values @ weights).reshape(*x.shape[:-1], -1)
    step = max(1, _ALONE // values.size)
    parts = [values @ weights[:, first : first + step] for first in range(0, len(trits), step)]
    return np.concatenate(parts, axis=1).reshape(*x.shape[:-1], -1)


def pack_trits(trits: npt.ArrayLike, *, base: int = 3) -> Packed:
    """The trits of an array, flattened row by row, as bytes.

    >>> pack_trits([1, 0, -1, -1, 1]).tolist()   # 2 + 1*3 + 0*9 + 0*27 + 2*81
    [167]
    """
    digits = _digits(base)
    values = np.asarray(trits).reshape(-1)
    if not np.isin(values, (-1, 0, 1)).all():
        raise WorkloadError("trits must be -1, 0 or 1, and some are not")
    padded = np.zeros((-(-values.size // digits), digits), np.int64)
    padded.reshape(-1)[: values.size] = values + 1
    return (padded @ base ** np.arange(digits)).astype(np.uint8)


def unpack_trits(packed: npt.ArrayLike, count: int, *, base: int = 3) -> Trits:
    """The first ``count`` trits of ``pack_trits``'s bytes."""
    digits = _digits(base)
    values = np.asarray(packed, np.uint8).reshape(-1)
    if values.size != -(-count // digits):
        raise WorkloadError(
            f"{count} trits must be packed into {-(-count // digits)} bytes, not {values.size}"
        )
    found = values[:, None].astype(np.int64) // base ** np.arange(digits) % base
    if (base == 3 and (values > 242).any()) or (found > 2).any():
        raise WorkloadError(f"packed trits must be digits below 3 in base {base}, and some are not")
    return (found.reshape(-1)[:count] - 1).astype(np.int8)


def _digits(base: int) -> int:
    if base not in _DIGITS:
        raise WorkloadError(f"base must be 3 or 4, not {base!r}")
    return _DIGITS[base]
