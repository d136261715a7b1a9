"""MiniLM's real weights through the cascade, against a BERT in plain numpy; and damaged checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._weights import Checkpoint, bind_block, embed, load_weights
from workloads._zoo import load_model, minilm_directory

Array = npt.NDArray[np.float64]

TOKENS = (101, 1996, 4248, 2829, 4419, 14523, 2058, 1996, 13971, 3899, 1012, 102)
"""The quick brown fox jumps over the lazy dog, in BERT's uncased vocabulary."""


def _norm(x: Array, weights: dict[str, Any], name: str) -> Array:
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    gain, bias = (weights[f"{name}.LayerNorm.{kind}"].astype(np.float64) for kind in ("weight", "bias"))
    return np.asarray((x - mean) / np.sqrt(variance + 1e-12) * gain + bias)


def _dense(x: Array, weights: dict[str, Any], name: str) -> Array:
    return np.asarray(
        x @ weights[f"{name}.weight"].astype(np.float64).T + weights[f"{name}.bias"].astype(np.float64)
    )


def bert(weights: dict[str, Any], tokens: tuple[int, ...], *, layers: int, heads: int) -> list[Array]:
    """The input of the first layer and the output of each, by definition (Devlin et al., 2019)."""
    e = {
        name: weights[f"embeddings.{name}_embeddings.weight"].astype(np.float64)
        for name in ("word", "position", "token_type")
    }
    x = e["word"][list(tokens)] + e["position"][: len(tokens)] + e["token_type"][0]
    states = [_norm(x, weights, "embeddings")]
    for layer in range(layers):
        x, at = states[-1], f"encoder.layer.{layer}"
        q, k, v = (_dense(x, weights, f"{at}.attention.self.{n}") for n in ("query", "key", "value"))
        width = x.shape[1] // heads
        mixed = np.empty_like(x)
        for head in range(heads):
            s = slice(head * width, (head + 1) * width)
            scores = np.exp(q[:, s] @ k[:, s].T / math.sqrt(width))
            mixed[:, s] = scores / scores.sum(axis=1, keepdims=True) @ v[:, s]
        y = _norm(
            _dense(mixed, weights, f"{at}.attention.output.dense") + x, weights, f"{at}.attention.output"
        )
        inner = _dense(y, weights, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        states.append(_norm(_dense(inner, weights, f"{at}.output.dense") + y, weights, f"{at}.output"))
    return states


def test_six_layers_of_minilm_equal_plain_numpy() -> None:
    checkpoint = load_weights(minilm_directory())
    expected = bert(load_file(minilm_directory() / "model.safetensors"), TOKENS, layers=6, heads=12)
    model = load_model("minilm", seq=len(TOKENS))
    cascade = model.part("block").cascade
    x = embed(checkpoint, TOKENS)
    np.testing.assert_allclose(x, expected[0], rtol=0, atol=1e-12)
    for layer in range(checkpoint.layers):
        x = evaluate(cascade, bind_block(model, checkpoint, layer) | {"X": x})["Z"]
        np.testing.assert_allclose(x, expected[layer + 1], rtol=0, atol=1e-9)
    assert checkpoint.layers == 6


def test_bound_weights_have_the_shapes_of_the_cascade() -> None:
    bound = bind_block(load_model("minilm", seq=16), load_weights(minilm_directory()), 5)
    assert {name: bound[name].shape for name in ("WQ", "WO", "W1", "BQ", "SCALE")} == {
        "WQ": (384, 12, 32),
        "WO": (12, 32, 384),
        "W1": (384, 1536),
        "BQ": (12, 32),
        "SCALE": (),
    }
    assert bound["SCALE"] == 32**-0.5


CONFIG = {
    "model_type": "bert",
    "hidden_size": 4,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "intermediate_size": 6,
    "vocab_size": 9,
    "max_position_embeddings": 5,
}


def _small() -> dict[str, npt.NDArray[np.float32]]:
    d, j, at = 4, 6, "encoder.layer.0"
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (9, d),
        "embeddings.position_embeddings.weight": (5, d),
        "embeddings.token_type_embeddings.weight": (2, d),
        f"{at}.intermediate.dense.weight": (j, d),
        f"{at}.intermediate.dense.bias": (j,),
        f"{at}.output.dense.weight": (d, j),
        f"{at}.output.dense.bias": (d,),
    }
    for name in ("self.query", "self.key", "self.value", "output.dense"):
        shapes |= {f"{at}.attention.{name}.weight": (d, d), f"{at}.attention.{name}.bias": (d,)}
    for name in ("embeddings", f"{at}.attention.output", f"{at}.output"):
        shapes |= {f"{name}.LayerNorm.weight": (d,), f"{name}.LayerNorm.bias": (d,)}
    rng = np.random.default_rng(1)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _saved(folder: Path, tensors: dict[str, npt.NDArray[np.float32]]) -> Checkpoint:
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors")
    return load_weights(folder)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_names_may_have_the_prefix_of_a_model_with_a_head(tmp_path: Path, prefix: str) -> None:
    tensors = _small()
    checkpoint = _saved(tmp_path, {prefix + name: tensor for name, tensor in tensors.items()})
    model = load_model(str(tmp_path), seq=3)
    bound = bind_block(model, checkpoint, 0) | {"X": embed(checkpoint, (1, 8, 0))}
    expected = bert(tensors, (1, 8, 0), layers=1, heads=2)
    np.testing.assert_allclose(evaluate(model.part("block").cascade, bound)["Z"], expected[1], atol=1e-9)


KEY = "encoder.layer.0.attention.self.key.weight"


def _without(t: dict[str, npt.NDArray[np.float32]]) -> None:
    del t[KEY]


def _misshapen(t: dict[str, npt.NDArray[np.float32]]) -> None:
    t[KEY] = t[KEY][:3]


def _nan(t: dict[str, npt.NDArray[np.float32]]) -> None:
    t[KEY][1, 2] = np.nan


def _integers(t: dict[str, Any]) -> None:
    t[KEY] = t[KEY].astype(np.int32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without, "must be in the file, not missing"),
        (_misshapen, r"must have shape \(4, 4\), not \(3, 4\)"),
        (_nan, "must be finite, not NaN or infinite"),
        (_integers, "must be in the file, not missing"),
    ],
)
def test_damaged_tensors_are_named(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    tensors = _small()
    damage(tensors)
    checkpoint = _saved(tmp_path, tensors)
    with pytest.raises(WorkloadError, match=rf"tensor {KEY} {message}$"):
        bind_block(load_model(str(tmp_path), seq=3), checkpoint, 0)


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    checkpoint = _saved(tmp_path, _small())
    model = load_model(str(tmp_path), seq=3)
    with pytest.raises(WorkloadError, match=r"layer must be 0 to 0, not 1$"):
        bind_block(model, checkpoint, 1)
    with pytest.raises(WorkloadError, match=r"a token must be 0 to 8, not 9$"):
        embed(checkpoint, (1, 9))
    with pytest.raises(WorkloadError, match=r"token_ids must be 1 to 5, not 6$"):
        embed(checkpoint, (0,) * 6)
    with pytest.raises(
        WorkloadError, match=r"model must be of bert blocks, with weights WQ, .*, not 'gpt2'$"
    ):
        bind_block(load_model("gpt2"), checkpoint, 0)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    with pytest.raises(WorkloadError, match=r"model\.safetensors must be a readable safetensors file"):
        load_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(WorkloadError, match=r"model\.safetensors must be a readable safetensors file"):
        load_weights(tmp_path)
    save_file({"other": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(
        WorkloadError, match=r"tensor embeddings\.word_embeddings\.weight must be in the file"
    ):
        load_weights(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"model_type": "gpt2"}), encoding="utf-8")
    with pytest.raises(WorkloadError, match="model_type must be one of bert, not 'gpt2'"):
        load_weights(tmp_path)
