"""Text from a MatMul-free language model: the next token from logits, and what a model is calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from workloads._errors import WorkloadError
from workloads._hgrn_float import FloatModel, text_bits
from workloads._hgrn_integer import TernaryModel

Tokens = npt.NDArray[np.int64]
CALIBRATION_SEQUENCES, CALIBRATION_LENGTH = 32, 96


class Chooser(Protocol):
    """What makes the next token of logits in nats."""

    def __call__(self, logits: npt.NDArray[np.float64]) -> int:
        """The token."""


def most_likely(logits: npt.NDArray[np.float64]) -> int:
    """The first of the tokens with the largest logit."""
    return int(np.argmax(logits))


def sampled(temperature: float, seed: int) -> Chooser:
    """A token drawn with the probabilities that logits over ``temperature`` give; the same for one seed."""
    if not 0 < temperature < float("inf"):
        raise WorkloadError(f"temperature must be above 0 to draw tokens, not {temperature!r}")
    rng = np.random.default_rng(seed)

    def choose(logits: npt.NDArray[np.float64]) -> int:
        weights = np.exp((logits - logits.max()) / temperature)
        return int(rng.choice(len(weights), p=weights / weights.sum()))

    return choose


def write(model: TernaryModel, prompt: Sequence[int], count: int, choose: Chooser) -> list[int]:
    """``count`` tokens that follow ``prompt``."""
    if not prompt:
        raise WorkloadError("a prompt must have at least one token, not none")
    state = model.start()
    for token in prompt:
        state, logits = model.step(state, [token])
    made: list[int] = []
    while True:
        made.append(choose(logits[0] * model.logit_unit))
        if len(made) >= count:
            return made
        state, logits = model.step(state, [made[-1]])


def own_text(
    model: FloatModel,
    seed: int = 0,
    *,
    sequences: int = CALIBRATION_SEQUENCES,
    length: int = CALIBRATION_LENGTH,
) -> Tokens:
    """Tokens [sequences, length] that the model itself writes, drawn at temperature 1: text to calibrate on.

    First tokens are the vocabulary's in turn, so that each of up to ``sequences`` is seen.
    """
    rng = np.random.default_rng(seed)
    tokens = np.empty((sequences, length), np.int64)
    tokens[:, 0] = np.arange(sequences) % model.sizes.vocab
    state = model.start(sequences)
    for position in range(1, length):
        state, logits = model.step(state, tokens[:, position - 1])
        noise = rng.gumbel(size=logits.shape)
        tokens[:, position] = np.argmax(logits + noise, axis=-1)
    return tokens


def bits_per_token(model: FloatModel | TernaryModel, tokens: npt.ArrayLike) -> float:
    """Mean of -log2 of the probability of every token but the first, over ``tokens`` [sequences, length]."""
    texts = np.atleast_2d(np.asarray(tokens))
    unit = model.logit_unit if isinstance(model, TernaryModel) else 1.0
    state: npt.NDArray[Any] = model.start(len(texts))
    logits = []
    for position in range(texts.shape[1] - 1):
        state, found = model.step(state, texts[:, position])
        logits.append(found * unit)
    return text_bits(logits, texts[:, 1:].T)
