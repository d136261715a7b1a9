"""A program's bytes: what the sequencer fetches from memory."""

from __future__ import annotations

from collections.abc import Iterator

from archsim._isa import HEADER, INSTRUCTION_BYTES, OPERANDS, PAYLOAD, SIGNED, Field, Opcode
from archsim._program import Instruction, Operand, Program
from rtl._errors import RtlError


def encode(program: Program) -> bytes:
    """Instructions of ``program`` as 64 little-endian bytes each.

    Raises ``RtlError`` for a value that its field cannot hold, a payload field that the opcode does
    not have, and more than four operands.
    """
    return b"".join(
        _encode_instruction(instruction, index) for index, instruction in enumerate(program.instructions)
    )


def decode(encoded: bytes) -> tuple[Instruction, ...]:
    """Instructions of ``encoded``, in canonical form: zero fields and trailing zero operands left out.

    Raises ``RtlError`` for a length that is no multiple of 64, and for an opcode that does not exist.
    """
    if len(encoded) % INSTRUCTION_BYTES:
        raise RtlError(f"program size must be a multiple of {INSTRUCTION_BYTES} bytes, not {len(encoded)}")
    return tuple(
        _decode_instruction(int.from_bytes(encoded[start : start + INSTRUCTION_BYTES], "little"))
        for start in range(0, len(encoded), INSTRUCTION_BYTES)
    )


def field_offsets(fields: tuple[Field, ...], *, start: int = 0) -> dict[str, tuple[int, int]]:
    """Lowest bit and width of each field, packed from bit ``start`` upwards."""
    offsets: dict[str, tuple[int, int]] = {}
    for name, width in fields:
        offsets[name] = (start, width)
        start += width
    return offsets


PAYLOAD_START = sum(width for _, width in HEADER)
"""First bit of the payload."""


def _layout(opcode: Opcode) -> dict[str, tuple[int, int]]:
    return field_offsets(HEADER) | field_offsets(PAYLOAD[opcode], start=PAYLOAD_START)


def _encode_instruction(instruction: Instruction, index: int) -> bytes:
    layout = _layout(instruction.opcode)
    word = 0
    for name, number in _values(instruction, index):
        if name not in layout:
            raise RtlError(
                f"field of instruction {index} must be one of {instruction.opcode.name}'s, not {name!r}"
            )
        offset, width = layout[name]
        word |= _residue(name, number, width=width, index=index) << offset
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def _values(instruction: Instruction, index: int) -> Iterator[tuple[str, int]]:
    if len(instruction.operands) > OPERANDS:
        raise RtlError(
            f"operands of instruction {index} must be at most {OPERANDS}, not {len(instruction.operands)}"
        )
    yield "opcode", instruction.opcode
    yield "waits", instruction.waits
    yield "signals", instruction.signals
    yield "releases", instruction.releases
    for slot, operand in enumerate(instruction.operands):
        yield f"base{slot}", operand.base
        yield f"reg{slot}", operand.reg
    yield from instruction.fields.items()


def _residue(name: str, number: int, *, width: int, index: int) -> int:
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if name in SIGNED else (0, (1 << width) - 1)
    if not low <= number <= high:
        raise RtlError(f"{name} of instruction {index} must be in {low}..{high}, not {number}")
    return number & (1 << width) - 1


def _decode_instruction(word: int) -> Instruction:
    code = word & 0xFF
    if code > max(Opcode):
        raise RtlError(f"opcode must be in 0..{max(Opcode)}, not {code}")
    opcode = Opcode(code)
    values = {name: word >> offset & (1 << width) - 1 for name, (offset, width) in _layout(opcode).items()}
    operands = [Operand(values[f"base{slot}"], values[f"reg{slot}"]) for slot in range(OPERANDS)]
    while operands and operands[-1] == Operand(0):
        operands.pop()
    fields = {name: _extend(name, values[name], width) for name, width in PAYLOAD[opcode] if values[name]}
    return Instruction(
        opcode, tuple(operands), fields, values["waits"], values["signals"], values["releases"]
    )


def _extend(name: str, residue: int, width: int) -> int:
    return residue - (1 << width) if name in SIGNED and residue >> width - 1 else residue
