"""Post-training quantisation of a cascade, and the quantised oracle: the exact bits of every kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from workloads._einsum import Access, Cascade
from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
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
    Softmax,
    kernels,
    ranks_of,
)
from workloads._normalisation import check_normalisation
from workloads._split import split_functions

EXP2 = "exp2"
"""Name of the table that softmax looks up."""
NORM_HEADROOM = 24000
"""Units of int16 given to the largest calibrated value that is normalised."""

Floats = NDArray[np.float64]
Bytes = NDArray[np.int8]


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
    table: NDArray[np.int16] | None = None
    """The function's 256 entries."""

    @property
    def norm_shift(self) -> int:
        """Shift of the second pass, 0 where there is none."""
        return self.norm.shift if self.norm is not None else 0


@dataclass(frozen=True, slots=True)
class Quantised:
    """A cascade in integers: kernels with their parameters, int8 weights, a scale for each tensor."""

    cascade: Cascade
    kernels: tuple[QuantisedKernel, ...]
    weights: Mapping[str, Bytes]
    """int8 matrices, of the float weights' shapes."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Real value of one unit of each int8 activation."""


def quantise_cascade(
    cascade: Cascade, weights: Mapping[str, Floats], samples: Sequence[Mapping[str, Floats]]
) -> Quantised:
    """Quantise ``cascade`` to int8: weights per output column, activations per tensor.

    ``weights`` are the tensors that stay, scalars included; ``samples`` are activations to
    calibrate on, from which each tensor's scale follows as its largest magnitude / 127. Raises
    WorkloadError for a kernel that has no integer form, and for a normalisation that is not over
    means of the row, or whose epsilon is too large to be left out.
    """
    cascade = split_functions(cascade)
    found = kernels(cascade)
    unsupported = [kernel.name for kernel in found if isinstance(kernel, Elementwise)]
    if unsupported:
        raise WorkloadError(
            "a cascade to be quantised must be of products, softmaxes and normalisations, "
            f"not the Einsums that make {', '.join(unsupported)}"
        )
    peaks, vectors = _calibrate(cascade, found, weights, samples)
    scales = {name: peak / 127 for name, peak in peaks.items()}
    for kernel in found:
        if not isinstance(kernel, Elementwise) and isinstance(kernel.epilogue, Softmax):
            scales[kernel.name] = SOFTMAX_UNIT
    builder = _Builder(cascade, weights, {**vectors, **weights}, peaks, scales)
    made = tuple(builder.kernel(kernel) for kernel in found)
    return Quantised(cascade, made, builder.integers, scales)


def evaluate_quantised(quantised: Quantised, inputs: Mapping[str, Bytes]) -> dict[str, Bytes]:
    """The int8 tensors that every kernel makes of int8 ``inputs``, exactly as the machine computes them."""
    tensors: dict[str, Bytes] = {**quantised.weights, **inputs}
    made: dict[str, Bytes] = {}
    for step in quantised.kernels:
        made[step.kernel.name] = tensors[step.kernel.name] = _run(step, tensors, quantised.cascade)
    return made


def quantise_tensor(values: Floats, scale: float) -> Bytes:
    """``values`` in units of ``scale``, to nearest, saturated to [-127, 127]."""
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8)


def _calibrate(
    cascade: Cascade,
    found: Sequence[Kernel],
    weights: Mapping[str, Floats],
    samples: Sequence[Mapping[str, Floats]],
) -> tuple[dict[str, float], dict[str, Floats]]:
    """Largest magnitude of every tensor over ``samples``, and the vectors and scalars of the last one.

    Among these are all that are made of constants. Normalisations are checked on the way.
    """
    if not samples:
        raise WorkloadError("samples to calibrate on must be at least one, not none")
    peaks: dict[str, float] = {}
    for sample in samples:
        tensors = evaluate(cascade, {**weights, **sample})
        for kernel in found:
            if not isinstance(kernel, Elementwise) and isinstance(kernel.epilogue, Normalise):
                check_normalisation(cascade, kernel, tensors)
        for name, values in tensors.items():
            finite = np.abs(values[np.isfinite(values)])
            peaks[name] = max(peaks.get(name, 0.0), float(finite.max(initial=0.0)))
    vectors = {name: values for name, values in tensors.items() if values.ndim <= 1}
    return {name: peak or 1.0 for name, peak in peaks.items()}, vectors


class _Builder:
    def __init__(
        self,
        cascade: Cascade,
        weights: Mapping[str, Floats],
        factors: Mapping[str, Floats],
        peaks: Mapping[str, float],
        scales: Mapping[str, float],
    ) -> None:
        self.cascade = cascade
        self.weights = weights
        self.factors = factors
        """Scales, biases and gains by name, those that the cascade makes of constants included."""
        self.peaks = peaks
        self.scales = scales
        self.integers: dict[str, Bytes] = {}

    def kernel(self, kernel: Kernel) -> QuantisedKernel:
        assert not isinstance(kernel, Elementwise)
        if isinstance(kernel, Product):
            unit = self.scales[kernel.streamed.tensor] * self._stationary(kernel)
        else:
            unit = np.array([self.scales[kernel.source.tensor]])
        columns = prod(self.cascade.ranks[rank] for rank in kernel.cols)
        for name in kernel.epilogue.scales:
            unit = unit * self._per_column(name, kernel.cols)
        return self._passes(kernel, np.broadcast_to(unit, (columns,)))

    def _stationary(self, kernel: Product) -> Floats:
        """Scale of the stationary operand for each column; weights are quantised on the way."""
        access = kernel.stationary
        if access.tensor not in self.weights:
            return np.array([self.scales[access.tensor]])
        values = self.weights[access.tensor]
        ranks = [index.terms[0][0] for index in access.indices]
        others = tuple(d for d, rank in enumerate(ranks) if rank not in kernel.cols)
        peak = np.abs(values).max(axis=others, keepdims=True)
        scale = np.where(peak > 0, peak, 1.0) / 127
        integers = np.rint(values / scale).astype(np.int8)
        if not np.array_equal(self.integers.setdefault(access.tensor, integers), integers):
            raise WorkloadError(
                f"weight {access.tensor} must have one scale a column to be quantised, "
                "not one for the columns of each of several products"
            )
        order = [ranks.index(rank) for rank in kernel.cols]
        moved = np.transpose(scale, (*others, *order))
        return np.asarray(moved.reshape(-1), np.float64)

    def _per_column(self, name: str, cols: tuple[str, ...]) -> Floats:
        """A scalar, or a vector over (some of) the columns, flattened in their order."""
        values = np.asarray(self.factors[name], np.float64)
        if values.ndim == 0:
            return values.reshape(1)
        accesses = (a for e in self.cascade.einsums for a in e.inputs if a.tensor == name)
        ranks = ranks_of(next(accesses))
        order = [ranks.index(rank) for rank in cols if rank in ranks]
        shape = [self.cascade.ranks[rank] if rank in ranks else 1 for rank in cols]
        full = np.transpose(values, order).reshape(shape)
        return np.broadcast_to(full, [self.cascade.ranks[rank] for rank in cols]).reshape(-1)

    def _passes(self, kernel: Kernel, unit: Floats) -> QuantisedKernel:
        assert not isinstance(kernel, Elementwise)
        epilogue, out = kernel.epilogue, self.scales[kernel.name]
        if isinstance(epilogue, Softmax):
            return QuantisedKernel(kernel=kernel, affine=exp_parameters(unit))
        bias = self._per_column(epilogue.bias, kernel.cols) if epilogue.bias else np.zeros(1)
        if isinstance(epilogue, Normalise):
            middle = self.peaks[epilogue.argument] / NORM_HEADROOM
            gamma = self._per_column(epilogue.gamma, kernel.cols) if epilogue.gamma else np.ones(1)
            beta = self._per_column(epilogue.beta, kernel.cols) if epilogue.beta else np.zeros(1)
            columns = unit.shape
            norm = norm_parameters(
                np.broadcast_to(gamma, columns), np.broadcast_to(beta, columns), scale_out=out
            )
        else:
            middle = self.peaks[epilogue.argument] / 127 if epilogue.argument else out
            norm = None
        multiplier, shift = self._residual(epilogue, middle)
        return QuantisedKernel(
            kernel=kernel,
            affine=affine_parameters(unit, bias, scale_out=middle),
            norm=norm,
            residual_multiplier=multiplier,
            residual_shift=shift,
            table=self._table(epilogue, middle, out),
        )

    def _residual(self, epilogue: Requantise | Normalise, middle: float) -> tuple[int, int]:
        if epilogue.residual is None:
            return 0, 0
        return residual_parameters(self.scales[epilogue.residual.tensor], scale_out=middle)

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
        residual = Residual(q, step.residual_multiplier, step.residual_shift)
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
