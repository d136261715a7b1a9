"""A MatMul-free language model's folder: ``config.json`` and ``weights.safetensors``.

``config.json`` has the public code's fields and ``characters``, the text whose i-th character is token i.
In ``weights.safetensors`` a linear layer NAME is ``NAME.packed`` (uint8, five trits a byte over the
row-major [outputs, inputs] matrix) and ``NAME.scale`` (one float); everything else is a float tensor
under the public code's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from workloads._config_file import Config, read_config
from workloads._errors import WorkloadError
from workloads._hgrn import HgrnSizes, hgrn_sizes
from workloads._hgrn_float import FloatBlock, FloatModel, Floats, Ternary, lower_bounds
from workloads._trits import unpack_trits

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model of characters with its alphabet."""

    model: FloatModel
    characters: str
    """The i-th character is token i."""

    def encode(self, text: str) -> list[int]:
        """Tokens of ``text``; refuses a character that the model does not know."""
        known = {character: token for token, character in enumerate(self.characters)}
        for character in text:
            if character not in known:
                raise WorkloadError(
                    f"text must be of characters that the model knows, {self.characters!r}, not {character!r}"
                )
        return [known[character] for character in text]

    def decode(self, tokens: list[int]) -> str:
        """The text of ``tokens``."""
        return "".join(self.characters[token] for token in tokens)


def ternary_lm_directory() -> Path:
    """The folder of the small model of characters that this package carries."""
    return Path(str(files("workloads") / "ternary_lm"))


def load_language_model(folder: Path) -> LanguageModel:
    """The model in ``folder``; raises :class:`WorkloadError` that names what is wrong in which file."""
    config = read_config(folder / "config.json")
    if config.text("model_type") != "hgrn_bit":
        raise config.error("model_type", "hgrn_bit", config.fields["model_type"])
    sizes = hgrn_sizes(config)
    return LanguageModel(_Reader.open(folder / WEIGHTS).model(sizes), _characters(config, sizes))


def _characters(config: Config, sizes: HgrnSizes) -> str:
    characters = config.text("characters")
    if len(set(characters)) != len(characters) or len(characters) != sizes.vocab:
        wanted = f"{sizes.vocab} different characters, as vocab_size says"
        raise config.error("characters", wanted, characters)
    return characters


@dataclass(frozen=True, slots=True)
class _Reader:
    """Tensors of one file, taken out by name and shape."""

    path: Path
    tensors: dict[str, np.ndarray]

    @classmethod
    def open(cls, path: Path) -> _Reader:
        try:
            return cls(path, load_file(path))
        except (OSError, SafetensorError) as error:
            raise WorkloadError(f"{path} must be a readable safetensors file: {error}") from error

    def floats(self, name: str, *shape: int) -> Floats:
        """A finite float tensor of that shape."""
        found = self._tensor(name)
        if found.shape != shape or found.dtype.kind != "f" or not np.isfinite(found).all():
            wanted = f"finite floats of shape {list(shape)}"
            raise WorkloadError(
                f"{self.path}: {name} must be {wanted}, not {found.dtype} {list(found.shape)}"
            )
        return found.astype(np.float64)

    def ternary(self, name: str, outs: int, ins: int) -> Ternary:
        """A linear layer; a gain of its own input norm must be one number for all columns."""
        packed = self._tensor(f"{name}.packed")
        if packed.dtype != np.uint8:
            raise WorkloadError(f"{self.path}: {name}.packed must be uint8, not {packed.dtype}")
        scale = self._tensor(f"{name}.scale").astype(np.float64).reshape(-1)
        if scale.size != 1 or not 0 < scale[0] < np.inf:
            raise WorkloadError(f"{self.path}: {name}.scale must be one positive number, not {scale[:3]}")
        trits = unpack_trits(packed, outs * ins).reshape(outs, ins)
        return Ternary(trits, float(scale[0]) * self._own_gain(name, ins))

    def _own_gain(self, name: str, ins: int) -> float:
        key = f"{name}.norm.weight"
        if key not in self.tensors:
            return 1.0
        gain = self.floats(key, ins)
        if not (gain == gain[0]).all() or gain[0] <= 0:
            raise WorkloadError(f"{self.path}: {key} must be the same positive number for all columns")
        return float(gain[0])

    def model(self, sizes: HgrnSizes) -> FloatModel:
        """All weights."""
        d = sizes.hidden
        lower = np.zeros((sizes.layers, d))
        if sizes.lower_bounds:
            lower = lower_bounds(self.floats("model.lower_bounds", sizes.layers, d))
        return FloatModel(
            sizes=sizes,
            embeddings=self.floats("model.embeddings.weight", sizes.vocab, d),
            blocks=tuple(self._block(sizes, layer, lower[layer]) for layer in range(sizes.layers)),
            gain=self.floats("model.norm.weight", d),
            head=self.ternary("lm_head", sizes.vocab, d),
        )

    def _block(self, sizes: HgrnSizes, layer: int, lower: Floats) -> FloatBlock:
        d, j, name = sizes.hidden, sizes.inner, f"model.layers.{layer}"
        both = self.ternary(f"{name}.mlp.gate_proj", 2 * j, d)
        return FloatBlock(
            mixer_gain=self.floats(f"{name}.attn_norm.weight", d),
            i=self.ternary(f"{name}.attn.i_proj", d, d),
            f=self.ternary(f"{name}.attn.f_proj", d, d),
            g=self.ternary(f"{name}.attn.g_proj", d, d),
            lower=lower,
            output_gain=self.floats(f"{name}.attn.g_norm.weight", d),
            o=self.ternary(f"{name}.attn.o_proj", d, d),
            feed_gain=self.floats(f"{name}.mlp_norm.weight", d),
            gate=Ternary(both.trits[:j], both.scale),
            up=Ternary(both.trits[j:], both.scale),
            down=self.ternary(f"{name}.mlp.down_proj", d, j),
        )

    def _tensor(self, name: str) -> np.ndarray:
        if name not in self.tensors:
            raise WorkloadError(f"{self.path}: {name} must be in the file, not missing")
        return self.tensors[name]
