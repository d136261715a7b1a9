"""``archsim run``: one message for each wrong input, before any long work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.cli import main
from archsim.cli._encoder import pooled
from tests.unit.archsim.test_quantize import save_tokenizer
from tests.unit.workloads.tiny_checkpoints import BERT, random_tensors, save_checkpoint
from workloads import calibrate_encoder, embed, load_weights, save_calibrated

SMALL = """name: small
clock_mhz: 100
array: {rows: 4, cols: 4}
bus: {bytes: 8}
scratchpad: {banks: 4, words_per_bank: 1024}
accumulator: {words: 1024}
parameters: {words: 256}
vector: {buffer_words: 512, rows: 64}
program: {words: 64}
"""


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    folder = save_checkpoint(tmp_path / "bert", BERT, random_tensors(BERT))
    save_tokenizer(folder)
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["run", *arguments]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_text_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "minilm", "--arch", "edge-16x16") == (
        "Error: give 1 to 1000 sentences by --text or --texts, not 0"
    )


def test_a_sentence_has_words(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "minilm", "--arch", "edge-16x16", "--text", " ")
    assert line == "Error: a sentence must have words, not be empty"


def test_a_page_is_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.svg"
    line = refused(capsys, "minilm", "--arch", "edge-16x16", "--text", "a", "--page", str(page))
    assert line.startswith("Error: --page must end in .md")
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_does_not_fit_is_refused_by_its_text(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = tmp_path / "small.yaml"
    arch.write_text(SMALL)
    line = refused(capsys, str(bert), "--arch", str(arch), "--text", "a cat sleeps")
    assert line.startswith(
        "archsim: a text of 5 tokens ('a cat sleeps'): a program must fit the 64 instructions of small, not"
    )
    assert "program: {words: " in line


def test_another_pooling_is_refused(bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": False}))
    line = refused(capsys, str(bert), "--arch", "edge-16x16", "--text", "a cat")
    assert line.endswith("pooling_mode_mean_tokens must be true, the only pooling there is")


def test_integers_of_other_weights_are_refused(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_checkpoint(tmp_path / "other", BERT, random_tensors(BERT, seed=2))
    checkpoint = load_weights(other)
    model = calibrate_encoder(checkpoint, [embed(checkpoint, [1, 3, 2])], signals=False)
    save_calibrated(model, tmp_path / "other.int8")
    arguments = (str(bert), "--arch", "edge-16x16", "--text", "a cat")
    line = refused(capsys, *arguments, "--calibrated", str(tmp_path / "other.int8"))
    assert line == f"archsim: {tmp_path / 'other.int8'} must be made from the weights of {bert}, not others"


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("position_embedding_type", "relative_key", "one of absolute"),
        ("is_decoder", True, "false"),
        ("add_cross_attention", True, "false"),
        ("pruned_heads", {"0": [1]}, "empty"),
        ("embedding_size", 7, "the hidden size"),
    ],
)
def test_an_encoder_that_computes_something_else_is_refused(
    bert: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, wanted: str
) -> None:
    (bert / "config.json").write_text(json.dumps({**BERT, key: value}))
    line = refused(capsys, str(bert), "--arch", "edge-16x16", "--text", "a cat")
    assert f"{key} must be" in line
    assert wanted in line


def test_pooling_is_the_mean_of_length_one() -> None:
    hidden = np.array([[3.0, 0.0], [3.0, 8.0]])
    assert pooled(hidden) == pytest.approx([3 / 5, 4 / 5])
    with pytest.raises(ValueError, match=r"^an embedding must have a direction, not be zero"):
        pooled(np.zeros((2, 3)))
