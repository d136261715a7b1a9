"""Kernels: the canonical structures are found whatever their names, and nothing else is."""

from __future__ import annotations

import pytest

from workloads import (
    Cascade,
    Elementwise,
    Epilogue,
    Normalise,
    Product,
    Requantise,
    Rowwise,
    Softmax,
    kernels,
    parse,
    ranks_of,
)
from workloads._zoo import ZOO, load_model

HEAD = "cascade c\nranks p=4, d=6, j=8\n\n"
GEMM = "Y[p, j] = X[p, d] * W[d, j]\n"
SOFTMAX = "G[p] = max[j] Y[p, j]\nS[p, j] = exp(Y[p, j] - G[p])\nD[p] = S[p, j]\nA[p, j] = S[p, j] / D[p]\n"
CENTRE = "T[p] = Y[p, j]\nM[p] = T[p] * INV[]\nC[p, j] = Y[p, j] - M[p]\n"
ROOT = "Q[p, j] = C[p, j] * C[p, j]\nV[p] = Q[p, j]\nE[p] = V[p] * INV[]\nR[p] = rsqrt(E[p] + EPS[])\n"
SCALED = "N[p, j] = C[p, j] * R[p]\n"
GAIN = "H[p, j] = N[p, j] * GA[j]\nZ[p, j] = H[p, j] + BE[j]\n"
LAYERNORM = CENTRE + ROOT + SCALED + GAIN
RMSNORM = (ROOT + SCALED).replace("C[", "Y[")


def found(text: str) -> tuple[Product | Rowwise | Elementwise, ...]:
    return kernels(parse(HEAD + text))


def epilogue(text: str) -> Epilogue:
    """Of the one product that the text is."""
    (kernel,) = found(text)
    assert isinstance(kernel, Product)
    return kernel.epilogue


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (GEMM, Requantise()),
        (GEMM + "B[p, j] = Y[p, j] + BI[j]\n", Requantise(bias="BI")),
        (GEMM + "B[p, j] = BI[j] + Y[p, j]\n", Requantise(bias="BI")),
        (GEMM + "S[p, j] = Y[p, j] * A[]\n", Requantise(scales=("A",))),
        (GEMM + "S[p, j] = Y[p, j] * A[j]\nT[p, j] = S[p, j] * C[]\n", Requantise(scales=("A", "C"))),
        (GEMM + "F[p, j] = gelu(Y[p, j])\n", Requantise(function="gelu", argument="Y")),
        (
            GEMM + "S[p, j] = Y[p, j] * A[]\nB[p, j] = S[p, j] + BI[j]\nF[p, j] = relu(B[p, j])\n",
            Requantise(scales=("A",), bias="BI", function="relu", argument="B"),
        ),
        (GEMM + SOFTMAX, Softmax()),
        (GEMM + "U[p, j] = Y[p, j] * SC[]\n" + SOFTMAX.replace("Y[", "U["), Softmax(scales=("SC",))),
        (GEMM + LAYERNORM, Normalise("Y", gamma="GA", beta="BE")),
        (GEMM + RMSNORM, Normalise("Y", centred=False)),
        (GEMM + RMSNORM + GAIN, Normalise("Y", gamma="GA", beta="BE", centred=False)),
        (
            GEMM + "B[p, j] = Y[p, j] + BI[j]\n" + LAYERNORM.replace("Y[", "B["),
            Normalise("B", bias="BI", gamma="GA", beta="BE"),
        ),
    ],
)
def test_what_follows_a_product_is_its_epilogue(text: str, wanted: Epilogue) -> None:
    assert epilogue(text) == wanted


def test_a_residual_is_a_tensor_of_the_same_elements() -> None:
    made = epilogue(GEMM + "B[p, j] = Y[p, j] + BI[j]\nR[p, j] = B[p, j] + RS[p, j]\n")
    assert isinstance(made, Requantise)
    assert (made.bias, str(made.residual)) == ("BI", "RS[p, j]")
    normed = epilogue(GEMM + "K[p, j] = Y[p, j] + RS[p, j]\n" + LAYERNORM.replace("Y[", "K["))
    assert isinstance(normed, Normalise)
    assert (normed.argument, str(normed.residual), normed.centred) == ("K", "RS[p, j]", True)


def test_ranks_of_a_product_by_who_has_them() -> None:
    (kernel,) = kernels(
        parse("cascade c\nranks b=2, h=3, p=4, m=5, e=6\n\nY[b, h, p, m] = Q[b, p, h, e] * K[b, m, h, e]\n")
    )
    assert isinstance(kernel, Product)
    assert (kernel.batch, kernel.rows, kernel.cols, kernel.inner) == (("b", "h"), ("p",), ("m",), ("e",))
    assert (kernel.streamed.tensor, kernel.stationary.tensor, kernel.name) == ("Q", "K", "Y")


def test_what_is_made_here_is_streamed_against_what_stays() -> None:
    _, second = found(GEMM + "U[p, k] = W2[j, k] * Y[p, j]\n".replace("k", "d"))
    assert isinstance(second, Product)
    assert (second.streamed.tensor, second.stationary.tensor) == ("Y", "W2")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (SOFTMAX, Softmax()),
        (LAYERNORM, Normalise("Y", gamma="GA", beta="BE")),
        (RMSNORM, Normalise("Y", centred=False)),
    ],
)
def test_alone_they_are_kernels_of_rows(text: str, wanted: Epilogue) -> None:
    (kernel,) = found(text)
    assert isinstance(kernel, Rowwise)
    assert (kernel.source.tensor, kernel.rows, kernel.cols, kernel.epilogue) == ("Y", ("p",), ("j",), wanted)


def test_a_norm_alone_leaves_its_source_to_others() -> None:
    norm, product, added = found(LAYERNORM + "U[p, d] = Z[p, j] * W[j, d]\nL[p, j] = Y[p, j] + O[p, j]\n")
    assert isinstance(norm, Rowwise)
    assert isinstance(product, Product)
    assert isinstance(added, Elementwise)


def test_a_sum_that_is_read_again_is_kept_in_memory() -> None:
    """The residual stream of a pre-norm layer: normalised, and added to again."""
    text = (
        GEMM
        + "K[p, j] = Y[p, j] + RS[p, j]\n"
        + LAYERNORM.replace("Y[", "K[")
        + "L[p, j] = K[p, j] + Z[p, j]\n"
    )
    product, norm, _ = found(text)
    assert isinstance(product, Product)
    assert isinstance(norm, Rowwise)
    assert (product.name, norm.source.tensor, norm.name) == ("K", "K", "Z")


@pytest.mark.parametrize(
    "text",
    [
        GEMM + SOFTMAX.replace("max[j] Y[p, j]", "max[p] Y[p, j]").replace("G[p]", "G[j]"),
        GEMM + SOFTMAX + "L[p] = G[p] + D[p]\n",
        GEMM + SOFTMAX + "L[p, j] = S[p, j] + A[p, j]\n",
        GEMM + SOFTMAX.replace("S[p, j] / D[p]", "D[p] / S[p, j]"),
        GEMM + SOFTMAX.replace("exp(Y[p, j] - G[p])", "exp(G[p] - Y[p, j])"),
        GEMM + SOFTMAX.replace("exp(Y[p, j]", "exp(Y[p, -1*j + 7]"),
    ],
    ids=["other rank", "statistics read", "exponentials read", "upside down", "negated", "reversed"],
)
def test_what_only_resembles_a_softmax_is_none(text: str) -> None:
    epilogues = [kernel.epilogue for kernel in found(text) if not isinstance(kernel, Elementwise)]
    assert epilogues == [Requantise()]


@pytest.mark.parametrize(
    "text",
    [
        GEMM + LAYERNORM + "L[p] = R[p] + M[p]\n",
        GEMM + LAYERNORM.replace("rsqrt(", "sqrt("),
        GEMM + LAYERNORM.replace("V[p] = Q[p, j]", "V[p] = max[j] Q[p, j]"),
        GEMM + LAYERNORM.replace("C[p, j] * R[p]", "Q[p, j] * R[p]"),
        GEMM + LAYERNORM.replace("C[p, j] * R[p]", "relu(C[p, j] * R[p])"),
        GEMM + RMSNORM.replace("N[p, j] = Y", "N[p] = Y"),
    ],
    ids=["statistics read", "other root", "largest", "squares", "function", "summed"],
)
def test_what_only_resembles_a_norm_is_none(text: str) -> None:
    epilogues = [kernel.epilogue for kernel in found(text) if not isinstance(kernel, Elementwise)]
    assert not any(isinstance(each, Normalise) for each in epilogues)


SQUARE = "cascade c\nranks p=4, j=4, d=6\n\n" + GEMM


@pytest.mark.parametrize(
    "text",
    [
        SOFTMAX.replace("S[p, j] / D[p]", "S[p, j] / D[j]"),
        SOFTMAX.replace("Y[p, j] - G[p]", "Y[p, j] - G[j]"),
        LAYERNORM.replace("C[p, j] * R[p]", "C[p, j] * R[j]"),
        LAYERNORM.replace("C[p, j] * R[p]", "C[j, p] * R[p]"),
    ],
)
def test_statistics_of_rows_that_are_read_by_column_match_nothing(text: str) -> None:
    epilogues = [k.epilogue for k in kernels(parse(SQUARE + text)) if not isinstance(k, Elementwise)]
    assert epilogues == [Requantise()]


@pytest.mark.parametrize("centred", ["Y[p, j] - M[j]", "Y[p, -1*j + 3] - M[p]"])
def test_a_difference_to_anything_but_its_own_mean_is_made_before_the_norm(centred: str) -> None:
    text = SQUARE + LAYERNORM.replace("Y[p, j] - M[p]", centred)
    norm = next(kernel for kernel in kernels(parse(text)) if isinstance(kernel, Rowwise))
    assert (norm.source.tensor, norm.epilogue) == ("C", Normalise("C", gamma="GA", beta="BE", centred=False))


def test_a_gain_of_rows_is_no_gain() -> None:
    made = kernels(parse(SQUARE + LAYERNORM.replace("H[p, j] = N[p, j]", "H[j, p] = N[j, p]")))
    assert isinstance(made[0], Product)
    assert made[0].epilogue == Normalise("Y")


def test_a_scale_before_a_norm_is_not_one_of_its_means() -> None:
    made = epilogue(GEMM + "U[p, j] = Y[p, j] * SC[]\n" + LAYERNORM.replace("Y[", "U["))
    assert made == Normalise("U", scales=("SC",), gamma="GA", beta="BE")


def test_scores_that_are_read_again_are_kept_in_memory() -> None:
    product, softmax, _ = found(GEMM + SOFTMAX + "L[p, j] = Y[p, j] + A[p, j]\n")
    assert isinstance(product, Product)
    assert product.epilogue == Requantise()
    assert isinstance(softmax, Rowwise)
    assert (softmax.source.tensor, softmax.epilogue) == ("Y", Softmax())


def test_centred_values_that_are_read_again_are_kept_in_memory() -> None:
    made = found(GEMM + LAYERNORM + "L[p, j] = C[p, j] + Z[p, j]\n")
    (norm,) = [kernel for kernel in made if isinstance(kernel, Rowwise)]
    assert norm.source.tensor == "C"
    assert norm.epilogue == Normalise("C", gamma="GA", beta="BE", centred=False)


@pytest.mark.parametrize(
    "text",
    [
        GEMM + "F[p, j] = relu(Y[p, j])\nL[p, j] = Y[p, j] + F[p, j]\n",
        GEMM + "B[p, j] = Y[p, j] + BI[j]\nL[p, j] = Y[p, j] * B[p, j]\n",
    ],
)
def test_a_value_read_twice_ends_its_kernel(text: str) -> None:
    product, *rest = found(text)
    assert isinstance(product, Product)
    assert product.epilogue == Requantise()
    assert all(isinstance(kernel, Elementwise) for kernel in rest)


def every_einsum_once(cascade: Cascade) -> None:
    taken = [position for kernel in kernels(cascade) for position in kernel.einsums]
    assert sorted(taken) == list(range(len(cascade.einsums)))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_kernels_partition_every_cascade_of_the_zoo(name: str) -> None:
    for part in load_model(name).parts:
        every_einsum_once(part.cascade)
        made: set[str] = set()
        produced = {einsum.output.tensor for einsum in part.cascade.einsums}
        for kernel in kernels(part.cascade):
            reads = {
                access.tensor
                for position in kernel.einsums
                for access in part.cascade.einsums[position].inputs
            }
            inside = {part.cascade.einsums[position].output.tensor for position in kernel.einsums}
            assert (reads & produced) - inside <= made
            made.add(kernel.name)


def test_ranks_of_an_access_are_each_once() -> None:
    (einsum,) = parse("cascade c\nranks a=2, b=3\n\nY[b] = X[a + b, b] * W[a]\n").einsums
    assert ranks_of(einsum.inputs[0]) == ("a", "b")
