"""A language model on the RTL: each token's logits are the oracle's, its counters the simulator's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsim import hgrn_step_image, lower_hgrn
from archsim.cli import main
from rtl import Design, Text, build, run_text
from rtl._cosim import run_jobs
from rtl._language import text_jobs
from tests.unit.archsim.test_lower_hgrn import MACHINE, SMALL, model_of
from workloads import HgrnSizes

pytestmark = pytest.mark.cosim

TOKENS = [5, 0, 18, 5, 5, 2]
TINY = replace(MACHINE, name="tiny-language", array=replace(MACHINE.array, weight_words=256))
FITS = replace(SMALL, layers=1)
"""215 weight words; two layers need 380, and pass through as a ring."""


@pytest.fixture(scope="module")
def design() -> Design:
    return build(TINY)


@pytest.mark.parametrize("sizes", [FITS, SMALL, replace(SMALL, vocab=150)], ids=["resident", "ring", "tiled"])
def test_a_text_agrees_in_bits_and_counters(design: Design, sizes: HgrnSizes) -> None:
    model = model_of(sizes)
    lowered = lower_hgrn(sizes, TINY, model.shifts)
    assert lowered.layout.weights_resident == (sizes is FITS)
    told: list[int] = []
    found = run_text(design, lowered, model, TOKENS, confirmed=lambda position, _: told.append(position))
    assert_agrees(found)
    assert told == list(range(len(TOKENS)))


def assert_agrees(found: Text) -> None:
    assert found.load_counters == {}
    for token in found.tokens:
        assert token.wrong == 0
        assert token.counters == {}
    assert found.passed


def test_a_text_that_begins_again_does_not_remember(design: Design) -> None:
    """The load writes a state of zeros, whatever ran before: a text twice in one simulation is equal."""
    model = model_of(FITS)
    lowered = lower_hgrn(FITS, TINY, model.shifts)
    jobs, _ = text_jobs(lowered, model, TOKENS[:2])
    results = run_jobs(design, [*jobs, *jobs], driver="bare")
    assert [result.mismatches for result in results] == [()] * 6


def test_a_wrong_token_is_found(design: Design) -> None:
    """One embedding of a text taken for another's: its logits, and those behind it, are not the oracle's."""
    model = model_of(FITS)
    lowered = lower_hgrn(FITS, TINY, model.shifts)
    jobs, _ = text_jobs(lowered, model, TOKENS[:3])
    jobs[2] = replace(jobs[2], image=hgrn_step_image(lowered, model, 7))
    results = run_jobs(design, jobs, driver="bare")
    assert [bool(result.mismatches) for result in results] == [False, False, True, True]


def test_a_sentence_of_the_small_model_on_its_board(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    arguments = ["ternary-lm", "--arch", "ternary-ecp5", "--prompt", "And he said", "--tokens", "8"]
    assert main(["run", *arguments, "--json", str(target)]) == 0
    found = json.loads(target.read_text())
    assert found["passed"]
    assert len(found["text"]) == 8
    assert len(found["tokens"]) == 11 + 8 - 1
    assert {token["rtl_cycles"] for token in found["tokens"]} == {found["simulated_cycles"]}
    assert np.sum([token["wrong_logits"] for token in found["tokens"]]) == 0
    assert found["bound_cycles"] <= found["estimated_cycles"] <= found["simulated_cycles"]
