"""Properties of the workload language: text and value, oracle and naive oracle, hostile text, integers."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import _integer as integer
from workloads._analyze import inputs, macs, outputs, tensor_shapes, verify
from workloads._cascade_file import read_cascade
from workloads._einsum import Access, Cascade, Einsum, Index, access, constant
from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._parse import ParseError, parse

RANKS = ("i", "j", "k", "m1")
MAPS = {
    1: ("identity", "square"),
    2: ("mul", "add", "sub", "div", "max", "min"),
    3: ("mul", "add", "max", "where"),
}
REDUCTIONS = ("add", "max", "min", "mul")
UNARIES = ("exp", "neg", "relu", "square", "tanh")

Given = Mapping[str, npt.NDArray[np.float64]]


@st.composite
def indices(draw: st.DrawFn) -> Index:
    ranks = draw(st.lists(st.sampled_from(RANKS), unique=True, max_size=2))
    coefficients = st.integers(-2, 3).filter(bool)
    return Index(tuple((rank, draw(coefficients)) for rank in ranks), draw(st.integers(-3, 3)))


@st.composite
def einsums(draw: st.DrawFn, position: int) -> Einsum:
    operands = tuple(
        Access(f"T{position}.{i}", tuple(draw(st.lists(indices(), max_size=3))))
        for i in range(draw(st.integers(0, 3)))
    )
    output = access(f"Z{position}", *draw(st.lists(st.sampled_from(RANKS), unique=True)))
    if not operands:
        return constant(output, draw(st.floats(allow_nan=False)))
    name, unary = draw(st.sampled_from(MAPS[len(operands)])), draw(st.sampled_from((None, *UNARIES)))
    reduced = any(rank not in output.ranks for item in operands for rank in item.ranks)
    if name == "square" and not reduced and unary is None:
        name = "identity"
    return Einsum(output, operands, name, draw(st.sampled_from(REDUCTIONS)) if reduced else None, unary)


@st.composite
def cascades(draw: st.DrawFn) -> Cascade:
    """Well-formed: a tensor of which a read may be negative has a declared shape, others may."""
    sizes = {rank: draw(st.integers(1, 4)) for rank in RANKS}
    body = tuple(draw(einsums(i)) for i in range(draw(st.integers(1, 3))))
    shapes = {}
    for item in (item for einsum in body for item in einsum.inputs):
        if any(index.range(sizes)[0] < 0 for index in item.indices) or draw(st.booleans()):
            shapes[item.tensor] = tuple(draw(st.integers(1, 5)) for _ in item.indices)
    return Cascade(draw(st.sampled_from(("x", "bert-base", "gemm:4x4"))), sizes, body, shapes)


@st.composite
def recurrences(draw: st.DrawFn) -> Cascade:
    """Two tensors that depend on each other along t, with a start and a step of one or two."""
    step = draw(st.integers(1, 2))
    sizes = {"t": draw(st.integers(1, 5)), "d": draw(st.integers(1, 3)), "c": draw(st.integers(1, 2))}
    binary = st.sampled_from(("mul", "add", "sub", "max", "min"))
    t, d = Index((("t", 1),)), Index((("d", 1),))
    starts = [Einsum(Access("H", (Index((), s), d)), (access("S", "d"),), "identity") for s in range(step)]
    seen = Access("H", (Index((("t", 1),), draw(st.integers(0, step - 1))), d))
    mixed = Einsum(access("G", "t", "d"), (seen, access("A", "t", "d", "c")), draw(binary), "max", "tanh")
    after = Access("H", (Index((("t", 1),), step), d))
    moved = Einsum(after, (access("G", "t", "d"), Access("H", (t, d))), draw(binary))
    last = Einsum(access("Y", "t"), (after,), "identity", "add")
    return Cascade("recurrence", sizes, (*starts, mixed, moved, last))


MAP_OF: dict[str, Callable[..., float]] = {
    "identity": lambda x: x,
    "square": lambda x: x * x,
    "mul": lambda *x: math.prod(x),
    "add": lambda *x: math.fsum(x),
    "sub": lambda x, y: x - y,
    "div": lambda x, y: x / y,
    "max": max,
    "min": min,
    "where": lambda c, x, y: x if c != 0 else y,
}
REDUCTION_OF: dict[str, Callable[[list[float]], float]] = {
    "add": sum,
    "max": max,
    "min": min,
    "mul": math.prod,
}
UNARY_OF: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "neg": lambda x: -x,
    "relu": lambda x: max(x, 0.0),
    "square": lambda x: x * x,
    "tanh": math.tanh,
}


class Naive:
    """One element at a time, on demand: knows no order, no views and no loops over time."""

    def __init__(self, cascade: Cascade, tensors: Given) -> None:
        self.cascade, self.tensors = cascade, tensors
        self.element = functools.cache(self.element)  # type: ignore[method-assign]

    def element(self, tensor: str, place: tuple[int, ...]) -> float:
        if tensor in self.tensors:
            array = self.tensors[tensor]
            inside = all(0 <= p < size for p, size in zip(place, array.shape, strict=True))
            return float(array[place]) if inside else 0.0
        for einsum in self.cascade.einsums:
            at = self.solved(einsum.output, place) if einsum.output.tensor == tensor else None
            if at is not None:
                return self.value(einsum, at)
        raise AssertionError(f"nothing writes {tensor}{place}")

    def solved(self, output: Access, place: tuple[int, ...]) -> dict[str, int] | None:
        at = {}
        for index, p in zip(output.indices, place, strict=True):
            if not index.terms and p != index.offset:
                return None
            for rank in index.ranks:
                at[rank] = p - index.offset
                if not 0 <= at[rank] < self.cascade.ranks[rank]:
                    return None
        return at

    def value(self, einsum: Einsum, at: dict[str, int]) -> float:
        if not einsum.inputs:
            return float(einsum.map)
        values = []
        for point in itertools.product(*(range(self.cascade.ranks[rank]) for rank in einsum.reduced_ranks)):
            here = at | dict(zip(einsum.reduced_ranks, point, strict=True))
            reads = [
                self.element(
                    a.tensor, tuple(i.offset + sum(c * here[r] for r, c in i.terms) for i in a.indices)
                )
                for a in einsum.inputs
            ]
            values.append(MAP_OF[einsum.map](*reads))
        result = REDUCTION_OF[einsum.reduce](values) if einsum.reduce else values[0]
        return UNARY_OF[einsum.unary](result) if einsum.unary else result


def random_inputs(cascade: Cascade, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    shapes, random = tensor_shapes(cascade), np.random.default_rng(seed)
    return {tensor: random.uniform(0.5, 1.5, shapes[tensor]) for tensor in inputs(cascade)}


def divides_by_padding(cascade: Cascade) -> bool:
    return any(e.map == "div" and e.inputs[1].tensor in cascade.shapes for e in cascade.einsums)


def assert_oracles_agree(cascade: Cascade, seed: int) -> None:
    tensors = random_inputs(cascade, seed)
    results, naive = evaluate(cascade, tensors), Naive(cascade, tensors)
    for tensor in {einsum.output.tensor for einsum in cascade.einsums}:
        for place, value in np.ndenumerate(results[tensor]):
            expected = naive.element(tensor, place)
            assert value == expected or math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9)


@given(cascades() | recurrences())
def test_text_reads_back_as_the_value(cascade: Cascade) -> None:
    verify(cascade)
    assert parse(str(cascade)) == cascade
    assert str(parse(str(cascade))) == str(cascade)


@given(cascades().filter(lambda cascade: not divides_by_padding(cascade)), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_oracle_equals_the_naive_oracle(cascade: Cascade, seed: int) -> None:
    assert_oracles_agree(cascade, seed)


@given(recurrences(), st.integers(0, 99))
@settings(deadline=None)
def test_oracle_equals_the_naive_oracle_on_recurrences(cascade: Cascade, seed: int) -> None:
    assert outputs(cascade) == ("Y",)
    assert_oracles_agree(cascade, seed)


@given(cascades())
def test_macs_counts_the_points_of_products(cascade: Cascade) -> None:
    points = 0
    for einsum in cascade.einsums:
        if einsum.map == "mul" and einsum.reduce == "add":
            points += sum(
                1 for _ in itertools.product(*(range(cascade.ranks[rank]) for rank in einsum.ranks))
            )
    assert macs(cascade) == points


def read_or_refused(read: Callable[[str], Cascade], text: str) -> WorkloadError | None:
    """The refusal of ``text``, if it is one; otherwise the cascade is checked to print and read back."""
    try:
        cascade = read(text)
    except WorkloadError as error:
        return error
    assert parse(str(cascade)) == cascade
    return None


LANGUAGE = st.text(alphabet="abm01 2[]()=,+-*/#.\n:einfrakstco", max_size=60)
TEXT = (
    "cascade x\nranks i=4, j=3\ntensor A[4, 3]\n\n"
    "Z[i] = exp(max[j] A[i - 1, j] * B[j])\nH[0] = -inf\nH[i + 1] = Z[i]\n"
)
FILE = (
    "name: x\nranks: {i: 4, j: 3}\ntensors:\n  A: [4, 3]\n"
    "einsums:\n- Z[i] = A[i, 2*j - 1] * B[j]\n- Y[i] = f(Z[i], Z[i])\n"
)


@st.composite
def mutations(draw: st.DrawFn, sample: str) -> str:
    """A few stretches of a good text replaced by others."""
    text = sample
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 6)))
        text = text[:start] + draw(LANGUAGE | st.text(max_size=4)) + text[stop:]
    return text


@given(st.text() | LANGUAGE | mutations(TEXT))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_cascade_or_refused_with_its_place(text: str) -> None:
    error = read_or_refused(parse, text)
    if error is not None:
        assert isinstance(error, ParseError)
        assert 1 <= error.line <= text.count("\n") + 2
        assert error.column >= 1


@given(st.text() | LANGUAGE | mutations(FILE))
@settings(max_examples=300, deadline=None)
def test_any_file_is_a_cascade_or_refused(text: str) -> None:
    error = read_or_refused(read_cascade, text)
    assert error is None or str(error).startswith("<text>:")


INT16 = st.integers(-(2**15), 2**15 - 1)


@given(st.integers(-(2**31), 2**31 - 1), INT16, st.integers(-(2**47), 2**47 - 1), st.integers(0, 63))
def test_affine_equals_unbounded_integers(p: int, m: int, b: int, shift: int) -> None:
    assert integer.affine(p, m, b, shift).item() == max(-(2**15), min(2**15 - 1, p * m + b >> shift))


@given(st.integers(1, 2**62 - 1))
def test_reciprocals_are_within_a_thousandth(value: int) -> None:
    mantissa, exponent = (int(part) for part in integer.rsqrt(value))
    assert abs(mantissa / 2.0**exponent * math.sqrt(value) / 1024 - 1) < 2**-10 + 2**-14
    mantissa, exponent = (int(part) for part in integer.recip(value))
    assert abs(mantissa / 2.0**exponent * value / 128 - 1) < 2**-10 + 2**-14


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40), st.integers(-(2**20), 2**20))
def test_softmax_is_ordered_and_shift_invariant(scores: list[int], shift: int) -> None:
    p = integer.exp_parameters(integer.EXP_UNIT / 64)
    small = np.array([score >> 14 for score in scores])
    row = integer.softmax_rows(small, p.m, p.b, p.shift)
    assert (row >= 0).all()
    order = np.argsort(small, kind="stable")
    assert (np.diff(row[order].astype(int)) >= 0).all()
    moved = integer.softmax_rows(small + (shift >> 10) * 64, p.m, p.b, p.shift)
    assert np.array_equal(moved, row)
