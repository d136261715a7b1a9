"""Hugging Face ``config.json`` files: one reader a family, from the file's fields to a Model.

Decisions that hold for all families:

- Embedding look-ups are host work and no multiply-accumulates; so are the norm and the sum behind them.
- The network is the one that ``architectures`` names. A bare ``...Model`` ends with its hidden
  states: the optional pooler of BERT and ViT is not part of it. A language-model head runs for every
  token that is computed, a classifier once for each sequence.
- Attention scores are counted in full; a causal prefill adds the input ``MASK``.
- A sliding window bounds the cache of a decode and is in the mask of a prefill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from workloads._block import Block, Experts, Run, block_parts, part
from workloads._config_file import Config, read_config
from workloads._einsum import Access, Index
from workloads._ending import Ending, Head, end
from workloads._errors import WorkloadError
from workloads._hgrn import hgrn_parts, hgrn_sizes
from workloads._model import HostWork, Model, Part, Phase
from workloads._transformer import Fragment, add, cascade, linear, product, tensor

DEFAULT_SEQ = 128
"""Length where the caller gives none and the model does not fix it."""

_ACTIVATIONS: Mapping[str, str] = MappingProxyType(
    {
        "gelu": "gelu",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu_fast": "gelu_tanh",
        "relu": "relu",
        "silu": "silu",
        "swish": "silu",
        "tanh": "tanh",
    }
)
_HEADS: tuple[tuple[str, Head], ...] = (
    ("ForMaskedLM", "masked_lm"),
    ("ForCausalLM", "lm"),
    ("LMHeadModel", "lm"),
    ("ForConditionalGeneration", "lm"),
    ("ForSequenceClassification", "classifier"),
    ("ForImageClassification", "classifier"),
    ("EncoderModel", "none"),
    ("Model", "none"),
)


def load_huggingface(
    path: Path, *, phase: Phase = "prefill", seq: int | None = None, batch: int = 1
) -> Model:
    """The model that ``path`` (a ``config.json``) describes.

    ``seq`` is the length of a prefill, or the tokens that a decode attends to, its own included. For
    t5 a prefill runs the encoder on ``seq`` source tokens and the decoder on ``seq`` target tokens; a
    decode one decoder step that attends to ``seq`` target and ``seq`` source tokens. For vit the image
    fixes it. Raises :class:`WorkloadError` that names the field at fault.
    """
    return from_config(read_config(path), phase=phase, seq=seq, batch=batch)


def from_config(config: Config, *, phase: Phase, seq: int | None, batch: int) -> Model:
    """As :func:`load_huggingface`, from fields already read."""
    family = config.choice("model_type", _FAMILIES)
    if seq is not None and seq < 1:
        raise WorkloadError(f"seq must be at least 1, not {seq}")
    if batch < 1:
        raise WorkloadError(f"batch must be at least 1, not {batch}")
    return family(config, Run(phase=phase, batch=batch, seq=seq or 0))


def _head(config: Config, default: Head) -> Head:
    """The head that ``architectures`` names; ``default`` where the file has none."""
    named = config.fields.get("architectures")
    if named is None:
        return default
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise config.error("architectures", "a list of one name", named)
    for ending, head in _HEADS:
        if named[0].endswith(ending):
            return head
    raise config.error("architectures", "a name ending in " + ", ".join(e for e, _ in _HEADS), named[0])


def _classes(config: Config) -> int:
    """Classes of a classifier: ``id2label``'s, else ``num_labels``, else two (the library's default)."""
    labels = config.fields.get("id2label")
    if labels is None:
        return config.size("num_labels", 2)
    if not isinstance(labels, dict) or not labels:
        raise config.error("id2label", "an object with a label for each class", labels)
    config.same("num_labels", len(labels), "the number of labels in id2label")
    return len(labels)


def _head_dim(config: Config, hidden: int, heads: tuple[str, int], *, key: str = "hidden_size") -> int:
    name, count = heads
    if hidden % count:
        raise config.error(key, f"a multiple of {name} ({count})", hidden)
    return hidden // count


def _kv_heads(config: Config, heads: int) -> int:
    kv_heads = config.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise config.error("num_key_value_heads", f"a divisor of num_attention_heads ({heads})", kv_heads)
    return kv_heads


def _prefill_only(config: Config, run: Run) -> None:
    if run.phase != "prefill":
        family = config.text("model_type")
        raise WorkloadError(f"phase must be prefill for {family}, an encoder, not {run.phase!r}")


def _with_seq(run: Run) -> Run:
    return run if run.seq else replace(run, seq=DEFAULT_SEQ)


def _positions(config: Config, run: Run, key: str) -> tuple[str, ...]:
    limit = config.fields.get(key)
    if isinstance(limit, int) and run.seq > limit:
        return (f"seq {run.seq} exceeds the {limit} positions that the model was trained for",)
    return ()


def _embedding(run: Run, hidden: int) -> tuple[HostWork, ...]:
    return (HostWork("embedding", run.tokens * hidden),)


def _model(
    config: Config,
    run: Run,
    parts: tuple[Part, ...],
    *,
    host: tuple[HostWork, ...],
    notes: tuple[str, ...] = (),
) -> Model:
    name = config.fields.get("_name_or_path")
    title = name if isinstance(name, str) and name else config.text("model_type")
    return Model(
        name=title, phase=run.phase, batch=run.batch, seq=run.seq, parts=parts, host=host, notes=notes
    )


def _plain_bert(config: Config) -> None:
    """Refuse the options of a bert that change what its encoder computes."""
    config.choice("position_embedding_type", {"absolute": None}, "absolute")
    for key in ("is_decoder", "add_cross_attention"):
        if config.flag(key, False):
            raise config.error(key, "false", True)
    if config.fields.get("pruned_heads"):
        raise config.error("pruned_heads", "empty", config.fields["pruned_heads"])
    config.same("embedding_size", config.size("hidden_size"), "the hidden size")


def _bert(config: Config, run: Run) -> Model:
    _prefill_only(config, run)
    _plain_bert(config)
    run = _with_seq(run)
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    block = Block(
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=_head_dim(config, hidden, ("num_attention_heads", heads)),
        inner=config.size("intermediate_size"),
        activation=config.choice("hidden_act", _ACTIVATIONS, "gelu"),
        eps=config.number("layer_norm_eps", 1e-12),
        pre_norm=False,
    )
    layers = config.size("num_hidden_layers")
    head = _head(config, "none")
    head = "pooled_classifier" if head == "classifier" else head
    outs = config.size("vocab_size") if head == "masked_lm" else _classes(config)
    ending = Ending(head=head, outs=outs, bias=True, final_norm=False)
    parts = block_parts("block", block, run=run, layers=layers) + end(block, run, ending)
    notes = _positions(config, run, "max_position_embeddings")
    return _model(config, run, parts, host=_embedding(run, hidden), notes=notes)


def _gpt2(config: Config, run: Run) -> Model:
    run = _with_seq(run)
    hidden, heads = config.size("n_embd"), config.size("n_head")
    block = Block(
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=_head_dim(config, hidden, ("n_head", heads), key="n_embd"),
        inner=config.size("n_inner", 4 * hidden),
        activation=config.choice("activation_function", _ACTIVATIONS, "gelu_new"),
        eps=config.number("layer_norm_epsilon", 1e-5),
        causal=True,
    )
    notes = _positions(config, run, "n_positions")
    return _causal(config, run, block, layers=config.size("n_layer"), notes=notes)


def _opt(config: Config, run: Run) -> Model:
    run = _with_seq(run)
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    pre_norm = config.flag("do_layer_norm_before", True)
    bias = config.flag("enable_bias", True)
    block = Block(
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=_head_dim(config, hidden, ("num_attention_heads", heads)),
        inner=config.size("ffn_dim"),
        activation=config.choice("activation_function", _ACTIVATIONS, "relu"),
        eps=config.number("layer_norm_eps", 1e-5),
        pre_norm=pre_norm,
        qkv_bias=bias,
        out_bias=bias,
        ffn_bias=bias,
        causal=True,
    )
    projected = config.size("word_embed_proj_dim", hidden)
    ending = Ending(
        head=_head(config, "lm"),
        outs=config.size("vocab_size"),
        final_norm=pre_norm,
        projected=projected if projected != hidden else None,
    )
    parts = block_parts("block", block, run=run, layers=config.size("num_hidden_layers")) + end(
        block, run, ending
    )
    if ending.projected:
        parts = (_project_in(block, run, projected), *parts)
    notes = _positions(config, run, "max_position_embeddings")
    return _model(config, run, parts, host=_embedding(run, projected), notes=notes)


def _project_in(block: Block, run: Run, projected: int) -> Part:
    ranks = {"b": run.batch, "p": run.queries, "w": projected, "d": block.hidden}
    made = linear("X", "XW", rows=run.rows, ins="w", outs="d", bias=False)
    return part(cascade("project_in", ranks, made), inputs=frozenset({"XW"}), constants={})


def _llama_block(config: Config, *, norm_eps: float = 1e-6) -> Block:
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    dim = config.fields.get("head_dim")
    if dim is None:
        dim = _head_dim(config, hidden, ("num_attention_heads", heads))
    else:
        dim = config.size("head_dim")
    if dim % 2:
        raise config.error("head_dim", "even, for rotary embeddings", dim)
    bias = config.flag("attention_bias", False)
    return Block(
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(config, heads),
        head_dim=dim,
        inner=config.size("intermediate_size"),
        activation=config.choice("hidden_act", _ACTIVATIONS, "silu"),
        eps=config.number("rms_norm_eps", norm_eps),
        norm="rms",
        qkv_bias=bias,
        out_bias=bias,
        ffn_bias=config.flag("mlp_bias", False),
        gated=True,
        rotary=True,
        causal=True,
    )


def _llama(config: Config, run: Run) -> Model:
    run = _with_seq(run)
    notes = _positions(config, run, "max_position_embeddings")
    return _causal(config, run, _llama_block(config), layers=config.size("num_hidden_layers"), notes=notes)


def _mistral(config: Config, run: Run) -> Model:
    run = _with_seq(run)
    block, notes = _windowed(config, run, _llama_block(config))
    return _causal(config, run, block, layers=config.size("num_hidden_layers"), notes=notes)


def _mixtral(config: Config, run: Run) -> Model:
    run = _with_seq(run)
    count, top_k = config.size("num_local_experts"), config.size("num_experts_per_tok")
    if top_k > count:
        raise config.error("num_experts_per_tok", f"at most num_local_experts ({count})", top_k)
    block, notes = _windowed(config, run, _llama_block(config, norm_eps=1e-5))
    block = replace(block, experts=Experts(count=count, top_k=top_k))
    layers = config.size("num_hidden_layers")
    pairs = run.tokens * top_k
    host = (
        HostWork("expert choice", layers * run.tokens * count),
        HostWork("expert dispatch", layers * pairs * block.hidden),
    )
    notes += (f"{pairs} token-expert pairs a layer are spread evenly over the experts",)
    return _causal(config, run, block, layers=layers, notes=notes, host=host)


def _windowed(config: Config, run: Run, block: Block) -> tuple[Block, tuple[str, ...]]:
    notes = _positions(config, run, "max_position_embeddings")
    if config.fields.get("sliding_window") is None:
        return block, notes
    window = config.size("sliding_window")
    if window < run.seq:
        effect = "bounds the cache of a decode; a prefill only masks by it"
        notes += (f"the sliding window of {window} tokens {effect}",)
    return replace(block, window=window), notes


def _causal(
    config: Config,
    run: Run,
    block: Block,
    *,
    layers: int,
    notes: tuple[str, ...],
    host: tuple[HostWork, ...] = (),
) -> Model:
    head = _head(config, "lm")
    outs = _classes(config) if head == "classifier" else config.size("vocab_size")
    ending = Ending(head=head, outs=outs, token=run.queries - 1)
    parts = block_parts("block", block, run=run, layers=layers) + end(block, run, ending)
    return _model(config, run, parts, host=(*_embedding(run, block.hidden), *host), notes=notes)


def _hgrn(config: Config, run: Run) -> Model:
    run = _with_seq(run)
    sizes = hgrn_sizes(config)
    notes = ("the state, of one value for each layer and column, stays on the machine",)
    return _model(config, run, hgrn_parts(sizes, run), host=_embedding(run, sizes.hidden), notes=notes)


def _vit(config: Config, run: Run) -> Model:
    _prefill_only(config, run)
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    image, patch = config.size("image_size"), config.size("patch_size")
    if image % patch:
        raise config.error("image_size", f"a multiple of patch_size ({patch})", image)
    tokens = (image // patch) ** 2 + 1
    if run.seq not in (0, tokens):
        raise WorkloadError(f"seq must be {tokens}, the image's patches and the class token, not {run.seq}")
    run = replace(run, seq=tokens)
    block = Block(
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=_head_dim(config, hidden, ("num_attention_heads", heads)),
        inner=config.size("intermediate_size"),
        activation=config.choice("hidden_act", _ACTIVATIONS, "gelu"),
        eps=config.number("layer_norm_eps", 1e-12),
        qkv_bias=config.flag("qkv_bias", True),
    )
    head = _head(config, "none")
    outs = _classes(config) if head == "classifier" else 1
    parts = (
        _patches(config, run, hidden=hidden),
        *block_parts("block", block, run=run, layers=config.size("num_hidden_layers")),
        *end(block, run, Ending(head=head, outs=outs, bias=True)),
    )
    host = (HostWork("class token and positions", run.tokens * hidden),)
    return _model(config, run, parts, host=host)


def _patches(config: Config, run: Run, *, hidden: int) -> Part:
    """Patch embedding: a convolution whose stride is its size, with rank y, x of patches, r, s within."""
    patch, across = config.size("patch_size"), config.size("image_size") // config.size("patch_size")
    lead = run.lead
    ranks = {"b": run.batch, "d": hidden, "y": across, "x": across, "r": patch, "s": patch}
    ranks["c"] = config.size("num_channels", 3)
    vertical, horizontal = Index((("y", patch), ("r", 1))), Index((("x", patch), ("s", 1)))
    image = Access("IMAGE", (*tensor("IMAGE", lead + "c").indices, vertical, horizontal))
    made: Fragment = (
        product(tensor("E", lead + "dyx"), image, tensor("WE", "dcrs")),
        add(tensor("EB", lead + "dyx"), tensor("E", lead + "dyx"), tensor("BE", "d")),
    )
    return part(cascade("patches", ranks, made), inputs=frozenset({"IMAGE"}), constants={})


def _t5(config: Config, run: Run) -> Model:
    run = _with_seq(run)
    hidden, heads = config.size("d_model"), config.size("num_heads")
    activation, gated = _t5_activation(config)
    block = Block(
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=config.size("d_kv"),
        inner=config.size("d_ff"),
        activation=activation,
        eps=config.number("layer_norm_epsilon", 1e-6),
        norm="rms",
        qkv_bias=False,
        out_bias=False,
        ffn_bias=False,
        gated=gated,
        scaled=False,
        position_bias=True,
    )
    layers = config.size("num_layers")
    named = config.fields.get("architectures") or [""]
    encoder_only = isinstance(named, list) and str(named[0]).endswith("EncoderModel")
    if encoder_only:
        _prefill_only(config, run)
    encode: tuple[Part, ...] = ()
    if run.phase == "prefill":
        final = Ending(head="none", outs=1)
        encode = block_parts("encoder", block, run=run, layers=layers) + end(
            block, run, final, name="encoder_norm"
        )
    decode = () if encoder_only else _t5_decoder(config, run, block, layers=layers)
    sides = (run.phase == "prefill") + (not encoder_only)
    host = (HostWork("embedding", sides * run.tokens * hidden),)
    return _model(config, run, encode + decode, host=host)


def _t5_activation(config: Config) -> tuple[str, bool]:
    """Operator, and whether the feed-forward is gated."""
    known = {"relu": ("relu", False), "gated-gelu": ("gelu_tanh", True), "gated-silu": ("silu", True)}
    return config.choice("feed_forward_proj", known, "relu")


def _t5_decoder(config: Config, run: Run, block: Block, *, layers: int) -> tuple[Part, ...]:
    scaled = config.flag("tie_word_embeddings", True)
    ending = Ending(head=_head(config, "lm"), outs=config.size("vocab_size"), scaled=scaled)
    count = config.size("num_decoder_layers", layers)
    return block_parts("decoder", replace(block, cross=True), run=run, layers=count) + end(block, run, ending)


_FAMILIES: Mapping[str, Callable[[Config, Run], Model]] = MappingProxyType(
    {
        "bert": _bert,
        "gpt2": _gpt2,
        "opt": _opt,
        "llama": _llama,
        "mistral": _mistral,
        "mixtral": _mixtral,
        "vit": _vit,
        "t5": _t5,
        "hgrn_bit": _hgrn,
    }
)
