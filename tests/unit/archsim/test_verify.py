"""The program verifier: what it refuses, in whose words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._errors import ArchsimError
from archsim._isa import Opcode
from archsim._program import Instruction, Operand, Program, Region
from archsim._verify import verify
from tests.unit.archsim.test_simulate import ARCH, END, HALT, add, loop, matmul, program, transfer, vector

LOAD_FIELDS = {"segments": 1, "beats": 4}


def changed(instruction: Instruction, **fields: int) -> Instruction:
    """``instruction`` with other fields."""
    return replace(instruction, fields={**instruction.fields, **fields})


def load(dram: Operand, local: Operand, **fields: int) -> Instruction:
    """A LOAD of four beats."""
    return Instruction(Opcode.LOAD, (dram, local), LOAD_FIELDS | fields)


def test_a_good_program_passes() -> None:
    verify(ARCH, program(loop(3), load(Operand(8, 1), Operand(0)), matmul(), vector(), add(8), END))


def test_the_message_has_the_index_and_the_listing_line() -> None:
    with pytest.raises(ArchsimError) as caught:
        verify(ARCH, program(add(8), changed(loop(1), imm=0), END))
    assert str(caught.value) == "instruction 1 (loop imm=0): imm must be at least 1, not 0"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (END, "END must close a LOOP, not stand alone"),
        (HALT, "HALT must be the last instruction, not followed by others"),
        (changed(add(8), reg=0), "register 0 must stay 0, not be written"),
        (changed(add(8), imm=1 << 32), "imm must be 0 to 4294967295, not 4294967296"),
        (changed(add(8), rows=1), "field must be one of reg, imm, limit, not 'rows'"),
        (replace(add(8), waits=1), "a sequencer instruction must have no semaphores"),
        (changed(matmul(), w_rows=5), "w_rows must be at most 4, not 5"),
        (changed(matmul(), w_rows=9, transpose=1), "w_rows must be at most 8, not 9"),
        (changed(matmul(), rows=0), "rows must be at least 1, not 0"),
        (changed(matmul(), rows=300), "accumulators must lie in words 0 to 255, not 0 to 299"),
        (
            changed(matmul(), n_chunks=2, acc_n_stride=250),
            "accumulators must lie in words 0 to 255, not 0 to 259",
        ),
        (changed(vector(), group=9), "group must be at most the 8 lanes, not 9"),
        (changed(vector(), rows=33, reduce=1), "rows must be at most the 32 row records, not 33"),
        (changed(vector(), source=3), "source must be below 3, not 3"),
        (changed(vector(), pre=1), "source must be SCRATCHPAD or BUFFER where pre is NORM, not ACCUMULATOR"),
        (changed(vector(), lookup=1, slot=2), "slot must be below the 2 tables, not 2"),
        (changed(vector(), source=2, rows=65), "source must lie in words 0 to 63, not 0 to 64"),
        (load(Operand(4), Operand(0)), "DRAM address must be a multiple of the bus's 8 bytes, not 4"),
        (
            load(Operand(0), Operand(0), segments=2, dram_stride=12),
            "dram_stride must be a multiple of the bus's 8 bytes, not 12",
        ),
        (load(Operand(0), Operand(4096)), "local address must lie in words 0 to 4095, not 4096 to 4099"),
        (load(Operand(0), Operand(0), space=2), "space must be SCRATCHPAD or PARAMETERS, not PROGRAM"),
        (
            replace(transfer(Opcode.STORE, 0, 1), releases=1),
            "STORE must signal at retirement, not release at issue",
        ),
        (
            Instruction(Opcode.TABLE, (Operand(3841),)),
            "table image must lie in words 0 to 4095, not 3841 to 4096",
        ),
    ],
)
def test_an_instruction_that_cannot_run(bad: Instruction, message: str) -> None:
    with pytest.raises(ArchsimError) as caught:
        verify(ARCH, program(bad))
    assert str(caught.value) == f"instruction 0 ({bad}): {message}"


def test_registers_move_by_whole_beats() -> None:
    moved = load(Operand(0, 1), Operand(0))
    verify(ARCH, program(add(16), moved))
    with pytest.raises(ArchsimError, match=r"DRAM address must be a multiple of the bus's 8 bytes, not 20$"):
        verify(ARCH, program(add(20), moved))


def test_loops_nest_eight_deep() -> None:
    verify(ARCH, program(*[loop(1)] * 8, *[END] * 8))
    with pytest.raises(ArchsimError, match=r"loops must nest at most 8 deep, not 9$"):
        verify(ARCH, program(*[loop(1)] * 9, *[END] * 9))
    with pytest.raises(ArchsimError, match=r"must close every LOOP by an END, not leave 1 open$"):
        verify(ARCH, program(loop(1)))


def test_a_program_ends_with_halt_and_fits() -> None:
    with pytest.raises(ArchsimError, match=r"^program 'test' must end with HALT$"):
        verify(ARCH, Program("test", (END,)[:0]))
    small = replace(ARCH, program_words=2)
    with pytest.raises(ArchsimError, match=r"^program 'test' must fit 2 instructions, not 3$"):
        verify(small, program(add(8), add(8)))


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (
            (matmul(signals=1), vector(releases=1, waits=1)),
            "semaphore 0 must have one signalling engine and mask, not ARRAY signals and VECTOR releases",
        ),
        (
            (matmul(signals=1), matmul(releases=1)),
            "semaphore 0 must have one signalling engine and mask, not ARRAY signals and ARRAY releases",
        ),
        (
            (matmul(signals=1), matmul(waits=1), vector(waits=1)),
            "semaphore 0 must have one waiting engine, not ARRAY and VECTOR",
        ),
        ((vector(waits=8),), "semaphore 3 must be signalled by an engine, not only waited for by VECTOR"),
    ],
)
def test_semaphores_have_one_signaller_and_one_waiter(listing: tuple[Instruction, ...], message: str) -> None:
    with pytest.raises(ArchsimError) as caught:
        verify(ARCH, program(*listing))
    assert str(caught.value).endswith(message)


def test_dram_addresses_lie_in_the_image() -> None:
    region = Region("x", 0, 8, 1, 8, 64, "input")
    verify(ARCH, replace(program(load(Operand(56), Operand(0))), regions=(region,)))
    with pytest.raises(ArchsimError, match=r"DRAM address must be below 64, not 64$"):
        verify(ARCH, replace(program(load(Operand(64), Operand(0))), regions=(region,)))
