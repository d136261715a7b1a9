"""A whole encoder on the RTL: its bits, its cycles, and its answer beside the float model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsim.cli._app import main

RESULTS = Path(__file__).parents[2] / "sim_results"
SENTENCES = [line for line in (RESULTS / "sentences.txt").read_text().splitlines() if line]


def _run(tmp_path: Path, *texts: str) -> dict[str, Any]:
    target = tmp_path / "run.json"
    arguments = [part for text in texts for part in ("--text", text)]
    assert main(["run", "minilm", "--arch", "edge-16x16", *arguments, "--json", str(target)]) == 0
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def _check(sentence: dict[str, Any]) -> None:
    """Bits and cycles are equal, and the answer is near the float model's."""
    assert sentence["compared"] > 0
    assert sentence["mismatches"] == 0
    assert sentence["differences"] == []
    assert sentence["rtl_cycles"] == sentence["simulated_cycles"]
    assert len(sentence["layers"]) == 6
    for layer in sentence["layers"]:
        assert layer["rtl_cycle"] == layer["simulated_cycle"]
    assert sentence["estimated_cycles"] <= sentence["simulated_cycles"]
    assert sentence["cosine"] >= 0.99


@pytest.mark.cosim
def test_a_sentence_of_sixteen_tokens_through_all_layers(tmp_path: Path) -> None:
    """The bounds are the project's own: 0.99 in cosine, 85 % of the multipliers in products with weights."""
    found = _run(tmp_path, SENTENCES[0])
    (sentence,) = found["sentences"]
    assert sentence["tokens"] == 16
    _check(sentence)
    assert sentence["linear_utilization"] >= 0.85
    # Work that no machine can avoid: six layers' products with weights, 16 rows each, at 256 a cycle.
    weights = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert sentence["rtl_cycles"] >= 16 * weights / 256


@pytest.mark.cosim
@pytest.mark.slow
def test_all_sentences_keep_their_order_of_similarity(tmp_path: Path) -> None:
    found = _run(tmp_path, *SENTENCES)
    assert len(found["sentences"]) == len(SENTENCES) >= 20
    for sentence in found["sentences"]:
        _check(sentence)
    assert found["spearman"] >= 0.98
