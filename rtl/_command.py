"""What stands between the sequencer and the engines: decoded commands and event pulses."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from archsim._isa import ENGINE_OF, OPERANDS, PAYLOAD, SEMAPHORES, SIGNED, Engine, Opcode

SYNCS: dict[Engine, Opcode] = {
    Engine.LOAD: Opcode.SYNC_LOAD,
    Engine.STORE: Opcode.SYNC_STORE,
    Engine.ARRAY: Opcode.SYNC_ARRAY,
    Engine.VECTOR: Opcode.SYNC_VECTOR,
}
"""The opcode of each engine that only passes tokens on."""


def opcodes_of(engine: Engine) -> tuple[Opcode, ...]:
    """Opcodes that ``engine`` runs, in encoding order."""
    return tuple(opcode for opcode, owner in ENGINE_OF.items() if owner is engine)


def payload_fields(engine: Engine) -> dict[str, int]:
    """Payload fields of all opcodes of ``engine`` with their widths; a shared name has one width."""
    fields: dict[str, int] = {}
    for opcode in opcodes_of(engine):
        for name, width in PAYLOAD[opcode]:
            assert fields.setdefault(name, width) == width
    return fields


def field_shape(name: str, width: int) -> unsigned | signed:
    """Shape of the field ``name``: two's complement where the instruction table says so."""
    return signed(width) if name in SIGNED else unsigned(width)


def command_layout(engine: Engine) -> data.StructLayout:
    """A decoded instruction of ``engine``: opcode, ``is_sync``, masks, operands and payload fields.

    ``op0`` .. ``op3`` are resolved, base plus register. A field that the opcode at hand does not
    have carries no meaning.
    """
    header = {"opcode": 8, "is_sync": 1, "signals": SEMAPHORES, "releases": SEMAPHORES}
    operands = {f"op{index}": 32 for index in range(OPERANDS)}
    payload = {name: field_shape(name, width) for name, width in payload_fields(engine).items()}
    return data.StructLayout({**header, **operands, **payload})


ARRAY_EVENTS = data.StructLayout(
    {
        "array_rows": 1,
        "array_weight_rows": 1,
        "array_busy": 1,
        "accumulator_reads": 1,
        "accumulator_writes": 1,
        "scratchpad_reads": 2,
    }
)
"""What ARRAY adds to its counters in a cycle."""

VECTOR_EVENTS = data.StructLayout(
    {
        "vector_slots": 1,
        "vector_busy": 1,
        "accumulator_reads": 1,
        "scratchpad_reads": 2,
        "scratchpad_writes": 1,
        "parameter_reads": 1,
        "buffer_reads": 1,
        "buffer_writes": 1,
        "table_reads": 1,
    }
)
"""What VECTOR adds to its counters in a cycle."""
