"""Why the array does or does not work in a cycle: the causes, each with its group and its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Group = Literal["work", "memory", "dependence", "control"]
"""A product is in progress; it waits for memory; for another unit's result; for instructions."""
GROUPS: tuple[Group, ...] = get_args(Group)

STREAMING = "streaming"
FIRST_WEIGHTS = "first weights"
WEIGHT_BOUND = "weight-bound tiles"
READ_LATENCY = "read latency"
READ_BANDWIDTH = "read bandwidth"
WRITES = "earlier writes"
ARRAY_DRAIN = "array drain"
VECTOR_UNIT = "vector unit"
RESULT = "result being written"
FETCH = "program fetch"
SEQUENCER = "sequencer"
HAND_OVER = "hand-over"
HALT = "halt"

MEANINGS: Mapping[str, tuple[Group, str]] = {
    STREAMING: ("work", "a row enters the array"),
    FIRST_WEIGHTS: ("work", "the stationary tile of a product's first step is read into the array"),
    WEIGHT_BOUND: ("work", "a tile has fewer rows than the next tile's weights take to read"),
    READ_LATENCY: ("memory", "an operand's read is requested, and its first data are not back"),
    READ_BANDWIDTH: ("memory", "an operand's data arrive as fast as the memory gives them"),
    WRITES: ("memory", "earlier results are being written, and hold the bus or the buffer needed next"),
    ARRAY_DRAIN: ("dependence", "the last sums are on their way through the array to the accumulators"),
    VECTOR_UNIT: ("dependence", "the vector unit makes a result that is waited for"),
    RESULT: ("dependence", "the result that is to be read next, or the run's last, is being written"),
    FETCH: ("control", "the program is read from memory"),
    SEQUENCER: ("control", "the instruction is not issued yet, and the sequencer waits for nothing else"),
    HAND_OVER: ("control", "an instruction is on its way through a queue, or a token on its way to it"),
    HALT: ("control", "the run's last cycles: all has retired, and the sequencer halts"),
}
"""Cause -> (its group, what happens in such a cycle)."""


def group_of(cause: str) -> Group:
    """The group that ``cause`` belongs to."""
    return MEANINGS[cause][0]
