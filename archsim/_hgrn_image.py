"""A MatMul-free language model's memory: weights, parameters, tables and embeddings as bytes, logits back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from archsim._hgrn_layout import CONSTANTS, GAINS, PRODUCTS, Layout
from archsim._isa import TABLE_ENTRIES
from archsim._lower_hgrn import LoweredHgrn
from archsim._trits import pack_words
from workloads import IntegerBlock, Shifts, TernaryModel, TernaryProduct, joined, split

Bytes = NDArray[np.int8]
Ints = NDArray[np.int64]


def hgrn_image(lowered: LoweredHgrn, model: TernaryModel) -> bytes:
    """The memory before the load program runs; the encoded programs go to their addresses."""
    at = lowered.layout
    regions = at.regions()
    memory = bytearray(max(region.address + region.size_bytes for region in regions.values()))
    for name, made in (
        ("tables", _tables(at, model)),
        ("parameters", _parameters(at, model)),
        ("weights", hgrn_weights(lowered, model)),
    ):
        address = regions[name].address
        memory[address : address + len(made)] = made
    return bytes(memory)


def hgrn_step_image(lowered: LoweredHgrn, model: TernaryModel, token: int, *, memory: bytes = b"") -> bytes:
    """The memory before a token's step: the token's embedding, and what of ``memory`` a step reads.

    Where weights or parameters stream that is all of it (``hgrn_image``); else ``memory`` is not needed.
    """
    at = lowered.layout
    resident = at.weights_resident and at.parameters_resident
    end = lowered.step_address if resident else len(memory)
    image = bytearray(memory[:end].ljust(end, b"\0"))
    image[: at.regions()["embedding"].size_bytes] = embedding_bytes(at, model, token)
    return bytes(image)


def embedding_bytes(at: Layout, model: TernaryModel, token: int) -> bytes:
    """The embedding's row as two int8: high bytes, then low ones."""
    halves = split(model.embeddings[token])
    return b"".join(_words(at, half, at.embedding_words).tobytes() for half in halves)


def logit_bytes(at: Layout, logits: Ints) -> bytes:
    """What a step stores for ``logits`` [vocab]."""
    halves = split(logits)
    return b"".join(_words(at, half, at.logit_words).tobytes() for half in halves)


def logits_of(at: Layout, memory: bytes) -> Ints:
    """Logits [vocab] that a step left in ``memory``."""
    region = at.regions()["logits"]
    stored = np.frombuffer(memory, np.int8)[region.address : region.address + region.size_bytes]
    words = stored.reshape(2, at.logit_words, at.arch.word_bytes)[:, :, : at.stream]
    return joined(*words.reshape(2, -1)[:, : at.sizes.vocab])


def _words(at: Layout, columns: Ints, words: int) -> Bytes:
    """Columns as scratchpad words."""
    padded = np.zeros(words * at.stream, np.int8)
    padded[: len(columns)] = columns
    made = np.zeros((words, at.arch.word_bytes), np.int8)
    made[:, : at.stream] = padded.reshape(words, at.stream)
    return made


def _tables(at: Layout, model: TernaryModel) -> bytes:
    words = np.zeros((2, TABLE_ENTRIES, at.arch.word_bytes // 2), "<i2")
    words[0, :, 0], words[1, :, 0] = model.sigmoid, model.silu
    return words.tobytes()


def hgrn_weights(lowered: LoweredHgrn, model: TernaryModel) -> bytes:
    """All weight words in the order in which they are used, in memory's form."""
    return b"".join(
        pack_words(lowered.arch, weight_words(lowered.layout, product)) for product in _products(model)
    )


def _products(model: TernaryModel) -> Iterator[TernaryProduct]:
    for block in model.blocks:
        yield from (getattr(block, name) for name in PRODUCTS)
    yield model.head


def weight_words(at: Layout, product: TernaryProduct) -> Bytes:
    """Trits (words, R, C) of a product, output chunk by output chunk; lanes past its end are 0."""
    outs, ins = product.trits.shape
    rows, cols, lanes = at.arch.array.rows, at.arch.array.cols, at.stream
    n, k = at.chunks(outs), at.streamed(ins)
    padded = np.zeros((n * cols, k * lanes), np.int8)
    padded[:outs, :ins] = product.trits
    words = np.zeros((n, k, rows, cols), np.int8)
    words[:, :, :lanes] = padded.reshape(n, cols, k, lanes).transpose(0, 2, 3, 1)
    return words.reshape(n * k, rows, cols)


def _parameters(at: Layout, model: TernaryModel) -> bytes:
    """Constants, each layer's block, the head's."""
    constants = np.zeros((CONSTANTS, at.arch.word_bytes), np.int64)
    constants[:, : at.arch.array.cols] = _lane(np.array([256, 1, 0]), np.array([0, 128, 0]))[:, None]
    blocks = [_block(at, model.shifts, block) for block in model.blocks]
    return b"".join(part.astype("<i8").tobytes() for part in (constants, *blocks, _head(at, model)))


def _block(at: Layout, by: Shifts, block: IntegerBlock) -> Ints:
    gains: dict[str, tuple[Ints, Ints | int]] = {
        "mixer_gain": (block.mixer_gain, _half(15)),
        "kept": (block.kept, block.kept_offset),
        "output_gain": (block.output_gain, _half(by.output)),
        "feed_gain": (block.feed_gain, _half(15)),
    }
    vectors = [_vector(at, *gains[name]) for name in GAINS]
    scalars = [_uniform(at, getattr(block, name).m, getattr(by, name)) for name in PRODUCTS]
    return np.concatenate([*vectors, *scalars])


def _head(at: Layout, model: TernaryModel) -> Ints:
    """The last norm's gain and the head's scale where a layer has its first of each."""
    made = np.zeros((at.block_parameters, at.arch.word_bytes), np.int64)
    made[: at.hidden] = _vector(at, model.gain, _half(15))
    made[len(GAINS) * at.hidden] = _uniform(at, model.head.m, model.shifts.head)[0]
    return made


def _half(shift: int) -> int:
    """The rounding of a right shift."""
    return 1 << shift - 1 if shift else 0


def _lane(m: Ints, b: Ints | int) -> Ints:
    assert -(1 << 15) <= m.min() <= m.max() < 1 << 15, m
    return (np.asarray(b) & (1 << 45) - 1) << 16 | m & 0xFFFF


def _vector(at: Layout, m: Ints, b: Ints | int) -> Ints:
    """Words with one column's parameters a lane."""
    cols = at.arch.array.cols
    padded = np.zeros(at.hidden * cols, np.int64)
    padded[: len(m)] = _lane(m, b)
    words = np.zeros((at.hidden, at.arch.word_bytes), np.int64)
    words[:, :cols] = padded.reshape(at.hidden, cols)
    return words


def _uniform(at: Layout, m: int, shift: int) -> Ints:
    """One word with the same parameters in every lane."""
    words = np.zeros((1, at.arch.word_bytes), np.int64)
    words[:, : at.arch.array.cols] = _lane(np.array([m]), _half(shift))
    return words
