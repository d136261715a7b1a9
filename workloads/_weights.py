"""Weights of a BERT or ViT checkpoint, bound to the tensors of the cascade that its configuration gives."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from workloads._analyze import tensor_shapes
from workloads._config_file import Config, read_config
from workloads._errors import WorkloadError
from workloads._model import Model, constant_tensors

Array = npt.NDArray[np.float64]

MAX_TENSOR_ELEMENTS = 1 << 28
MAX_INDEX_BYTES = 1 << 24
MAX_SHARDS = 1024
_FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[A-Za-z0-9._-]+\.safetensors")
_BFLOAT = "BF16"
_FLOATS = frozenset({"F16", "F32", "F64", _BFLOAT})


@dataclass(frozen=True, slots=True)
class _Family:
    """How the checkpoints of a model type name their tensors."""

    prefixes: tuple[str, ...]
    """Put before the names of the encoder's tensors, or not."""
    known_by: str
    """A tensor that every checkpoint has."""
    block: Mapping[str, str]
    """Name within a layer of each weight tensor of the cascade."""
    optional: frozenset[str] = frozenset()
    """Weights that a configuration may leave out."""


_BERT_BLOCK: Mapping[str, str] = MappingProxyType(
    {
        "WQ": "attention.self.query.weight",
        "BQ": "attention.self.query.bias",
        "WK": "attention.self.key.weight",
        "BK": "attention.self.key.bias",
        "WV": "attention.self.value.weight",
        "BV": "attention.self.value.bias",
        "WO": "attention.output.dense.weight",
        "BO": "attention.output.dense.bias",
        "GY": "attention.output.LayerNorm.weight",
        "BY": "attention.output.LayerNorm.bias",
        "W1": "intermediate.dense.weight",
        "B1": "intermediate.dense.bias",
        "W2": "output.dense.weight",
        "B2": "output.dense.bias",
        "GZ": "output.LayerNorm.weight",
        "BZ": "output.LayerNorm.bias",
    }
)
_VIT_BLOCK: Mapping[str, str] = MappingProxyType(
    {
        "GXN": "layernorm_before.weight",
        "BXN": "layernorm_before.bias",
        "WQ": "attention.attention.query.weight",
        "BQ": "attention.attention.query.bias",
        "WK": "attention.attention.key.weight",
        "BK": "attention.attention.key.bias",
        "WV": "attention.attention.value.weight",
        "BV": "attention.attention.value.bias",
        "WO": "attention.output.dense.weight",
        "BO": "attention.output.dense.bias",
        "GYN": "layernorm_after.weight",
        "BYN": "layernorm_after.bias",
        "W1": "intermediate.dense.weight",
        "B1": "intermediate.dense.bias",
        "W2": "output.dense.weight",
        "B2": "output.dense.bias",
    }
)
_FAMILIES: Mapping[str, _Family] = MappingProxyType(
    {
        "bert": _Family(("", "bert."), "embeddings.word_embeddings.weight", _BERT_BLOCK),
        "vit": _Family(
            ("", "vit."),
            "embeddings.patch_embeddings.projection.weight",
            _VIT_BLOCK,
            frozenset({"BQ", "BK", "BV"}),
        ),
    }
)
_NORMS = ("LayerNorm", "layernorm")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint: its configuration, its files, and what each tensor in them looks like."""

    config: Config
    path: Path
    """The file, or the index of several."""
    prefix: str
    """Put before the names of the encoder's tensors."""
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, Path]
    """The file that holds each tensor."""

    @property
    def family(self) -> str:
        """``bert`` or ``vit``."""
        return self.config.text("model_type")

    @property
    def layers(self) -> int:
        """Blocks."""
        return self.config.size("num_hidden_layers")

    def tensor(self, name: str, shape: Sequence[int]) -> Array:
        """Tensor ``name``, of ``shape``, finite throughout."""
        full = self.prefix + name
        if full not in self.shapes:
            raise WorkloadError(f"{self.path}: tensor {full} must be in the file, not missing")
        if self.shapes[full] != tuple(shape):
            raise WorkloadError(
                f"{self.path}: tensor {full} must have shape {tuple(shape)}, not {self.shapes[full]}"
            )
        if math.prod(shape) > MAX_TENSOR_ELEMENTS:
            raise WorkloadError(
                f"{self.path}: tensor {full} must have at most {MAX_TENSOR_ELEMENTS} elements"
            )
        return _read(self.files[full], full)


def load_weights(directory: Path) -> Checkpoint:
    """The checkpoint in ``directory``, of model type bert or vit.

    ``directory`` holds ``config.json`` and ``model.safetensors``, or the latter in shards with
    ``model.safetensors.index.json``. Reads names and shapes; tensors are read when they are bound.
    Raises :class:`WorkloadError`.
    """
    config = read_config(directory / "config.json")
    family = config.choice("model_type", _FAMILIES)
    path = directory / _FILE
    if path.exists() or not (directory / _INDEX).exists():
        paths: tuple[Path, ...] = (path,)
    else:
        path = directory / _INDEX
        paths = _shards(path)
    found = {one: _shapes(one) for one in paths}
    shapes = {name: shape for one in paths for name, shape in found[one].items()}
    files = {name: one for one in paths for name in found[one]}
    # Before anything is built of it: each layer has tensors of its own.
    if (layers := config.size("num_hidden_layers")) > len(shapes):
        raise config.error("num_hidden_layers", f"at most the {len(shapes)} tensors of {path.name}", layers)
    for prefix in family.prefixes:
        if prefix + family.known_by in shapes:
            _require_all_layers(config, path, f"{prefix}encoder.layer.", shapes)
            return Checkpoint(config, path, prefix, shapes, files)
    raise WorkloadError(f"{path}: tensor {family.known_by} must be in the file, not missing")


def _require_all_layers(config: Config, path: Path, stem: str, names: Iterable[str]) -> None:
    """Refuse a configuration of fewer layers than the file has: a part of a model is another model."""
    numbers = (name.removeprefix(stem).partition(".")[0] for name in names if name.startswith(stem))
    held = 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)
    if (layers := config.size("num_hidden_layers")) < held:
        raise config.error("num_hidden_layers", f"the {held} layers of {path.name}", layers)


def bind_block(model: Model, checkpoint: Checkpoint, layer: int) -> dict[str, Array]:
    """Weights and constants of the part ``block`` of ``model``, from block ``layer`` of ``checkpoint``.

    Attention weights have the shapes of the cascade: WQ[d, h, e], WK[d, h, e], WV[d, h, f], WO[h, f, d].
    Raises :class:`WorkloadError` that names a tensor which is missing, misshapen or not finite.
    """
    if not 0 <= layer < checkpoint.layers:
        raise WorkloadError(f"layer must be 0 to {checkpoint.layers - 1}, not {layer}")
    part = model.part("block")
    family = _FAMILIES[checkpoint.family]
    if not family.block.keys() - family.optional <= part.weights <= family.block.keys():
        raise WorkloadError(
            f"model must be of {checkpoint.family} blocks, with weights {', '.join(family.block)}, "
            f"not {model.name!r}"
        )
    shapes = tensor_shapes(part.cascade)
    bound = {
        name: _bound(checkpoint, f"encoder.layer.{layer}.{of}", shapes[name])
        for name, of in family.block.items()
        if name in part.weights
    }
    return bound | constant_tensors(part)


def embed(checkpoint: Checkpoint, token_ids: Sequence[int]) -> Array:
    """The first block's input X[p, d] of one sequence: word, position and type zero, summed and normed."""
    _require_family(checkpoint, "bert", "tokens")
    config = checkpoint.config
    hidden, words = config.size("hidden_size"), config.size("vocab_size")
    positions = config.size("max_position_embeddings")
    if not 1 <= len(token_ids) <= positions:
        raise WorkloadError(f"token_ids must be 1 to {positions}, not {len(token_ids)}")
    for token in token_ids:
        if not 0 <= token < words:
            raise WorkloadError(f"a token must be 0 to {words - 1}, not {token}")
    word = checkpoint.tensor("embeddings.word_embeddings.weight", (words, hidden))[list(token_ids)]
    position = checkpoint.tensor("embeddings.position_embeddings.weight", (positions, hidden))[
        : len(token_ids)
    ]
    types = config.size("type_vocab_size", 2)
    kind = checkpoint.tensor("embeddings.token_type_embeddings.weight", (types, hidden))[0]
    x = word + position + kind
    centred = x - x.mean(axis=1, keepdims=True)
    root = np.sqrt((centred**2).mean(axis=1, keepdims=True) + config.number("layer_norm_eps", 1e-12))
    gain = checkpoint.tensor("embeddings.LayerNorm.weight", (hidden,))
    return np.asarray(centred / root * gain + checkpoint.tensor("embeddings.LayerNorm.bias", (hidden,)))


def embed_image(checkpoint: Checkpoint, pixels: npt.ArrayLike) -> Array:
    """The first block's input X[p, d] of one image: class token and patches, plus positions.

    ``pixels`` are [channels, height, width] of the configuration's sizes, normalised as the model
    was trained; patches go row by row. Source: A. Dosovitskiy et al., ICLR 2021, equation 1.
    """
    _require_family(checkpoint, "vit", "images")
    config = checkpoint.config
    hidden, image, patch = (config.size(key) for key in ("hidden_size", "image_size", "patch_size"))
    channels, side = config.size("num_channels", 3), image // patch
    if image % patch:
        raise config.error("image_size", f"a multiple of patch_size ({patch})", image)
    values = np.asarray(pixels, np.float64)
    if values.shape != (channels, image, image):
        raise WorkloadError(f"pixels must have shape {(channels, image, image)}, not {values.shape}")
    if not np.all(np.isfinite(values)):
        raise WorkloadError("pixels must be finite, not NaN or infinite")
    cut = values.reshape(channels, side, patch, side, patch)
    patches = cut.transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
    at = "embeddings.patch_embeddings.projection"
    weight = checkpoint.tensor(f"{at}.weight", (hidden, channels, patch, patch)).reshape(hidden, -1)
    made = patches @ weight.T + checkpoint.tensor(f"{at}.bias", (hidden,))
    first = checkpoint.tensor("embeddings.cls_token", (1, 1, hidden))[0]
    positions = checkpoint.tensor("embeddings.position_embeddings", (1, side * side + 1, hidden))[0]
    return np.asarray(np.concatenate([first, made]) + positions)


def _require_family(checkpoint: Checkpoint, family: str, what: str) -> None:
    if checkpoint.family != family:
        raise WorkloadError(f"a checkpoint must be of {family} to embed {what}, not of {checkpoint.family}")


def _bound(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> Array:
    """A vector under the cascade's shape; a matrix, which files hold as [out, in], turned round first."""
    if name.endswith(".bias") or any(norm in name for norm in _NORMS):
        return checkpoint.tensor(name, (math.prod(shape),)).reshape(shape)
    output = ".output." in name
    ins = math.prod(shape[:-1]) if output else shape[0]
    outs = math.prod(shape) // ins
    return np.ascontiguousarray(checkpoint.tensor(name, (outs, ins)).T).reshape(shape)


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that ``index`` names, all beside it."""
    try:
        with index.open("rb") as stream:
            raw = stream.read(MAX_INDEX_BYTES + 1)
        document = json.loads(raw) if len(raw) <= MAX_INDEX_BYTES else None
    except OSError as error:
        raise WorkloadError(f"{index} must be a readable file: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{index} must be JSON: {error}") from error
    held = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(held, dict) or not held or not all(isinstance(name, str) for name in held.values()):
        raise WorkloadError(f"{index}: weight_map must be an object of tensors and their files")
    names = sorted(set(held.values()))
    if len(names) > MAX_SHARDS:
        raise WorkloadError(f"{index}: weight_map must name at most {MAX_SHARDS} files, not {len(names)}")
    for name in names:
        if not _SHARD.fullmatch(name):
            raise WorkloadError(f"{index}: a file must be a .safetensors beside the index, not {name!r:.80}")
    return tuple(index.parent / name for name in names)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the floating-point tensors in ``path``."""
    try:
        with safe_open(path, "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return {n: tuple(s.get_shape()) for n, s in slices.items() if s.get_dtype() in _FLOATS}
    except (OSError, SafetensorError) as error:
        raise WorkloadError(f"{path} must be a readable safetensors file: {error}") from error


def _read(path: Path, name: str) -> Array:
    try:
        with safe_open(path, "np") as file:
            if file.get_slice(name).get_dtype() == _BFLOAT:
                array = _bfloat(path, name)
            else:
                array = np.asarray(file.get_tensor(name), dtype=np.float64)
    except (OSError, SafetensorError) as error:
        raise WorkloadError(f"{path}: tensor {name} must be readable: {error}") from error
    if not np.all(np.isfinite(array)):
        raise WorkloadError(f"{path}: tensor {name} must be finite, not NaN or infinite")
    return array


def _bfloat(path: Path, name: str) -> Array:
    """A tensor of bfloat16, which numpy lacks: the upper halves of float32, from a file already checked.

    Source: the safetensors format, a header of as many bytes as the first eight say, then the data.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + length + start)
        halves = np.frombuffer(file.read(end - start), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).astype(np.float64).reshape(entry["shape"])
