"""This folder's oracle and the quantised oracle of ``workloads`` say the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from hls_gen import AttentionSpec, LinearSpec, NormSpec, NormStage, ResidualSpec
from tests.unit.hls_gen import oracle
from workloads._integer import Affine, Residual, exp2_table, layernorm_rows, matmul, requantise, softmax_rows


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_linear(seed: int, *, left: bool) -> None:
    residual = ResidualSpec(multiplier=-300, shift=7, left=left)
    spec = LinearSpec(m=9, k=12, n=7, shift=14, residual=residual, table=True)
    inputs = oracle.random_inputs(spec, seed)
    parameters = Affine(inputs["multiplier"], inputs["bias"], spec.shift)
    y = requantise(
        matmul(inputs["x"], inputs["w"]),
        parameters,
        residual=Residual(inputs["residual"], -300, 7, inputs["residual_left"] if left else 0),
        table=inputs["table"],
    )
    np.testing.assert_array_equal(y, oracle.expected(spec, inputs))


@pytest.mark.parametrize("seed", range(5))
def test_attention(seed: int) -> None:
    spec = AttentionSpec(queries=6, keys=11, e=8, f=5, score_shift=11, shift=14)
    inputs = oracle.random_inputs(spec, seed) | {"table": exp2_table().astype(np.int64)}
    scores = matmul(inputs["q"], inputs["k"].T)
    probabilities = softmax_rows(scores, inputs["score_multiplier"], inputs["score_bias"], spec.score_shift)
    parameters = Affine(inputs["multiplier"], inputs["bias"], spec.shift)
    y = requantise(matmul(probabilities, inputs["v"]), parameters)
    np.testing.assert_array_equal(y, oracle.expected(spec, inputs))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_norm(seed: int, *, centred: bool) -> None:
    stage = NormStage(shift=10, centred=centred)
    residual = ResidualSpec(multiplier=99, shift=3, left=True)
    spec = NormSpec(rows=5, length=19, shift=2, residual=residual, norm=stage)
    inputs = oracle.random_inputs(spec, seed)
    y = layernorm_rows(
        inputs["x"],
        Affine(inputs["multiplier"], inputs["bias"], spec.shift),
        Affine(inputs["norm_multiplier"], inputs["norm_bias"], stage.shift),
        residual=Residual(inputs["residual"], 99, 3, inputs["residual_left"]),
        centred=centred,
    )
    np.testing.assert_array_equal(y, oracle.expected(spec, inputs))
