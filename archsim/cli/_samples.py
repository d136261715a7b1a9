"""Inputs to calibrate on: a user's texts or images, or ones of our own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from archsim._errors import ArchsimError
from archsim.cli._text import TOKENIZER, token_ids, tokenised
from workloads import Checkpoint, embed, embed_image

Floats = NDArray[np.float64]

MAX_SAMPLES = 1024
# numpy reads the header as a Python expression, and lets through all that this may raise.
_NOT_NPY = (
    ValueError,
    TypeError,
    EOFError,
    SyntaxError,
    OverflowError,
    MemoryError,
    RecursionError,
    TokenError,
)
MAX_TEXT_BYTES = 1 << 22
MAX_PIXELS = 1 << 24
RANDOM_SAMPLES = 8
RANDOM_TOKENS = 32
SEED = 0

SENTENCES = (
    "The array computes one tile while the next one is loaded from memory.",
    "A cat sat on the windowsill and watched the rain fall on the garden.",
    "She bought fresh bread, two lemons and a bottle of olive oil at the market.",
    "How do I reset the password of my account?",
    "The committee rejected the proposal by nine votes to four on 12 March 2019.",
    "Water boils at 100 degrees Celsius at sea level, and at less on a mountain.",
    "I could not believe how good the music was last night!",
    "Interest rates rose by a quarter of a point; shares in banks fell.",
    "Mix the flour with the sugar, add three eggs and bake for forty minutes.",
    "Although she recovered quickly, nobody found the cause of the fever, so she comes back twice a year.",
    "Where is the nearest railway station?",
    "In 1969 two people walked on the Moon for the first time.",
)
"""Calibration text where none is given: questions, reports, instructions, of several lengths."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs of the first block, [tokens, hidden] each, and where they are from."""

    inputs: tuple[Floats, ...]
    source: str
    notice: str | None = None
    """What a person should know about them."""


def text_samples(
    checkpoint: Checkpoint, directory: Path, *, file: Path | None, length: int | None
) -> Samples:
    """Sentences, one a line of ``file`` or our own, each repeated or cut to ``length`` tokens if given.

    Without a tokeniser and without a file they are random tokens.
    """
    if file is None and not (directory / TOKENIZER).exists():
        tokens = _random_tokens(checkpoint, length)
        notice = f"no {TOKENIZER} in {directory}: calibrating on random tokens, which no text is like"
        return Samples(_embedded(checkpoint, tokens), f"{len(tokens)} sequences of random tokens", notice)
    texts, source = (SENTENCES, "built-in") if file is None else (_lines(file), str(file))
    if length is not None:
        found = [_fitted(ids, length) for ids in tokenised(directory, texts)]
    elif file is not None:
        found = token_ids(directory, texts)
    else:
        positions = checkpoint.config.size("max_position_embeddings")
        found = [_fitted(ids, min(len(ids), positions)) for ids in tokenised(directory, texts)]
    return Samples(_embedded(checkpoint, found), f"{len(found)} sentences, {source}")


def image_samples(checkpoint: Checkpoint, *, file: Path | None) -> Samples:
    """Images [n, channels, height, width] of ``file``, or smooth noise."""
    if file is not None:
        images = _images(file, _image_shape(checkpoint))
        return Samples(_embedded_images(checkpoint, images), f"{len(images)} images of {file}")
    shape = _image_shape(checkpoint)
    if math.prod(shape) > MAX_PIXELS:
        raise ArchsimError(f"an image must have at most {MAX_PIXELS} values, not {math.prod(shape)}")
    images = smooth_noise(shape, count=RANDOM_SAMPLES)
    notice = "no --samples: calibrating on smooth noise, which no photograph is like"
    return Samples(_embedded_images(checkpoint, images), f"{len(images)} images of smooth noise", notice)


def smooth_noise(shape: tuple[int, int, int], *, count: int) -> Floats:
    """``count`` images of ``shape`` [c, h, w], deviation 1: octaves of noise, coarse ones strongest."""
    rng = np.random.default_rng(SEED)
    channels, height, width = shape
    images = np.zeros((count, *shape))
    for cells in (1, 2, 4, 8, 16):
        grid = rng.normal(size=(count, channels, cells + 1, cells + 1)) / cells
        rows, columns = _interpolation(height, cells), _interpolation(width, cells)
        images += rows @ grid @ columns.T
    return np.asarray(images / images.std())


def _interpolation(size: int, cells: int) -> Floats:
    """[size, cells + 1]: weights that draw lines between ``cells + 1`` points."""
    at = np.linspace(0, cells, size)[:, None]
    return np.asarray(np.maximum(0, 1 - np.abs(at - np.arange(cells + 1))))


def _embedded(checkpoint: Checkpoint, tokens: Sequence[Sequence[int]]) -> tuple[Floats, ...]:
    return tuple(embed(checkpoint, ids) for ids in tokens)


def _embedded_images(checkpoint: Checkpoint, images: Floats) -> tuple[Floats, ...]:
    return tuple(embed_image(checkpoint, image) for image in images)


def _lines(file: Path) -> tuple[str, ...]:
    """The lines of ``file`` that hold anything."""
    with file.open("rb") as stream:
        raw = stream.read(MAX_TEXT_BYTES + 1)
    if len(raw) > MAX_TEXT_BYTES:
        raise ArchsimError(f"{file} must be at most {MAX_TEXT_BYTES} bytes, not larger")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArchsimError(f"{file} must be text in UTF-8: {error}") from error
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not 1 <= len(lines) <= MAX_SAMPLES:
        raise ArchsimError(f"{file} must have 1 to {MAX_SAMPLES} lines of text, not {len(lines)}")
    return lines


def _fitted(ids: list[int], length: int) -> list[int]:
    """``ids`` repeated or cut to ``length``, its first and last token (the special ones) kept."""
    if len(ids) < 2:
        return (ids * length)[:length]
    first, *inside, last = ids
    room = max(0, length - 2)
    inside = (inside or [first]) * -(-room // max(1, len(inside)))
    return [first, *inside[:room], last][:length]


def _random_tokens(checkpoint: Checkpoint, length: int | None) -> list[list[int]]:
    words = checkpoint.config.size("vocab_size")
    tokens = length or min(RANDOM_TOKENS, checkpoint.config.size("max_position_embeddings"))
    rng = np.random.default_rng(SEED)
    return [[int(token) for token in row] for row in rng.integers(words, size=(RANDOM_SAMPLES, tokens))]


def _image_shape(checkpoint: Checkpoint) -> tuple[int, int, int]:
    config = checkpoint.config
    return config.size("num_channels", 3), config.size("image_size"), config.size("image_size")


def _images(file: Path, shape: tuple[int, int, int]) -> Floats:
    wanted = "[n, " + ", ".join(str(size) for size in shape) + "]"
    try:
        # Mapped, so that a header which promises too much allocates nothing.
        found = np.lib.format.open_memmap(file, mode="r")
    except _NOT_NPY as error:
        raise ArchsimError(f"{file} must be a .npy file: {error}") from error
    if found.dtype.kind != "f":
        raise ArchsimError(
            f"{file} must be a .npy file of floating-point numbers {wanted}, normalised images"
        )
    if found.ndim != 4 or found.shape[1:] != shape or not 1 <= len(found) <= MAX_SAMPLES:
        raise ArchsimError(f"{file} must have shape {wanted}, n 1 to {MAX_SAMPLES}, not {found.shape}")
    return np.asarray(found, np.float64)
