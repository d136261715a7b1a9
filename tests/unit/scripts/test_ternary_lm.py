"""The stored ternary language model: its files, what it predicts, and what training needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from safetensors.numpy import load_file

from scripts.evaluate_ternary_lm import FOLDER, bits_per_character, picker, read, unpack, write

LOG = json.loads((FOLDER / "training.json").read_text())
CONFIG = json.loads((FOLDER / "config.json").read_text())
STORED = load_file(FOLDER / "weights.safetensors")
EXCERPT = (FOLDER / "held_back.txt").read_text()


def test_config_is_of_the_architecture() -> None:
    d, layers = CONFIG["hidden_size"], CONFIG["num_hidden_layers"]
    assert CONFIG["model_type"] == "hgrn_bit"
    assert CONFIG["intermediate_size"] == 256 * -(-int(8 * d / 3) // 256)
    assert CONFIG["vocab_size"] == len(CONFIG["characters"]) == len(set(CONFIG["characters"]))
    assert (d, layers) == (LOG["recipe"]["hidden_size"], LOG["recipe"]["layers"])


def test_parameters_are_counted_in_closed_form() -> None:
    d, layers, inner, symbols = (
        CONFIG[key] for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
    )
    trits = layers * (4 * d * d + 3 * d * inner) + symbols * d
    others = (
        symbols * d + layers * d + layers * 3 * d + d
    )  # embedding, bounds, three gains a layer, last gain
    assert LOG["parameters"] == trits + others
    model = read()
    assert sum(product.size for product, _ in model.products.values()) == trits
    assert sum(tensor.size for tensor in model.others.values()) == others


def test_trits_are_packed_five_to_a_byte() -> None:
    # 1, -1, 0, 1, -1 is 2 + 0*3 + 1*9 + 2*27 + 0*81 = 65; 0, 0, then zeros to fill, is 121.
    packed = np.array([65, 121], np.uint8)
    assert unpack(packed, (1, 7)).tolist() == [[1, -1, 0, 1, -1, 0, 0]]
    for name, tensor in STORED.items():
        if name.endswith(".packed"):
            assert tensor.dtype == np.uint8
            assert tensor.max() <= 242
            assert STORED[name.replace(".packed", ".scale")].shape == ()


def test_every_product_uses_all_three_weights() -> None:
    for trits, scale in read().products.values():
        shares = [float((trits == value).mean()) for value in (-1, 0, 1)]
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        assert min(shares) > 0.1
        assert scale > 0


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 400_000


def test_numpy_measures_what_training_measured() -> None:
    found = bits_per_character(read(), EXCERPT[:1000])
    assert found == pytest.approx(LOG["first_1000_bits_per_character"], abs=0.01)


def test_the_model_beats_every_ngram_model() -> None:
    ngrams = LOG["held_back_bits_per_character_of_kneser_ney"]
    ours = LOG["held_back_bits_per_character"]
    assert ours < ngrams["5"] - 0.25
    assert ours < min(ngrams.values()) - 0.05


def test_the_excerpt_begins_the_held_back_text() -> None:
    assert EXCERPT.startswith("In the days when the judges judged")
    assert len(EXCERPT) == 3000
    assert set(EXCERPT) <= set(CONFIG["characters"])
    assert LOG["data"]["held_back_books"][0] == "Ruth"


def test_changed_trits_are_seen() -> None:
    model = read()
    before = bits_per_character(model, EXCERPT[:100])
    trits, _ = model.products["lm_head"]
    trits[:, 0] = 1 - abs(trits[:, 0])
    assert bits_per_character(model, EXCERPT[:100]) != before


def test_writing_is_repeatable_and_needs_no_luck() -> None:
    model = read()
    texts = []
    for temperature, seed in ((0.0, 1), (0.0, 2), (0.8, 1), (0.8, 1), (0.8, 2)):
        source = write(model, "In the ", picker(temperature, seed))
        texts.append("".join(next(source) for _ in range(20)))
    assert texts[0] == texts[1]
    assert texts[2] == texts[3] != texts[4]


def test_unknown_characters_are_named() -> None:
    with pytest.raises(
        click.ClickException, match=r"^the text must have the model's characters alone, not '7'$"
    ):
        read().codes("Psalm 7")


def test_training_without_pytorch_is_one_line() -> None:
    code = "import sys, runpy; sys.modules['torch'] = None; runpy.run_module('scripts.train_ternary_lm')"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: PyTorch must be installed to train: pip install 'archsim[train]'\n"


def test_the_published_text_is_the_recorded_one() -> None:
    assert LOG["data"]["package"] == "sword-text-web"
    assert {len(LOG["data"][name]["sha256"]) for name in ("train", "validation", "held_back")} == {64}
