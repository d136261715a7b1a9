"""The action counters that the simulator computes and the RTL keeps, in register-map order."""

from __future__ import annotations

from enum import IntEnum

from archsim._isa import SEMAPHORES


class Counter(IntEnum):
    """One 64-bit counter of the core; ``docs/machine.md`` says which cycle each one counts."""

    CYCLES = 0
    """Cycles from start to HALT, inclusive."""
    INSTRUCTIONS = 1
    """Instructions executed by the sequencer, HALT included."""
    LOAD_BEATS = 2
    """AXI read data beats, program fetch included."""
    LOAD_BURSTS = 3
    """AXI read bursts, program fetch included."""
    STORE_BEATS = 4
    """AXI write data beats."""
    STORE_BURSTS = 5
    """AXI write bursts."""
    ARRAY_ROWS = 6
    """Words streamed into the array (of ATTEND: K and V); each is R x C multiply-accumulates."""
    ARRAY_WEIGHT_ROWS = 7
    """Stationary words read into the array (of ATTEND: Q)."""
    ARRAY_BUSY = 8
    """Cycles s+1 .. e of every MATMUL and ATTEND."""
    VECTOR_SLOTS = 9
    """Slots of VECTOR passes; of DIVIDE, and of ATTEND in the lanes."""
    VECTOR_BUSY = 10
    """Cycles s+1 .. r of every VECTOR, TABLE and DIVIDE."""
    ACCUMULATOR_READS = 11
    """Accumulator (or value memory) words read: by ARRAY where it accumulates, and by VECTOR."""
    ACCUMULATOR_WRITES = 12
    """Accumulator (or value memory) words written."""
    SCRATCHPAD_READS = 13
    """Scratchpad words read by ARRAY and VECTOR (source, residual, table entry)."""
    SCRATCHPAD_WRITES = 14
    """Scratchpad words written by VECTOR."""
    PARAMETER_READS = 15
    """Parameter words read by affine passes."""
    BUFFER_READS = 16
    """Vector buffer words read."""
    BUFFER_WRITES = 17
    """Vector buffer words written."""
    TABLE_READS = 18
    """Slots that looked up the function table (each is C reads)."""
    ARRAY_SPECIAL = 19
    """Slots of ATTEND that make exponentials, their sum or a maximum; each is R x C operations."""


STALL_BASE = len(Counter)
"""Index of the first of the per-semaphore stall counters, which follow the named ones."""

COUNTERS = STALL_BASE + SEMAPHORES
COUNTER_ADDRESS = 0x40
