from __future__ import annotations

import random

import pytest

from archsim._isa import HEADER, PAYLOAD, SIGNED, Opcode
from archsim._program import Instruction, Operand, Program
from rtl._encode import PAYLOAD_START, decode, encode
from rtl._errors import RtlError


def program(*instructions: Instruction) -> Program:
    return Program("test", instructions)


def test_words_by_hand() -> None:
    encoded = encode(
        program(
            Instruction(
                Opcode.LOAD,
                (Operand(0x11223344, 5), Operand(7)),
                {"space": 1, "segments": 2, "beats": 3, "dram_stride": 2**32 - 64},
                waits=1,
                signals=0x8000,
                releases=0,
            )
        )
    )
    word = int.from_bytes(encoded, "little")
    assert len(encoded) == 64
    # opcode 8, waits 16, signals 16, releases 16, four registers of 4, four bases of 32, then the payload.
    assert word & 0xFF == 10
    assert word >> 8 & 0xFFFF == 1
    assert word >> 24 & 0xFFFF == 0x8000
    assert word >> 56 & 0xFFFF == 5
    assert word >> 72 & 0xFFFFFFFF == 0x11223344
    assert word >> 104 & 0xFFFFFFFF == 7
    assert PAYLOAD_START == 200
    assert word >> 200 == 1 | 2 << 2 | 3 << 18 | (2**32 - 64) << 34


def test_every_payload_fits_the_instruction() -> None:
    for opcode in Opcode:
        assert sum(width for _, width in (*HEADER, *PAYLOAD[opcode])) <= 512


@pytest.mark.parametrize("opcode", list(Opcode))
def test_decode_returns_what_was_encoded(opcode: Opcode) -> None:
    rng = random.Random(opcode)
    for _ in range(20):
        fields = {}
        for name, width in PAYLOAD[opcode]:
            low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if name in SIGNED else (0, 2**width - 1)
            value = rng.choice([low, high, rng.randint(low, high)])
            if value:
                fields[name] = value
        operands = tuple(
            Operand(rng.randint(1, 2**32 - 1), rng.randrange(16)) for _ in range(rng.randint(0, 4))
        )
        masks = [rng.getrandbits(16) for _ in range(3)]
        instruction = Instruction(opcode, operands, fields, *masks)
        assert decode(encode(program(instruction))) == (instruction,)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (
            Instruction(Opcode.SET, fields={"imm": -1}),
            "imm of instruction 1 must be in 0..4294967295, not -1",
        ),
        (Instruction(Opcode.SET, fields={"reg": 16}), "reg of instruction 1 must be in 0..15, not 16"),
        (
            Instruction(Opcode.LOAD, (Operand(2**32),)),
            "base0 of instruction 1 must be in 0..4294967295, not 4294967296",
        ),
        (
            Instruction(Opcode.HALT, fields={"imm": 1}),
            "field of instruction 1 must be one of HALT's, not 'imm'",
        ),
        (Instruction(Opcode.LOAD, (Operand(0),) * 5), "operands of instruction 1 must be at most 4, not 5"),
        (
            Instruction(Opcode.VECTOR, fields={"res_multiplier": 32768}),
            "res_multiplier of instruction 1 must be in -32768..32767, not 32768",
        ),
    ],
)
def test_what_does_not_fit_is_refused(instruction: Instruction, message: str) -> None:
    with pytest.raises(RtlError) as error:
        encode(program(Instruction(Opcode.HALT), instruction))
    assert str(error.value) == message


def test_bytes_that_are_no_program_are_refused() -> None:
    with pytest.raises(RtlError, match=r"^program size must be a multiple of 64 bytes, not 65$"):
        decode(bytes(65))
    with pytest.raises(RtlError, match=r"^opcode must be in 0..16, not 17$"):
        decode(bytes([17]).ljust(64, b"\0"))
