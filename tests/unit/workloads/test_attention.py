"""The library of attention cascades: values against textbook formulas, passes as stated and as enumerated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tests.naive_passes import NaivePasses
from workloads import _attention as attention
from workloads import _linear_attention as linear
from workloads._analyze import inputs, outputs, tensor_shapes
from workloads._einsum import Cascade
from workloads._evaluate import evaluate
from workloads._library import LIBRARY, library_cascade
from workloads._passes import all_passes

Array = npt.NDArray[np.float64]
P, M1, M0, E, F, H, G, S, T = 5, 4, 3, 6, 7, 2, 3, 3, 12
M = M1 * M0


def normal(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def gates(*shape: int, seed: int = 9) -> Array:
    return np.random.default_rng(seed).uniform(0.8, 1.0, size=shape)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def textbook(q: Array, k: Array, v: Array, mask: Array | float = 0.0) -> Array:
    """``softmax(q k^T + mask) v`` for queries, keys and values as rows."""
    return np.asarray(softmax(q @ k.T + mask) @ v)


def close(actual: Array, expected: Array) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def result(cascade: Cascade, tensors: dict[str, Array]) -> Array:
    (name,) = outputs(cascade)
    return evaluate(cascade, tensors)[name]


def test_the_comparison_itself_sees_small_differences() -> None:
    with pytest.raises(AssertionError):
        close(np.array([1.0]), np.array([1.0 + 1e-9]))


Q, K, V = normal(P, E), normal(M, E, seed=2), normal(M, F, seed=3)
CAUSAL = np.where(np.arange(M)[None] <= np.arange(P)[:, None], 0.0, -np.inf)


@pytest.mark.parametrize("build", [attention.naive, attention.three_pass, attention.deferred])
def test_whole_rows(build: Callable[..., Cascade]) -> None:
    found = result(build(p=P, m=M, e=E, f=F), {"Q": Q.T, "K": K.T, "V": V.T})
    close(found, textbook(Q, K, V).T)


@pytest.mark.parametrize("build", [attention.two_pass, attention.one_pass])
def test_tiles(build: Callable[..., Cascade]) -> None:
    tensors = {"Q": Q.T, "K": K.T.reshape(E, M1, M0), "V": V.T.reshape(F, M1, M0)}
    close(result(build(p=P, m1=M1, m0=M0, e=E, f=F), tensors), textbook(Q, K, V).T)


@pytest.mark.parametrize("build", [attention.three_pass, attention.deferred])
def test_a_maximum_keeps_large_scores_finite(build: Callable[..., Cascade]) -> None:
    tensors = {"Q": 1000 * Q.T, "K": K.T, "V": V.T}
    close(result(build(p=P, m=M, e=E, f=F), tensors), textbook(1000 * Q, K, V).T)
    assert not np.isfinite(result(attention.naive(p=P, m=M, e=E, f=F), tensors)).all()


def test_causal() -> None:
    expected = textbook(Q, K, V, CAUSAL).T
    rows = {"Q": Q.T, "K": K.T, "V": V.T, "CAUSAL": CAUSAL.T}
    close(result(attention.causal(p=P, m=M, e=E, f=F), rows), expected)
    tiles = {
        "Q": Q.T,
        "K": K.T.reshape(E, M1, M0),
        "V": V.T.reshape(F, M1, M0),
        "CAUSAL": CAUSAL.T.reshape(M1, M0, P),
    }
    close(result(attention.causal_one_pass(p=P, m1=M1, m0=M0, e=E, f=F), tiles), expected)


def test_grouped_query() -> None:
    q, k, v = normal(H, G, P, E), normal(H, M, E, seed=2), normal(H, M, F, seed=3)
    expected = np.array([[textbook(q[h, g], k[h], v[h]).T for g in range(G)] for h in range(H)])
    tensors = {"Q": np.swapaxes(q, 2, 3), "K": np.swapaxes(k, 1, 2), "V": np.swapaxes(v, 1, 2)}
    close(result(attention.grouped_query(h=H, g=G, p=P, m=M, e=E, f=F), tensors), expected)
    tensors["K"], tensors["V"] = tensors["K"].reshape(H, E, M1, M0), tensors["V"].reshape(H, F, M1, M0)
    built = attention.grouped_query_one_pass(h=H, g=G, p=P, m1=M1, m0=M0, e=E, f=F)
    close(result(built, tensors), expected)


@pytest.mark.parametrize("splits", [1, 2, 3])
def test_split_k(splits: int) -> None:
    q, k, v = normal(1, E), normal(splits * M, E, seed=2), normal(splits * M, F, seed=3)
    tensors = {"Q": q.T, "K": k.reshape(splits, M1, M0, E), "V": v.reshape(splits, M1, M0, F)}
    tensors |= {"K": np.moveaxis(tensors["K"], 3, 1), "V": np.moveaxis(tensors["V"], 3, 1)}
    built = attention.split_k(s=splits, m1=M1, m0=M0, e=E, f=F)
    close(result(built, tensors), textbook(q, k, v).T)


def test_retention() -> None:
    """The parallel form: scores times the decay to the power of the distance, Sun et al., equation 5."""
    gamma, chunk = 0.9, 4
    q, k, v = normal(T, E), normal(T, E, seed=2), normal(T, F, seed=3)
    distance = np.arange(T)[:, None] - np.arange(T)
    expected = (q @ k.T * np.where(distance >= 0, gamma ** np.maximum(distance, 0), 0)) @ v
    recurrent = result(linear.retnet(t=T, e=E, f=F), {"Q": q, "K": k, "V": v, "GAMMA": np.array(gamma)})
    close(recurrent, expected)
    near = np.arange(chunk)
    tensors = {
        "Q": q.reshape(-1, chunk, E),
        "K": k.reshape(-1, chunk, E),
        "V": v.reshape(-1, chunk, F),
        "D": np.where(near[:, None] >= near, gamma ** np.maximum(near[:, None] - near, 0), 0),
        "XI": gamma ** (near + 1),
        "ZETA": gamma ** (chunk - 1 - near),
        "GAMMA": np.array(gamma**chunk),
    }
    chunked = result(linear.retnet_chunked(c=T // chunk, i=chunk, e=E, f=F), tensors)
    close(chunked.reshape(T, F), expected)


def test_gated_linear_attention() -> None:
    """Each past token weighs by the product of the gates since: no state is kept in this formula."""
    chunk = 4
    q, k, v, a = normal(T, E), normal(T, E, seed=2), normal(T, F, seed=3), gates(T, E)
    expected = np.array(
        [
            sum((q[t] * a[s + 1 : t + 1].prod(axis=0) * k[s]).sum() * v[s] for s in range(t + 1))
            for t in range(T)
        ]
    )
    close(result(linear.gla(t=T, e=E, f=F), {"Q": q, "K": k, "V": v, "A": a}), expected)
    tensors = {name: x.reshape(T // chunk, chunk, -1) for name, x in {"Q": q, "K": k, "V": v, "A": a}.items()}
    tensors["LOWER"] = np.tril(np.ones((chunk, chunk)))
    chunked = result(linear.gla_chunked(c=T // chunk, i=chunk, e=E, f=F), tensors)
    close(chunked.reshape(T, F), expected)


def test_delta_rule() -> None:
    """The state as a matrix that is multiplied by ``I - beta k k^T``: Yang et al., 2024."""
    q, k, v, beta = normal(T, E), normal(T, E, seed=2), normal(T, F, seed=3), gates(T)
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    state, expected = np.zeros((F, E)), []
    for t in range(T):
        state = state @ (np.eye(E) - beta[t] * np.outer(k[t], k[t])) + beta[t] * np.outer(v[t], k[t])
        expected.append(state @ q[t])
    found = result(linear.deltanet(t=T, e=E, f=F), {"Q": q, "K": k, "V": v, "BETA": beta})
    close(found, np.array(expected))


def test_selective_scan() -> None:
    """The state written out: each past input weighs by the exponential of the summed steps since."""
    d, n = 3, 4
    x, b, c = normal(T, d), normal(T, n, seed=2), normal(T, n, seed=3)
    dt, a, skip = gates(T, d), -gates(d, n, seed=5), normal(d, seed=6)
    expected = np.zeros((T, d))
    for t in range(T):
        for s in range(t + 1):
            decay = np.exp(dt[s + 1 : t + 1].sum(axis=0)[:, None] * a)
            expected[t] += (c[t] * decay * (dt[s] * x[s])[:, None] * b[s]).sum(axis=1)
        expected[t] += skip * x[t]
    tensors = {"X": x, "B": b, "C": c, "DT": dt, "A": a, "SKIP": skip}
    close(result(linear.mamba(t=T, d=d, n=n), tensors), expected)


SMALL = {
    "naive": attention.naive(p=2, m=3, e=2, f=2),
    "three-pass": attention.three_pass(p=2, m=3, e=2, f=2),
    "deferred": attention.deferred(p=2, m=3, e=2, f=2),
    "two-pass": attention.two_pass(p=2, m1=3, m0=2, e=2, f=2),
    "one-pass": attention.one_pass(p=2, m1=3, m0=2, e=2, f=2),
    "causal": attention.causal(p=2, m=3, e=2, f=2),
    "causal-one-pass": attention.causal_one_pass(p=2, m1=3, m0=2, e=1, f=2),
    "grouped-query": attention.grouped_query(h=2, g=2, p=1, m=3, e=2, f=2),
    "grouped-query-one-pass": attention.grouped_query_one_pass(h=1, g=2, p=2, m1=3, m0=2, e=1, f=1),
    "split-k": attention.split_k(s=3, m1=3, m0=2, e=1, f=1),
    "retnet": linear.retnet(t=3, e=2, f=2),
    "retnet-chunked": linear.retnet_chunked(c=3, i=3, e=2, f=2),
    "gla": linear.gla(t=3, e=2, f=2),
    "gla-chunked": linear.gla_chunked(c=2, i=3, e=2, f=2),
    "deltanet": linear.deltanet(t=3, e=2, f=2),
    "mamba": linear.mamba(t=3, d=2, n=2),
}
MORE_THAN_ONE = {
    "naive": {"m": 2},
    "three-pass": {"m": 3},
    "deferred": {"m": 2},
    "two-pass": {"m1": 2, "m0": 2},
    "one-pass": {"m0": 2},
    "causal": {"m": 3},
    "causal-one-pass": {"m0": 2},
    "grouped-query": {"m": 3},
    "grouped-query-one-pass": {"m0": 2},
    "split-k": {"m0": 2},
    "retnet": {},
    "retnet-chunked": {},
    "gla": {},
    "gla-chunked": {"i": 2},
    "deltanet": {"e": 2},
    "mamba": {},
}


def test_every_cascade_of_the_library_is_here() -> None:
    assert SMALL.keys() == MORE_THAN_ONE.keys() == {name.removeprefix("attention:") for name in LIBRARY}


@pytest.mark.parametrize("name", LIBRARY)
def test_passes_of_the_library_as_stated(name: str) -> None:
    """Counts of Nayak et al. and of the docstrings, at the library's own sizes."""
    found = all_passes(library_cascade(name, seq=512))
    short = {rank: result.count for rank, result in found.items() if result.count > 1}
    assert short == MORE_THAN_ONE[name.removeprefix("attention:")]


@pytest.mark.parametrize("name", SMALL)
def test_passes_of_the_library_by_enumeration(name: str) -> None:
    cascade = SMALL[name]
    naive = NaivePasses(cascade)
    numbers = naive.passes()
    for rank, found in all_passes(cascade).items():
        assert found.count == max(n for (_, other), n in numbers.items() if other == rank)
        trips = naive.trips(rank)
        assert [set(trip) for trip in found.trips] == [
            {e for e in trips if trips[e] == n} for n in sorted(set(trips.values()))
        ]


@pytest.mark.parametrize("name", LIBRARY)
def test_every_cascade_evaluates_at_the_sizes_of_the_library(name: str) -> None:
    cascade = library_cascade(name, seq=16)
    shapes = tensor_shapes(cascade)
    tensors = {tensor: gates(*shapes[tensor]) for tensor in inputs(cascade)}
    assert np.isfinite(result(cascade, tensors)).all()
