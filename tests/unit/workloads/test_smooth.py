"""Factors of columns: closed forms, least noise by trying all, and integers against floats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.workloads.tiny_checkpoints import BERT, VIT
from workloads import (
    Config,
    Product,
    Quantised,
    Rowwise,
    encoder_cascade,
    evaluate_quantised,
    inputs,
    kernels,
    parse,
    quantise_cascade,
    quantise_tensor,
    tensor_shapes,
)
from workloads._huggingface import from_config
from workloads._smooth import MAX_FACTOR, WORTH, column_factors, smoothable

Floats = NDArray[np.float64]

peaks_of_columns = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12).map(np.array)


@pytest.mark.parametrize(
    ("peaks", "base", "factors"),
    [
        ([1, 1, 1, 8], 1, [0, 0, 0, 3]),
        # Mean squares: base 1 gives (3 * 1 + 64) / 4, base 5/8 gives (3 * 25/16 + 25) / 4.
        ([1, 1, 1, 5], 0.625, [1, 1, 1, 3]),
        # Bases 1 and 1/2 give the same ranges.
        ([1, 1, 1, 4], 0.5, [1, 1, 1, 3]),
        # 8.5 of 16 is not worth it.
        ([1, 1, 4, 4], 4, [0, 0, 0, 0]),
        # A column 64 times the others: eight times is the most, so the base is an eighth of it.
        ([1, 1, 1, 64], 8, [0, 0, 0, 3]),
        # Nothing to gain.
        ([3, 3, 3], 3, [0, 0, 0]),
        ([0, 0], 1, [0, 0]),
        ([2], 2, [0]),
    ],
)
def test_factors_of_these_columns(peaks: list[float], base: float, factors: list[int]) -> None:
    found, exponents = column_factors(np.array(peaks, np.float64))
    assert (found, exponents.tolist()) == (base, factors)


@given(peaks_of_columns)
def test_every_column_is_within_its_range_and_the_noise_never_above_one_scale(peaks: Floats) -> None:
    base, exponents = column_factors(peaks)
    ranges = base * 2.0**exponents
    assert (ranges >= peaks * (1 - 1e-8)).all()
    assert 0 <= exponents.min() <= exponents.max() <= MAX_FACTOR
    noise = np.mean(ranges**2) / peaks.max() ** 2
    assert noise <= (WORTH if exponents.any() else 1 + 1e-8)


@given(peaks_of_columns)
def test_no_other_base_has_less_noise(peaks: Floats) -> None:
    """Against the noise of a thousand bases, each with the least factors that hold the peaks."""
    base, exponents = column_factors(peaks)
    top = peaks.max()
    for tried in np.geomspace(top / 2**MAX_FACTOR, top, 1000):
        least = [
            next(t for t in range(MAX_FACTOR + 1) if tried * 2**t >= peak * (1 - 1e-8)) for peak in peaks
        ]
        noise = np.mean((tried * 2.0 ** np.array(least)) ** 2)
        if exponents.any():
            assert np.mean((base * 2.0**exponents) ** 2) <= noise * (1 + 1e-6)
        else:
            assert noise >= WORTH * top**2 * (1 - 1e-6)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        # Inputs of products with weights, residuals, results: neither what attention reads nor G.
        (BERT, {"X", "Y.0", "Z.0", "Y.1", "Z.1"}),
        (VIT, {"X", "XN.0", "R1.0", "YN.0", "Z.0", "XN.1", "R1.1", "YN.1", "Z.1"}),
    ],
)
def test_tensors_of_an_encoder_that_can_be_smoothed(config: dict[str, object], names: set[str]) -> None:
    cascade = encoder_cascade(from_config(Config(config, "config.json"), phase="prefill", seq=None, batch=1))
    made = {einsum.output.tensor for einsum in cascade.einsums}
    columns = {name: np.ones(shape[-1]) for name, shape in tensor_shapes(cascade).items() if len(shape) > 1}
    found = [kernel for kernel in kernels(cascade) if isinstance(kernel, Product | Rowwise)]
    weights = set(inputs(cascade)) - {"X"}
    assert set(smoothable(found, weights=weights, columns=columns, made=made)) == names


M, K, N = 24, 16, 12
RESIDUAL = parse(
    f"cascade c\nranks m={M}, k={K}, n={N}\n\n"
    "Y[m, n] = X[m, k] * W[k, n]\nU[m, n] = Y[m, n] + B[n]\nR[m, n] = U[m, n] + S[m, n]\n"
)
COLUMNS = 2.0 ** np.array([0, 0, 1, 0, 3, 0, 2, 0, 0, 0, 1, 0]) * 0.9
"""Magnitudes of the residual's columns."""


def residual_problem() -> tuple[dict[str, Floats], dict[str, Floats]]:
    rng = np.random.default_rng(3)
    weights = {"W": 0.02 * rng.normal(size=(K, N)), "B": 0.1 * rng.normal(size=N)}
    return weights, {"X": rng.uniform(-1, 1, (M, K)), "S": rng.uniform(-1, 1, (M, N)) * COLUMNS}


def dequantised_inputs(found: Quantised, sample: dict[str, Floats]) -> dict[str, Floats]:
    return {n: quantise_tensor(v, found.unit(n)) * found.unit(n) for n, v in sample.items()}


def test_a_smoothed_residual_is_added_with_its_left_shifts() -> None:
    """The integers against floats of the same int8 operands: three roundings of half a unit each."""
    weights, sample = residual_problem()
    found = quantise_cascade(RESIDUAL, weights, [sample], smooth=True)
    (step,) = found.kernels
    # Both the residual and the result have factors: the shift makes up for the difference of the two.
    assert found.factors.keys() == {"S", "R"}
    assert step.residual_left is not None
    apart = found.factors["S"] - found.factors["R"]
    assert step.residual_left.tolist() == (apart - apart.min()).tolist()
    assert found.factors["S"].max() == 3
    made = evaluate_quantised(found, {n: quantise_tensor(v, found.unit(n)) for n, v in sample.items()})["R"]
    real = dequantised_inputs(found, sample)
    scale = np.abs(weights["W"]).max(axis=0) / 127
    expected = real["X"] @ (np.rint(weights["W"] / scale) * scale) + weights["B"] + real["S"]
    unit = found.unit("R")
    inside = np.abs(expected) < 126 * unit
    # affine and residual round once each, and the multipliers have fifteen bits: 255 units * 2 ** -14.
    assert (np.abs(made * unit - expected) / unit)[inside].max() <= 0.5 + 0.5 + 0.02
    assert inside.mean() > 0.9


def test_small_columns_of_a_smoothed_tensor_keep_their_precision() -> None:
    """Rounding error of a column of factor t is at most half of 2 ** t units."""
    weights, sample = residual_problem()
    found = quantise_cascade(RESIDUAL, weights, [sample], smooth=True)
    plain = quantise_cascade(RESIDUAL, weights, [sample])
    error = np.abs(dequantised_inputs(found, sample)["S"] - sample["S"]).max(axis=0)
    coarse = np.abs(dequantised_inputs(plain, sample)["S"] - sample["S"]).max(axis=0)
    assert (error <= found.unit("S") * (0.5 + 1e-9)).all()
    assert (coarse <= plain.unit("S") * (0.5 + 1e-9)).all()
    assert error[COLUMNS < 1].max() < coarse[COLUMNS < 1].min()
