"""Weights through the cascade, against a BERT and a ViT in plain numpy; and damaged checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save, save_file

from tests.unit.workloads.tiny_checkpoints import VIT, Tensors, random_tensors, save_checkpoint, vit_forward
from workloads._encoder import bind_encoder, encoder_cascade
from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._weights import Checkpoint, bind_block, embed, embed_image, load_weights
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


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_configuration_of_fewer_layers_is_refused(tmp_path: Path, prefix: str) -> None:
    tensors = {prefix + name: values for name, values in _small().items()}
    copies = {
        name.replace("layer.0.", f"layer.{layer}."): values + 1
        for name, values in tensors.items()
        for layer in range(1, 11)
        if "layer.0." in name
    }
    message = r"config\.json:1: num_hidden_layers must be the 11 layers of model\.safetensors, not 1$"
    with pytest.raises(WorkloadError, match=message):
        _saved(tmp_path, tensors | copies)


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
    with pytest.raises(WorkloadError, match="model_type must be one of bert, vit, not 'gpt2'"):
        load_weights(tmp_path)


IMAGE = np.random.default_rng(4).normal(size=(3, 12, 12))


def _assert_follows_vit(folder: Path, tensors: Tensors, config: dict[str, Any]) -> None:
    checkpoint, model = load_weights(folder), load_model(str(folder))
    expected = vit_forward(tensors, config, IMAGE)
    x = embed_image(checkpoint, IMAGE)
    np.testing.assert_allclose(x, expected[0], rtol=0, atol=1e-12)
    made = evaluate(encoder_cascade(model), {**bind_encoder(model, checkpoint), "X": x})
    for layer in range(2):
        np.testing.assert_allclose(made[f"Z.{layer}"], expected[layer + 1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("prefix", ["", "vit."])
@pytest.mark.parametrize("bias", [True, False])
def test_two_layers_of_a_vit_equal_plain_numpy(tmp_path: Path, prefix: str, bias: bool) -> None:
    tensors = random_tensors(VIT)
    if not bias:
        tensors = {
            name: t for name, t in tensors.items() if "attention.attention" not in name or "weight" in name
        }
    named = {prefix + name: tensor for name, tensor in tensors.items()}
    named["classifier.weight"] = np.zeros((2, 16), np.float32)
    config = VIT | {"qkv_bias": bias}
    _assert_follows_vit(save_checkpoint(tmp_path, config, named), tensors, config)


def _shard(folder: Path, tensors: Tensors, files: dict[str, list[str]]) -> None:
    """``tensors`` spread over ``files``, each with the endings of the names that it holds."""
    held = {
        name: next(file for file, endings in files.items() if name.endswith(tuple(endings)))
        for name in tensors
    }
    for file in files:
        save_file({name: t for name, t in tensors.items() if held[name] == file}, folder / file)
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": held})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")


def test_a_checkpoint_may_be_in_shards(tmp_path: Path) -> None:
    tensors = random_tensors(VIT)
    save_checkpoint(tmp_path, VIT, tensors)
    (tmp_path / "model.safetensors").unlink()
    _shard(tmp_path, tensors, {"a-00001.safetensors": ["weight"], "b-00002.safetensors": [""]})
    _assert_follows_vit(tmp_path, tensors, VIT)
    (tmp_path / "b-00002.safetensors").unlink()
    with pytest.raises(WorkloadError, match=r"b-00002\.safetensors must be a readable safetensors file"):
        load_weights(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"index\.json must be JSON"),
        ("[]", r"weight_map must be an object of tensors and their files$"),
        ('{"weight_map": {"a": 3}}', r"weight_map must be an object of tensors and their files$"),
        (
            '{"weight_map": {"a": "../a.safetensors"}}',
            r"a file must be a \.safetensors beside the index, not '\.\./a\.safetensors'$",
        ),
    ],
)
def test_a_wrong_index_is_refused(tmp_path: Path, text: str, message: str) -> None:
    save_checkpoint(tmp_path, VIT, random_tensors(VIT))
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    with pytest.raises(WorkloadError, match=message):
        load_weights(tmp_path)


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    tensors = random_tensors(VIT)
    halves = {name: (t.view(np.uint32) >> 16).astype("<u2") for name, t in tensors.items()}
    cut = {name: (t.astype(np.uint32) << 16).view(np.float32) for name, t in halves.items()}
    save_checkpoint(tmp_path, VIT, tensors)
    # numpy has no bfloat16 to save: a file of unsigned halves, and then the other name of their type.
    raw = save(halves)
    length = 8 + int.from_bytes(raw[:8], "little")
    header = raw[8:length].replace(b'"U16"', b'"BF16"')
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw[length:])
    _assert_follows_vit(tmp_path, cut, VIT)
    assert any((cut[name] != tensors[name]).any() for name in tensors)


VIT_KEY = "vit.encoder.layer.1.layernorm_after.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(VIT_KEY), "must be in the file, not missing"),
        (lambda t: t.update({VIT_KEY: t[VIT_KEY][:5]}), r"must have shape \(16,\), not \(5,\)"),
        (
            lambda t: t.update({VIT_KEY: t[VIT_KEY] * np.float32(np.inf)}),
            "must be finite, not NaN or infinite",
        ),
    ],
)
def test_damaged_tensors_of_a_vit_are_named(
    tmp_path: Path, edit: Callable[[Tensors], object], message: str
) -> None:
    tensors = {f"vit.{name}": tensor for name, tensor in random_tensors(VIT).items()}
    edit(tensors)
    checkpoint = load_weights(save_checkpoint(tmp_path, VIT, tensors))
    with pytest.raises(WorkloadError, match=rf"tensor {VIT_KEY} {message}$"):
        bind_encoder(load_model(str(tmp_path)), checkpoint)


def test_wrong_images_are_refused(tmp_path: Path) -> None:
    checkpoint = load_weights(save_checkpoint(tmp_path, VIT, random_tensors(VIT)))
    with pytest.raises(WorkloadError, match=r"pixels must have shape \(3, 12, 12\), not \(12, 12, 3\)$"):
        embed_image(checkpoint, IMAGE.T)
    with pytest.raises(WorkloadError, match=r"pixels must be finite, not NaN or infinite$"):
        embed_image(checkpoint, IMAGE * np.nan)
    with pytest.raises(WorkloadError, match=r"a checkpoint must be of bert to embed tokens, not of vit$"):
        embed(checkpoint, (1, 2))
    with pytest.raises(WorkloadError, match=r"a checkpoint must be of vit to embed images, not of bert$"):
        embed_image(load_weights(minilm_directory()), IMAGE)
    with pytest.raises(
        WorkloadError, match=r"model must be of vit blocks, with weights GXN, .*, not 'minilm'$"
    ):
        bind_block(load_model("minilm", seq=4), checkpoint, 0)
