"""The instruction set: one table that the encoder, the simulator and the RTL decoder read.

An instruction is sixteen 32-bit words (64 bytes, little endian). The header and the four
operand slots stand at the same bits in every instruction, so that the sequencer can add its
address registers without knowing the engine. See ``docs/machine.md`` for what each one does.
"""

from __future__ import annotations

from enum import IntEnum

INSTRUCTION_BITS = 512
INSTRUCTION_BYTES = INSTRUCTION_BITS // 8
TABLE_ENTRIES = 256
"""Entries of a function table, one in each scratchpad word of its image."""
EXPONENTIAL_SLOTS = 8
"""Array slots of an ATTEND that make exponentials and their sum, where present."""
LANE_EXPONENTIAL_SLOTS = 9
"""Lane slots of an ATTEND that rescale and add to the denominator, where exponentials are present."""
SEMAPHORES = 16
REGISTERS = 16
LOOP_DEPTH = 8
OPERANDS = 4
"""Address operands of an engine instruction; each is a base plus one address register."""


class Opcode(IntEnum):
    """What an instruction does, and which unit does it."""

    HALT = 0
    SET = 1
    ADD = 2
    RING = 3
    LOOP = 4
    END = 5
    SYNC_LOAD = 6
    SYNC_STORE = 7
    SYNC_ARRAY = 8
    SYNC_VECTOR = 9
    LOAD = 10
    STORE = 11
    MATMUL = 12
    VECTOR = 13
    TABLE = 14
    ATTEND = 15
    DIVIDE = 16


class Engine(IntEnum):
    """The units that run instructions in order, each from its own queue."""

    LOAD = 0
    STORE = 1
    ARRAY = 2
    VECTOR = 3


class Space(IntEnum):
    """Where a LOAD writes."""

    SCRATCHPAD = 0
    PARAMETERS = 1
    PROGRAM = 2
    WEIGHTS = 3
    """Words of a ternary array's weight memory."""


class Source(IntEnum):
    """Where a VECTOR pass reads its elements."""

    ACCUMULATOR = 0
    SCRATCHPAD = 1
    BUFFER = 2


class Pre(IntEnum):
    """First stage of a VECTOR pass: scaling by the row's record."""

    NONE = 0
    NORM = 1
    SCALE = 2


class Residual(IntEnum):
    """How a VECTOR pass combines its value with a second scratchpad operand."""

    NONE = 0
    ADD = 1
    MULTIPLY = 2


class Lookup(IntEnum):
    """What a VECTOR pass does with the function table."""

    NONE = 0
    TABLE = 1
    EXP = 2
    INTERPOLATE = 3
    """Between two neighbours of the table; on a gated vector unit."""


class Destination(IntEnum):
    """Where a VECTOR pass writes its elements."""

    NONE = 0
    SCRATCHPAD = 1
    BUFFER = 2


class Reduce(IntEnum):
    """What a VECTOR pass accumulates over each row."""

    NONE = 0
    MAX = 1
    SUM = 2
    MOMENTS = 3
    SQUARES = 4
    ABSMAX = 5
    """On a gated vector unit."""


ENGINE_OF: dict[Opcode, Engine] = {
    Opcode.SYNC_LOAD: Engine.LOAD,
    Opcode.SYNC_STORE: Engine.STORE,
    Opcode.SYNC_ARRAY: Engine.ARRAY,
    Opcode.SYNC_VECTOR: Engine.VECTOR,
    Opcode.LOAD: Engine.LOAD,
    Opcode.STORE: Engine.STORE,
    Opcode.MATMUL: Engine.ARRAY,
    Opcode.VECTOR: Engine.VECTOR,
    Opcode.TABLE: Engine.VECTOR,
    Opcode.ATTEND: Engine.ARRAY,
    Opcode.DIVIDE: Engine.VECTOR,
}

_PRODUCTS = frozenset({Opcode.MATMUL, Opcode.VECTOR, Opcode.TABLE})
KIND_OPCODES: dict[str, frozenset[Opcode]] = {
    "dense": _PRODUCTS,
    "ternary": _PRODUCTS,
    "fusemax": frozenset({Opcode.ATTEND, Opcode.DIVIDE}),
}
"""What ARRAY and VECTOR run beside their SYNC, by the kind of the array; illegal on kinds without them."""

Field = tuple[str, int]
"""A field's name and its width in bits; fields are packed from bit 0 upwards without gaps."""

HEADER: tuple[Field, ...] = (
    ("opcode", 8),
    ("waits", 16),
    ("signals", 16),
    ("releases", 16),
    ("reg0", 4),
    ("reg1", 4),
    ("reg2", 4),
    ("reg3", 4),
    ("base0", 32),
    ("base1", 32),
    ("base2", 32),
    ("base3", 32),
)

_CONTROL: tuple[Field, ...] = (("reg", 4), ("imm", 32), ("limit", 32))
_TRANSFER: tuple[Field, ...] = (
    ("space", 2),
    ("segments", 16),
    ("beats", 16),
    ("dram_stride", 32),
    ("local_stride", 32),
)
_MATMUL: tuple[Field, ...] = (
    ("rows", 16),
    ("k_chunks", 16),
    ("n_chunks", 16),
    ("w_rows", 16),
    ("x_k_stride", 32),
    ("w_n_stride", 32),
    ("w_k_stride", 32),
    ("acc_n_stride", 32),
    ("transpose", 1),
    ("accumulate", 1),
)
_VECTOR: tuple[Field, ...] = (
    ("rows", 16),
    ("chunks", 16),
    ("length", 16),
    ("group", 16),
    ("count", 16),
    ("src_stride", 32),
    ("dst_stride", 32),
    ("res_stride", 32),
    ("shift", 6),
    ("res_multiplier", 16),
    ("res_shift", 6),
    ("source", 2),
    ("pre", 2),
    ("affine", 1),
    ("residual", 2),
    ("lookup", 2),
    ("slot", 2),
    ("destination", 2),
    ("reduce", 3),
    ("reduce_first", 1),
    ("res_buffer", 1),
    ("uniform", 1),
)
_TABLE: tuple[Field, ...] = (("slot", 2),)
_ATTEND: tuple[Field, ...] = (
    ("features", 16),
    ("period", 16),
    ("scale", 16),
    ("scale_shift", 6),
    ("keys_scores", 16),
    ("keys_exp", 16),
    ("record", 16),
    ("scores", 1),
    ("exponentials", 1),
    ("values", 1),
    ("first_scores", 1),
    ("first_exp", 1),
    ("last_exp", 1),
)
_DIVIDE: tuple[Field, ...] = (
    ("rows", 16),
    ("lanes", 16),
    ("record", 16),
    ("multiplier", 16),
    ("shift", 6),
)

PAYLOAD: dict[Opcode, tuple[Field, ...]] = {
    Opcode.HALT: (),
    Opcode.SET: _CONTROL,
    Opcode.ADD: _CONTROL,
    Opcode.RING: _CONTROL,
    Opcode.LOOP: _CONTROL,
    Opcode.END: (),
    Opcode.SYNC_LOAD: (),
    Opcode.SYNC_STORE: (),
    Opcode.SYNC_ARRAY: (),
    Opcode.SYNC_VECTOR: (),
    Opcode.LOAD: _TRANSFER,
    Opcode.STORE: _TRANSFER,
    Opcode.MATMUL: _MATMUL,
    Opcode.VECTOR: _VECTOR,
    Opcode.TABLE: _TABLE,
    Opcode.ATTEND: _ATTEND,
    Opcode.DIVIDE: _DIVIDE,
}
GATED_FIELDS: frozenset[str] = frozenset({"res_buffer", "uniform"})
"""Fields that only a gated vector unit has; elsewhere they are zero."""
SIGNED: frozenset[str] = frozenset({"res_multiplier", "multiplier"})
"""Fields in two's complement; every other field is unsigned. Address registers and strides wrap
modulo 2**32, so a negative step is its residue."""
