"""Post-training quantisation of a cascade, and the quantised oracle: the exact bits of every kernel.

Three steps: ``measure`` (``_calibrate.py``) evaluates samples in floats; ``calibrated`` chooses the
scales and quantises the weights; ``integers`` makes each kernel's parameters, for any length of the
ranks that no weight has. What lies between the last two is what a file of a calibrated model holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from workloads._calibrate import Calibration, measure
from workloads._einsum import Access, Cascade
from workloads._errors import WorkloadError
from workloads._integer import (
    SOFTMAX_UNIT,
    Affine,
    Residual,
    affine_parameters,
    exp_parameters,
    layernorm_rows,
    lut_table,
    matmul,
    norm_parameters,
    requantise,
    residual_parameters,
    softmax_rows,
)
from workloads._kernel import (
    Elementwise,
    Epilogue,
    Kernel,
    Normalise,
    Product,
    Requantise,
    Rowwise,
    Softmax,
    kernels,
    ranks_of,
)
from workloads._quantise_attention import QuantisedAttention, attention_numbers, run_attention
from workloads._smooth import column_factors, last_rank, smoothable
from workloads._split import split_functions

EXP2 = "exp2"
"""Name of the table that softmax looks up."""
NORM_HEADROOM = 24000
"""Units of int16 given to the largest calibrated value that is normalised."""

Floats = NDArray[np.float64]
Bytes = NDArray[np.int8]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedKernel:
    """The integers of one kernel's passes (``docs/machine.md``, VECTOR arithmetic)."""

    kernel: Kernel
    affine: Affine
    """First pass: one m and b for each column."""
    norm: Affine | None = None
    """Second pass of a normalisation: gain and offset."""
    residual_multiplier: int = 0
    residual_shift: int = 0
    residual_left: Ints | None = None
    """Left shift of the residual for each column, 0 to 7; None for zeros."""
    table: NDArray[np.int16] | None = None
    """The function's 256 entries."""

    @property
    def norm_shift(self) -> int:
        """Shift of the second pass, 0 where there is none."""
        return self.norm.shift if self.norm is not None else 0


@dataclass(frozen=True, slots=True)
class Weight:
    """An int8 tensor that stays, and the real value of one unit of it."""

    values: Bytes
    scale: Floats
    """Of as many dimensions as ``values``, 1 along those that are summed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """All that a cascade's integers are made of but its lengths: what a file of it holds."""

    peaks: Mapping[str, float]
    """Largest magnitude of each tensor; of a smoothed one, that of a column with factor 1."""
    factors: Mapping[str, Ints]
    """Smoothed tensor -> t of each column, stored in units of ``2**t``."""
    weights: Mapping[str, Weight]
    vectors: Mapping[str, Floats]
    """Biases, gains and scales, by name."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A cascade in integers: kernels with their parameters, int8 weights, a scale for each tensor."""

    cascade: Cascade
    kernels: tuple[QuantisedKernel, ...]
    weights: Mapping[str, Bytes]
    """int8 matrices, of the float weights' shapes."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Real value of one unit of each int8 activation, in a column of factor 1."""
    factors: Mapping[str, Ints] = field(default_factory=dict)
    """Smoothed tensor -> t of each column, whose unit is ``2**t`` times the scale."""
    attention: QuantisedAttention | None = None
    """The whole cascade as one attention of the attention machine; it then has no ``kernels``."""

    def unit(self, tensor: str) -> Floats:
        """Real value of one unit of ``tensor``: a scalar, or one for each index of its last dimension."""
        return np.asarray(self.scales[tensor] * 2.0 ** self.factors.get(tensor, np.zeros((), np.int64)))


def quantise_cascade(
    cascade: Cascade,
    weights: Mapping[str, Floats],
    samples: Sequence[Mapping[str, Floats]],
    *,
    smooth: bool = False,
) -> Quantised:
    """Quantise ``cascade`` to int8: weights per output column, activations per tensor.

    ``weights`` are the tensors that stay, scalars included; ``samples`` are activations to
    calibrate on, from which each tensor's scale follows as its largest magnitude / 127. With
    ``smooth``, tensors with outlier columns get a factor for each column (``_smooth.py``). Raises
    WorkloadError for a kernel that has no integer form, and for a normalisation that is not over
    means of the row, or whose epsilon is too large to be left out.
    """
    cascade = split_functions(cascade)
    calibration = measure(cascade, weights, samples)
    return integers(cascade, calibrated(cascade, weights, calibration, smooth=smooth))


def calibrated(
    cascade: Cascade, weights: Mapping[str, Floats], calibration: Calibration, *, smooth: bool = False
) -> Calibrated:
    """The scales that follow from ``calibration``, and ``weights`` in integers.

    ``cascade`` has its functions split off (``split_functions``); its lengths do not matter.
    """
    found = _kernels(cascade)
    peaks = dict(calibration.peaks)
    factors: dict[str, Ints] = {}
    if smooth:
        made = {einsum.output.tensor for einsum in cascade.einsums}
        for name in smoothable(found, weights=weights.keys(), columns=calibration.columns, made=made):
            base, exponents = column_factors(calibration.columns[name])
            if exponents.any():
                peaks[name], factors[name] = base, exponents
    held = _weights(found, weights, factors)
    used = {name for kernel in found for name in vector_names(kernel)}
    vectors = {**calibration.vectors, **weights}
    return Calibrated(
        peaks={name: peak for name, peak in peaks.items() if name not in weights},
        factors=factors,
        weights=held,
        vectors={name: np.asarray(vectors[name], np.float64) for name in sorted(used)},
    )


def integers(cascade: Cascade, found: Calibrated) -> Quantised:
    """Every kernel's parameters, at the lengths of ``cascade``."""
    steps = _kernels(cascade)
    scales = {name: peak / 127 for name, peak in found.peaks.items()}
    for kernel in steps:
        if isinstance(kernel.epilogue, Softmax):
            scales[kernel.name] = SOFTMAX_UNIT
    builder = _Builder(cascade, found, scales)
    made = tuple(builder.kernel(kernel) for kernel in steps)
    weights = {name: weight.values for name, weight in found.weights.items()}
    return Quantised(cascade, made, weights, scales, found.factors)


def evaluate_quantised(quantised: Quantised, inputs: Mapping[str, Bytes]) -> dict[str, Bytes]:
    """The int8 tensors that every kernel makes of int8 ``inputs``, exactly as the machine computes them."""
    tensors: dict[str, Bytes] = {**quantised.weights, **inputs}
    made: dict[str, Bytes] = {}
    if quantised.attention is not None:
        result = run_attention(quantised.attention, tensors, quantised.cascade)
        return {quantised.attention.kernel.name: result}
    for step in quantised.kernels:
        made[step.kernel.name] = tensors[step.kernel.name] = _run(step, tensors, quantised.cascade)
    return made


def quantise_attention(
    cascade: Cascade,
    weights: Mapping[str, Floats],
    samples: Sequence[Mapping[str, Floats]],
    *,
    tile: int,
) -> Quantised:
    """Quantise an attention to int8 for an array of ``tile`` keys: one scale for each of its four tensors.

    ``weights`` are the scalars that scale its scores, ``samples`` activations to calibrate on. Raises
    WorkloadError where ``cascade`` is not one attention, or a scale is out of the machine's range.
    """
    step, units = attention_numbers(cascade, weights, samples, tile=tile)
    return Quantised(cascade, (), {}, units, attention=step)


def quantise_tensor(values: Floats, scale: float | Floats) -> Bytes:
    """``values`` in units of ``scale``, to nearest, saturated to [-127, 127]."""
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8)


def _kernels(cascade: Cascade) -> tuple[Product | Rowwise, ...]:
    """The kernels of ``cascade``, all of which must have an integer form."""
    found = kernels(cascade)
    unsupported = [kernel.name for kernel in found if isinstance(kernel, Elementwise)]
    if unsupported:
        raise WorkloadError(
            "a cascade to be quantised must be of products, softmaxes and normalisations, "
            f"not the Einsums that make {', '.join(unsupported)}"
        )
    return tuple(kernel for kernel in found if not isinstance(kernel, Elementwise))


def vector_names(kernel: Product | Rowwise) -> tuple[str, ...]:
    """The scales, bias and gains that a kernel applies."""
    epilogue = kernel.epilogue
    others = () if isinstance(epilogue, Softmax) else (epilogue.bias,)
    gains = (epilogue.gamma, epilogue.beta) if isinstance(epilogue, Normalise) else ()
    return (*epilogue.scales, *(name for name in (*others, *gains) if name is not None))


def _weights(
    found: Sequence[Product | Rowwise], weights: Mapping[str, Floats], factors: Mapping[str, Ints]
) -> dict[str, Weight]:
    """The stationary operands that stay, one scale for each column of their product."""
    held: dict[str, Weight] = {}
    for kernel in found:
        if not isinstance(kernel, Product) or kernel.stationary.tensor not in weights:
            continue
        name = kernel.stationary.tensor
        weight = _weight(kernel, weights[name], factors.get(kernel.streamed.tensor))
        if not np.array_equal(held.setdefault(name, weight).values, weight.values):
            raise WorkloadError(
                f"weight {name} must have one scale a column to be quantised, "
                "not one for the columns of each of several products"
            )
    return held


def _weight(kernel: Product, values: Floats, factors: Ints | None) -> Weight:
    ranks = [index.terms[0][0] for index in kernel.stationary.indices]
    if factors is not None:
        rank = last_rank(kernel.streamed)
        values = values * (2.0**factors).reshape([-1 if each == rank else 1 for each in ranks])
    others = tuple(d for d, rank in enumerate(ranks) if rank not in kernel.cols)
    peak = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(peak > 0, peak, 1.0) / 127
    return Weight(np.rint(values / scale).astype(np.int8), scale)


class _Builder:
    def __init__(self, cascade: Cascade, found: Calibrated, scales: Mapping[str, float]) -> None:
        self.cascade = cascade
        self.found = found
        self.scales = scales

    def kernel(self, kernel: Product | Rowwise) -> QuantisedKernel:
        if isinstance(kernel, Product):
            unit = self.scales[kernel.streamed.tensor] * self._stationary(kernel)
        else:
            unit = self._unit(kernel.source.tensor)
        columns = prod(self.cascade.ranks[rank] for rank in kernel.cols)
        for name in kernel.epilogue.scales:
            unit = unit * self._per_column(name, kernel.cols)
        return self._passes(kernel, np.broadcast_to(unit, (columns,)))

    def _unit(self, tensor: str) -> Floats:
        """Real value of one unit: for each column, or for all."""
        return np.atleast_1d(self.scales[tensor] * 2.0 ** self._factors(tensor))

    def _factors(self, tensor: str) -> Ints:
        return self.found.factors.get(tensor, np.zeros(1, np.int64))

    def _stationary(self, kernel: Product) -> Floats:
        """Scale of the stationary operand for each column."""
        access = kernel.stationary
        if access.tensor not in self.found.weights:
            return np.array([self.scales[access.tensor]])
        scale = self.found.weights[access.tensor].scale
        ranks = [index.terms[0][0] for index in access.indices]
        others = [d for d, rank in enumerate(ranks) if rank not in kernel.cols]
        order = [ranks.index(rank) for rank in kernel.cols]
        moved = np.transpose(scale, (*others, *order))
        return np.asarray(moved.reshape(-1), np.float64)

    def _per_column(self, name: str, cols: tuple[str, ...]) -> Floats:
        """A scalar, or a vector over (some of) the columns, flattened in their order."""
        values = self.found.vectors[name]
        if values.ndim == 0:
            return values.reshape(1)
        accesses = (a for e in self.cascade.einsums for a in e.inputs if a.tensor == name)
        ranks = ranks_of(next(accesses))
        order = [ranks.index(rank) for rank in cols if rank in ranks]
        shape = [self.cascade.ranks[rank] if rank in ranks else 1 for rank in cols]
        full = np.transpose(values, order).reshape(shape)
        return np.broadcast_to(full, [self.cascade.ranks[rank] for rank in cols]).reshape(-1)

    def _passes(self, kernel: Product | Rowwise, unit: Floats) -> QuantisedKernel:
        epilogue, out = kernel.epilogue, self._unit(kernel.name)
        if isinstance(epilogue, Softmax):
            return QuantisedKernel(kernel=kernel, affine=exp_parameters(unit))
        bias = self._per_column(epilogue.bias, kernel.cols) if epilogue.bias else np.zeros(1)
        norm, middle = None, out
        if isinstance(epilogue, Normalise):
            # A tensor in memory may be smoothed: its peak is then that of a column with factor 1.
            top = self.found.peaks[epilogue.argument] * 2.0 ** self._factors(epilogue.argument).max()
            middle = np.array([top / NORM_HEADROOM])
            norm = self._norm(kernel, epilogue, out)
        elif epilogue.argument:
            middle = np.array([self.found.peaks[epilogue.argument] / 127])
        multiplier, shift, left = self._residual(epilogue, middle)
        return QuantisedKernel(
            kernel=kernel,
            affine=affine_parameters(unit, bias, scale_out=middle),
            norm=norm,
            residual_multiplier=multiplier,
            residual_shift=shift,
            residual_left=left,
            table=self._table(epilogue, float(middle[0]), float(out[0])),
        )

    def _norm(self, kernel: Product | Rowwise, epilogue: Normalise, out: Floats) -> Affine:
        columns = (prod(self.cascade.ranks[rank] for rank in kernel.cols),)
        gamma = self._per_column(epilogue.gamma, kernel.cols) if epilogue.gamma else np.ones(1)
        beta = self._per_column(epilogue.beta, kernel.cols) if epilogue.beta else np.zeros(1)
        return norm_parameters(np.broadcast_to(gamma, columns), np.broadcast_to(beta, columns), scale_out=out)

    def _residual(self, epilogue: Requantise | Normalise, middle: Floats) -> tuple[int, int, Ints | None]:
        """Multiplier, shift and left shifts: one unit of column c is ``scale * 2**t[c] / middle[c]``."""
        if epilogue.residual is None:
            return 0, 0, None
        ratio = self._unit(epilogue.residual.tensor) / middle
        least = float(ratio.min())
        left = np.rint(np.log2(ratio / least)).astype(np.int64)
        return *residual_parameters(least, scale_out=1.0), left if left.any() else None

    @staticmethod
    def _table(epilogue: Epilogue, middle: float, out: float) -> NDArray[np.int16] | None:
        if not isinstance(epilogue, Requantise) or epilogue.function is None:
            return None
        return lut_table(epilogue.function, input_scale=middle, output_scale=out)


def _run(step: QuantisedKernel, tensors: Mapping[str, Bytes], cascade: Cascade) -> Bytes:
    kernel = step.kernel
    assert not isinstance(kernel, Elementwise)
    batch = kernel.batch if isinstance(kernel, Product) else ()
    blocks = (batch, kernel.rows, kernel.cols)
    if isinstance(kernel, Product):
        streamed = _matrix(kernel.streamed, tensors, cascade, (batch, kernel.rows, kernel.inner))
        stationary = _matrix(kernel.stationary, tensors, cascade, (batch, kernel.inner, kernel.cols))
        values = matmul(streamed, stationary)
    else:
        values = _matrix(kernel.source, tensors, cascade, blocks).astype(np.int64)
    result = _epilogue(step, kernel.epilogue, values, tensors, cascade, blocks)
    order = [rank for ranks in blocks for rank in ranks]
    shaped = result.reshape([cascade.ranks[rank] for rank in order])
    return np.ascontiguousarray(np.transpose(shaped, [order.index(r) for r in ranks_of(kernel.output)]))


def _epilogue(
    step: QuantisedKernel,
    epilogue: Epilogue,
    values: NDArray[np.int64],
    tensors: Mapping[str, Bytes],
    cascade: Cascade,
    blocks: tuple[tuple[str, ...], ...],
) -> Bytes:
    if isinstance(epilogue, Softmax):
        return softmax_rows(values, step.affine.m, step.affine.b, step.affine.shift)
    residual = None
    if epilogue.residual is not None:
        q = _matrix(epilogue.residual, tensors, cascade, blocks).astype(np.int64)
        left = 0 if step.residual_left is None else step.residual_left
        residual = Residual(q, step.residual_multiplier, step.residual_shift, left)
    if isinstance(epilogue, Requantise):
        return requantise(values, step.affine, residual=residual, table=step.table)
    assert step.norm is not None
    return layernorm_rows(values, step.affine, step.norm, residual=residual, centred=epilogue.centred)


def _matrix(
    access: Access, tensors: Mapping[str, Bytes], cascade: Cascade, blocks: tuple[tuple[str, ...], ...]
) -> Bytes:
    """The tensor as (batch, rows, columns): its dimensions permuted and joined."""
    if access.tensor not in tensors:
        raise WorkloadError(f"tensors must include {access.tensor!r}, not only {', '.join(sorted(tensors))}")
    ranks = [index.terms[0][0] for index in access.indices]
    order = [ranks.index(rank) for group in blocks for rank in group if rank in ranks]
    shape = [prod(cascade.ranks[rank] for rank in group if rank in ranks) for group in blocks]
    return np.transpose(tensors[access.tensor], order).reshape(shape)
