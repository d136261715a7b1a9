"""Train the small ternary language model that the generated hardware runs.

The MatMul-free architecture of Zhu et al., "Scalable MatMul-free Language Modeling" (2024), over
characters: every product has ternary weights with one scale a tensor and an input that is normalised
(RMS, no gain) and quantised per token to int8; rounding is passed straight through in the backward
pass (Bengio et al., 2013). ``python -m scripts.train_ternary_lm --text FOLDER --out FOLDER`` needs
PyTorch (the optional extra ``train``) and, where the folder holds no text yet, Debian's package tools.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from safetensors.numpy import save_file

from scripts.web_text import (
    DEB_SHA256,
    HELD_BACK,
    LICENCE,
    PACKAGE,
    SPLITS,
    VALIDATION,
    VERSION,
    Split,
    digest,
    load,
)

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ModuleNotFoundError:
    click.echo("Error: PyTorch must be installed to train: pip install 'archsim[train]'", err=True)
    raise SystemExit(2) from None

LIN_EPS = 1e-8
NORM_EPS = 1e-6
SMALLEST = 1e-5
EVALUATED_AT_ONCE = 2048
EXCERPT = 3000
"""So many characters of the held-back text are stored beside the model."""
MEASURED = 1000
"""So many of them are measured by themselves, for a quick comparison with other implementations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the result, beside the text."""

    hidden_size: int
    layers: int
    steps: int
    batch: int
    window: int
    rate: float
    decay: float
    decay_until: float
    """Share of the steps after which weights decay no more."""
    warm_up: int
    dropout: float
    restart: float
    """Chance that a stream of text starts anew, at a random place and with an empty state."""
    seed: int

    @property
    def intermediate_size(self) -> int:
        """256 * ceil((8 d / 3) / 256), as the public code rounds it."""
        return 256 * -(-int(self.hidden_size * 8 / 3) // 256)


class Product(torch.autograd.Function):
    """y = s_w * absmax / 127 * (q @ trits): integers in float, hence exact; gradients straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: D102
        unit = x.abs().amax(-1, keepdim=True).clamp(min=SMALLEST) / 127
        q = (x / unit).round()
        trits, scale = ternary(weight)
        ctx.save_for_backward(q, unit, trits, scale)
        return functional.linear(q, trits) * (unit * scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        q, unit, trits, scale = ctx.saved_tensors
        grad = grads[0]
        flat = (grad * unit).reshape(-1, grad.shape[-1])
        return (grad * scale) @ trits, flat.T @ q.reshape(-1, q.shape[-1])


class Recurrence(torch.autograd.Function):
    """h[t] = f[t] * h[t-1] + i[t] along dimension 1, by doubling (Hillis and Steele, 1986)."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, i: Tensor, start: Tensor) -> Tensor:  # noqa: D102
        i = torch.cat([i[:, :1] + f[:, :1] * start[:, None], i[:, 1:]], 1)
        h = doubled(f, i)
        ctx.save_for_backward(f, h, start)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: D102
        f, h, start = ctx.saved_tensors
        later = torch.cat([f[:, 1:], torch.zeros_like(f[:, :1])], 1)
        di = doubled(later.flip(1), grads[0].flip(1)).flip(1)
        before = torch.cat([start[:, None], h[:, :-1]], 1)
        return di * before, di, di[:, 0] * f[:, 0]


def doubled(f: Tensor, i: Tensor) -> Tensor:
    """All prefixes of the recurrence in log2(length) steps."""
    reach, length = 1, i.shape[1]
    while reach < length:
        i = torch.cat([i[:, :reach], i[:, reach:] + f[:, reach:] * i[:, :-reach]], 1)
        f = torch.cat([f[:, :reach], f[:, reach:] * f[:, :-reach]], 1)
        reach *= 2
    return i


def ternary(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(trits in float, their scale): the mean of |w|, round, clamp."""
    scale = weight.abs().mean().clamp(min=SMALLEST)
    return (weight / scale).round().clamp(-1, 1), scale


def rms(x: Tensor, eps: float) -> Tensor:
    """Divide by the root mean square of the last dimension."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class Lin(nn.Module):
    """A product with ternary weights, its input normalised and quantised first."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * gain * inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        product: Tensor = Product.apply(rms(x, LIN_EPS), self.weight)
        return product


class Norm(nn.Module):
    """RMS norm with a gain."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return rms(x, NORM_EPS) * self.weight


class Mixer(nn.Module):
    """The gated recurrence over time; called attn in the public code."""

    def __init__(self, size: int, gain: float) -> None:
        super().__init__()
        self.i_proj, self.f_proj, self.g_proj = (Lin(size, size) for _ in range(3))
        self.g_norm = Norm(size)
        self.o_proj = Lin(size, size, gain)

    def forward(self, x: Tensor, bound: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        f = bound + (1 - bound) * self.f_proj(x).sigmoid()
        i = functional.silu(self.i_proj(x)) * (1 - f)
        h = Recurrence.apply(f, i, start)
        return self.o_proj(self.g_norm(h) * functional.silu(self.g_proj(x))), h[:, -1]


class Mlp(nn.Module):
    """Gate and up in one product, the gate's half first; then down."""

    def __init__(self, size: int, inner: int, gain: float) -> None:
        super().__init__()
        self.gate_proj = Lin(size, 2 * inner)
        self.down_proj = Lin(inner, size, gain)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        gate, up = self.gate_proj(x).chunk(2, -1)
        return self.down_proj(functional.silu(gate) * up)


class Block(nn.Module):
    """Norm, mixer, residual; norm, MLP, residual."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        gain = (2 * recipe.layers) ** -0.5
        self.attn_norm, self.mlp_norm = Norm(recipe.hidden_size), Norm(recipe.hidden_size)
        self.attn = Mixer(recipe.hidden_size, gain)
        self.mlp = Mlp(recipe.hidden_size, recipe.intermediate_size, gain)
        self.drop = nn.Dropout(recipe.dropout)

    def forward(self, x: Tensor, bound: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        mixed, state = self.attn(self.attn_norm(x), bound, start)
        x = x + self.drop(mixed)
        return x + self.drop(self.mlp(self.mlp_norm(x))), state


class Body(nn.Module):
    """Embedding, blocks, last norm."""

    def __init__(self, recipe: Recipe, symbols: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(symbols, recipe.hidden_size)
        self.lower_bounds = nn.Parameter(torch.zeros(recipe.layers, recipe.hidden_size))
        self.layers = nn.ModuleList(Block(recipe) for _ in range(recipe.layers))
        self.norm = Norm(recipe.hidden_size)

    def forward(self, tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        shares = self.lower_bounds.softmax(0)
        bounds = shares.cumsum(0) - shares[0]
        x, ends = self.embeddings(tokens), []
        for bound, start, layer in zip(bounds, states, self.layers, strict=True):
            x, end = layer(x, bound, start)
            ends.append(end)
        return self.norm(x), torch.stack(ends)


class LanguageModel(nn.Module):
    """Tokens (batch, time) and states (layer, batch, width) to logits and the states after them."""

    def __init__(self, recipe: Recipe, symbols: int) -> None:
        super().__init__()
        self.model = Body(recipe, symbols)
        self.lm_head = Lin(recipe.hidden_size, symbols)

    def forward(self, tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        x, ends = self.model(tokens, states)
        return self.lm_head(x), ends


def streams(text: Tensor, recipe: Recipe, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (tokens with one more than the window, which streams go on): the text goes round."""
    steps = torch.arange(recipe.window + 1, device=text.device)
    ask = {"generator": generator, "device": text.device}
    places = torch.randint(len(text), (recipe.batch,), **ask)
    goes_on = torch.zeros(recipe.batch, device=text.device)
    while True:
        yield text[(places[:, None] + steps) % len(text)], goes_on
        fresh = torch.rand(recipe.batch, **ask) < recipe.restart
        places = torch.where(fresh, torch.randint(len(text), (recipe.batch,), **ask), places + recipe.window)
        goes_on = (~fresh).float()


def schedule(step: int, recipe: Recipe) -> tuple[float, float]:
    """(learning rate, weight decay): warm-up, then a cosine; no decay at the end, as in BitNet."""
    done = step / recipe.steps
    rise = min(1.0, (step + 1) / recipe.warm_up)
    rate = recipe.rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    return rate, recipe.decay if done < recipe.decay_until else 0.0


@torch.no_grad()
def bits_per_character(model: LanguageModel, text: Tensor, recipe: Recipe) -> float:
    """Mean -log2 p of every character but the first, in one pass from an empty state."""
    model.eval()
    states = torch.zeros(recipe.layers, 1, recipe.hidden_size, device=text.device)
    total = 0.0
    for start in range(0, len(text) - 1, EVALUATED_AT_ONCE):
        tokens = text[start : start + EVALUATED_AT_ONCE + 1]
        logits, states = model(tokens[None, :-1], states)
        total += float(functional.cross_entropy(logits[0], tokens[1:], reduction="sum"))
    model.train()
    return total / math.log(2) / (len(text) - 1)


def train(
    model: LanguageModel, texts: dict[str, Tensor], recipe: Recipe, log_every: int
) -> Iterator[dict[str, Any]]:
    """Train in place; yields points of the loss curve, in bits per character."""
    device = texts["train"].device
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and "lower" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "lower" in name]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=device.type == "cuda")
    run = torch.compile(model) if device.type == "cuda" else model
    source = streams(texts["train"], recipe, torch.Generator(device).manual_seed(recipe.seed))
    states = torch.zeros(recipe.layers, recipe.batch, recipe.hidden_size, device=device)
    seen, began = torch.zeros((), device=device), time.monotonic()
    for step in range(recipe.steps):
        rate, decay = schedule(step, recipe)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.param_groups[0]["weight_decay"] = decay
        tokens, goes_on = next(source)
        logits, ends = run(tokens[:, :-1], states * goes_on[:, None])
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        states = ends.detach()
        seen += loss.detach()
        if (step + 1) % log_every == 0 or step + 1 == recipe.steps:
            of = (step % log_every) + 1
            point = {
                "step": step + 1,
                "train": round(float(seen) / of / math.log(2), 4),
                "validation": round(bits_per_character(model, texts["validation"], recipe), 4),
            }
            seen.zero_()
            click.echo(f"{point}  {time.monotonic() - began:.0f} s")
            yield point


def pack(trits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Five trits a byte, sum of (t + 1) * 3^j, row by row; the last byte is filled with zeros (trit 0)."""
    flat = trits.astype(np.int64).ravel() + 1
    filled = np.concatenate([flat, np.ones(-len(flat) % 5, np.int64)]).reshape(-1, 5)
    return (filled @ 3 ** np.arange(5)).astype(np.uint8)


def tensors(model: LanguageModel) -> dict[str, np.ndarray[Any, Any]]:
    """The parameters as they are stored: products packed, the rest float32, in the public code's names."""
    stored: dict[str, np.ndarray[Any, Any]] = {}
    products = {name for name, module in model.named_modules() if isinstance(module, Lin)}
    for name, value in model.named_parameters():
        owner = name.removesuffix(".weight")
        if owner in products:
            trits, scale = ternary(value.detach())
            stored[f"{owner}.packed"] = pack(trits.cpu().numpy())
            stored[f"{owner}.scale"] = scale.cpu().numpy().astype(np.float32)
        else:
            stored[name] = value.detach().cpu().numpy().astype(np.float32)
    return stored


def config(recipe: Recipe, alphabet: str) -> dict[str, Any]:
    """The model's config.json, in the public code's words and the characters."""
    return {
        "architectures": ["HGRNBitForCausalLM"],
        "model_type": "hgrn_bit",
        "hidden_size": recipe.hidden_size,
        "num_hidden_layers": recipe.layers,
        "intermediate_size": recipe.intermediate_size,
        "num_heads": 1,
        "expand_ratio": 1,
        "hidden_act": "swish",
        "use_lower_bound": True,
        "use_short_conv": False,
        "rms_norm_eps": NORM_EPS,
        "tie_word_embeddings": False,
        "vocab_size": len(alphabet),
        "characters": alphabet,
    }


def identity(texts: Split) -> dict[str, Any]:
    """What was trained and measured on."""
    sizes = {name: {"characters": len(text), "sha256": digest(text)} for name, text in _named(texts).items()}
    return {
        "package": PACKAGE,
        "version": VERSION,
        "package_sha256": DEB_SHA256,
        "licence": LICENCE,
        "validation_books": VALIDATION,
        "held_back_books": HELD_BACK,
        **sizes,
    }


def _named(texts: Split) -> dict[str, str]:
    return {name: getattr(texts, name) for name in SPLITS}


def store(out: Path, model: LanguageModel, configuration: dict[str, Any], log: dict[str, Any]) -> None:
    """Write the three files; what a longer run has reached is kept at every point of its curve."""
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors(model), out / "weights.safetensors")
    _write_json(out / "config.json", configuration)
    _write_json(out / "training.json", log)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@click.command()
@click.option("--text", "text_folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--hidden-size", default=128, show_default=True)
@click.option("--layers", default=4, show_default=True)
@click.option("--steps", default=32000, show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--window", default=256, show_default=True)
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--decay", default=0.1, show_default=True)
@click.option("--decay-until", default=0.75, show_default=True)
@click.option("--warm-up", default=1000, show_default=True)
@click.option("--dropout", default=0.0, show_default=True)
@click.option("--restart", default=0.02, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--log-every", default=2000, show_default=True)
def main(text_folder: Path, out: Path, log_every: int, **choices: Any) -> None:
    """Train and write config.json, weights.safetensors and training.json."""
    split = load(text_folder)
    recipe, alphabet = Recipe(**choices), split.alphabet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True  # exact forward: integers below 2^11, sums in float32
    torch.manual_seed(recipe.seed)
    codes = {name: [alphabet.index(c) for c in text] for name, text in _named(split).items()}
    texts = {name: torch.tensor(code, device=device) for name, code in codes.items()}
    model = LanguageModel(recipe, len(alphabet)).to(device)
    log = {
        "recipe": asdict(recipe),
        "data": identity(split),
        "parameters": sum(value.numel() for value in model.parameters()),
        "curve": [],
    }
    for point in train(model, texts, recipe, log_every):
        log["curve"].append(point)
        store(out, model, config(recipe, alphabet), log)
    for name, size in (("held_back", None), (f"first_{MEASURED}", MEASURED)):
        bits = bits_per_character(model, texts["held_back"][:size], recipe)
        log[f"{name}_bits_per_character"] = round(bits, 5)
        click.echo(f"{name}: {bits:.5f} bits per character")
    store(out, model, config(recipe, alphabet), log)
    (out / "held_back.txt").write_text(split.held_back[:EXCERPT], encoding="ascii")


if __name__ == "__main__":
    main()
