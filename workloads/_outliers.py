"""Outlier channels of a hidden layer, split over several columns so that none sets the range of all.

A GELU (or ReLU) is the identity far to the right, so that with the saturation of its table at T

    f(h) = f(min(h, T)) + f(min(h - T, T)) + f(min(h - 2 T, T)) + ...        nearly, f(h) = 0 for h < 0

A channel whose output passes T gets that many columns more: copies of its weights with the offset
moved by T each, and copies of its row in the next layer's weights. For ReLU this is exact; for GELU
the error is at most 0.17, where h is within 3 of a multiple of T. After R. Zhao et al., Improving
Neural Network Quantization without Retraining using Outlier Channel Splitting, ICML 2019, which
halves channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workloads._calibrate import Calibration
from workloads._einsum import Cascade
from workloads._kernel import Elementwise, Kernel, Product, Requantise, kernels
from workloads._smooth import last_rank

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FUNCTIONS = frozenset({"gelu", "gelu_tanh", "relu"})
"""Functions that are 0 far to the left and the identity far to the right."""
LEAST = 3.0
"""Smallest T: beyond it these functions are the identity within 0.5 %."""
HEADROOM = 1.02
"""A channel is split where it passes T by more than this factor."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Two products around a function: ``result = function(source @ first + bias) @ second``."""

    name: str
    """The function's result."""
    argument: str
    first: str
    bias: str
    second: str
    rank: str
    """The hidden channels."""


@dataclass(frozen=True, slots=True)
class Split:
    """A cascade with wider hidden layers, and what goes with it."""

    cascade: Cascade
    weights: Mapping[str, Floats]
    calibration: Calibration
    channels: Mapping[str, Ints]
    """Result of a function -> the channel that each column belongs to, -1 for one that is not used."""


def split_outliers(
    cascade: Cascade, weights: Mapping[str, Floats], calibration: Calibration, *, columns: int
) -> Split:
    """Split outlier channels of every hidden layer over at most ``columns`` columns more.

    Every hidden layer gets the smallest T for which these suffice. The values of the
    returned cascade are those of ``cascade`` only with tables that saturate at T: the float oracle
    must evaluate ``cascade`` itself. Without hidden layers of a known form nothing changes.
    """
    found = _hidden_layers(cascade, weights)
    if not found or columns < 1:
        return Split(cascade, weights, calibration, {})
    (rank,) = {hidden.rank for hidden in found}
    wide, peaks, bound, channels = dict(weights), dict(calibration.peaks), dict(calibration.columns), {}
    for hidden in found:
        ceiling = _ceiling(calibration.columns[hidden.name], columns)
        copies = _copies(calibration.columns[hidden.name], ceiling)
        channels[hidden.name] = _widen(wide, hidden, copies, ceiling=ceiling, columns=columns)
        peaks[hidden.name] = peaks[hidden.argument] = ceiling
        del bound[hidden.name]
    ranks = {**cascade.ranks, rank: cascade.ranks[rank] + columns}
    measured = replace(calibration, peaks=peaks, columns=bound)
    return Split(replace(cascade, ranks=ranks), wide, measured, channels)


def _hidden_layers(cascade: Cascade, weights: Mapping[str, Floats]) -> tuple[Hidden, ...]:
    """The hidden layers of one rank, if no other tensor has that rank."""
    found = kernels(cascade)
    layers = tuple(hidden for kernel in found for hidden in _hidden(kernel, found, weights))
    ranks = {hidden.rank for hidden in layers}
    known = {n for hidden in layers for n in (hidden.name, hidden.first, hidden.bias, hidden.second)}
    touched = {
        access.tensor
        for einsum in cascade.einsums
        for access in einsum.inputs
        if ranks & set(access.ranks) and access.tensor in weights
    }
    return layers if len(ranks) == 1 and touched <= known else ()


def _hidden(kernel: Kernel, found: Sequence[Kernel], weights: Mapping[str, Floats]) -> Iterator[Hidden]:
    if not isinstance(kernel, Product) or not isinstance(kernel.epilogue, Requantise):
        return
    epilogue, rank = kernel.epilogue, last_rank(kernel.output)
    if epilogue.function not in FUNCTIONS or epilogue.bias is None or epilogue.residual is not None:
        return
    readers = [k for k in found if not isinstance(k, Elementwise) and kernel.name in _sources(k)]
    if len(readers) != 1 or rank is None or kernel.cols != (rank,) or epilogue.argument is None:
        return
    reader = readers[0]
    if not isinstance(reader, Product) or reader.streamed.tensor != kernel.name or reader.inner != (rank,):
        return
    first, second = kernel.stationary.tensor, reader.stationary.tensor
    if not epilogue.scales and first in weights and second in weights:
        yield Hidden(kernel.name, epilogue.argument, first, epilogue.bias, second, rank)


def _sources(kernel: Kernel) -> tuple[str, ...]:
    if isinstance(kernel, Product):
        return kernel.streamed.tensor, kernel.stationary.tensor
    return () if isinstance(kernel, Elementwise) else (kernel.source.tensor,)


def _copies(peaks: Floats, ceiling: float) -> Ints:
    """Columns that each channel takes beside its first."""
    found: Ints = np.maximum(0, np.ceil(peaks / (HEADROOM * ceiling)) - 1).astype(np.int64)
    return found


def _ceiling(peaks: Floats, columns: int) -> float:
    """The smallest T, ``LEAST`` or more, for which ``columns`` suffice."""
    top = float(peaks.max(initial=LEAST))
    candidates = np.linspace(LEAST, max(LEAST, top), 256)
    return float(next(t for t in candidates if t >= top or _copies(peaks, t).sum() <= columns))


def _widen(weights: dict[str, Floats], hidden: Hidden, copies: Ints, *, ceiling: float, columns: int) -> Ints:
    """Put the wider tensors of ``hidden`` into ``weights``; the channel of each column."""
    source = np.repeat(np.arange(len(copies)), copies)
    starts = np.concatenate([np.arange(1, n + 1) for n in copies if n] or [np.zeros(0)])
    spare = columns - len(source)
    first, bias, second = (weights[n] for n in (hidden.first, hidden.bias, hidden.second))
    weights[hidden.first] = np.concatenate([first, first[:, source], np.zeros((len(first), spare))], axis=1)
    weights[hidden.bias] = np.concatenate([bias, bias[source] - starts * ceiling, np.zeros(spare)])
    weights[hidden.second] = np.concatenate([second, second[source], np.zeros((spare, *second.shape[1:]))])
    return np.concatenate([np.arange(len(copies)), source, np.full(spare, -1)])
