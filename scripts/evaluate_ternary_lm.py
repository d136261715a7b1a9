"""Measure the stored ternary language model, and let it write, with NumPy alone.

A second implementation, token by token, that shares nothing with training but the files: it unpacks the
trits itself and keeps the whole state in one array. ``python -m scripts.evaluate_ternary_lm --text FILE``
prints bits per character; ``--prompt "In the beginning"`` continues a text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

FOLDER = Path(__file__).parent.parent / "workloads" / "ternary_lm"
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The stored model: its config and its tensors, products as (trits, scale)."""

    config: dict[str, Any]
    products: dict[str, tuple[Floats, Floats]]
    others: dict[str, Floats]

    @property
    def characters(self) -> str:
        """Character k has code k."""
        return str(self.config["characters"])

    def empty(self) -> Floats:
        """Return the state before the first character, (layers, width)."""
        return np.zeros((self.config["num_hidden_layers"], self.config["hidden_size"]), np.float32)

    def codes(self, text: str) -> list[int]:
        """Return the codes of a text.

        Raises:
            click.ClickException: A character is none of the model's.
        """
        strange = sorted(set(text) - set(self.characters))
        if strange:
            raise click.ClickException(f"the text must have the model's characters alone, not {strange[0]!r}")
        return [self.characters.index(c) for c in text]

    def step(self, state: Floats, code: int) -> tuple[Floats, Floats]:
        """Return (state after this character, logits of the next)."""
        x, after = self.others["model.embeddings.weight"][code], np.empty_like(state)
        bounds = _bounds(self.others["model.lower_bounds"])
        for layer, (bound, h) in enumerate(zip(bounds, state, strict=True)):
            x, after[layer] = self._block(f"model.layers.{layer}.", x, bound, h)
        return after, self._lin("lm_head", self._norm("model.norm", x))

    def _block(self, at: str, x: Floats, bound: Floats, h: Floats) -> tuple[Floats, Floats]:
        n = self._norm(f"{at}attn_norm", x)
        f = bound + (1 - bound) * _sigmoid(self._lin(f"{at}attn.f_proj", n))
        h = f * h + _swish(self._lin(f"{at}attn.i_proj", n)) * (1 - f)
        gated = self._norm(f"{at}attn.g_norm", h) * _swish(self._lin(f"{at}attn.g_proj", n))
        x = x + self._lin(f"{at}attn.o_proj", gated)
        gate, up = np.split(self._lin(f"{at}mlp.gate_proj", self._norm(f"{at}mlp_norm", x)), 2)
        return x + self._lin(f"{at}mlp.down_proj", _swish(gate) * up), h

    def _norm(self, name: str, x: Floats) -> Floats:
        return _rms(x, float(self.config["rms_norm_eps"])) * self.others[f"{name}.weight"]

    def _lin(self, name: str, x: Floats) -> Floats:
        trits, scale = self.products[name]
        x = _rms(x, 1e-8)
        unit = max(float(np.abs(x).max()), 1e-5) / 127
        y: Floats = (trits @ np.rint(x / np.float32(unit))) * (np.float32(unit) * scale)
        return y


def read(folder: Path = FOLDER) -> Model:
    """Read config.json and weights.safetensors of ``folder``."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = load_file(folder / "weights.safetensors")
    names = [name.removesuffix(".packed") for name in stored if name.endswith(".packed")]
    products = {
        name: (unpack(stored[f"{name}.packed"], shape(name, config)), stored[f"{name}.scale"])
        for name in names
    }
    others = {name: value for name, value in stored.items() if not name.endswith((".packed", ".scale"))}
    return Model(config=config, products=products, others=others)


def shape(name: str, config: dict[str, Any]) -> tuple[int, int]:
    """(outputs, inputs) of a product, by the last word of its name."""
    d, inner, symbols = (config[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    special = {"gate_proj": (2 * inner, d), "down_proj": (d, inner), "lm_head": (symbols, d)}
    return special.get(name.rsplit(".", 1)[-1], (d, d))


def unpack(packed: NDArray[np.uint8], size: tuple[int, int]) -> Floats:
    """Five trits a byte, sum of (t + 1) * 3^j over the rows one after the other."""
    trits = packed[:, None].astype(np.int64) // 3 ** np.arange(5) % 3 - 1
    return trits.ravel()[: size[0] * size[1]].reshape(size).astype(np.float32)


def _bounds(raw: Floats) -> Floats:
    shares = np.exp(raw - raw.max(0))
    shares /= shares.sum(0)
    bounds: Floats = np.cumsum(shares, 0) - shares[0]
    return bounds


def _rms(x: Floats, eps: float) -> Floats:
    normal: Floats = x / np.sqrt(np.mean(x * x, dtype=np.float32) + np.float32(eps))
    return normal


def _sigmoid(x: Floats) -> Floats:
    share: Floats = np.reciprocal(1 + np.exp(-x), dtype=np.float32)
    return share


def _swish(x: Floats) -> Floats:
    return x * _sigmoid(x)


def bits_per_character(model: Model, text: str) -> float:
    """Mean -log2 p of every character but the first, in one pass from the empty state."""
    codes, state, total = model.codes(text), model.empty(), 0.0
    for code, following in pairwise(codes):
        state, logits = model.step(state, code)
        wide = logits.astype(np.float64)
        total += wide.max() + math.log(np.exp(wide - wide.max()).sum()) - wide[following]
    return float(total) / math.log(2) / (len(codes) - 1)


def write(model: Model, prompt: str, pick: Callable[[Floats], int]) -> Iterator[str]:
    """Yield the characters after ``prompt``, each chosen from its logits by ``pick``."""
    state = model.empty()
    for code in model.codes(prompt):
        state, logits = model.step(state, code)
    while True:
        code = pick(logits)
        yield model.characters[code]
        state, logits = model.step(state, code)


def picker(temperature: float, seed: int) -> Callable[[Floats], int]:
    """Return the choice of the most likely character (temperature 0), or a seeded draw."""
    random = np.random.default_rng(seed)

    def pick(logits: Floats) -> int:
        if not temperature:
            return int(logits.argmax())
        weights = np.exp((logits - logits.max()).astype(np.float64) / temperature)
        return int(random.choice(len(weights), p=weights / weights.sum()))

    return pick


@click.command()
@click.option("--model", "folder", type=click.Path(exists=True, path_type=Path), default=FOLDER)
@click.option("--text", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--characters", type=click.IntRange(min=2), help="Measure so many characters alone.")
@click.option("--prompt", help="Continue this text.")
@click.option("--length", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(
    folder: Path,
    text: Path | None,
    characters: int | None,
    prompt: str | None,
    length: int,
    temperature: float,
    seed: int,
) -> None:
    """Print the model's bits per character on a text, or what it writes after a prompt."""
    model = read(folder)
    if text is not None:
        measured = text.read_text(encoding="utf-8")[:characters]
        click.echo(f"{bits_per_character(model, measured):.5f} bits per character over {len(measured)}")
    if prompt:
        source = write(model, prompt, picker(temperature, seed))
        click.echo(prompt + "".join(next(source) for _ in range(length)))


if __name__ == "__main__":
    main()
