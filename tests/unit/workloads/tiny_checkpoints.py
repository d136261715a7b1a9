"""Tiny random checkpoints in the published layouts, and a ViT by definition to hold ours against."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

Floats = npt.NDArray[np.float64]
Tensors = dict[str, npt.NDArray[Any]]

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 12,
}
VIT: dict[str, Any] = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "image_size": 12,
    "patch_size": 4,
    "num_channels": 3,
}


def random_tensors(config: dict[str, Any], *, seed: int = 1) -> Tensors:
    """The tensors of a checkpoint: variance keeping matrices, gains near 1, small biases."""
    shapes = _bert_shapes(config) if config["model_type"] == "bert" else _vit_shapes(config)
    rng = np.random.default_rng(seed)
    return {name: _drawn(rng, name, shape) for name, shape in shapes.items()}


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    values = rng.standard_normal(shape)
    if "orm" in name and name.endswith(".weight"):
        values = 1 + 0.1 * values
    elif name.endswith(".bias"):
        values = 0.1 * values
    elif not name.startswith("embeddings") or "projection" in name:
        values = values / math.sqrt(math.prod(shape[1:]))
    return values.astype(np.float32)


def save_checkpoint(folder: Path, config: dict[str, Any], tensors: Tensors) -> Path:
    """A folder as the published ones: ``config.json`` and ``model.safetensors``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors")
    return folder


def vit_forward(tensors: Tensors, config: dict[str, Any], pixels: Floats) -> list[Floats]:
    """The input of the first layer and the output of each, one image [c, h, w], by definition."""
    t = {name: values.astype(np.float64) for name, values in tensors.items()}
    states = [_vit_input(t, config["patch_size"], pixels)]
    for layer in range(config["num_hidden_layers"]):
        x, at = states[-1], f"encoder.layer.{layer}"
        y = x + _attention(t, f"{at}.attention", _norm(t, f"{at}.layernorm_before", x), config)
        inner = _dense(t, f"{at}.intermediate.dense", _norm(t, f"{at}.layernorm_after", y))
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        states.append(y + _dense(t, f"{at}.output.dense", inner))
    return states


def _vit_input(t: dict[str, Floats], patch: int, pixels: Floats) -> Floats:
    """Patch by patch, as the paper says it."""
    weight, bias = (t[f"embeddings.patch_embeddings.projection.{kind}"] for kind in ("weight", "bias"))
    rows = [t["embeddings.cls_token"][0, 0]]
    for top in range(0, pixels.shape[1], patch):
        for left in range(0, pixels.shape[2], patch):
            window = pixels[:, top : top + patch, left : left + patch]
            rows.append(np.array([np.sum(window * filter_) for filter_ in weight]) + bias)
    return np.asarray(np.stack(rows) + t["embeddings.position_embeddings"][0])


def _norm(t: dict[str, Floats], name: str, x: Floats) -> Floats:
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    normed = (x - mean) / np.sqrt(variance + 1e-12)
    return np.asarray(normed * t[f"{name}.weight"] + t[f"{name}.bias"])


def _dense(t: dict[str, Floats], name: str, x: Floats) -> Floats:
    bias = t.get(f"{name}.bias", np.zeros(1))
    return np.asarray(x @ t[f"{name}.weight"].T + bias)


def _attention(t: dict[str, Floats], at: str, x: Floats, config: dict[str, Any]) -> Floats:
    q, k, v = (_dense(t, f"{at}.attention.{name}", x) for name in ("query", "key", "value"))
    heads = config["num_attention_heads"]
    width = x.shape[1] // heads
    mixed = np.empty_like(x)
    for head in range(heads):
        s = slice(head * width, (head + 1) * width)
        scores = np.exp(q[:, s] @ k[:, s].T / math.sqrt(width))
        mixed[:, s] = scores / scores.sum(axis=1, keepdims=True) @ v[:, s]
    return _dense(t, f"{at}.output.dense", mixed)


def _bert_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, j = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], d),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (2, d),
        **_vector_pair("embeddings.LayerNorm", d),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value"):
            shapes |= _dense_pair(f"{at}.{name}", d, d)
        shapes |= _feed_forward(at, d, j)
        shapes |= _vector_pair(f"{at}.attention.output.LayerNorm", d) | _vector_pair(
            f"{at}.output.LayerNorm", d
        )
    return shapes


def _vit_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, j, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    tokens = (config["image_size"] // patch) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, d),
        "embeddings.position_embeddings": (1, tokens, d),
        "embeddings.patch_embeddings.projection.weight": (d, config["num_channels"], patch, patch),
        "embeddings.patch_embeddings.projection.bias": (d,),
        **_vector_pair("layernorm", d),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            shapes |= _dense_pair(f"{at}.attention.attention.{name}", d, d)
        shapes |= _feed_forward(at, d, j)
        shapes |= _vector_pair(f"{at}.layernorm_before", d) | _vector_pair(f"{at}.layernorm_after", d)
    return shapes


def _feed_forward(at: str, d: int, j: int) -> dict[str, tuple[int, ...]]:
    return {
        **_dense_pair(f"{at}.attention.output.dense", d, d),
        **_dense_pair(f"{at}.intermediate.dense", j, d),
        **_dense_pair(f"{at}.output.dense", d, j),
    }


def _dense_pair(name: str, outs: int, ins: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outs, ins), f"{name}.bias": (outs,)}


def _vector_pair(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}
