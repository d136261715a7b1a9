"""One-pass attention in integers against scalar Python integers, closed forms and the float softmax."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.workloads.test_exp2 import scalar_exp2
from workloads import AttentionScales, WorkloadError, attend, attention_scales

Bytes = NDArray[np.int8]
UNIT = AttentionScales(scale=1 << 15, scale_shift=8, multiplier=1 << 14, shift=22)
"""A score's unit is 2**-7 octaves, a result's unit is a value's."""


def random_head(seed: int, features: int, queries: int, keys: int) -> tuple[Bytes, Bytes, Bytes]:
    """Int8 queries, keys and values of one head, over their whole range."""
    rng = np.random.default_rng(seed)
    shapes = ((1, features, queries), (1, features, keys), (1, features, keys))
    q, k, v = (rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes)
    return q, k, v


def scalar_head(q: Bytes, k: Bytes, v: Bytes, scales: AttentionScales, tile: int) -> list[list[int]]:
    """One head, query by query and key by key, from the machine's contract."""
    features, queries, keys = q.shape[1], q.shape[2], k.shape[2]
    result = [[0] * queries for _ in range(features)]
    for j in range(queries):
        top = total = 0
        sums = [0] * features
        for first in range(0, keys, tile):
            span = range(first, min(keys, first + tile))
            scores = {i: sum(int(k[0, e, i]) * int(q[0, e, j]) for e in range(features)) for i in span}
            old = top
            top = max(scores.values()) if first == 0 else max(old, *scores.values())
            weights = {i: power(score - top, scales) for i, score in scores.items()}
            kept = 0 if first == 0 else power(old - top, scales)
            total = sum(weights.values()) + (total * kept + 16384) // 32768
            for f in range(features):
                fresh = sum(weights[i] * int(v[0, f, i]) for i in span)
                sums[f] = fresh + (sums[f] * kept + 16384) // 32768
        for f in range(features):
            result[f][j] = quotient(sums[f], total, scales)
    return result


def power(difference: int, scales: AttentionScales) -> int:
    return scalar_exp2(difference * scales.scale >> scales.scale_shift)


def quotient(numerator: int, denominator: int, scales: AttentionScales) -> int:
    z = min(abs(numerator) * 256 // denominator, 65535)
    scaled = (z if numerator >= 0 else -z) * scales.multiplier
    half = (1 << scales.shift) // 2
    return max(-128, min(127, scaled + half >> scales.shift))


@pytest.mark.parametrize(("features", "queries", "keys", "tile"), [(3, 2, 9, 4), (5, 3, 4, 8), (1, 1, 7, 1)])
def test_it_is_the_scalar_machine(features: int, queries: int, keys: int, tile: int) -> None:
    for seed, shift in enumerate((0, 4, 8, 14)):
        last = 20 + seed % 3
        scales = AttentionScales(scale=40_000 + seed, scale_shift=shift, multiplier=20_001, shift=last)
        q, k, v = random_head(seed, features, queries, keys)
        assert attend(q, k, v, scales, tile=tile)[0].tolist() == scalar_head(q, k, v, scales, tile)


def test_a_tile_of_another_size_is_other_bits_of_the_same_softmax() -> None:
    q, k, v = random_head(0, 16, 64, 250)
    # Scores spread over some octaves, so that the maximum rises in later tiles.
    scales = AttentionScales(scale=40_000, scale_shift=13, multiplier=1 << 14, shift=22)
    results = [attend(q, k, v, scales, tile=tile).astype(int) for tile in (4, 250)]
    assert np.abs(results[0] - results[1]).max() == 1
    assert np.mean(results[0] != results[1]) < 0.05


@pytest.mark.parametrize("keys", [1, 3, 16, 100, 999])
@pytest.mark.parametrize("tile", [4, 16])
@pytest.mark.parametrize("spread", [0.002, 0.02, 0.5])
def test_it_is_within_one_unit_of_the_float_softmax(keys: int, tile: int, spread: float) -> None:
    q, k, v = random_head(keys, 24, 40, keys)
    scales = attention_scales(queries=spread, keys=1 / 64, values=0.1, output=0.1)
    scores = np.swapaxes(k, 1, 2).astype(float) @ q.astype(float) * spread / 64
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    exact = v.astype(float) @ (weights / weights.sum(axis=1, keepdims=True))
    assert np.abs(attend(q, k, v, scales, tile=tile) - exact).max() <= 1


def test_equal_keys_give_the_mean_of_the_values() -> None:
    q, k, v = random_head(1, 8, 5, 64)
    k[:] = 7
    mean = v.astype(int).sum(axis=2, keepdims=True)
    # Numerators are whole multiples of the weight, so that only the quotient is rounded.
    magnitude = np.abs(mean) * 256 // 64
    exact = np.sign(mean) * magnitude * UNIT.multiplier + (1 << 21) >> 22
    assert (attend(q, k, v, UNIT, tile=8) == exact).all()


def test_one_key_gives_its_value() -> None:
    q, k, v = random_head(2, 8, 5, 1)
    assert (attend(q, k, v, UNIT, tile=4) == v).all()


def test_results_saturate() -> None:
    q, k, v = random_head(3, 2, 1, 4)
    v[:] = [[[127], [-128]]]
    double = AttentionScales(scale=1, scale_shift=0, multiplier=1 << 14, shift=21)
    assert attend(q, k, v, double, tile=2)[0, :, 0].tolist() == [127, -128]


def test_heads_do_not_meet() -> None:
    heads = [random_head(seed, 4, 3, 10) for seed in range(3)]
    joined = [np.concatenate(tensors) for tensors in zip(*heads, strict=True)]
    together = attend(joined[0], joined[1], joined[2], UNIT, tile=4)
    assert all((together[n] == attend(*head, UNIT, tile=4)[0]).all() for n, head in enumerate(heads))


@pytest.mark.parametrize("queries", [1e-6, 0.003, 0.05, 1.0])
@pytest.mark.parametrize("output", [1e-4, 0.01, 0.3])
def test_scales_are_as_near_as_their_bits_allow(queries: float, output: float) -> None:
    found = attention_scales(queries=queries, keys=0.02, values=0.02, output=output, scores=0.125)
    exponent = queries * 0.02 * 0.125 * math.log2(math.e) * 2**14
    assert abs(found.scale / 2**found.scale_shift / exponent - 1) <= 2**-16 or found.scale_shift == 40
    assert abs(found.multiplier / 2**found.shift / (0.02 / (256 * output)) - 1) <= 2**-15 or found.shift == 31
    assert 0 < found.scale < 1 << 16
    assert 0 < found.multiplier < 1 << 15


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"queries": 0.0}, "a score's unit must be a positive number, not 0.0"),
        ({"queries": math.nan}, "a score's unit must be a positive number, not nan"),
        ({"queries": 1e9}, "a score's unit must be below 65536 units of the machine, not 2.36371e+13"),
        (
            {"output": 1e-9},
            "a value's unit over the result's must be below 32768 units of the machine, not 3.90625e+06",
        ),
    ],
)
def test_units_out_of_range(units: dict[str, float], message: str) -> None:
    given = {"queries": 1.0, "keys": 1.0, "values": 1.0, "output": 1.0} | units
    with pytest.raises(WorkloadError, match=f"^{re.escape(message)}$"):
        attention_scales(**given)


@pytest.mark.parametrize(
    ("features", "keys", "message"),
    [
        (257, 1, "features of an attention must be 1 to 256, not 257"),
        (1, 65536, "keys of an attention must be 1 to 65535, not 65536"),
    ],
)
def test_sizes_out_of_range(features: int, keys: int, message: str) -> None:
    q, k = np.zeros((1, features, 1), np.int8), np.zeros((1, features, keys), np.int8)
    with pytest.raises(WorkloadError, match=f"^{message}$"):
        attend(q, k, k, UNIT, tile=8)
