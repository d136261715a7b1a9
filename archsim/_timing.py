"""The timing contract's constants: executed by the simulator, met by the RTL (``docs/machine.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from archsim._architecture import Architecture

SEQ_CYCLES = 3
"""Cycles from one instruction's execute cycle to the next one's."""

SEQ_START = 3
"""Cycles from the program's last word being visible to the first execute cycle."""

POP_CYCLES = 2
"""Cycles from a push to the entry's pop, at the earliest."""

NEXT_CYCLES = 3
"""Cycles from one pop of a queue to the next, at the earliest."""

PLACE_CYCLES = 3
"""Cycles from a pop to the push that takes its place in a full queue, at the earliest."""

TOKEN_CYCLES = 3
"""Cycles from the retirement or last issue that gives a token to the pop that takes it, at the earliest."""

HALT_CYCLES = 2
"""Cycles from the last retirement to HALT's execution, at the earliest."""

INTERPOLATION = 2
"""Stages by which interpolation makes a gated vector unit longer: a product and a sum."""

SCRATCHPAD_READ = 4
"""Cycles from a read's issue to its data: the request's register, the bank's, the memory, its output's."""

STORE_LEAD = SCRATCHPAD_READ + 2
"""Cycles from a write burst's address handshake to its first data beat, at the earliest."""


def tree_depth(lanes: int) -> int:
    """Levels of a binary reduction tree over ``lanes`` values."""
    return (lanes - 1).bit_length()


def array_latency(rows: int, cols: int) -> int:
    """Cycles from the issue of a streamed word to its accumulator words being written."""
    return rows + cols + SCRATCHPAD_READ + 3


def ternary_latency(rows: int, group: int) -> int:
    """Cycles from a slot's issue to its accumulator word being written, on a ternary array.

    With ``group`` 1 the operands are read, registered twice, decoded, and chosen by their trits; with 3
    the sums of each group take one stage more, and the sign of what is chosen another. A tree of adders
    and the accumulators follow.
    """
    stages, leaves = (5, rows) if group == 1 else (7, -(-rows // group))
    return SCRATCHPAD_READ + stages + tree_depth(leaves)


def vector_latency(lanes: int, *, gated: bool = False) -> int:
    """Cycles from a slot's issue to its results, row record included, being written."""
    return SCRATCHPAD_READ + 52 + tree_depth(lanes) + (INTERPOLATION if gated else 0)


# An array of kind fusemax (``docs/attention-machine.md``).


def attend_latency(rows: int, cols: int) -> int:
    """Cycles from the last issue of an ATTEND to its denominators being written, in the last lane too."""
    return rows + cols + SCRATCHPAD_READ + 2


def feedback(rows: int) -> int:
    """Cycles from the slot of the maximum to the first slot that may use the running maximum."""
    return rows + 2


def divide_latency() -> int:
    """Cycles from a slot's issue to its quotient being written."""
    return 23


def attend_period(rows: int, features: int) -> int:
    """Cycles from one ATTEND to the next: the lanes' operations of a tile, or the maximum's way back."""
    return 2 * features + 10 + max(0, feedback(rows) - (2 * features + 2))


def array_retirement(arch: Architecture) -> int:
    """Cycles from the last issue of ``arch``'s array to its retirement."""
    array = arch.array
    match array.kind:
        case "dense":
            return array_latency(array.rows, array.cols)
        case "ternary":
            return ternary_latency(array.rows, array.group)
        case "fusemax":
            return attend_latency(array.rows, array.cols)
        case _:
            assert_never(array.kind)


def vector_retirement(arch: Architecture) -> int:
    """Cycles from the last slot of ``arch``'s vector unit, or of its divider, to its retirement."""
    if arch.array.kind == "fusemax":
        return divide_latency()
    return vector_latency(arch.array.cols, gated=arch.vector.gated)
