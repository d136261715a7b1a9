"""The program verifier: what it refuses, in whose words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._architecture import Architecture, Array, Bus, Scratchpad, Vector
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


ATTENTION = Architecture(
    name="attention",
    clock_mhz=100,
    array=Array(kind="fusemax", rows=4, cols=2),
    bus=Bus(bytes=4),
    scratchpad=Scratchpad(banks=4, words_per_bank=16),
    accumulator_words=0,
    parameter_words=0,
    vector=Vector(buffer_words=16, rows=2),
)
PLACES = (Operand(0), Operand(16), Operand(32), Operand(0))


def attend(**fields: int) -> Instruction:
    """A whole period of eight features."""
    stages = {"scores": 1, "exponentials": 1, "values": 1, "keys_scores": 4, "keys_exp": 4, "last_exp": 1}
    return Instruction(Opcode.ATTEND, PLACES, {"features": 8, "period": 26} | stages | fields)


def divide(**fields: int) -> Instruction:
    """A block of eight words."""
    return Instruction(Opcode.DIVIDE, (Operand(8), Operand(48)), {"rows": 8, "lanes": 2} | fields)


def test_a_good_attention_passes() -> None:
    verify(ATTENTION, program(attend(), divide(record=1, multiplier=-5)))
    # What a period does not do, it does not read.
    verify(ATTENTION, program(replace(attend(scores=0, keys_scores=0), operands=(Operand(99), *PLACES[1:]))))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (attend(features=257, period=999), "features must be at most 256, not 257"),
        (attend(features=0), "features must be at least 1, not 0"),
        (attend(period=25), "period must be at least 26 for 8 features, not 25"),
        (attend(scale_shift=41), "scale_shift must be at most 40, not 41"),
        (attend(keys_scores=5), "keys_scores must be 1 to the 4 rows, not 5"),
        (attend(keys_exp=0), "keys_exp must be 1 to the 4 rows, not 0"),
        (attend(record=2), "record must be below the 2 records, not 2"),
        (
            replace(attend(), operands=(Operand(57), *PLACES[1:])),
            "keys must lie in words 0 to 63, not 57 to 64",
        ),
        (
            replace(attend(), operands=(*PLACES[:3], Operand(9))),
            "value memory must lie in words 0 to 15, not 9 to 16",
        ),
        (divide(lanes=3), "lanes must be at most the 2 lanes, not 3"),
        (divide(shift=32), "shift must be at most 31, not 32"),
        (divide(record=2), "record must be below the 2 records, not 2"),
        (divide(rows=9), "value memory must lie in words 0 to 15, not 8 to 16"),
        (matmul(), "array.kind must be dense for MATMUL, not fusemax"),
    ],
)
def test_an_attention_instruction_that_cannot_run(bad: Instruction, message: str) -> None:
    with pytest.raises(ArchsimError) as caught:
        verify(ATTENTION, program(bad))
    assert str(caught.value) == f"instruction 0 ({bad}): {message}"


@pytest.mark.parametrize("instruction", [attend(), divide()])
def test_attention_is_not_for_a_dense_array(instruction: Instruction) -> None:
    expected = f"array.kind must be fusemax for {instruction.opcode.name}, not dense"
    with pytest.raises(ArchsimError, match=f"{expected}$"):
        verify(ARCH, program(instruction))


TERNARY = replace(ARCH, array=replace(ARCH.array, kind="ternary", weight_words=100))
GATED = replace(TERNARY, vector=replace(TERNARY.vector, gated=True))
ONE = {"w_rows": 1}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (changed(vector(), res_buffer=1), "res_buffer must be 0 where vector.gated is false, not 1"),
        (changed(vector(), uniform=1), "uniform must be 0 where vector.gated is false, not 1"),
        (changed(vector(), lookup=3), "lookup must be below 3 where vector.gated is false, not INTERPOLATE"),
        (changed(vector(), reduce=5), "reduce must be below 5 where vector.gated is false, not ABSMAX"),
        (changed(vector(), pre=2), "source must be SCRATCHPAD or BUFFER where pre is SCALE, not ACCUMULATOR"),
        (load(Operand(0), Operand(0), space=3), "space must be SCRATCHPAD or PARAMETERS, not WEIGHTS"),
    ],
)
def test_what_only_other_machines_do(bad: Instruction, message: str) -> None:
    with pytest.raises(ArchsimError) as caught:
        verify(ARCH, program(bad))
    assert str(caught.value) == f"instruction 0 ({bad}): {message}"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (matmul(), "w_rows and transpose must be 1 and 0 on a ternary array, not 4 and 0"),
        (
            changed(matmul(), w_rows=1, transpose=1),
            "w_rows and transpose must be 1 and 0 on a ternary array, not 1 and 1",
        ),
        (changed(matmul(), **ONE), "stationary operand must lie in words 0 to 99, not 1024 to 1024"),
        (
            replace(changed(matmul(), **ONE, k_chunks=9, w_k_stride=12), operands=(Operand(0), Operand(4))),
            "stationary operand must lie in words 0 to 99, not 4 to 100",
        ),
        (load(Operand(0), Operand(100), space=3), "local address must lie in words 0 to 99, not 100 to 103"),
        (
            load(Operand(0), Operand(9), space=3, segments=2, local_stride=90),
            "local address must lie in words 0 to 99, not 9 to 102",
        ),
        (changed(vector(), pre=1), "source must be SCRATCHPAD or BUFFER where pre is NORM, not ACCUMULATOR"),
        (
            changed(vector(), residual=1, res_buffer=1, chunks=2, res_stride=60),
            "residual must lie in words 0 to 63, not 0 to 64",
        ),
        (
            replace(changed(vector(), affine=1, chunks=17), operands=(Operand(0), Operand(9), Operand(0))),
            "parameters must lie in words 0 to 15, not 0 to 16",
        ),
    ],
)
def test_what_a_gated_ternary_machine_cannot_run(bad: Instruction, message: str) -> None:
    with pytest.raises(ArchsimError) as caught:
        verify(GATED, program(bad))
    assert str(caught.value) == f"instruction 0 ({bad}): {message}"


def test_what_a_gated_ternary_machine_runs() -> None:
    one = {"affine": 1, "uniform": 1, "residual": 2, "res_buffer": 1, "lookup": 3, "reduce": 5, "pre": 2}
    at_99 = replace(changed(matmul(), **ONE), operands=(Operand(0), Operand(99)))
    verify(GATED, program(changed(vector(), chunks=17, **one), at_99))
    verify(GATED, program(load(Operand(0), Operand(96), space=3)))
    wide = replace(GATED, array=replace(GATED.array, rows=20, cols=20))
    with pytest.raises(ArchsimError, match=r"beats must be a multiple of a weight word's 10, not 4$"):
        verify(wide, program(load(Operand(0), Operand(9), space=3)))


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
