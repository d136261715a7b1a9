"""YAML cascades: the library's files, and exact refusals with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads._analyze import macs
from workloads._cascade_file import MAX_FILE_BYTES, load_cascade, read_cascade
from workloads._errors import WorkloadError
from workloads._parse import parse

LIBRARY = Path(__file__).parents[3] / "workloads" / "library"

MACS = {
    "gemm": 512**3,
    "one-pass-attention": 16 * 64 * 64 * (64 + 64),
    "selective-scan": 128 * 256 * 16,
}


def test_every_library_file_has_an_expected_count() -> None:
    assert {path.stem for path in LIBRARY.glob("*.yaml")} == set(MACS)


@pytest.mark.parametrize("name", sorted(MACS))
def test_library_file(name: str) -> None:
    cascade = load_cascade(LIBRARY / f"{name}.yaml")
    assert cascade.name == name
    assert macs(cascade) == MACS[name]
    assert parse(str(cascade)) == cascade


def test_file_and_text_give_the_same_value(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: c\nranks: {i: 4}\ntensors:\n  A: [2]\neinsums:\n  - B[i] = A[i - 1]\n")
    assert load_cascade(path) == parse("cascade c\nranks i=4\ntensor A[2]\nB[i] = A[i - 1]\n")


GOOD = "name: c\nranks: {i: 4}\neinsums:\n- B[i] = A[i]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml:1: the file must have the keys name, ranks, tensors, einsums, not be empty"),
        ("- 1", "f.yaml:1: the file must be a mapping, not a list"),
        ("7", "f.yaml:1: the file must be a mapping, not '7'"),
        (GOOD + "rank: {}\n", "f.yaml:5: a key must be one of name, ranks, tensors, einsums, not 'rank'"),
        (GOOD + "name: d\n", "f.yaml:5: key 'name' of the file must be given once, not again"),
        ("ranks: {}\neinsums: []", "f.yaml:1: key 'name' must be given, not left out"),
        ("name: c\nranks: {i: 4}", "f.yaml:1: key 'einsums' must be given, not left out"),
        (
            "name: a b\neinsums: ['A[] = 1']",
            "f.yaml:1: name: a cascade's name must be one word without '#', not 'a b'",
        ),
        ("name: [a]\neinsums: ['A[] = 1']", "f.yaml:1: name must be text, not a list"),
        (GOOD.replace("4", "0"), "f.yaml:2: ranks.i must be an integer from 1 to 1099511627776, not '0'"),
        (GOOD.replace("4", "0x4"), "f.yaml:2: ranks.i must be an integer from 1 to 1099511627776, not '0x4'"),
        (
            GOOD.replace("4", "9999999999999"),
            "f.yaml:2: ranks.i must be an integer from 1 to 1099511627776, not '9",
        ),
        (GOOD.replace("4", "[4]"), "f.yaml:2: ranks.i must be text, not a list"),
        (GOOD.replace("{i: 4}", "4"), "f.yaml:2: ranks must be a mapping, not '4'"),
        (GOOD.replace("{i: 4}", "{i: 4, i: 5}"), "f.yaml:2: key 'i' of ranks must be given once, not again"),
        (
            GOOD + "tensors:\n  A: [4, x]\n",
            "f.yaml:6: tensors.A[1] must be an integer from 1 to 1099511627776, not 'x'",
        ),
        (GOOD + "tensors:\n  A: 4\n", "f.yaml:6: tensors.A must be a list, not '4'"),
        ("name: c\neinsums: []", "f.yaml:2: einsums must have 1 to 10000 entries, not 0"),
        ("name: c\neinsums: {a: b}", "f.yaml:2: einsums must be a list, not a mapping"),
        ("name: c\neinsums:\n- [a]", "f.yaml:3: einsums[0] must be text, not a list"),
        (
            GOOD + "- C[i] = B[i\n",
            "f.yaml:5: einsums[1], column 11 of 'C[i] = B[i': the text must go on with '+' or ',' or '-'",
        ),
        (GOOD + "- C[j] = B[j]\n", "f.yaml:5: einsums[1]: a rank must be one of i, not 'j' in C[j] = B[j]"),
        (GOOD + "- B[i] = A[i]\n", "f.yaml:5: einsums[1]: B must be written once, not again by B[i] = A[i]"),
        (GOOD.replace("4", "&a 4"), "f.yaml:2: the file must have no anchors or aliases, not one"),
        ("name: c\neinsums: " + "[" * 9 + "]" * 9, "f.yaml:2: nesting must be at most 8 deep, not deeper"),
        ("name: c\n  einsums: x", "f.yaml:2: the file must be YAML: mapping values are not allowed here"),
        ("name: \x07", "f.yaml:1: the file must be YAML: unacceptable character #x0007"),
        ("a: b\n---\nc: d\n", "f.yaml:2: the file must be YAML: but found another document"),
    ],
)
def test_refusal_says_file_line_key_wanted_and_found(text: str, message: str) -> None:
    with pytest.raises(WorkloadError) as error:
        read_cascade(text, source="f.yaml")
    assert str(error.value).startswith(message)


def test_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(
        WorkloadError, match=r"big\.yaml: a cascade's file must have at most 1048576 bytes, not more$"
    ):
        load_cascade(path)


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        WorkloadError, match=r"binary\.yaml: a cascade's file must be UTF-8 text, not bytes: "
    ):
        load_cascade(path)


def test_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_cascade(tmp_path / "none.yaml")
