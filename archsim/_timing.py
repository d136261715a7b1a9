"""The timing contract's constants: executed by the simulator, met by the RTL (``docs/machine.md``)."""

from __future__ import annotations

SEQ_CYCLES = 3
"""Cycles from one instruction's execute cycle to the next one's."""

SEQ_START = 3
"""Cycles from the program's last word being visible to the first execute cycle."""

STORE_LEAD = 3
"""Cycles from a write burst's address handshake to its first data beat, at the earliest."""


def tree_depth(lanes: int) -> int:
    """Levels of a binary reduction tree over ``lanes`` values."""
    return (lanes - 1).bit_length()


def array_latency(rows: int, cols: int) -> int:
    """Cycles from the issue of a streamed word to its accumulator words being written."""
    return rows + cols + 4


def vector_latency(lanes: int) -> int:
    """Cycles from a slot's issue to its results, row record included, being written."""
    return 36 + tree_depth(lanes)
