"""The quantised oracle against the float one, within bounds that follow from the steps of rounding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from workloads import (
    Cascade,
    Quantised,
    WorkloadError,
    evaluate_quantised,
    parse,
    quantise_cascade,
    quantise_tensor,
)
from workloads._analyze import tensor_shapes
from workloads._block import Block, Run, block_parts
from workloads._evaluate import evaluate
from workloads._integer import NORM_UNIT, SOFTMAX_UNIT

Floats = NDArray[np.float64]
Tensors = dict[str, Floats]

P, D, J = 12, 24, 20
HEAD = f"cascade c\nranks p={P}, d={D}, j={J}\n\n"
GEMM = "Y[p, j] = X[p, d] * W[d, j]\n"
SCALARS = {"INV": 1 / J, "EPS": 1e-12, "SC": 0.25}
SOFTMAX = (
    "U[p, j] = Y[p, j] * SC[]\nG[p] = max[j] U[p, j]\nS[p, j] = exp(U[p, j] - G[p])\n"
    "D[p] = S[p, j]\nZ[p, j] = S[p, j] / D[p]\n"
)
ROOT = "Q[p, j] = C[p, j] * C[p, j]\nV[p] = Q[p, j]\nE[p] = V[p] * INV[]\nR[p] = rsqrt(E[p] + EPS[])\n"
GAIN = "N[p, j] = C[p, j] * R[p]\nH[p, j] = N[p, j] * GA[j]\nZ[p, j] = H[p, j] + BE[j]\n"
LAYERNORM = "T[p] = Y[p, j]\nM[p] = T[p] * INV[]\nC[p, j] = Y[p, j] - M[p]\n" + ROOT + GAIN
RMSNORM = (ROOT + GAIN).replace("C[", "Y[")
LIPSCHITZ = {"relu": 1.0, "tanh": 1.0, "sigmoid": 0.25, "gelu": 1.13, "silu": 1.1}
"""Largest slope of each function."""
FIXED_POINT = 2.0**-14
"""Relative error of m, which has 16 bits, on either side."""


def values(cascade: Cascade, *, inputs: tuple[str, ...], seed: int) -> tuple[Tensors, Tensors]:
    """(weights, inputs), normally distributed; scalars as in ``SCALARS``."""
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(cascade)
    produced = {einsum.output.tensor for einsum in cascade.einsums}
    names = sorted({a.tensor for einsum in cascade.einsums for a in einsum.inputs} - produced)
    drawn = {name: rng.normal(size=shapes[name]) for name in names}
    weights = {n: np.asarray(SCALARS.get(n, drawn[n])) for n in names if n not in inputs}
    return weights, {name: drawn[name] for name in inputs}


def rounded_weight(weight: Floats) -> Floats:
    """A weight as its int8 values stand for it: one scale a column."""
    scale = np.abs(weight).max(axis=0) / 127
    return np.asarray(np.rint(weight / scale) * scale)


class Case:
    """A cascade of one kernel in integers, and in floats from the operands that the integers stand for."""

    def __init__(self, text: str, *, inputs: tuple[str, ...] = ("X",), seed: int = 0) -> None:
        self.cascade = parse(HEAD + text)
        self.weights, self.inputs = values(self.cascade, inputs=inputs, seed=seed)
        self.quantised = quantise_cascade(self.cascade, self.weights, [self.inputs])
        scales = self.quantised.scales
        integers = {name: quantise_tensor(self.inputs[name], scales[name]) for name in inputs}
        ((self.name, self.got),) = evaluate_quantised(self.quantised, integers).items()
        self.unit = scales[self.name]
        rounded = {name: integers[name] * scales[name] for name in inputs}
        weights = {n: rounded_weight(w) if w.ndim == 2 else w for n, w in self.weights.items()}
        self.exact = evaluate(self.cascade, {**weights, **rounded})

    @property
    def error(self) -> Floats:
        """Output minus the exact result from the same operands, saturated, in units of the output.

        Rounded operands may take a result a little beyond the range that was calibrated.
        """
        return np.asarray(np.abs(self.got - np.clip(self.exact[self.name] / self.unit, -128, 127)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("extra", ["", "B[p, j] = Y[p, j] + V[j]\n", "B[p, j] = Y[p, j] * A[j]\n"])
def test_a_product_is_within_half_a_unit(extra: str, seed: int) -> None:
    case = Case(GEMM + extra, seed=seed)
    assert (case.error <= 0.5 + 128 * FIXED_POINT).all()
    assert np.abs(case.got.astype(np.int64)).max() >= 124, "the range is used"


@pytest.mark.parametrize("seed", range(4))
def test_a_residual_adds_half_a_unit(seed: int) -> None:
    case = Case(GEMM + "B[p, j] = Y[p, j] + RS[p, j]\n", inputs=("X", "RS"), seed=seed)
    assert (case.error <= 1 + 2 * 128 * FIXED_POINT).all()


@pytest.mark.parametrize("function", sorted(LIPSCHITZ))
def test_a_function_is_within_half_a_unit_of_that_of_its_rounded_argument(function: str) -> None:
    case = Case(GEMM + f"F[p, j] = {function}(Y[p, j])\n")
    argument = case.quantised.scales["Y"] * (0.5 + 128 * FIXED_POINT)
    assert (case.error <= 0.5 + LIPSCHITZ[function] * argument / case.unit).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_softmax_is_within_its_stated_error(seed: int) -> None:
    case = Case(GEMM + SOFTMAX, seed=seed)
    assert case.unit == SOFTMAX_UNIT
    assert (case.error <= 1 + 128 * (0.0075 + 1.5 * J / 32767)).all()
    # Rounded each by half a unit, the probabilities of a row still sum to one.
    assert (np.abs(case.got.sum(axis=1, dtype=np.int64) - 128) <= 1 + J / 2).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("text", "centred"), [(LAYERNORM, True), (RMSNORM, False)])
def test_a_norm_is_within_its_stated_error(text: str, centred: bool, seed: int) -> None:
    case = Case(GEMM + text, seed=seed)
    gain = np.abs(case.weights["GA"])
    y, n = case.exact["Y"], np.abs(case.exact["N"])
    deviation = (y.std(axis=1) if centred else np.sqrt((y**2).mean(axis=1)))[:, None]
    stated = 0.51 + 0.0011 * gain * n / case.unit + NORM_UNIT * gain / case.unit
    # The int16 values are within half a unit of theirs: their difference to the mean moves by a
    # unit at most, and the deviation, a norm, by half a unit.
    half = np.abs(y).max() / 24000 * (0.5 + FIXED_POINT * 24000)
    moved = gain * half * (2 + n) / (deviation - half) / case.unit
    assert (case.error <= stated + moved).all()
    assert (case.error > 0.25).any(), "the bound is of the order of the error"


def test_rounding_of_operands_is_bounded_by_their_units() -> None:
    case = Case(GEMM)
    x, w = case.inputs["X"], case.weights["W"]
    unit_x, unit_w = case.quantised.scales["X"], np.abs(w).max(axis=0) / 127
    floats = evaluate(case.cascade, {"X": x, "W": w})["Y"]
    bound = 0.5 * unit_w * np.abs(x).sum(axis=1)[:, None] + 0.5 * unit_x * np.abs(rounded_weight(w)).sum(
        axis=0
    )
    assert (np.abs(case.exact["Y"] - floats) <= bound).all()
    assert (np.abs(case.got * case.unit - floats) <= bound + case.unit * (0.5 + 128 * FIXED_POINT)).all()


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_transformer_layer_stays_close(norm: str, pre_norm: bool) -> None:
    block = Block(
        hidden=32,
        heads=4,
        kv_heads=4,
        head_dim=8,
        inner=64,
        activation="gelu",
        eps=1e-12,
        norm="layer" if norm == "layer" else "rms",
        pre_norm=pre_norm,
    )
    (part,) = block_parts("layer", block, run=Run(phase="prefill", batch=1, seq=9), layers=1)
    rng = np.random.default_rng(3)
    shapes = tensor_shapes(part.cascade)
    weights: Tensors = {n: rng.normal(size=shapes[n]) / np.sqrt(max(1, shapes[n][0])) for n in part.weights}
    weights |= {n: np.full(shapes[n], value) for n, value in part.constants.items()}
    samples = [{"X": rng.normal(size=shapes["X"])} for _ in range(4)]
    quantised = quantise_cascade(part.cascade, weights, samples)
    integers = {"X": quantise_tensor(samples[0]["X"], quantised.scales["X"])}
    floats = evaluate(part.cascade, {**weights, **samples[0]})
    for name, got in evaluate_quantised(quantised, integers).items():
        difference = got * quantised.scales[name] - floats[name]
        # One percent is the rounding of an int8 tensor of normal values; a dozen roundings meet here.
        assert np.linalg.norm(difference) <= 0.05 * np.linalg.norm(floats[name]), name


def by_hand(x: Mapping[tuple[int, int], int]) -> NDArray[np.int8]:
    return np.array([[x[0, 0], x[0, 1]]], np.int8)


def test_scales_are_the_largest_magnitude_over_127() -> None:
    cascade = parse("cascade c\nranks p=1, d=2, j=2\n\n" + GEMM)
    weights = {"W": np.array([[1.27, 0.0], [-0.5, 2.54]])}
    quantised = quantise_cascade(cascade, weights, [{"X": np.array([[12.7, 1.0]])}])
    assert quantised.scales["X"] == pytest.approx(0.1)
    assert quantised.weights["W"].tolist() == [[127, 0], [-50, 127]]
    # 12.7 * 1.27 - 0.5 = 15.629 is the largest output.
    assert quantised.scales["Y"] == pytest.approx(15.629 / 127)
    (made,) = evaluate_quantised(quantised, {"X": by_hand({(0, 0): 127, (0, 1): 10})}).values()
    assert made.tolist() == [[127, round(2.54 / 15.629 * 127)]]


def test_tensors_saturate_symmetrically() -> None:
    assert quantise_tensor(np.array([-9.0, -1.0, 0.24, 0.26, 9.0]), 0.5 / 127).tolist() == [
        -127,
        -127,
        61,
        66,
        127,
    ]


def test_weights_of_heads_have_a_scale_for_each_column_of_each_head() -> None:
    cascade = parse("cascade c\nranks p=2, d=3, h=2, e=2\n\nY[p, h, e] = X[p, d] * W[d, h, e]\n")
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, 2, 2)) * np.array([[1.0, 10.0], [100.0, 1000.0]])
    made = quantise_cascade(cascade, {"W": weight}, [{"X": rng.normal(size=(2, 3))}])
    assert np.abs(made.weights["W"]).max(axis=0).tolist() == [[127, 127], [127, 127]]


def test_factors_made_of_constants_are_factors() -> None:
    made = Case(GEMM + "A2[j] = A[j] * SC[]\nB[p, j] = Y[p, j] * A2[j]\n")
    given = Case(GEMM + "U[p, j] = Y[p, j] * A[j]\nB[p, j] = U[p, j] * SC[]\n")
    assert made.unit == given.unit
    assert np.array_equal(made.got, given.got)


def test_a_weight_that_two_products_read_by_different_columns_is_refused() -> None:
    cascade = parse(HEAD + GEMM + "Z[p, d] = Y[p, j] * W[d, j]\n")
    weights, inputs = values(cascade, inputs=("X",), seed=0)
    with pytest.raises(WorkloadError, match=r"^weight W must have one scale a column to be quantised, "):
        quantise_cascade(cascade, weights, [inputs])


def test_there_must_be_samples() -> None:
    with pytest.raises(WorkloadError, match=r"^samples to calibrate on must be at least one, not none$"):
        quantise_cascade(parse(HEAD + GEMM), {"W": np.ones((D, J))}, [])


def test_elementwise_einsums_are_refused_by_name() -> None:
    cascade = parse(HEAD + GEMM + "L[p, j] = Y[p, j] * Y[p, j]\n")
    weights, inputs = values(cascade, inputs=("X",), seed=0)
    with pytest.raises(
        WorkloadError, match=r"^a cascade to be quantised must be of .* not the Einsums that make L$"
    ):
        quantise_cascade(cascade, weights, [inputs])


NO_FACTOR = LAYERNORM.replace("M[p] = T[p] * INV[]\n", "").replace("M[p]", "T[p]")


@pytest.mark.parametrize("product", ["", GEMM])
@pytest.mark.parametrize(
    ("text", "scalars", "found"),
    [
        (LAYERNORM, {"INV": 1 / (J + 1)}, "INV = 0.047619"),
        (LAYERNORM, {"INV": 1.0}, "INV = 1"),
        (RMSNORM, {"INV": 1 / (J - 1)}, "INV = 0.0526316"),
        (LAYERNORM.replace("T[p] * INV[]", "T[p] * MEAN[]"), {"MEAN": 0.04}, "MEAN = 0.04, INV = 0.05"),
        (NO_FACTOR.replace("V[p] * INV[]", "V[p]"), {}, "no factor"),
        (NO_FACTOR, {}, "INV = 0.05"),
    ],
    ids=["one more", "sums", "unbiased", "one of two", "none", "only one"],
)
def test_statistics_that_are_not_means_are_refused(
    product: str, text: str, scalars: dict[str, float], found: str
) -> None:
    cascade = parse(HEAD + product + text)
    weights, inputs = values(cascade, inputs=("X",) if product else ("Y",), seed=0)
    weights |= {name: np.asarray(value) for name, value in scalars.items()}
    wanted = (
        f"the normalisation Z must take means over its {J} columns to be quantised, "
        f"with a factor of 0.05, not {found}"
    )
    with pytest.raises(WorkloadError) as caught:
        quantise_cascade(cascade, weights, [inputs])
    assert str(caught.value) == wanted


@pytest.mark.parametrize("text", [LAYERNORM, RMSNORM])
def test_an_epsilon_that_matters_is_refused(text: str) -> None:
    cascade = parse(HEAD + text)
    weights, inputs = values(cascade, inputs=("Y",), seed=0)
    rows = inputs["Y"]
    variance = (rows.var(axis=1) if text is LAYERNORM else (rows**2).mean(axis=1)).mean()
    weights["EPS"] = np.asarray(0.99 * 2 * NORM_UNIT * variance)
    quantise_cascade(cascade, weights, [inputs])
    weights["EPS"] = np.asarray(1.01 * 2 * NORM_UNIT * variance)
    wanted = r"^the epsilon of the normalisation Z must be at most 0\.00\d+ \(a part of 0\.00195312 of the "
    with pytest.raises(WorkloadError, match=wanted + r"calibrated variance\) to be .* not EPS = 0\.00\d+$"):
        quantise_cascade(cascade, weights, [inputs])


def test_rows_that_do_not_vary_say_nothing_about_an_epsilon() -> None:
    cascade = parse(HEAD + LAYERNORM)
    weights, inputs = values(cascade, inputs=("Y",), seed=0)
    made = quantise_cascade(cascade, weights, [{"Y": np.ones_like(inputs["Y"])}])
    (got,) = evaluate_quantised(made, {"Y": np.full(inputs["Y"].shape, 127, np.int8)}).values()
    assert (
        np.abs(got * made.scales["Z"] - weights["BE"]) <= made.scales["Z"] * (0.5 + 128 * FIXED_POINT)
    ).all()


def test_a_missing_input_is_named() -> None:
    case = Case(GEMM)
    with pytest.raises(WorkloadError, match=r"^tensors must include 'X', not only W$"):
        evaluate_quantised(case.quantised, {})


def test_nothing_but_zeros_still_has_a_scale() -> None:
    cascade = parse(HEAD + GEMM)
    zeros: Tensors = {"X": np.zeros((P, D))}
    made: Quantised = quantise_cascade(cascade, {"W": np.zeros((D, J))}, [zeros])
    (got,) = evaluate_quantised(made, {"X": np.ones((P, D), np.int8)}).values()
    assert not got.any()
