"""Einsums, and what follows from a cascade: ranks, counts, shapes, roles, order, refusals."""

from __future__ import annotations

import re

import pytest

from workloads._analyze import (
    Loop,
    VerificationError,
    dependence_graph,
    einsum_macs,
    inputs,
    iteration_space,
    macs,
    outputs,
    schedule,
    tensor_shapes,
    verify,
    weights,
)
from workloads._einsum import Access, Cascade, Einsum, Index, access, constant, literal, number
from workloads._errors import WorkloadError
from workloads._parse import parse, parse_einsum

ATTENTION = parse(
    """cascade attention
ranks b=2, h=3, p=5, m=7, e=11, f=13
QK[b, h, p, m] = Q[b, p, h, e] * K[b, m, h, e]
GM[b, h, p] = max[m] QK[b, h, p, m]
SN[b, h, p, m] = exp(QK[b, h, p, m] - GM[b, h, p])
SD[b, h, p] = SN[b, h, p, m]
A[b, h, p, m] = SN[b, h, p, m] / SD[b, h, p]
AV[b, p, h, f] = A[b, h, p, m] * V[b, m, h, f]
AB[b, p, h, f] = AV[b, p, h, f] + BV[h, f]
"""
)

RECURRENT = """cascade recurrent
ranks t=9, d=4
H[0, d] = H0[d]
AH[t, d] = A[t, d] * H[t, d]
H[t + 1, d] = AH[t, d] + X[t, d]
"""


def statements(ranks: str, *lines: str) -> Cascade:
    """A cascade that nobody has verified yet."""
    sizes = {name: int(size) for name, size in (item.split("=") for item in ranks.split())}
    return Cascade("x", sizes, tuple(parse_einsum(line) for line in lines))


def test_ranks_of_an_einsum() -> None:
    einsum = parse_einsum("O[k, p] = I[c, 2*p + r] * W[k, c, r]")
    assert einsum.ranks == ("k", "p", "c", "r")
    assert einsum.reduced_ranks == ("c", "r")
    assert einsum.is_product
    assert not einsum.is_constant


def test_products_are_told_from_the_rest() -> None:
    texts = [
        "Z[m] = A[m] * B[m]",
        "Z[] = max[m] A[m]",
        "Z[] = A[m] + B[m]",
        "Z[] = A[m]",
        "Z[] = A[m] * B[m]",
    ]
    assert [parse_einsum(text).is_product for text in texts] == [False, False, False, False, True]


def test_index_range_has_both_signs() -> None:
    assert Index((("p", 2), ("r", -3)), 1).range({"p": 5, "r": 4}) == (1 - 9, 1 + 8)


def test_bind_replaces_ranks_by_values() -> None:
    einsum = parse_einsum("Z[m] = A[2*t + m - 1, t]")
    assert str(einsum.inputs[0].bind({"t": 5})) == "A[m + 9, 5]"


def test_plain_accesses() -> None:
    assert access("A", "m", "k").is_plain
    for text in ("A[m, m]", "A[m + 1]", "A[2*m]", "A[0]", "A[m + k]"):
        assert not parse_einsum(f"Z[m, k] = {text}").inputs[0].is_plain


def test_macs_is_the_product_of_all_ranks_of_each_product() -> None:
    assert macs(ATTENTION) == 2 * 3 * 5 * 7 * 11 + 2 * 3 * 5 * 7 * 13
    assert einsum_macs(ATTENTION.einsums[0], ATTENTION.ranks) == 2 * 3 * 5 * 7 * 11
    assert iteration_space(ATTENTION)[3] == {"b": 2, "h": 3, "p": 5, "m": 7}


def test_macs_of_a_grouped_strided_convolution() -> None:
    cascade = parse(
        "cascade c\nranks g=2, k=4, c=3, p=8, r=3\ntensor I[2, 3, 16]\n"
        "O[g, k, p] = I[g, c, 2*p + r - 1] * W[g, k, c, r]\n"
    )
    assert macs(cascade) == 2 * 4 * 3 * 8 * 3


def test_roles_of_tensors() -> None:
    assert inputs(ATTENTION) == ("Q", "K", "V", "BV")
    assert weights(ATTENTION) == ("K", "V", "BV")
    assert outputs(ATTENTION) == ("AB",)


def test_a_scalar_may_be_the_output() -> None:
    assert outputs(parse("cascade c\nranks m=4\nZ[] = A[m] * B[m]\n")) == ("Z",)


def test_final_state_of_a_recurrence_is_an_output() -> None:
    assert outputs(parse(RECURRENT)) == ("H",)
    assert outputs(parse(RECURRENT + "Y[d] = H[9, d]\n")) == ("Y",)


def test_shapes_follow_from_index_ranges() -> None:
    cascade = parse(
        "cascade c\nranks p=5, r=3, t=4\ntensor J[99, 2]\n"
        "O[p] = I[2*p + r] * W[r]\nH[0] = 1\nH[t + 1] = H[t] + J[t, 1]\nN[p] = I[20]\n"
    )
    assert tensor_shapes(cascade) == {
        "I": (21,), "W": (3,), "O": (5,), "H": (5,), "J": (99, 2), "N": (5,),
    }  # fmt: skip


def test_dependence_graph() -> None:
    graph = dependence_graph(ATTENTION)
    assert sorted(graph.edges) == [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4), (4, 5), (5, 6)]
    assert graph.edges[5, 6]["tensor"] == "AV"


def test_schedule_of_independent_and_iterative_einsums() -> None:
    assert schedule(ATTENTION) == (0, 1, 2, 3, 4, 5, 6)
    assert schedule(parse(RECURRENT)) == (0, Loop("t", (1, 2)))


def test_schedule_of_a_two_dimensional_recurrence_nests_loops() -> None:
    cascade = statements(
        "i=3 j=4",
        "G[0, 0] = 0",
        "G[0, j + 1] = 0",
        "G[i + 1, 0] = 0",
        "U[i, j] = max(G[i, j + 1], G[i + 1, j])",
        "G[i + 1, j + 1] = U[i, j] + C[i, j]",
    )
    assert schedule(cascade) == (0, 1, 2, Loop("i", (Loop("j", (3, 4)),)))


@pytest.mark.parametrize(
    ("ranks", "lines", "message"),
    [
        ("a=2", ["A[a] = B[b]"], "a rank must be one of a, not 'b' in A[a] = B[b]"),
        ("a=2", ["A[a] = B[a] + B[a, a]"], "B must have 1 dimensions, not B[a, a]"),
        ("a=2", ["A[a] = B[a]", "A[a] = C[a]"], "A must be written once, not again by A[a] = C[a]"),
        ("a=2", ["A[a + 1] = B[a]"], "A must be written in whole, 3, not 2 elements of it"),
        ("a=2", ["A[0] = 1", "A[a + 2] = B[a]"], "A must be written in whole, 4, not 3 elements of it"),
        (
            "a=2",
            ["A[a] = B[a]", "C[a] = A[a + 1]"],
            "an index of A[a + 1] must be 0 to 1, not 1 to 2 (declare",
        ),
        ("a=2", ["C[a] = A[a]", "A[a] = B[a]"], "A must be written before it is read by C[a] = A[a]"),
        ("a=2", ["A[a] = A[a] + B[a]"], "A must be computed before use along one rank, counting upwards"),
        (
            "a=2",
            ["A[2] = 1", "A[a] = A[a + 1] + B[a]"],
            "A must be computed before use along one rank, counting upw",
        ),
        ("a=2", ["A[0] = 1", "A[a + 1] = A[0] + A[a] + B[a]"], ""),
        (
            "a=2 b=2",
            ["A[0] = 1", "A[a + 1] = A[b]"],
            "A must be computed before use along one rank, counting upwa",
        ),
        (
            "a=2",
            ["A[0] = 1", "A[a + 1] = B[a] + C[a]", "B[a] = A[a + 1] + C[a]"],
            "A, B must be computed before use along one rank, counting upwards",
        ),
    ],
)
def test_verify_refuses(ranks: str, lines: list[str], message: str) -> None:
    cascade = statements(ranks, *lines)
    if not message:
        verify(cascade)
        return
    with pytest.raises(VerificationError, match="^" + re.escape(message)):
        verify(cascade)


def test_verify_counts_declared_shapes() -> None:
    einsums = (parse_einsum("A[a] = B[a]"),)
    with pytest.raises(VerificationError, match=r"^a tensor with a declared shape must be used, not 'C'$"):
        verify(Cascade("x", {"a": 2}, einsums, {"C": (2,)}))
    with pytest.raises(VerificationError, match=r"^A must be written in whole, 3, not 2 elements of it$"):
        verify(Cascade("x", {"a": 2}, einsums, {"A": (3,)}))
    verify(Cascade("x", {"a": 2}, einsums, {"B": (1,)}))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Index((("a", 1), ("a", 2))), "ranks of an index must be distinct, not (('a', 1), ('a', 2))"),
        (lambda: Index((("a", 0),)), "coefficient of rank 'a' must be nonzero, not 0"),
        (
            lambda: Access("9a", ()),
            "a tensor's name must be a letter or '_' followed by letters, digits, '_', '.', no",
        ),
        (
            lambda: access("A", "ranks"),
            "a rank's name must be none of cascade, inf, nan, ranks, tensor, not 'ranks'",
        ),
        (
            lambda: Einsum(access("A"), (access("B", "k"),), "identity"),
            "reduce must name an operator over ['k'], not None: A[] = B[k]",
        ),
        (
            lambda: Einsum(access("A", "k"), (access("B", "k"),), "identity", "add"),
            "reduce must be None where no rank is reduced, not 'add': A[k] = B[k]",
        ),
        (
            lambda: Einsum(access("A"), (access("B"),), "mul"),
            "map operator mul must have 2 or more inputs, not 1",
        ),
        (
            lambda: Einsum(access("A"), (access("B"),), "exp"),
            "an operator of one input must be the unary one, not map 'exp': A[] = exp(B[])",
        ),
        (
            lambda: Einsum(access("A"), (), "1.0"),
            "an Einsum without inputs must be one number in canonical form, not",
        ),
        (
            lambda: Einsum(access("A"), (), "mul"),
            "a constant must be a finite number, inf or -inf, not 'mul'",
        ),
        (lambda: Cascade("a b", {}, ()), "a cascade's name must be one word without '#', not 'a b'"),
        (lambda: Cascade("a", {"m": 0}, ()), "size of rank 'm' must be 1 to 1099511627776, not 0"),
        (
            lambda: Cascade("a", {}, (), {"T": (0,)}),
            "shape of tensor 'T' must be 1 to 1099511627776 each, not (0,)",
        ),
        (
            lambda: Einsum(
                access("A"), (Access("B", (Index(tuple((f"r{i}", 1) for i in range(65))),)),), "identity"
            ),
            "reduce must name an operator over",
        ),
        (
            lambda: Einsum(access("A", *(f"r{i}" for i in range(65))), (access("B"),), "identity"),
            "an Einsum must have at most 64 ranks, not 65",
        ),
    ],
)
def test_illegal_values_cannot_be_built(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(WorkloadError, match="^" + re.escape(message)):
        build()


def test_constants_have_one_text() -> None:
    for value, text in (
        (0.0, "0"),
        (-2.0, "-2"),
        (0.1, "0.1"),
        (1e-12, "1e-12"),
        (float("-inf"), "-inf"),
        (1e20, "1e+20"),
    ):
        assert literal(value) == text
        assert number(text) == value
        assert str(constant(access("A"), value)) == f"A[] = {text}"
    with pytest.raises(WorkloadError, match=r"not 'nan'$"):
        literal(float("nan"))


def test_equal_cascades_have_equal_hashes() -> None:
    one, other = parse(RECURRENT), parse(RECURRENT)
    assert one == other
    assert hash(one) == hash(other)
    assert one != ATTENTION
