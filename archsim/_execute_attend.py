"""The attention machine's arithmetic, one whole instruction at a time (``docs/attention-machine.md``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture
from workloads import AttentionScales, divide, exp2_fixed

Ints = NDArray[np.int64]
Bytes = NDArray[np.int8]
Fields = Callable[[str], int]
Words = Callable[[int, int, NDArray[np.generic]], slice]
"""A run of words of a memory, given its first and their number; refuses one that does not exist."""


@dataclass(slots=True)
class Attention:
    """What array, lanes and value memory hold between instructions."""

    scores: Ints
    """(R, C): S."""
    weights: Ints
    """(R, C): P."""
    maximum: Ints
    """(C): RM."""
    before: Ints
    """(C): RMold."""
    kept: Ints
    """(C): PRM, in 2**-15."""
    denominator: Ints
    """(C): RD."""
    values: Ints
    """(words, C): the value memory, RNV."""
    records: Ints
    """(records, C): denominators of finished blocks."""

    @staticmethod
    def zeros(arch: Architecture) -> Attention:
        """The state of a machine that has run nothing."""
        rows, cols = arch.array.rows, arch.array.cols
        shapes = ((rows, cols),) * 2 + ((cols,),) * 4
        memories = ((arch.vector.buffer_words, cols), (arch.vector.rows, cols))
        return Attention(*(np.zeros(shape, np.int64) for shape in (*shapes, *memories)))


def run_attend(
    field: Fields, operands: tuple[int, ...], state: Attention, scratchpad: Bytes, words: Words
) -> None:
    """One period: values of tile t - 1, exponentials of tile t, scores of tile t + 1, which do not meet."""
    features = field("features")
    rows, cols = state.scores.shape
    if field("values"):
        values = scratchpad[words(operands[2], features, scratchpad), :rows].astype(np.int64)
        place = words(operands[3], features, state.values)
        state.values[place] = values @ state.weights + (state.values[place] * state.kept + (1 << 14) >> 15)
    if field("exponentials"):
        _exponentials(field, state)
    if field("scores"):
        keys = scratchpad[words(operands[0], features, scratchpad), :rows].astype(np.int64)
        queries = scratchpad[words(operands[1], features, scratchpad), :cols].astype(np.int64)
        state.scores = keys.T @ queries
        highest = state.scores[: field("keys_scores")].max(axis=0)
        state.before = state.maximum
        state.maximum = highest if field("first_scores") else np.maximum(state.maximum, highest)


def _exponentials(field: Fields, state: Attention) -> None:
    def power(difference: Ints) -> Ints:
        return exp2_fixed(difference * field("scale") >> field("scale_shift"))

    # Rows without a key may lie above the maximum; what they make is not used.
    state.weights = power(np.minimum(state.scores - state.maximum, 0))
    state.weights[field("keys_exp") :] = 0
    if field("first_exp"):
        state.kept = np.zeros_like(state.kept)
    else:
        state.kept = power(state.before - state.maximum)
    state.denominator = state.weights.sum(axis=0) + (state.denominator * state.kept + (1 << 14) >> 15)
    if field("last_exp"):
        state.records[field("record")] = state.denominator


def run_divide(
    field: Fields, operands: tuple[int, ...], state: Attention, scratchpad: Bytes, words: Words
) -> None:
    """Quotients of a block, in the result's units; 0 in lanes without a query."""
    rows, lanes = field("rows"), field("lanes")
    scales = AttentionScales(scale=0, scale_shift=0, multiplier=field("multiplier"), shift=field("shift"))
    values = state.values[words(operands[0], rows, state.values), :lanes]
    denominators = np.maximum(state.records[field("record"), :lanes], 1)
    place = words(operands[1], rows, scratchpad)
    scratchpad[place] = 0
    scratchpad[place, :lanes] = divide(values, denominators, scales)
