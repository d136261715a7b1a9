"""Weight words of a ternary array as bytes: five trits a byte, column by column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture
from archsim._errors import ArchsimError

Bytes = NDArray[np.int8]
TRITS = 5
"""Trits in a byte."""
_POWERS = 3 ** np.arange(TRITS)
_DIGITS = (np.arange(256)[:, None] // _POWERS % 3 - 1).astype(np.int8)
"""(256, 5): the trits of each byte."""


def pack_words(arch: Architecture, trits: Bytes) -> bytes:
    """The DRAM image of ``trits`` (words, R, C), each -1, 0 or 1: words one after the other, in whole beats.

    Raises ArchsimError for other shapes and values.
    """
    rows, cols = arch.array.rows, arch.array.cols
    if trits.ndim != 3 or trits.shape[1:] != (rows, cols):
        raise ArchsimError(f"trits must have the shape (words, {rows}, {cols}), not {trits.shape}")
    if trits.size and not np.isin(trits, (-1, 0, 1)).all():
        raise ArchsimError("trits must be -1, 0 or 1, not others")
    flat = np.zeros((len(trits), arch.weight_bytes * TRITS), np.int64)
    flat[:, : rows * cols] = trits.transpose(0, 2, 1).reshape(len(trits), -1)
    words = np.zeros((len(trits), arch.weight_beats * arch.bus.bytes), np.uint8)
    words[:, : arch.weight_bytes] = (flat.reshape(len(trits), -1, TRITS) + 1) @ _POWERS
    return words.tobytes()


def unpack_words(arch: Architecture, words: NDArray[np.uint8]) -> Bytes:
    """Trits (words, R, C) of ``words`` (words, bytes), each at least ``arch.weight_bytes`` long."""
    rows, cols = arch.array.rows, arch.array.cols
    flat = _DIGITS[words[:, : arch.weight_bytes]].reshape(len(words), -1)
    found: Bytes = flat[:, : rows * cols].reshape(len(words), cols, rows).transpose(0, 2, 1)
    return found


def weight_memory(arch: Architecture, image: bytes = b"") -> NDArray[np.uint8]:
    """The weight memory (words, bytes) with ``image``, words in DRAM's form, from word 0 on; zero behind.

    Raises ArchsimError for an image that is no whole number of words or longer than the memory.
    """
    words, size = arch.array.weight_words, arch.weight_beats * arch.bus.bytes
    if len(image) % size or len(image) > words * size:
        raise ArchsimError(f"weights must be at most {words} words of {size} bytes, not {len(image)} bytes")
    memory = np.zeros((words, arch.weight_bytes), np.uint8)
    given = np.frombuffer(image, np.uint8).reshape(-1, size)
    memory[: len(given)] = given[:, : arch.weight_bytes]
    return memory
