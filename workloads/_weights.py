"""Weights of a BERT checkpoint, bound to the tensors of the cascade that its configuration gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
_FILE = "model.safetensors"
_PREFIXES = ("", "bert.")
_FLOATS = frozenset({"F16", "F32", "F64"})

_BLOCK: Mapping[str, str] = MappingProxyType(
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
"""Name within a layer of each weight tensor of the cascade."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A BERT checkpoint: its configuration, its file, and what each tensor in it looks like."""

    config: Config
    path: Path
    prefix: str
    """Put before the names of the encoder's tensors."""
    shapes: Mapping[str, tuple[int, ...]]

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
        return _read(self.path, full)


def load_weights(directory: Path) -> Checkpoint:
    """The checkpoint in ``directory``: ``config.json`` and ``model.safetensors``, of model type bert.

    Reads names and shapes; tensors are read when they are bound. Raises :class:`WorkloadError`.
    """
    config = read_config(directory / "config.json")
    config.choice("model_type", {"bert": "bert"})
    path = directory / _FILE
    shapes = _shapes(path)
    for prefix in _PREFIXES:
        if f"{prefix}embeddings.word_embeddings.weight" in shapes:
            return Checkpoint(config, path, prefix, shapes)
    raise WorkloadError(f"{path}: tensor embeddings.word_embeddings.weight must be in the file, not missing")


def bind_block(model: Model, checkpoint: Checkpoint, layer: int) -> dict[str, Array]:
    """Weights and constants of the part ``block`` of ``model``, from block ``layer`` of ``checkpoint``.

    Attention weights have the shapes of the cascade: WQ[d, h, e], WK[d, h, e], WV[d, h, f], WO[h, f, d].
    Raises :class:`WorkloadError` that names a tensor which is missing, misshapen or not finite.
    """
    if not 0 <= layer < checkpoint.layers:
        raise WorkloadError(f"layer must be 0 to {checkpoint.layers - 1}, not {layer}")
    part = model.part("block")
    shapes = tensor_shapes(part.cascade)
    if part.weights != _BLOCK.keys():
        raise WorkloadError(
            f"model must be of bert blocks, with weights {', '.join(_BLOCK)}, not {model.name!r}"
        )
    bound = {
        name: _bound(checkpoint, f"encoder.layer.{layer}.{of}", shapes[name]) for name, of in _BLOCK.items()
    }
    return bound | constant_tensors(part)


def embed(checkpoint: Checkpoint, token_ids: Sequence[int]) -> Array:
    """The first block's input X[p, d] of one sequence: word, position and type zero, summed and normed."""
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


def _bound(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> Array:
    """A vector under the cascade's shape; a matrix, which files hold as [out, in], turned round first."""
    if name.endswith(".bias") or ".LayerNorm." in name:
        return checkpoint.tensor(name, (math.prod(shape),)).reshape(shape)
    output = ".output." in name
    ins = math.prod(shape[:-1]) if output else shape[0]
    outs = math.prod(shape) // ins
    return np.ascontiguousarray(checkpoint.tensor(name, (outs, ins)).T).reshape(shape)


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
            array = np.asarray(file.get_tensor(name), dtype=np.float64)
    except (OSError, SafetensorError) as error:
        raise WorkloadError(f"{path}: tensor {name} must be readable: {error}") from error
    if not np.all(np.isfinite(array)):
        raise WorkloadError(f"{path}: tensor {name} must be finite, not NaN or infinite")
    return array
