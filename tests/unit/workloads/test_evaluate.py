"""The float oracle against textbook formulas written in plain numpy or plain loops."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from workloads._analyze import tensor_shapes
from workloads._cascade_file import load_cascade
from workloads._einsum import Cascade
from workloads._errors import WorkloadError
from workloads._evaluate import MAX_ELEMENTS, evaluate
from workloads._operators import STANDARD, Operators, Reduction
from workloads._parse import parse, parse_einsum

LIBRARY = Path(__file__).parents[3] / "workloads" / "library"
Array = npt.NDArray[np.float64]


def normal(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def one(text: str, tensors: dict[str, Array], *, operators: Operators = STANDARD, **ranks: int) -> Array:
    einsum = parse_einsum(text)
    shapes = {name: array.shape for name, array in tensors.items()}
    return evaluate(Cascade("x", ranks, (einsum,), shapes), tensors, operators=operators)[
        einsum.output.tensor
    ]


def close(actual: Array, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def attention(q: Array, k: Array, v: Array) -> Array:
    return np.asarray(softmax(q @ k.T) @ v)


def test_the_comparison_itself_sees_the_last_digits() -> None:
    with pytest.raises(AssertionError):
        close(np.array([1.0]), [1.0 + 1e-10])


def test_products() -> None:
    a, b = normal(3, 4), normal(4, 5, seed=2)
    close(one("Z[m, n] = A[m, k] * B[k, n]", {"A": a, "B": b}, m=3, k=4, n=5), a @ b)
    close(one("Z[n, m] = A[m, k] * B[k, n]", {"A": a, "B": b}, m=3, k=4, n=5), (a @ b).T)
    close(one("Z[m, k] = A[m, k] * A[m, k] * A[m, k]", {"A": a}, m=3, k=4), a**3)
    close(one("Z[] = A[m, k] * A[m, k]", {"A": a}, m=3, k=4), (a * a).sum())


def test_maps_broadcast_and_reduce() -> None:
    a, b = normal(3, 4), normal(4, seed=2)
    tensors = {"A": a, "B": b}
    close(one("Z[k, m] = A[m, k] - B[k]", tensors, m=3, k=4), (a - b).T)
    close(one("Z[m] = A[m, k] / B[k]", tensors, m=3, k=4), (a / b).sum(axis=1))
    close(one("Z[m] = max[k] A[m, k] + B[k]", tensors, m=3, k=4), (a + b).max(axis=1))
    close(one("Z[m] = min[k] max(A[m, k], B[k])", tensors, m=3, k=4), np.maximum(a, b).min(axis=1))
    close(one("Z[m] = sqrt(add[k] square(A[m, k]))", {"A": a}, m=3, k=4), np.sqrt((a * a).sum(axis=1)))
    close(one("Z[k, m] = where(A[m, k], B[k], A[0, 0])", tensors, m=3, k=4), np.broadcast_to(b, (3, 4)).T)


def test_sum_over_a_rank_that_no_remaining_operand_varies_along_counts_each_point() -> None:
    a, b = normal(3), normal(4, seed=2)
    close(one("Z[m] = A[m] + B[k]", {"A": a, "B": b}, m=3, k=4), 4 * a + b.sum())


def test_output_ranks_that_no_input_has_repeat() -> None:
    a = normal(3)
    close(one("Z[n, m] = A[m]", {"A": a}, m=3, n=4), np.broadcast_to(a, (4, 3)))
    close(one("Z[m, n] = A[m] * A[m]", {"A": a}, m=3, n=4), np.broadcast_to((a * a)[:, None], (3, 4)))
    close(one("Z[m, n] = 2.5", {}, m=3, n=4), np.full((3, 4), 2.5))


def test_affine_accesses() -> None:
    a = normal(5, 5)
    close(one("Z[i] = A[i, i]", {"A": a}, i=5), np.diag(a))
    close(one("Z[i] = A[-i + 4, 2]", {"A": a}, i=5), a[::-1, 2])
    close(
        one("Z[i, j] = A[i + j, 2*j]", {"A": a}, i=3, j=3),
        [[a[i + j, 2 * j] for j in range(3)] for i in range(3)],
    )
    close(one("Z[] = A[i, -i + 4]", {"A": a}, i=5), np.fliplr(a).trace())


def test_reads_outside_a_declared_shape_are_zero() -> None:
    a = normal(4)
    close(one("Z[i] = A[i - 2]", {"A": a}, i=8), [0, 0, *a, 0, 0])
    close(one("Z[i] = A[i + 9]", {"A": a}, i=2), [0, 0])
    close(one("Z[i] = A[-i - 3]", {"A": a}, i=2), [0, 0])


@pytest.mark.parametrize(
    ("stride", "dilation", "pad"), [(1, 1, 0), (1, 1, 1), (2, 1, 1), (2, 2, 3), (3, 1, 2)]
)
def test_grouped_convolution(stride: int, dilation: int, pad: int) -> None:
    groups, k, c, r, s, height, width = 2, 3, 2, 3, 2, 9, 8
    p = (height + 2 * pad - dilation * (r - 1) - 1) // stride + 1
    q = (width + 2 * pad - dilation * (s - 1) - 1) // stride + 1
    image, weight = normal(groups, c, height, width), normal(groups, k, c, r, s, seed=2)
    text = (
        f"O[g, k, p, q] = I[g, c, {stride}*p + {dilation}*r - {pad}, {stride}*q + {dilation}*s - {pad}]"
        " * W[g, k, c, r, s]"
    )
    out = one(text, {"I": image, "W": weight}, g=groups, k=k, c=c, p=p, q=q, r=r, s=s)
    expected = np.zeros((groups, k, p, q))
    for g, f, y, x in itertools.product(range(groups), range(k), range(p), range(q)):
        for e, u, v in itertools.product(range(c), range(r), range(s)):
            row, col = y * stride + u * dilation - pad, x * stride + v * dilation - pad
            if 0 <= row < height and 0 <= col < width:
                expected[g, f, y, x] += image[g, e, row, col] * weight[g, f, e, u, v]
    close(out, expected)


def test_padding_around_a_tensor_that_the_cascade_writes() -> None:
    cascade = parse(
        "cascade c\nranks i=4, p=4, r=3\ntensor A[4]\nA[i] = relu(X[i])\nB[p] = A[p + r - 1] * W[r]\n"
    )
    x, w = normal(4), normal(3, seed=2)
    close(evaluate(cascade, {"X": x, "W": w})["B"], np.convolve(np.maximum(x, 0), w[::-1], "same"))


def test_max_pooling() -> None:
    image = normal(2, 6, 6)
    out = one("O[c, p, q] = max[r, s] I[c, 2*p + r, 2*q + s]", {"I": image}, c=2, p=3, q=3, r=2, s=2)
    close(out, image.reshape(2, 3, 2, 3, 2).max(axis=(2, 4)))


def test_softmax_attention() -> None:
    cascade = parse(
        "cascade attention\nranks p=4, m=6, e=3, f=5\n"
        "QK[p, m] = Q[p, e] * K[m, e]\nGM[p] = max[m] QK[p, m]\nSN[p, m] = exp(QK[p, m] - GM[p])\n"
        "SD[p] = SN[p, m]\nA[p, m] = SN[p, m] / SD[p]\nAV[p, f] = A[p, m] * V[m, f]\n"
    )
    q, k, v = normal(4, 3), normal(6, 3, seed=2), normal(6, 5, seed=3)
    close(evaluate(cascade, {"Q": q, "K": k, "V": v})["AV"], attention(q, k, v))


def test_layernorm() -> None:
    cascade = parse(
        "cascade layernorm\nranks p=4, d=8\nINVD[] = 0.125\nEPS[] = 1e-05\n"
        "S[p] = X[p, d]\nM[p] = S[p] * INVD[]\nC[p, d] = X[p, d] - M[p]\nSS[p] = add[d] square(C[p, d])\n"
        "V[p] = SS[p] * INVD[]\nR[p] = rsqrt(V[p] + EPS[])\nN[p, d] = C[p, d] * R[p] * G[d]\n"
        "Y[p, d] = N[p, d] + B[d]\n"
    )
    x, gain, bias = normal(4, 8), normal(8, seed=2), normal(8, seed=3)
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 1e-5) * gain + bias
    close(evaluate(cascade, {"X": x, "G": gain, "B": bias})["Y"], expected)


def test_one_pass_attention_equals_attention() -> None:
    cascade = load_cascade(LIBRARY / "one-pass-attention.yaml")
    shapes = tensor_shapes(cascade)
    q, k, v = (3 * normal(*shapes[name], seed=seed) for seed, name in enumerate("QKV"))
    out = evaluate(cascade, {"Q": q, "K": k, "V": v})["AV"]
    close(out, attention(q, k.reshape(-1, k.shape[-1]), v.reshape(-1, v.shape[-1])))


def test_selective_scan_equals_its_loop() -> None:
    cascade = load_cascade(LIBRARY / "selective-scan.yaml")
    shapes = tensor_shapes(cascade)
    given = {name: normal(*shapes[name], seed=seed) for seed, name in enumerate(("X", "B", "C", "DS"))}
    given["DT"] = np.abs(normal(*shapes["DT"], seed=9)) / 10
    given["A"] = -np.abs(normal(*shapes["A"], seed=10))
    out = evaluate(cascade, given)["Y"]
    h = np.zeros(shapes["A"])
    for t in range(shapes["X"][0]):
        dt = given["DT"][t][:, None]
        h = np.exp(dt * given["A"]) * h + dt * given["B"][t][None, :] * given["X"][t][:, None]
        close(out[t], h @ given["C"][t] + given["DS"] * given["X"][t])


def test_gemm_of_the_library() -> None:
    cascade = load_cascade(LIBRARY / "gemm.yaml")
    a, b = normal(512, 512), normal(512, 512, seed=2)
    np.testing.assert_allclose(evaluate(cascade, {"A": a, "B": b})["Z"], a @ b, rtol=1e-9, atol=1e-9)


def test_linear_recurrence_equals_the_sum_of_powers() -> None:
    cascade = parse("cascade l\nranks t=6\nH[0] = 0\nAH[t] = A[] * H[t]\nH[t + 1] = AH[t] + X[t]\n")
    x = normal(6)
    expected = [sum(0.7 ** (t - 1 - i) * x[i] for i in range(t)) for t in range(7)]
    close(evaluate(cascade, {"A": np.array(0.7), "X": x})["H"], expected)


def test_retention_recurrent_form_equals_its_parallel_form() -> None:
    # Sun et al., "Retentive Network" (2023), equations 5 and 6.
    cascade = parse(
        "cascade retention\nranks t=7, d=3, f=4\n"
        "S[0, d, f] = 0\nGS[t, d, f] = GAMMA[] * S[t, d, f]\nKV[t, d, f] = K[t, d] * V[t, f]\n"
        "S[t + 1, d, f] = GS[t, d, f] + KV[t, d, f]\nO[t, f] = Q[t, d] * S[t + 1, d, f]\n"
    )
    q, k, v = normal(7, 3), normal(7, 3, seed=2), normal(7, 4, seed=3)
    n, m = np.indices((7, 7))
    decay = np.where(n >= m, 0.9 ** (n - m), 0)
    out = evaluate(cascade, {"Q": q, "K": k, "V": v, "GAMMA": np.array(0.9)})["O"]
    close(out, (q @ k.T * decay) @ v)


def test_fibonacci_needs_two_earlier_values() -> None:
    cascade = parse("cascade f\nranks i=8\nF[0] = 1\nF[1] = 1\nF[i + 2] = F[i + 1] + F[i]\n")
    assert evaluate(cascade, {})["F"].tolist() == [1, 1, 2, 3, 5, 8, 13, 21, 34, 55]


def test_longest_common_subsequence_runs_in_two_dimensions() -> None:
    left, right = "GATTACACGT", "ACTAGCATTC"
    cascade = parse(
        f"cascade lcs\nranks i={len(left)}, j={len(right)}\n"
        "L[0, 0] = 0\nL[0, j + 1] = 0\nL[i + 1, 0] = 0\n"
        "D[i, j] = L[i, j] + E[i, j]\n"
        "L[i + 1, j + 1] = max(D[i, j], L[i, j + 1], L[i + 1, j])\n"
    )
    equal = np.array([[float(a == b) for b in right] for a in left])

    def longest(a: str, b: str) -> int:
        rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, j in itertools.product(range(len(a)), range(len(b))):
            rows[i + 1][j + 1] = rows[i][j] + 1 if a[i] == b[j] else max(rows[i][j + 1], rows[i + 1][j])
        return rows[-1][-1]

    assert evaluate(cascade, {"E": equal})["L"][-1, -1] == longest(left, right)


SCALARS: dict[str, Callable[[float], float]] = {
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: x * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "erf": math.erf,
    "exp": math.exp,
    "neg": lambda x: -x,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1 / x,
    "round": round,
    "tanh": math.tanh,
}


@pytest.mark.parametrize("name", sorted(SCALARS))
def test_unary_operators(name: str) -> None:
    x = 4 * normal(50)
    close(one(f"Y[i] = {name}(X[i])", {"X": x}, i=50), [SCALARS[name](v) for v in x.tolist()])


def test_a_users_operators() -> None:
    mine = STANDARD.extended(
        maps={"hypot": np.hypot},
        unaries={"cube": lambda x: x**3},
        reductions={"last": Reduction(lambda a, b: b, 0.0)},
    )
    a, b = normal(3, 4), normal(3, 4, seed=2)
    out = one("Z[m] = cube(last[k] hypot(A[m, k], B[m, k]))", {"A": a, "B": b}, operators=mine, m=3, k=4)
    close(out, np.hypot(a, b)[:, -1] ** 3)
    assert "hypot" not in STANDARD.maps


def test_a_users_product_replaces_the_fast_one() -> None:
    mine = STANDARD.extended(maps={"mul": np.minimum})
    a, b = normal(3, 4), normal(3, 4, seed=2)
    close(
        one("Z[m] = A[m, k] * B[m, k]", {"A": a, "B": b}, operators=mine, m=3, k=4), np.minimum(a, b).sum(1)
    )


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("Z[m] = A[m]", {}, "tensor A must be given with shape (3,), not left out"),
        ("Z[m] = A[m]", {"A": np.zeros(4)}, "tensor A must have shape (3,), not (4,)"),
        ("Z[m] = A[m]", {"A": np.zeros(3), "B": 0}, "a given tensor must be one of A, not 'B'"),
        ("Z[m] = mish(A[m])", {"A": np.zeros(3)}, "a unary operator must be one of abs, "),
        ("Z[m] = mish(A[m], A[m])", {"A": np.zeros(3)}, "a map operator must be one of add, "),
        (
            "Z[] = mish[m] A[m]",
            {"A": np.zeros(3)},
            "a reduce operator must be one of add, max, min, mul, not 'mish'",
        ),
        ("Z[m] = pow(A[m], A[m], A[m])", {"A": np.zeros(3)}, "map operator pow must have 2 inputs, not 3"),
        ("Z[m] = where(A[m], A[m])", {"A": np.zeros(3)}, "map operator where must take 2 inputs: "),
    ],
)
def test_evaluate_refuses(text: str, given: dict[str, npt.ArrayLike], message: str) -> None:
    cascade = Cascade("x", {"m": 3}, (parse_einsum(text),))
    with pytest.raises(WorkloadError, match="^" + re.escape(message)):
        evaluate(cascade, given)


def test_huge_tensors_are_refused_before_any_is_made() -> None:
    cascade = Cascade("x", {"m": MAX_ELEMENTS + 1}, (parse_einsum("Z[m] = 1"),))
    with pytest.raises(
        WorkloadError, match=r"^tensor Z must have at most 268435456 elements, not 268435457$"
    ):
        evaluate(cascade, {})
    wide = Cascade("x", {"m": 1 << 16, "n": 1 << 16}, (parse_einsum("Z[m] = max[n] A[m] + B[n]"),))
    with pytest.raises(WorkloadError, match=r"^the iteration space of .* must have at most 268435456 points"):
        evaluate(wide, {"A": np.zeros(1 << 16), "B": np.zeros(1 << 16)})
