"""What stands between the sequencer and the engines: decoded commands and event pulses."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from archsim._architecture import ArrayKind
from archsim._isa import (
    ENGINE_OF,
    GATED_FIELDS,
    KIND_OPCODES,
    OPERANDS,
    PAYLOAD,
    SEMAPHORES,
    SIGNED,
    Engine,
    Opcode,
)

SYNCS: dict[Engine, Opcode] = {
    Engine.LOAD: Opcode.SYNC_LOAD,
    Engine.STORE: Opcode.SYNC_STORE,
    Engine.ARRAY: Opcode.SYNC_ARRAY,
    Engine.VECTOR: Opcode.SYNC_VECTOR,
}
"""The opcode of each engine that only passes tokens on."""


def absent_opcodes(kind: ArrayKind) -> tuple[Opcode, ...]:
    """Opcodes that a machine of ``kind`` does not have, in encoding order."""
    others = (opcodes for other, opcodes in KIND_OPCODES.items() if other != kind)
    return tuple(sorted(frozenset().union(*others) - KIND_OPCODES[kind]))


def opcodes_of(engine: Engine, kind: ArrayKind = "dense") -> tuple[Opcode, ...]:
    """Opcodes that ``engine`` of a machine of ``kind`` runs, in encoding order."""
    absent = absent_opcodes(kind)
    return tuple(opcode for opcode, owner in ENGINE_OF.items() if owner is engine and opcode not in absent)


def payload_fields(engine: Engine, kind: ArrayKind = "dense", *, gated: bool = False) -> dict[str, int]:
    """Payload fields of all opcodes of ``engine`` with their widths; a shared name has one width.

    Without ``gated`` the fields of a gated vector unit are left out.
    """
    fields: dict[str, int] = {}
    for opcode in opcodes_of(engine, kind):
        for name, width in PAYLOAD[opcode]:
            if name in GATED_FIELDS and not gated:
                continue
            assert fields.setdefault(name, width) == width
    return fields


def field_shape(name: str, width: int) -> unsigned | signed:
    """Shape of the field ``name``: two's complement where the instruction table says so."""
    return signed(width) if name in SIGNED else unsigned(width)


TRANSFER_OPERANDS = 2
"""Operands of LOAD and STORE."""


def command_layout(engine: Engine, kind: ArrayKind = "dense", *, gated: bool = False) -> data.StructLayout:
    """A decoded instruction of ``engine``: ``is_sync``, masks, operands and payload fields.

    ``op0`` .. ``op3`` are resolved, base plus register. A field that the opcode at hand does not
    have carries no meaning. LOAD and STORE have only what a transfer needs: there ``is_sync`` is set for
    a transfer of no beats too, and ``beats`` is one less than a segment's beats. VECTOR has ``is_table``,
    with which ``rows`` and ``chunks`` are those of a pass over a table's entries.
    """
    if engine in (Engine.LOAD, Engine.STORE):
        return _transfer_layout(engine)
    kinds = {"is_sync": 1, "is_table": 1} if Opcode.TABLE in opcodes_of(engine, kind) else {"is_sync": 1}
    header = {**kinds, "signals": SEMAPHORES, "releases": SEMAPHORES}
    operands = {f"op{index}": 32 for index in range(OPERANDS)}
    fields = payload_fields(engine, kind, gated=gated)
    payload = {name: field_shape(name, width) for name, width in fields.items()}
    return data.StructLayout({**header, **operands, **payload})


def _transfer_layout(engine: Engine) -> data.StructLayout:
    operands = {f"op{index}": 32 for index in range(TRANSFER_OPERANDS)}
    return data.StructLayout({"is_sync": 1, "signals": SEMAPHORES, **operands, **payload_fields(engine)})


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


def vector_events(*, gated: bool = False) -> data.StructLayout:
    """What VECTOR adds to its counters in a cycle."""
    return data.StructLayout(
        {
            "vector_slots": 1,
            "vector_busy": 1,
            "accumulator_reads": 1,
            "scratchpad_reads": 2,
            "scratchpad_writes": 1,
            "parameter_reads": 1,
            "buffer_reads": 2 if gated else 1,
            "buffer_writes": 1,
            "table_reads": 1,
        }
    )


VECTOR_EVENTS = vector_events()
"""Those of a vector unit that is not gated."""

ATTEND_EVENTS = data.StructLayout(
    {
        "array_rows": 1,
        "array_weight_rows": 1,
        "array_busy": 1,
        "array_special": 1,
        "vector_slots": 1,
        "accumulator_reads": 1,
        "accumulator_writes": 1,
        "scratchpad_reads": 2,
    }
)
"""What ARRAY of kind fusemax, with its lanes, adds to its counters in a cycle."""

DIVIDE_EVENTS = data.StructLayout(
    {"vector_slots": 1, "vector_busy": 1, "accumulator_reads": 1, "scratchpad_writes": 1}
)
"""What VECTOR of kind fusemax adds to its counters in a cycle."""
