"""Configurations against closed forms of their hyper-parameters, and blocks against plain numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from workloads._analyze import tensor_shapes
from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._huggingface import load_huggingface
from workloads._model import Model, Part, Phase, constant_tensors
from workloads._zoo import load_model

Array = npt.NDArray[np.float64]

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 12,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 20,
    "vocab_size": 50,
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 12,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 20,
    "vocab_size": 50,
}
MIXTRAL: dict[str, Any] = LLAMA | {
    "model_type": "mixtral",
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
}
GPT2: dict[str, Any] = {"model_type": "gpt2", "n_embd": 12, "n_head": 3, "n_layer": 2, "vocab_size": 50}
T5: dict[str, Any] = {
    "model_type": "t5",
    "d_model": 12,
    "d_kv": 5,
    "num_heads": 3,
    "d_ff": 20,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "vocab_size": 50,
}
VIT: dict[str, Any] = {
    "model_type": "vit",
    "hidden_size": 12,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 20,
    "image_size": 12,
    "patch_size": 4,
}


def _load(path: Path, fields: Mapping[str, Any], **options: Any) -> Model:
    (path / "config.json").write_text(json.dumps(dict(fields)), encoding="utf-8")
    return load_huggingface(path / "config.json", **options)


def _attention(tokens: int, keys: int, d: int, *, heads: int, kv: int, dim: int) -> int:
    """Projections of one token's query, key, value and output, then scores and their product with values."""
    return tokens * (d * dim * (heads + 2 * kv) + heads * dim * d) + 2 * tokens * keys * heads * dim


def _tokens(phase: Phase, seq: int, batch: int) -> int:
    return batch * (seq if phase == "prefill" else 1)


def gpt_like(d: int, layers: int, inner: int, vocab: int, *, n: int, seq: int, head: int) -> int:
    """GPT-2 and OPT: equal heads, two layers in the feed-forward, a language-model head for every token."""
    each = _attention(n, seq, d, heads=head, kv=head, dim=d // head) + 2 * n * d * inner
    return layers * each + n * d * vocab


def llama_like(fields: Mapping[str, int], *, n: int, seq: int, ffn_tokens: int, router: int = 0) -> int:
    """Llama, Mistral, Mixtral: grouped heads, three matrices in each token's feed-forward."""
    d = fields["d"]
    each = _attention(n, seq, d, heads=fields["heads"], kv=fields["kv"], dim=fields["dim"])
    each += 3 * ffn_tokens * d * fields["inner"] + n * d * router
    return fields["layers"] * each + n * d * fields["vocab"]


LLAMA2 = {"d": 4096, "heads": 32, "kv": 32, "dim": 128, "inner": 11008, "layers": 32, "vocab": 32000}
LLAMA3 = LLAMA2 | {"kv": 8, "inner": 14336, "vocab": 128256}
MISTRAL = LLAMA3 | {"vocab": 32000}


@pytest.mark.parametrize(
    ("phase", "seq", "batch"), [("prefill", 64, 1), ("prefill", 7, 3), ("decode", 100, 1), ("decode", 33, 4)]
)
class TestDecoderOnlyFamilies:
    """Published dimensions, both phases, with and without a batch."""

    @pytest.mark.parametrize(
        ("name", "args", "head"),
        [
            ("gpt2", (768, 12, 3072, 50257), 12),
            ("gpt3-6.7b", (4096, 32, 16384, 50257), 32),
            ("opt-125m", (768, 12, 3072, 50272), 12),
        ],
    )
    def test_gpt_like(
        self, name: str, args: tuple[int, int, int, int], head: int, phase: Phase, seq: int, batch: int
    ) -> None:
        n = _tokens(phase, seq, batch)
        expected = gpt_like(*args, n=n, seq=seq, head=head)
        assert load_model(name, phase=phase, seq=seq, batch=batch).macs == expected

    @pytest.mark.parametrize(
        ("name", "fields"), [("llama-2-7b", LLAMA2), ("llama-3-8b", LLAMA3), ("mistral-7b", MISTRAL)]
    )
    def test_llama_like(
        self, name: str, fields: Mapping[str, int], phase: Phase, seq: int, batch: int
    ) -> None:
        n = _tokens(phase, seq, batch)
        expected = llama_like(fields, n=n, seq=seq, ffn_tokens=n)
        assert load_model(name, phase=phase, seq=seq, batch=batch).macs == expected

    def test_mixtral(self, phase: Phase, seq: int, batch: int) -> None:
        n = _tokens(phase, seq, batch)
        expected = llama_like(MISTRAL, n=n, seq=seq, ffn_tokens=2 * n, router=8)
        assert load_model("mixtral-8x7b", phase=phase, seq=seq, batch=batch).macs == expected


@pytest.mark.parametrize(("seq", "batch"), [(128, 1), (33, 3), (4096, 1)])
@pytest.mark.parametrize(
    ("name", "d", "layers", "inner"),
    [("minilm", 384, 6, 1536), ("bert-base", 768, 12, 3072), ("bert-large", 1024, 24, 4096)],
)
def test_bert_encoders(name: str, d: int, layers: int, inner: int, seq: int, batch: int) -> None:
    expected = batch * layers * (4 * seq * d**2 + 2 * seq**2 * d + 2 * seq * d * inner)
    assert load_model(name, seq=seq, batch=batch).macs == expected


@pytest.mark.parametrize("batch", [1, 5])
def test_vit_base(batch: int) -> None:
    n, d = 197, 768
    blocks = 12 * (4 * n * d**2 + 2 * n**2 * d + 2 * n * d * 3072)
    patches = 14 * 14 * d * 3 * 16 * 16
    assert load_model("vit-base", batch=batch).macs == batch * (patches + blocks + d * 1000)


@pytest.mark.parametrize(("seq", "batch"), [(64, 1), (17, 2)])
def test_t5_small(seq: int, batch: int) -> None:
    """Encoder and decoder over ``seq`` tokens each; a decode projects no keys of the source."""
    d, inner, vocab = 512, 2048, 32128
    square, scores = d * d, 2 * seq * d
    encoder = 6 * seq * (4 * square + scores + 2 * d * inner)
    decoder = 6 * seq * (8 * square + 2 * scores + 2 * d * inner) + seq * d * vocab
    assert load_model("t5-small", seq=seq, batch=batch).macs == batch * (encoder + decoder)
    step = 6 * (6 * square + 2 * scores + 2 * d * inner) + d * vocab
    assert load_model("t5-small", seq=seq, batch=batch, phase="decode").macs == batch * step


@pytest.mark.parametrize(
    ("tokens", "sizes"), [(1, {1: 2}), (2, {1: 4}), (4, {2: 3, 1: 2}), (5, {2: 5}), (101, {41: 2, 40: 3})]
)
def test_expert_pairs_are_spread_exactly(tmp_path: Path, tokens: int, sizes: Mapping[int, int]) -> None:
    """Tokens of an expert, and experts of that size, for five experts and two choices; two layers."""
    model = _load(tmp_path, MIXTRAL, seq=tokens)
    experts = [part for part in model.parts if "expert" in part.cascade.name]
    assert {part.cascade.ranks["t"]: part.repeat for part in experts} == {t: 2 * n for t, n in sizes.items()}
    assert sum(part.macs for part in experts) == 2 * (2 * tokens) * 3 * 12 * 20


def test_sliding_window_bounds_the_cache_of_a_decode(tmp_path: Path) -> None:
    fields = LLAMA | {"model_type": "mistral", "sliding_window": 8}
    assert (
        _load(tmp_path, fields, seq=100, phase="decode").macs
        == _load(tmp_path, fields, seq=8, phase="decode").macs
    )
    full = _load(tmp_path, fields, seq=100)
    assert full.macs == _load(tmp_path, fields | {"sliding_window": None}, seq=100).macs
    assert full.notes == (
        "the sliding window of 8 tokens bounds the cache of a decode; a prefill only masks by it",
    )


def test_length_beyond_the_positions_is_noted(tmp_path: Path) -> None:
    model = _load(tmp_path, BERT | {"max_position_embeddings": 16}, seq=17)
    assert model.notes == ("seq 17 exceeds the 16 positions that the model was trained for",)
    assert _load(tmp_path, BERT | {"max_position_embeddings": 16}, seq=16).notes == ()


@pytest.mark.parametrize(
    ("fields", "architecture", "extra"),
    [
        (BERT, "BertModel", 0),
        (BERT, "BertForMaskedLM", 8 * 12 * 12 + 8 * 12 * 50),
        (BERT | {"num_labels": 7}, "BertForSequenceClassification", 12 * 12 + 12 * 7),
        (LLAMA, "LlamaModel", 0),
        (LLAMA, "LlamaForCausalLM", 8 * 12 * 50),
        (LLAMA | {"id2label": {"0": "a", "1": "b", "2": "c"}}, "LlamaForSequenceClassification", 12 * 3),
        (GPT2, "GPT2LMHeadModel", 8 * 12 * 50),
    ],
)
def test_heads_follow_the_architecture(
    tmp_path: Path, fields: dict[str, Any], architecture: str, extra: int
) -> None:
    model = _load(tmp_path, fields | {"architectures": [architecture]}, seq=8)
    assert model.macs - model.part("block").macs == extra


def test_opt_projects_its_embeddings(tmp_path: Path) -> None:
    fields = {
        "model_type": "opt",
        "hidden_size": 12,
        "word_embed_proj_dim": 5,
        "num_attention_heads": 3,
        "num_hidden_layers": 2,
        "ffn_dim": 20,
        "vocab_size": 50,
        "do_layer_norm_before": False,
    }
    model = _load(tmp_path, fields, seq=8)
    assert model.macs - model.part("block").macs == 8 * 5 * 12 + 8 * 12 * 5 + 8 * 5 * 50


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"model_type": "bort"},
        "model_type must be one of bert, gpt2, hgrn_bit, llama, mistral, mixtral, opt, t5, vit, not 'bort'",
    ),
    ({}, "model_type must be given, not missing"),
    (BERT | {"hidden_size": 13}, r"hidden_size must be a multiple of num_attention_heads \(3\), not 13"),
    (BERT | {"hidden_size": "12"}, "hidden_size must be an integer from 1 to 16777216, not '12'"),
    (BERT | {"hidden_size": True}, "hidden_size must be an integer from 1 to 16777216, not True"),
    (BERT | {"num_hidden_layers": 0}, "num_hidden_layers must be an integer from 1 to 16777216, not 0"),
    (BERT | {"intermediate_size": None}, "intermediate_size must be given, not null"),
    (BERT | {"hidden_act": "maxout"}, "hidden_act must be one of gelu, .*, not 'maxout'"),
    (BERT | {"layer_norm_eps": -1}, "layer_norm_eps must be a positive number, not -1"),
    (BERT | {"architectures": ["BertThing"]}, "architectures must be a name ending in .*, not 'BertThing'"),
    (BERT | {"architectures": "BertModel"}, "architectures must be a list of one name, not 'BertModel'"),
    (
        LLAMA | {"num_key_value_heads": 4},
        r"num_key_value_heads must be a divisor of num_attention_heads \(6\), not 4",
    ),
    (LLAMA | {"head_dim": 3}, "head_dim must be even, for rotary embeddings, not 3"),
    (
        MIXTRAL | {"num_experts_per_tok": 6},
        r"num_experts_per_tok must be at most num_local_experts \(5\), not 6",
    ),
    (VIT | {"image_size": 13}, r"image_size must be a multiple of patch_size \(4\), not 13"),
    (T5 | {"feed_forward_proj": "odd"}, "feed_forward_proj must be one of .*, not 'odd'"),
    (
        VIT | {"architectures": ["ViTForImageClassification"], "id2label": {"0": "a"}, "num_labels": 2},
        "num_labels must be 1, the number of labels in id2label, not 2",
    ),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_wrong_fields_are_named(tmp_path: Path, fields: Mapping[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=rf"config\.json(:1)?: {message}$"):
        _load(tmp_path, fields)


def test_a_wrong_field_is_shown_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    fields = {
        "label2id": {"num_hidden_layers": 7, "{ [": [[]]},
        "note": 'a "quoted" : colon\n, "hidden_size": 3',
        **BERT,
        "num_hidden_layers": 0,
    }
    text = json.dumps(fields, indent=2)
    line = 1 + text[: text.index('"num_hidden_layers": 0')].count("\n")
    path.write_text(text.replace('"num_hidden_layers": 0', '"num_hidden_layers"\t\n :0'), encoding="utf-8")
    message = rf"config\.json:{line}: num_hidden_layers must be an integer from 1 to 16777216, not 0$"
    with pytest.raises(WorkloadError, match=message):
        load_huggingface(path)
    path.write_text(text, encoding="utf-16")
    with pytest.raises(WorkloadError, match=message):
        load_huggingface(path)


@pytest.mark.parametrize("fields", [BERT, LLAMA, MIXTRAL, GPT2, T5, VIT])
def test_each_required_field_is_named_when_missing(tmp_path: Path, fields: Mapping[str, Any]) -> None:
    optional = {"num_key_value_heads", "head_dim", "num_decoder_layers"}
    optional |= {"vocab_size"} if fields is BERT else set()
    for key in fields.keys() - optional:
        with pytest.raises(WorkloadError, match=f"{key} must be given, not missing"):
            _load(tmp_path, {k: v for k, v in fields.items() if k != key})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "a configuration must be an object, not list"),
        ("{", r"config\.json:1:2: a configuration must be JSON"),
        ("[" * 100_000, "a configuration must be JSON"),
        (" " * (1 << 20) + "{}", "must be at most 1048576 bytes"),
        ("\x00", "a configuration must be JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(WorkloadError, match=message):
        load_huggingface(tmp_path / "config.json")


# --- what the blocks compute ---------------------------------------------------------------------


def _random_tensors(part: Part, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(part.cascade)
    names = sorted(part.weights | part.inputs)
    return {name: rng.standard_normal(shapes[name]) for name in names} | constant_tensors(part)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _rms(x: Array, gain: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * gain)


def _layer(x: Array, gain: Array, bias: Array, eps: float) -> Array:
    c = x - x.mean(axis=-1, keepdims=True)
    return np.asarray(c / np.sqrt((c**2).mean(axis=-1, keepdims=True) + eps) * gain + bias)


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """``x`` [token, head, dim] by the library's rotate_half: minus the second half, then the first."""
    half = x.shape[-1] // 2
    turned = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return np.asarray(x * cos[:, None] + turned * sin[:, None])


def _angles(tokens: int, dim: int) -> tuple[Array, Array]:
    """Cosines and sines [token, dim], the two halves equal."""
    frequencies = 10000.0 ** (-np.arange(0, dim, 2) / dim)
    angles = np.arange(tokens)[:, None] * frequencies
    both = np.concatenate([angles, angles], axis=1)
    return np.cos(both), np.sin(both)


def _tables(cos: Array, sin: Array) -> tuple[Array, Array]:
    """The cascade's tables [token, half, element], the first half's sine negative."""
    shape = (cos.shape[0], 2, cos.shape[1] // 2)
    signed = sin.reshape(shape) * np.array([-1.0, 1.0])[:, None]
    return cos.reshape(shape), signed


@pytest.mark.parametrize("batch", [1, 2])
def test_llama_block_computes(tmp_path: Path, batch: int) -> None:
    seq, d, heads, kv, dim, eps = 5, 12, 6, 3, 4, 1e-6
    part = _load(tmp_path, LLAMA, seq=seq, batch=batch).part("block")
    t = _random_tensors(part, 1)
    cos, sin = _angles(seq, dim)
    t["COSp"], t["SINp"] = t["COSm"], t["SINm"] = _tables(cos, sin)
    t["MASK"] = np.where(np.tri(seq) > 0, 0.0, -np.inf)
    found = evaluate(part.cascade, t)["Z"]
    for b, x in enumerate(t["X"] if batch > 1 else [t["X"]]):
        h = _rms(x, t["GXN"], eps)
        q = _rotate((h @ t["WQ"].reshape(d, -1)).reshape(seq, heads, dim), cos, sin)
        k = _rotate((h @ t["WK"].reshape(d, -1)).reshape(seq, kv, dim), cos, sin)
        v = (h @ t["WV"].reshape(d, -1)).reshape(seq, kv, dim)
        mixed = np.zeros((seq, heads, dim))
        for head in range(heads):
            g = head // (heads // kv)
            scores = q[:, head] @ k[:, g].T / math.sqrt(dim) + t["MASK"]
            mixed[:, head] = _softmax(scores) @ v[:, g]
        r = mixed.reshape(seq, -1) @ t["WO"].reshape(-1, d) + x
        y = _rms(r, t["GYN"], eps)
        gate = y @ t["WG"]
        expected = (gate / (1 + np.exp(-gate)) * (y @ t["WU"])) @ t["W2"] + r
        np.testing.assert_allclose(found[b] if batch > 1 else found, expected, rtol=1e-9, atol=1e-9)


def test_gpt2_decode_equals_the_last_row_of_its_prefill(tmp_path: Path) -> None:
    """Keys and values of a prefill, put into the caches, give a decode of the same last token."""
    seq = 6
    part = _load(tmp_path, GPT2, seq=seq).part("block")
    t = _random_tensors(part, 2)
    t["MASK"] = np.where(np.tri(seq) > 0, 0.0, -np.inf)
    full = evaluate(part.cascade, t)
    step = _load(tmp_path, GPT2, seq=seq, phase="decode").part("block")
    given = {name: t[name] for name in (*step.weights, *step.constants)}
    given |= {"X": t["X"][-1:], "KC": full["KB"], "VC": full["VB"]}
    found = evaluate(step.cascade, given)
    np.testing.assert_allclose(found["Z"], full["Z"][-1:], rtol=1e-12)
    np.testing.assert_allclose(found["KB"], full["KB"][-1:], rtol=1e-12)


def test_t5_decoder_block_computes(tmp_path: Path) -> None:
    seq, d, heads, eps = 4, 12, 3, 1e-6
    part = _load(tmp_path, T5, seq=seq).part("decoder")
    t = _random_tensors(part, 3)
    found = evaluate(part.cascade, t)["Z"]

    def attend(source: Array, memory: Array, prefix: str, bias: Array | float) -> Array:
        q, k, v = (
            (x @ t[f"W{prefix}{n}"].reshape(d, -1)).reshape(seq, heads, -1)
            for n, x in (("Q", source), ("K", memory), ("V", memory))
        )
        scores = np.einsum("phe,mhe->hpm", q, k) + bias
        mixed = np.einsum("hpm,mhf->phf", _softmax(scores), v)
        return np.asarray(mixed.reshape(seq, -1) @ t[f"W{prefix}O"].reshape(-1, d))

    x = t["X"]
    h = _rms(x, t["GXN"], eps)
    r = x + attend(h, h, "", t["PB"])
    r = r + attend(_rms(r, t["GCN"], eps), t["S"], "C", 0.0)
    expected = r + np.maximum(_rms(r, t["GYN"], eps) @ t["W1"], 0) @ t["W2"]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_mixture_computes_from_its_parts(tmp_path: Path) -> None:
    """Router probabilities, one expert over its tokens, and the weighted sum over the top two."""
    seq = 5
    model = _load(tmp_path, MIXTRAL, seq=seq)
    block = model.part("block")
    t = _random_tensors(block, 4)
    routed = evaluate(block.cascade, t)
    expected = _softmax(_rms(routed["R1"], t["GYN"], 1e-5) @ t["WRT"])
    np.testing.assert_allclose(routed["PX"], expected, rtol=1e-9)
    expert = model.part("block_expert")
    e = _random_tensors(expert, 5)
    gate = e["XE"] @ e["WG"]
    made = (gate / (1 + np.exp(-gate)) * (e["XE"] @ e["WU"])) @ e["W2"] * e["P"][:, None]
    np.testing.assert_allclose(evaluate(expert.cascade, e)["EW"], made, rtol=1e-9, atol=1e-12)
    combine = model.part("block_combine")
    c = _random_tensors(combine, 6)
    np.testing.assert_allclose(evaluate(combine.cascade, c)["Z"], c["EW"].sum(axis=1) + c["R1"], rtol=1e-12)


def test_vit_patches_are_a_convolution(tmp_path: Path) -> None:
    part = _load(tmp_path, VIT).part("patches")
    t = _random_tensors(part, 7)
    found = evaluate(part.cascade, t)["EB"]
    for y in range(3):
        for x in range(3):
            patch = t["IMAGE"][:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            np.testing.assert_allclose(
                found[:, y, x], (t["WE"] * patch).sum(axis=(1, 2, 3)) + t["BE"], rtol=1e-9
            )


def test_masked_language_model_head_computes(tmp_path: Path) -> None:
    part = _load(tmp_path, BERT | {"architectures": ["BertForMaskedLM"]}, seq=4).part("head")
    t = _random_tensors(part, 8)
    dense = t["Z"] @ t["WT"] + t["BT"]
    gelu = dense * 0.5 * (1 + np.vectorize(math.erf)(dense / math.sqrt(2)))
    expected = _layer(gelu, t["GTN"], t["BTN"], 1e-12) @ t["WLG"] + t["BLG"]
    np.testing.assert_allclose(evaluate(part.cascade, t)["LGB"], expected, rtol=1e-8, atol=1e-8)
