"""Bank conflicts: found where two units meet, and not where they pass each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._architecture import Array
from archsim._errors import ArchsimError
from archsim._isa import Opcode, Space
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


ATTENTION = replace(ARCH, array=Array(kind="fusemax", rows=4, cols=4), accumulator_words=0, parameter_words=0)


def attend(queries: int, **fields: int) -> Instruction:
    """A period of four features, keys and values in bank 0; its slots are the 18 cycles after the pop."""
    operands = (Operand(0), Operand(queries), Operand(4), Operand(0))
    keys = {"features": 4, "period": 18, "keys_scores": 4, "keys_exp": 4}
    signals = fields.pop("signals", 0)
    return Instruction(Opcode.ATTEND, operands, keys | fields, signals=signals)


def divide(word: int = 0, place: int = 2 * BANK, **fields: int) -> Instruction:
    """A division of four words from ``word`` of the value memory to ``place``."""
    waits = fields.pop("waits", 0)
    return Instruction(
        Opcode.DIVIDE, (Operand(word), Operand(place)), {"rows": 4, "lanes": 4} | fields, waits=waits
    )


def attention(*instructions: Instruction) -> None:
    """Run on an attention machine with the conflicts checked."""
    simulate(ATTENTION, program(*instructions), check_conflicts=True)


def test_keys_and_values_may_share_a_bank_and_keys_and_queries_may_not() -> None:
    attention(attend(BANK, scores=1, values=1))
    with pytest.raises(
        ArchsimError, match=r"^bank 0 must not be read by two units at once: ARRAY keys and ARRAY q"
    ):
        attention(attend(8, scores=1))
    attention(attend(8, scores=0, values=1))


def test_a_block_is_divided_when_its_values_are_there() -> None:
    attention(attend(BANK, values=1, signals=1), divide(waits=1))
    attention(attend(BANK, values=1), divide(word=4))
    with pytest.raises(ArchsimError, match="word 0 of the value memory must not be read while it is written"):
        attention(attend(BANK, values=1), divide())


def test_a_record_is_read_when_it_is_there() -> None:
    wait = Instruction(Opcode.SYNC_VECTOR)
    attention(attend(BANK, exponentials=1, last_exp=1, signals=1), divide(waits=1))
    attention(attend(BANK, exponentials=1, last_exp=1), wait, divide(record=1))
    with pytest.raises(ArchsimError, match="word 0 of the records must not be read while it is written"):
        attention(attend(BANK, exponentials=1, last_exp=1), *[wait] * 1, divide(rows=8, word=0))


def test_a_load_and_a_division_may_not_write_one_bank_at_once() -> None:
    attention(load(BANK, 40), divide())
    with pytest.raises(
        ArchsimError, match="bank 1 must not be written by two units at once: LOAD and VECTOR"
    ):
        attention(load(BANK, 40), divide(place=BANK + 100))


def test_a_weight_word_is_not_read_in_the_cycle_in_which_it_is_written() -> None:
    arch = replace(ARCH, array=replace(ARCH.array, kind="ternary", weight_words=64))
    fill = load(0, 60)
    fill = replace(fill, fields={**fill.fields, "space": Space.WEIGHTS})

    def late(syncs: int, word: int) -> Program:
        """One slot that reads ``word`` beside the LOAD, after ``syncs`` instructions."""
        slot = {"rows": 1, "w_rows": 1, "k_chunks": 1, "n_chunks": 1}
        used = Instruction(Opcode.MATMUL, (Operand(0), Operand(word), Operand(0)), slot)
        return program(fill, *(Instruction(Opcode.SYNC_ARRAY) for _ in range(syncs)), used)

    met = 0
    for syncs in range(7, 15):
        found = events(arch, late(syncs, 0))
        written = next(event for event in found if event.instruction == 0).bursts[0][1] + 1
        read = next(event for event in found if event.instruction == syncs + 1).pop + 1
        word, rest = divmod(read - written, arch.memory.read_interval)
        if rest or not 0 < word < 15:
            continue
        met += 1
        match = rf"^word {word} of the weights must not be read while it is written by two units at once"
        with pytest.raises(ArchsimError, match=match):
            simulate(arch, late(syncs, word), check_conflicts=True)
        for other in (word - 1, word + 1):
            simulate(arch, late(syncs, other), check_conflicts=True)
    assert met > 0
