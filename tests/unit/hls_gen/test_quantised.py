"""Kernels of a quantised transformer layer: their tensors give the cascade's own bits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from hls_gen import AttentionSpec, HlsError, KernelSpec, LinearSpec, NormSpec, QuantisedJob, quantised_job
from tests.unit.hls_gen import oracle
from workloads import Quantised, evaluate_quantised, quantise_cascade, quantise_tensor
from workloads._analyze import tensor_shapes
from workloads._block import Block, Run, block_parts, part
from workloads._model import constant_tensors
from workloads._transformer import add, cascade, layernorm, product, rmsnorm, softmax, tensor

Integers = NDArray[np.integer]

POST = Block(
    hidden=8, heads=2, kv_heads=2, head_dim=4, inner=12, activation="gelu", eps=1e-12, pre_norm=False
)


POST_PARTS = block_parts("block", POST, run=Run(phase="prefill", batch=1, seq=5), layers=1)
RANKS = {"p": 5, "d": 8}
CONSTANTS = {"INV": 1 / 8, "EPS": 1e-12}
SCORES = product(tensor("S", "pm"), tensor("X", "pd"), tensor("K", "md"))
SOFTMAX = softmax("A", tensor("S", "pm"), rows="p", names=("GM", "SN", "SD"))
OUTPUT = product(tensor("AV", "pf"), tensor("A", "pm"), tensor("V", "mf"))
SIZES = RANKS | {"m": 4, "f": 3}
PARTS = {
    "block": POST_PARTS[0],
    "layer": part(
        cascade("norm", RANKS, layernorm("Z", "X", rows="p")), inputs=frozenset("X"), constants=CONSTANTS
    ),
    "scores": part(cascade("scores", SIZES, (SCORES, *SOFTMAX)), inputs=frozenset("X"), constants={}),
    "biased": part(
        cascade(
            "biased",
            SIZES,
            (SCORES, *SOFTMAX, OUTPUT, add(tensor("Z", "pf"), OUTPUT.output, tensor("R", "pf"))),
        ),
        inputs=frozenset("XR"),
        constants={},
    ),
    "softmax": part(
        cascade("softmax", SIZES, softmax("A", tensor("X", "pd"), rows="p", names=("GM", "SN", "SD"))),
        inputs=frozenset("X"),
        constants={},
    ),
    "rms": part(
        cascade("norm", RANKS, rmsnorm("Z", "X", rows="p")), inputs=frozenset("X"), constants=CONSTANTS
    ),
}


@cache
def quantised(of: str) -> tuple[Quantised, Mapping[str, Integers]]:
    chosen = PARTS[of]
    shapes = tensor_shapes(chosen.cascade)
    rng = np.random.default_rng(11)
    weights = {name: rng.normal(size=shapes[name]) for name in sorted(chosen.weights)}
    sample = {name: rng.normal(size=shapes[name]) for name in sorted(chosen.inputs)}
    made = quantise_cascade(chosen.cascade, weights | constant_tensors(chosen), [sample])
    inputs = {name: quantise_tensor(values, made.scales[name]) for name, values in sample.items()}
    return made, {**made.weights, **inputs, **evaluate_quantised(made, inputs)}


def job(of: str, name: str, batch: int = 0) -> QuantisedJob:
    made, tensors = quantised(of)
    return quantised_job(made, name, tensors, batch=batch)


def recomputed(made: QuantisedJob) -> oracle.Values:
    inputs = {name: values.astype(np.int64) for name, values in made.tensors.items() if name != "y"}
    return oracle.expected(made.spec, inputs)


@pytest.mark.parametrize(
    ("of", "kinds"), [("block", {LinearSpec, AttentionSpec}), ("layer", {NormSpec}), ("rms", {NormSpec})]
)
def test_every_kernel_gives_the_cascades_bits(of: str, kinds: set[type[KernelSpec]]) -> None:
    jobs = [job(of, step.kernel.name) for step in quantised(of)[0].kernels]
    assert {type(made.spec) for made in jobs} == kinds
    for made in jobs:
        np.testing.assert_array_equal(made.tensors["y"], recomputed(made))
        assert len(np.unique(made.tensors["y"])) > 3


def test_a_norm_alone_is_centred_as_its_cascade_is() -> None:
    for of, centred in (("layer", True), ("rms", False)):
        spec = job(of, "Z").spec
        assert isinstance(spec, NormSpec)
        assert (spec.rows, spec.length, spec.residual, spec.norm.centred) == (5, 8, None, centred)


@pytest.mark.parametrize("left", [None, np.zeros(8, np.int64), np.arange(8)])
def test_a_residual_is_shifted_left_where_a_column_is(left: NDArray[np.int64] | None) -> None:
    made, tensors = quantised("block")
    steps = (replace(each, residual_left=left) if each.kernel.name == "Y" else each for each in made.kernels)
    shifted = replace(made, kernels=tuple(steps))
    wanted = evaluate_quantised(shifted, {"X": tensors["X"].astype(np.int8)})["Y"]
    one = quantised_job(shifted, "Y", {**tensors, "Y": wanted})
    assert isinstance(one.spec, LinearSpec)
    assert one.spec.residual is not None
    assert one.spec.residual.left == (left is not None and bool(left.any()))
    np.testing.assert_array_equal(one.tensors["y"], recomputed(one))
    assert np.array_equal(wanted, tensors["Y"]) == (not one.spec.residual.left)


def test_heads_are_batches_and_a_softmax_goes_by_both_names() -> None:
    heads = [job("block", "AV", batch) for batch in (0, 1)]
    spec = heads[0].spec
    assert isinstance(spec, AttentionSpec)
    assert spec == heads[1].spec == job("block", "A").spec
    assert (spec.name, spec.queries, spec.keys, spec.e, spec.f) == ("av", 5, 5, 4, 4)
    assert not np.array_equal(heads[0].tensors["q"], heads[1].tensors["q"])
    np.testing.assert_array_equal(heads[1].tensors["y"], recomputed(heads[1]))


def test_residual_norm_and_table_follow_the_epilogue() -> None:
    y, g = job("block", "Y").spec, job("block", "G").spec
    assert isinstance(y, LinearSpec)
    assert isinstance(g, LinearSpec)
    assert y.residual is not None
    assert y.norm is not None
    assert y.norm.centred
    assert (g.table, g.residual, g.norm) == (True, None, None)
    assert (y.m, y.k, y.n) == (5, 8, 8)
    assert (g.m, g.k, g.n) == (5, 8, 12)


@pytest.mark.parametrize(
    ("name", "batch", "message"),
    [
        ("nothing", 0, "kernel must be one of QB, KB, VB, A, AV, Y, G, Z, not 'nothing'"),
        ("AV", 2, "batch must be in 0..1, not 2"),
        ("Y", -1, "batch must be in 0..0, not -1"),
    ],
)
def test_wrong_requests_are_refused(name: str, batch: int, message: str) -> None:
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        job("block", name, batch)


@pytest.mark.parametrize(
    ("of", "name", "message"),
    [
        ("scores", "A", "softmax must be streamed by a product, not end the cascade as 'A'"),
        ("softmax", "A", "kernel without a product must be a normalisation, not the softmax 'A'"),
        ("biased", "Z", "product behind a softmax must end in an affine alone, not as 'Z' does"),
    ],
)
def test_softmax_in_other_places_is_refused(of: str, name: str, message: str) -> None:
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        job(of, name)


def test_a_missing_tensor_is_named() -> None:
    made, tensors = quantised("block")
    without = {name: values for name, values in tensors.items() if name != "X"}
    with pytest.raises(HlsError, match=r"^tensors must have 'X', not only A, AV"):
        quantised_job(made, "QB", without)
