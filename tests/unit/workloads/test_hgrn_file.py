"""A language model's folder: what is written is read, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from workloads import FloatModel, HgrnSizes, WorkloadError, load_language_model, pack_trits, random_hgrn

SIZES = HgrnSizes(vocab=5, hidden=8, layers=2, inner=16)
CONFIG: dict[str, Any] = {
    "model_type": "hgrn_bit",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "intermediate_size": 16,
    "vocab_size": 5,
    "characters": "abc \n",
}


def tensors_of(model: FloatModel, raw_bounds: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model.embeddings.weight": model.embeddings,
        "model.norm.weight": model.gain,
        "model.lower_bounds": raw_bounds,
    }
    layers = {"lm_head": model.head}
    for number, block in enumerate(model.blocks):
        name = f"model.layers.{number}"
        found[f"{name}.attn_norm.weight"] = block.mixer_gain
        found[f"{name}.attn.g_norm.weight"] = block.output_gain
        found[f"{name}.mlp_norm.weight"] = block.feed_gain
        layers |= {f"{name}.attn.{letter}_proj": getattr(block, letter) for letter in "ifgo"}
        layers |= {f"{name}.mlp.down_proj": block.down}
        both = np.concatenate([block.gate.trits, block.up.trits])
        found[f"{name}.mlp.gate_proj.packed"] = pack_trits(both)
        found[f"{name}.mlp.gate_proj.scale"] = np.array(block.gate.scale)
    for name, layer in layers.items():
        found[f"{name}.packed"], found[f"{name}.scale"] = pack_trits(layer.trits), np.array(layer.scale)
    return {k: v if v.dtype == np.uint8 else v.astype(np.float32) for k, v in found.items()}


def saved(folder: Path, config: dict[str, Any] = CONFIG, **changed: Any) -> Path:
    bounds = np.random.default_rng(3).normal(size=(2, 8))
    tensors = tensors_of(random_hgrn(SIZES, 1), bounds) | changed
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "weights.safetensors")
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = load_language_model(saved(tmp_path))
    wanted = random_hgrn(SIZES, 1)
    assert found.model.sizes == SIZES
    np.testing.assert_allclose(found.model.embeddings, wanted.embeddings, rtol=1e-6)
    for got, block in zip(found.model.blocks, wanted.blocks, strict=True):
        for name in ("i", "f", "g", "o", "gate", "up", "down"):
            assert (getattr(got, name).trits == getattr(block, name).trits).all()
        np.testing.assert_allclose(got.mixer_gain, block.mixer_gain, rtol=1e-6)
        np.testing.assert_allclose(got.output_gain, block.output_gain, rtol=1e-6)
        np.testing.assert_allclose(got.feed_gain, block.feed_gain, rtol=1e-6)
        np.testing.assert_allclose(got.o.scale, block.o.scale, rtol=1e-6)
    assert (found.model.blocks[0].lower == 0).all()
    assert (found.model.blocks[1].lower > 0).all()


def test_characters_are_tokens(tmp_path: Path) -> None:
    found = load_language_model(saved(tmp_path))
    assert found.encode("cab\n") == [2, 0, 1, 4]
    assert found.decode([2, 0, 1, 4]) == "cab\n"
    with pytest.raises(
        WorkloadError, match=r"^text must be of characters that the model knows, .*, not 'x'$"
    ):
        found.encode("abx")


def test_a_linear_layers_own_gain_of_one_number_is_its_scales(tmp_path: Path) -> None:
    changed: dict[str, Any] = {"model.layers.1.attn.o_proj.norm.weight": np.full(8, 3, np.float32)}
    found = load_language_model(saved(tmp_path, **changed))
    wanted = random_hgrn(SIZES, 1).blocks[1].o.scale * 3
    assert found.model.blocks[1].o.scale == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("model.norm.weight", None, "model.norm.weight must be in the file, not missing"),
        (
            "model.norm.weight",
            np.ones(9, np.float32),
            r"model.norm.weight must be finite floats of shape \[8\], not float32 \[9\]",
        ),
        (
            "model.norm.weight",
            np.full(8, np.nan, np.float32),
            r"model.norm.weight must be finite floats of shape \[8\], not float32 \[8\]",
        ),
        (
            "lm_head.packed",
            np.zeros(8, np.int8),
            "lm_head.packed must be uint8, not int8",
        ),
        (
            "lm_head.scale",
            np.zeros(1, np.float32),
            r"lm_head.scale must be one positive number, not \[0.\]",
        ),
        (
            "lm_head.norm.weight",
            np.arange(8, dtype=np.float32),
            "lm_head.norm.weight must be the same positive number for all columns",
        ),
    ],
)
def test_wrong_tensors_are_named(tmp_path: Path, name: str, tensor: Any, message: str) -> None:
    with pytest.raises(WorkloadError, match=rf"weights\.safetensors: {message}$"):
        load_language_model(saved(tmp_path, **{name: tensor}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "llama"}, "model_type must be hgrn_bit, not 'llama'"),
        (
            {"characters": "abcda"},
            "characters must be 5 different characters, as vocab_size says, not 'abcda'",
        ),
        ({"characters": None}, "characters must be given, not null"),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=rf"config\.json:1: {message}$"):
        load_language_model(saved(tmp_path, CONFIG | fields))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (saved(tmp_path) / "weights.safetensors").unlink()
    with pytest.raises(WorkloadError, match=r"weights\.safetensors must be a readable safetensors file"):
        load_language_model(tmp_path)
