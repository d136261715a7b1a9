"""Bank conflicts: found where two units meet, and not where they pass each other."""

from __future__ import annotations

import pytest

from archsim._errors import ArchsimError
from archsim._isa import Opcode
from archsim._program import Instruction, Operand, Program
from archsim._simulate import Event, simulate
from tests.unit.archsim.test_simulate import ARCH, HALT, events, program, transfer

BANK = ARCH.scratchpad.words_per_bank


def check(*instructions: Instruction) -> None:
    """Run with the conflicts checked."""
    simulate(ARCH, program(*instructions), check_conflicts=True)


def matmul(x: int, w: int, tiles: int = 1) -> Instruction:
    """Tiles of 10 rows against 4 stationary words."""
    fields = {"rows": 10, "w_rows": 4, "k_chunks": tiles, "n_chunks": 1}
    return Instruction(Opcode.MATMUL, (Operand(x), Operand(w), Operand(0)), fields)


def load(word: int, beats: int) -> Instruction:
    """A LOAD of ``beats`` words to ``word``."""
    fields = {"segments": 1, "beats": beats}
    return Instruction(Opcode.LOAD, (Operand(0), Operand(word)), fields)


def vector(source: int, destination: int, **fields: int) -> Instruction:
    """A pass of 5 rows from scratchpad to scratchpad."""
    shape = {"rows": 5, "chunks": 1, "length": 8, "group": 8, "source": 1, "destination": 1} | fields
    return Instruction(Opcode.VECTOR, (Operand(source), Operand(destination), Operand(source)), shape)


def test_weights_of_the_next_tile_meet_the_rows_of_this_one() -> None:
    check(matmul(0, 0))
    check(matmul(0, BANK, tiles=2))
    match = (
        r"^bank 0 must not be read by two units at once: ARRAY stationary and ARRAY streamed meet in cycle"
    )
    with pytest.raises(ArchsimError, match=match):
        check(matmul(0, 0, tiles=2))


def test_the_cycle_and_the_instructions_are_named() -> None:
    (event,) = events(ARCH, program(matmul(0, 0, tiles=2)))
    # The second tile's first word is read with the first tile's first row.
    with pytest.raises(ArchsimError) as caught:
        check(matmul(0, 0, tiles=2))
    name = "0 (matmul 0 0 0 rows=10 k_chunks=2 n_chunks=1 w_rows=4)"
    assert str(caught.value).endswith(f"meet in cycle {event.pop + 5}, instructions {name} and {name}")


def test_source_and_residual_need_two_banks() -> None:
    with pytest.raises(ArchsimError, match="VECTOR source and VECTOR residual meet"):
        check(vector(0, BANK, residual=1))


def test_a_load_and_a_pass_may_not_write_one_bank_at_once() -> None:
    check(load(BANK, 40), vector(0, 2 * BANK))
    with pytest.raises(
        ArchsimError, match="bank 1 must not be written by two units at once: LOAD and VECTOR"
    ):
        check(load(BANK, 40), vector(0, BANK + 100))


def test_a_word_may_not_be_read_while_it_is_written() -> None:
    run: dict[str, Event] = {e.engine.name: e for e in events(ARCH, program(load(0, 1), matmul(0, BANK)))}
    written = run["LOAD"].bursts[0][1] + 1
    # The streamed row that is read in the cycle in which the beat is written.
    row = written - (run["ARRAY"].pop + 5)
    assert row > 0
    wide = Instruction(
        Opcode.MATMUL,
        (Operand(0), Operand(BANK), Operand(0)),
        {"rows": row + 5, "w_rows": 4, "k_chunks": 1, "n_chunks": 1},
    )
    with pytest.raises(
        ArchsimError, match=rf"^word {row} of the scratchpad must not be read while it is written"
    ):
        check(load(row, 1), wide)
    check(load(row + 1, 1), wide)
    check(load(row - 1, 1), wide)


def test_in_place_passes_are_allowed() -> None:
    check(vector(0, 0))


def test_a_store_keeps_its_bank_to_itself() -> None:
    store = transfer(Opcode.STORE, 0, 16)
    check(store, matmul(BANK, 2 * BANK))
    with pytest.raises(ArchsimError, match="bank 0 must not be read by two units at once"):
        check(store, matmul(8, 2 * BANK))


def test_a_run_too_long_to_trace_is_refused() -> None:
    loop = Instruction(Opcode.LOOP, fields={"imm": 300_000})
    long = Program("long", (loop, Instruction(Opcode.SYNC_LOAD), Instruction(Opcode.END), HALT))
    with pytest.raises(
        ArchsimError, match=r"^program 'long' must be shorter for its conflicts to be checked$"
    ):
        simulate(ARCH, long, check_conflicts=True)
