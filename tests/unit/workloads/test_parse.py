"""The Einsum text: values, the printed form, the documented examples, and exact errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workloads._cascade_file import read_cascade
from workloads._einsum import Access, Cascade, Einsum, Index, access, constant
from workloads._errors import WorkloadError
from workloads._parse import MAX_TEXT_CHARACTERS, ParseError, parse, parse_einsum

DOCUMENT = (Path(__file__).parents[3] / "docs" / "einsum.md").read_text(encoding="utf-8")
BLOCKS = [(m[1], m[2]) for m in re.finditer(r"^```([a-z ]+)\n(.*?)^```$", DOCUMENT, re.M | re.S)]


def blocks(kind: str) -> list[str]:
    found = [text for label, text in BLOCKS if label == kind]
    assert found
    return found


def index(*terms: tuple[str, int], offset: int = 0) -> Index:
    return Index(terms, offset)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "Q[m, h, e] = X[m, d] * WQ[d, h, e]",
            Einsum(access("Q", *"mhe"), (access("X", *"md"), access("WQ", *"dhe")), "mul", "add"),
        ),
        ("GM[p] = max[m] QK[p, m]", Einsum(access("GM", "p"), (access("QK", *"pm"),), "identity", "max")),
        ("SD[p] = SN[p, m]", Einsum(access("SD", "p"), (access("SN", *"pm"),), "identity", "add")),
        (
            "SN[p, m] = exp(QK[p, m] - GM[p])",
            Einsum(access("SN", *"pm"), (access("QK", *"pm"), access("GM", "p")), "sub", None, "exp"),
        ),
        (
            "O[k, p] = I[c, 2*p + r - 1] * W[k, c, r]",
            Einsum(
                access("O", *"kp"),
                (Access("I", (index(("c", 1)), index(("p", 2), ("r", 1), offset=-1))), access("W", *"kcr")),
                "mul",
                "add",
            ),
        ),
        (
            "RM[m1 + 1, p] = max(RM[m1, p], LM[m1, p])",
            Einsum(
                Access("RM", (index(("m1", 1), offset=1), index(("p", 1)))),
                (access("RM", "m1", "p"), access("LM", "m1", "p")),
                "max",
            ),
        ),
        ("RM[0, p] = -inf", constant(Access("RM", (index(), index(("p", 1)))), float("-inf"))),
        ("EPS[] = 1e-12", constant(access("EPS"), 1e-12)),
        ("Y[i] = f(A[i], B[i])", Einsum(access("Y", "i"), (access("A", "i"), access("B", "i")), "f")),
        ("Y[i] = f(A[i])", Einsum(access("Y", "i"), (access("A", "i"),), "identity", None, "f")),
        ("Y[i] = g(f(A[i]))", Einsum(access("Y", "i"), (access("A", "i"),), "f", None, "g")),
        ("Y[] = add[i] f(A[i])", Einsum(access("Y"), (access("A", "i"),), "f", "add")),
        ("Y[] = g(add[i] f(A[i]))", Einsum(access("Y"), (access("A", "i"),), "f", "add", "g")),
        ("Y[] = g(max[i] A[i])", Einsum(access("Y"), (access("A", "i"),), "identity", "max", "g")),
        (
            "Y[i] = A[-i + 3]",
            Einsum(access("Y", "i"), (Access("A", (index(("i", -1), offset=3),)),), "identity"),
        ),
        (
            "Y[] = max[i, j] f(A[i], B[j], C[0])",
            Einsum(access("Y"), (access("A", "i"), access("B", "j"), Access("C", (index(),))), "f", "max"),
        ),
    ],
)
def test_text_and_value(text: str, value: Einsum) -> None:
    assert parse_einsum(text) == value
    assert str(value) == text


@pytest.mark.parametrize(
    ("free", "canonical"),
    [
        ("Z[m]=add[k] A[m,k]*B[k]", "Z[m] = A[m, k] * B[k]"),
        ("Z[m] = mul(A[m], B[m])", "Z[m] = A[m] * B[m]"),
        ("Z[m] = A[ 1 + m+m ]", "Z[m] = A[2*m + 1]"),
        ("Z[m] = A[3 + m - 3, k - k + 2]", "Z[m] = A[m, 2]"),
        ("Z[] = 1.50", "Z[] = 1.5"),
        ("Z[] = - 2e3", "Z[] = -2000"),
        ("Z[m] = max[b, a] A[m, a, b]", "Z[m] = max[a, b] A[m, a, b]"),
    ],
)
def test_free_text_has_one_printed_form(free: str, canonical: str) -> None:
    assert str(parse_einsum(free)) == canonical


@pytest.mark.parametrize("text", blocks("einsum"))
def test_documented_example_is_in_printed_form(text: str) -> None:
    assert str(parse(text)) == text


def test_documented_free_form_reads_as_the_printed_one() -> None:
    (free,) = blocks("einsum free")
    after = BLOCKS[BLOCKS.index(("einsum free", free)) + 1]
    assert str(parse(free)) == after[1]


@pytest.mark.parametrize(
    ("text", "message"), list(zip(blocks("einsum wrong"), blocks("message"), strict=True))
)
def test_documented_error(text: str, message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse(text)
    assert str(error.value) == message.strip()


def test_documented_file() -> None:
    (text,) = blocks("yaml")
    cascade = read_cascade(text)
    assert parse(str(cascade)) == cascade
    assert cascade.shapes == {"I": (3, 32, 32)}


HEADER = "cascade x\nranks a=3, b=2\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: the text must go on with 'cascade' or end of line, not end of line"),
        ("ranks a=3", "line 1, column 1: the text must go on with 'cascade' or end of line, not 'ranks'"),
        ("cascade x\nranks a=0", "line 1, column 1: size of rank 'a' must be 1 to 1099511627776, not 0"),
        ("cascade x\nranks a=3, a=4", "line 2, column 12: a rank must be declared once, not again: 'a'"),
        (
            "cascade x\nranks a=1234567890123456",
            "line 2, column 9: the text must go on with an integer, not '1234567890123456'",
        ),
        (
            HEADER + "A[a] = B[a] + C[a] * D[a]",
            "line 3, column 20: the operators of one Einsum must be all '+', not '*'",
        ),
        (
            HEADER + "A[a] = max[a] B[a, b]",
            "line 3, column 8: reduced ranks must be those that the output lacks, ['b'], not ['a']",
        ),
        (
            HEADER + "A[a] = sub(B[a], B[a], B[a])",
            "line 3, column 1: map operator sub must have 2 inputs, not 3",
        ),
        (
            HEADER + "A[a] = 1e999",
            "line 3, column 8: a constant must be a finite number, inf or -inf, not '1e999'",
        ),
        (
            HEADER + "A[2*a] = B[a]",
            "line 3, column 1: an output index must be a rank of its own, that rank plus a positive number, ",
        ),
        (
            HEADER + "A[a] = B[a]\nA[a] = C[a]",
            "line 4, column 1: A must be written once, not again by A[a] = C[a]",
        ),
        (
            HEADER + "A[a] = B[a]\n\nB[a] = 1",
            "line 3, column 1: B must be written before it is read by A[a] = B[a]",
        ),
        (
            HEADER + "inf[a] = B[a]",
            "line 3, column 1: a tensor's name must be none of cascade, inf, nan, ranks, tensor, not 'inf'",
        ),
        (HEADER + "A[a] = B[a] $", "line 3, column 13: the text must go on with "),
    ],
)
def test_error_says_where_wanted_and_found(text: str, message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse(text)
    assert str(error.value).startswith(message)


def test_text_is_capped() -> None:
    with pytest.raises(WorkloadError, match=r"must have at most 1048576 characters, not 1048577$"):
        parse("#" * (MAX_TEXT_CHARACTERS + 1))


def test_windows_line_ends_and_no_final_one() -> None:
    assert parse("cascade x\r\nranks a=2\r\n\r\nA[a] = B[a]") == Cascade(
        "x", {"a": 2}, (Einsum(access("A", "a"), (access("B", "a"),), "identity"),)
    )
