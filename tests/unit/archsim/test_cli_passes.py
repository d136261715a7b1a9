"""``archsim passes``: its table, its text, its file and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archsim.cli import main
from workloads import library_cascade, passes


def test_table_has_every_rank(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "attention:one-pass", "--seq", "512"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    counts = {row[0]: (row[1], row[2]) for row in rows if len(row) > 2}
    assert {name: counts[name] for name in ("m1", "m0")} == {"m1": ("4", "1"), "m0": ("128", "2")}


def test_one_rank_is_printed_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "attention:three-pass", "--rank", "m", "--seq", "64"]) == 0
    expected = passes(library_cascade("attention:three-pass", seq=64), "m")
    assert capsys.readouterr().out == f"{expected}\n"


def test_file_has_what_forces_each_pass(tmp_path: Path) -> None:
    path = tmp_path / "passes.json"
    assert main(["passes", "attention:three-pass", "--seq", "64", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["cascades"]["three-pass"]
    assert {rank: item["passes"] for rank, item in found.items()} == {"p": 1, "m": 3, "e": 1, "f": 1}
    assert [item["tensor"] for item in found["m"]["revisits"]] == ["QK", "SN"]


def test_a_wrong_rank_is_answered_with_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "attention:one-pass", "--rank", "m"]) == 2
    message = "--rank must be a rank of attention:one-pass (p, m1, m0, e, f), not 'm'"
    assert message in capsys.readouterr().err


def test_a_long_count_says_what_it_is_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "attention:three-pass", "--seq", "64"]) == 0
    assert "counting the passes of three-pass, 6 Einsums ..." in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["attention:one-pass", "--rank", "z"], ["attention:no-pass"]])
def test_wrong_input_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", *arguments]) == 2
    error = capsys.readouterr().err
    assert arguments[-1] in error
    assert "Traceback" not in error
