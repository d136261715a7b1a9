"""Calibration: what quantisation takes from evaluating a cascade in floats on samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads._einsum import Cascade
from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._kernel import Elementwise, Kernel, Normalise, kernels
from workloads._normalisation import check_normalisation

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Magnitudes of every tensor over the samples, and the vectors that come of no sample."""

    peaks: Mapping[str, float]
    """Largest magnitude of each tensor; 1 for one that is zero throughout."""
    columns: Mapping[str, Floats]
    """Largest magnitude at each index of the last dimension, of tensors of two dimensions and more."""
    vectors: Mapping[str, Floats]
    """Scalars and vectors, among them all that the cascade makes of constants."""


def measure(
    cascade: Cascade,
    weights: Mapping[str, Floats],
    samples: Sequence[Mapping[str, Floats]],
) -> Calibration:
    """Evaluate ``cascade`` on each of ``samples`` and keep the magnitudes.

    Raises WorkloadError where there is no sample, and where a normalisation is not what the machine
    takes it for.
    """
    if not samples:
        raise WorkloadError("samples to calibrate on must be at least one, not none")
    found = kernels(cascade)
    return merged([_measured(cascade, found, {**weights, **sample}) for sample in samples])


def merged(parts: Sequence[Calibration]) -> Calibration:
    """The calibration over the samples of all ``parts``; the last one's vectors."""
    peaks: dict[str, float] = {}
    for part in parts:
        for name, peak in part.peaks.items():
            peaks[name] = max(peaks.get(name, 0.0), peak)
    columns = {}
    for name in parts[0].columns:
        rows = [part.columns[name] for part in parts]
        # Where the last dimension is of tokens, lengths may differ from sample to sample.
        if all(row.shape == rows[0].shape for row in rows):
            columns[name] = np.max(rows, axis=0)
    kept = {name: peak or 1.0 for name, peak in peaks.items()}
    return Calibration(peaks=kept, columns=columns, vectors=parts[-1].vectors)


def _measured(cascade: Cascade, found: Sequence[Kernel], given: Mapping[str, Floats]) -> Calibration:
    tensors = evaluate(cascade, given)
    for kernel in found:
        if not isinstance(kernel, Elementwise) and isinstance(kernel.epilogue, Normalise):
            check_normalisation(cascade, kernel, tensors)
    magnitudes = {name: np.where(np.isfinite(values), np.abs(values), 0) for name, values in tensors.items()}
    return Calibration(
        peaks={name: float(values.max(initial=0.0)) for name, values in magnitudes.items()},
        columns={
            name: values.reshape(-1, values.shape[-1]).max(axis=0)
            for name, values in magnitudes.items()
            if values.ndim > 1 and values.size
        },
        vectors={name: values for name, values in tensors.items() if values.ndim <= 1},
    )
