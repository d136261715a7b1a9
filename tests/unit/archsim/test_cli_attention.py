"""The commands on an attention machine: they take an attention and refuse all else in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsim._architecture_file import load_architecture
from archsim._energy_file import load_energy_table
from archsim.cli import main
from archsim.cli._job import Job
from archsim.cli._pipeline import Problem, verifiable
from mapper import search
from workloads import evaluate_quantised, library_cascade, load_model

HEAD = ("attention:one-pass", "--arch", "fusemax-8x8", "--seq", "64")
PERIODS = 8 * 8
"""Blocks of queries times tiles of keys of ``HEAD``, each of 2 * 64 + 10 cycles."""


WANTED = "one attention, softmax(Q K) V without a mask and nothing else, to run as one"


def document(command: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    path = tmp_path / f"{command}.json"
    assert main([command, *HEAD, *more, "--json", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_levels_are_ordered(tmp_path: Path) -> None:
    cycles = [
        document(command, tmp_path, *more)["cycles"]
        for command, *more in (("estimate", "--bound"), ("estimate",), ("simulate", "--waits"))
    ]
    assert cycles[0] == PERIODS * (2 * 64 + 10)
    assert cycles == sorted(cycles)


def test_the_elements_are_busy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document("simulate", tmp_path)
    work = PERIODS * (2 * 64 + 9)
    assert found["utilization"]["elements"] == work / found["cycles"]
    assert found["counters"]["array_special"] == PERIODS * 9
    assert "elements busy" in capsys.readouterr().out


def test_a_mapping_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", *HEAD]) == 0
    shown = capsys.readouterr().out
    assert "AV on fusemax-8x8" in shown
    assert "spatial rows: m1*m0 in 8" in shown


@pytest.mark.parametrize("model", ["attention:one-pass", "attention:grouped-query", "attention:naive"])
def test_what_cosim_checks_are_the_oracles_integers(model: str) -> None:
    arch = load_architecture("fusemax-4x4")
    table = load_energy_table(arch.technology)
    problem = Problem(Job(model=model, arch=arch.name), load_model(model, seq=16), arch, table)
    work = verifiable(problem, seed=1)
    assert work.lowered.quantised is work.quantised
    assert work.quantised.attention is not None
    assert work.quantised.attention.tile == 4
    assert list(evaluate_quantised(work.quantised, work.inputs)) == ["AV"]


def test_search_finds_the_one_tiling() -> None:
    arch = load_architecture("fusemax-8x8")
    cascade = library_cascade("attention:one-pass", seq=64)
    (found,) = search(cascade, arch, table=load_energy_table("45nm"))
    assert (found.kernel, found.evaluated) == ("AV", 1)
    assert (found.tiling.rows, found.tiling.inner_chunks) == (64, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("simulate", "minilm", "--arch", "fusemax-8x8", "--seq", "16"),
            f"fusemax-8x8 has an array of kind fusemax: cascade block must be {WANTED}",
        ),
        (
            ("estimate", "attention:one-pass", "--arch", "fusemax-8x8", "--seq", "65536"),
            "keys of an attention must be at most 65535, not 65536",
        ),
        (
            ("hls", "attention:three-pass", "--arch", "fusemax-8x8", "--seq", "16"),
            "array.kind must be dense for HLS, not fusemax",
        ),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(words)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"archsim: {message}"
