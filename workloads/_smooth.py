"""Smoothing: a power-of-two factor for each column of a tensor whose columns differ much in range.

A column that is stored divided by ``2**t`` has its factor taken up by what makes it (the gain and
offset of a normalisation, a product's scales) and by all that read it (rows of weights, scales, the
left shift of a residual). Nothing is computed more; one outlier channel no longer costs all others
their precision. Sources: G. Xiao et al., SmoothQuant, ICML 2023 (migrating outliers into
weights); Y. Lin et al., FQ-ViT, IJCAI 2022 (power-of-two factors of normalised tensors).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from workloads._einsum import Access
from workloads._kernel import Elementwise, Kernel, Normalise, Product, Requantise, Rowwise, Softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_FACTOR = 3
"""Largest exponent of a column: the sum of two is within the seven of a residual's shift."""
WORTH = 0.5
"""Columns get factors where these bring the noise power below this share of what it was."""


def column_factors(peaks: Floats) -> tuple[float, Ints]:
    """(base, t): column c's range is ``base * 2**t[c]``, at least its peak, with the least noise.

    Rounding noise is in proportion to a column's range, so the base is the one of least mean
    square of ``base * 2**t``, t being 0 to ``MAX_FACTOR``. Where that gains little, t is 0 throughout.

    >>> base, t = column_factors(np.array([1.0, 1.0, 1.0, 6.0]))
    >>> base, t.tolist()
    (1.0, [0, 0, 0, 3])
    """
    top = float(peaks.max(initial=0.0)) or 1.0
    none = np.zeros(len(peaks), np.int64)
    best, noise = (top, none), WORTH * top**2
    candidates = peaks[:, None] / 2.0 ** np.arange(MAX_FACTOR + 1)
    for base in np.unique(candidates[candidates >= top / 2**MAX_FACTOR]):
        factors = np.maximum(0, np.ceil(np.log2(np.maximum(peaks, base) / base) - 1e-9)).astype(np.int64)
        found = float(np.mean((base * 2.0**factors) ** 2))
        if found < noise:
            best, noise = (float(base), factors), found
    return best


def smoothable(
    found: Sequence[Kernel], *, weights: Set[str], columns: Mapping[str, Floats], made: Set[str]
) -> Iterator[str]:
    """Names of the tensors whose columns may have factors, by who makes and who reads them.

    ``weights`` are the tensors that stay, ``columns`` the calibrated column peaks, ``made`` the
    tensors that the cascade makes.
    """
    makers = {kernel.name: kernel for kernel in found}
    for tensor in columns:
        if tensor in weights or (tensor in made and tensor not in makers):
            continue
        reads = [
            (kernel, access) for kernel in found for access in operands(kernel) if access.tensor == tensor
        ]
        maker = makers.get(tensor)
        if (maker is None or _makes(maker)) and all(_reads(k, a, weights, found) for k, a in reads):
            yield tensor


def last_rank(access: Access) -> str | None:
    """The rank that alone makes the last dimension of ``access``, if one does."""
    terms = access.indices[-1].terms if access.indices else ()
    return terms[0][0] if len(terms) == 1 else None


def operands(kernel: Kernel) -> tuple[Access, ...]:
    """What ``kernel`` reads element by element: its operands and its residual."""
    if isinstance(kernel, Elementwise):
        return kernel.inputs
    main = (kernel.streamed, kernel.stationary) if isinstance(kernel, Product) else (kernel.source,)
    residual = getattr(kernel.epilogue, "residual", None)
    return (*main, residual) if residual is not None else main


def _makes(kernel: Kernel) -> bool:
    """Whether each column of the result is scaled by itself."""
    if isinstance(kernel, Elementwise) or kernel.cols != (last_rank(kernel.output),):
        return False
    if isinstance(kernel, Product) and kernel.batch:
        return False
    epilogue = kernel.epilogue
    return isinstance(epilogue, Normalise) or (isinstance(epilogue, Requantise) and not epilogue.function)


def _reads(kernel: Kernel, access: Access, weights: Set[str], found: Sequence[Kernel]) -> bool:
    """Whether the factors of the columns of ``access`` can be undone where ``kernel`` reads it."""
    rank = last_rank(access)
    if isinstance(kernel, Elementwise) or rank is None or isinstance(kernel.epilogue, Softmax):
        return False
    if isinstance(kernel, Rowwise) and access is kernel.source:
        return kernel.cols == (rank,)
    if isinstance(kernel, Product) and access is kernel.streamed:
        held = kernel.stationary.tensor
        shared = sum(a.tensor == held for other in found for a in operands(other)) > 1
        return held in weights and not shared and rank in kernel.inner
    if isinstance(kernel, Product) and access is kernel.stationary:
        return False
    return kernel.cols == (rank,)
