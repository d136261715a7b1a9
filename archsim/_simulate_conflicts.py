"""Bank conflicts: two units on one port of a bank, or a word read in the cycle in which it is written.

The contract gives the cycle of every read by ARRAY and VECTOR and of every write by LOAD. Where it
leaves the cycle open, a window is taken that holds it: a STORE's reads lie between its pop and the
burst's last beat, a VECTOR's writes and an ARRAY's sums between the slot and its latency. The check
may therefore refuse what the hardware would just get away with, and never the reverse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from archsim._architecture import Architecture
from archsim._errors import ArchsimError
from archsim._isa import Destination, Engine, Opcode, Residual, Source, Space
from archsim._program import Instruction, Program
from archsim._simulate_kernel import Integers
from archsim._timing import array_retirement, vector_retirement

if TYPE_CHECKING:
    from archsim._simulate import Event, Simulation

LIMIT = 1 << 24
"""Accesses that one check takes on."""
_WORD = 1 << 32


@dataclass(frozen=True, slots=True)
class Accesses:
    """Accesses of one unit: word ``word[i]`` in some cycle ``first[i]`` to ``last[i]``."""

    memory: str
    unit: str
    writes: bool
    first: Integers
    last: Integers
    word: Integers
    event: Integers


def refuse_conflicts(arch: Architecture, program: Program, simulation: Simulation) -> None:
    """Raise ``ArchsimError`` at a conflict, with both instructions, the cycle and the bank or word.

    ``simulation`` must have been traced, and whole; more than ``LIMIT`` accesses are refused too.
    """
    assert simulation.complete
    units = _units(arch, program, simulation)
    scratchpad = [unit for unit in units if unit.memory == "scratchpad"]
    for one, other in combinations(scratchpad, 2):
        if one.writes == other.writes:
            per_bank = arch.scratchpad.words_per_bank
            _refuse(program, simulation, one, other, per_bank)
    for reader in units:
        for writer in units:
            if writer.writes and not reader.writes and reader.memory == writer.memory:
                _refuse(program, simulation, reader, writer, 1)


def _refuse(program: Program, simulation: Simulation, one: Accesses, other: Accesses, words: int) -> None:
    """Raise at the first meeting of two units within blocks of ``words`` words."""
    met = _meeting(one, other, words, simulation.cycles + 1)
    if met is None:
        return
    first, second = (
        simulation.events[int(unit.event[index])] for unit, index in zip((one, other), met, strict=True)
    )
    cycle = max(int(one.first[met[0]]), int(other.first[met[1]]))
    word = int(other.word[met[1]])
    where = f"word {word} of the {other.memory}" if words == 1 else f"bank {word // words}"
    port = "read while it is written" if one.writes != other.writes else "written" if one.writes else "read"
    raise ArchsimError(
        f"{where} must not be {port} by two units at once: {one.unit} and {other.unit} meet in cycle "
        f"{cycle}, instructions {_name(program, first)} and {_name(program, second)}"
    )


def _name(program: Program, event: Event) -> str:
    return f"{event.instruction} ({program.instructions[event.instruction]})"


def _meeting(one: Accesses, other: Accesses, words: int, span: int) -> tuple[int, int] | None:
    """Indices of two accesses to one block of ``words`` words whose windows overlap.

    Blocks are laid one after the other on one axis of time, ``2 * span`` apart, so that windows of
    different blocks never overlap. Two windows do where the latest end among those of ``one`` that
    begin no later than a window of ``other`` ends is not before its beginning.
    """
    if not len(one.word) or not len(other.word):
        return None
    shift = (one.word // words) * (2 * span)
    order = np.argsort(one.first + shift, kind="stable")
    begins, ends = (one.first + shift)[order], np.maximum.accumulate((one.last + shift)[order])
    shift = (other.word // words) * (2 * span)
    latest = np.searchsorted(begins, other.last + shift, side="right") - 1
    hit = (latest >= 0) & (ends[np.maximum(latest, 0)] >= other.first + shift)
    if not hit.any():
        return None
    index = int(np.flatnonzero(hit)[np.argmin(other.first[hit])])
    place = int(np.searchsorted(ends, ends[latest[index]], side="left"))
    return int(order[place]), index


def _units(arch: Architecture, program: Program, simulation: Simulation) -> list[Accesses]:
    """All accesses, one value for each unit and memory."""
    parts: dict[tuple[str, str, bool], list[tuple[Integers, Integers, Integers, int]]] = {}
    total = 0
    for number, event in enumerate(simulation.events):
        if event.instruction < 0:
            continue
        for memory, unit, writes, first, last, word in _accesses(arch, program, event):
            parts.setdefault((memory, unit, writes), []).append((first, last, word, number))
            total += len(word)
        if total > LIMIT:
            raise ArchsimError(f"program {program.name!r} must be shorter for its conflicts to be checked")
    return [_joined(key, lists) for key, lists in parts.items()]


def _joined(key: tuple[str, str, bool], lists: list[tuple[Integers, Integers, Integers, int]]) -> Accesses:
    first, last, word = (np.concatenate([part[index] for part in lists]) for index in range(3))
    event = np.concatenate([np.full(len(part[2]), part[3], np.int64) for part in lists])
    return Accesses(*key, first, last, word, event)


_Access = tuple[str, str, bool, Integers, Integers, Integers]


def _accesses(arch: Architecture, program: Program, event: Event) -> Iterator[_Access]:
    instruction = program.instructions[event.instruction]
    match instruction.opcode:
        case Opcode.LOAD | Opcode.STORE:
            yield _transfer(arch, instruction, event)
        case Opcode.MATMUL:
            yield from _matmul(arch, instruction, event)
        case Opcode.VECTOR:
            yield from _vector(arch, instruction, event)
        case Opcode.TABLE:
            cycle = event.pop + 1 + np.arange(256)
            yield "scratchpad", "VECTOR source", False, cycle, cycle, event.operands[0] + np.arange(256)
        case Opcode.ATTEND:
            yield from _attend(arch, instruction, event)
        case Opcode.DIVIDE:
            yield from _divide(arch, instruction, event)
        case _:
            pass


def _transfer(arch: Architecture, instruction: Instruction, event: Event) -> _Access:
    segments, beats = instruction.field("segments"), instruction.field("beats")
    if instruction.field("space") == Space.WEIGHTS:
        return _weights(arch, instruction, event)
    words = max(1, arch.bus.bytes // arch.word_bytes)
    start = event.operands[1] + np.arange(segments)[:, None] * instruction.field("local_stride")
    beat_word = (start % _WORD + np.arange(beats)[None, :] * arch.bus.bytes // arch.word_bytes).reshape(-1)
    word = (beat_word[:, None] + np.arange(words)).reshape(-1)
    is_load = event.engine is Engine.LOAD
    interval = arch.memory.read_interval if is_load else arch.memory.write_interval
    cycle = np.concatenate([first + interval * np.arange(length) for _, first, length in event.bursts])
    memory = "parameters" if instruction.field("space") == Space.PARAMETERS else "scratchpad"
    if is_load:
        cycle = np.repeat(cycle + 1, words)
        return memory, "LOAD", True, cycle, cycle, word if memory == "scratchpad" else word // 8
    # A beat is read after its burst's address is accepted and before the beat itself.
    request = np.concatenate([np.full(length, request) for request, _, length in event.bursts])
    return memory, "STORE", False, np.repeat(request, words), np.repeat(cycle - 1, words), word


def _weights(arch: Architecture, instruction: Instruction, event: Event) -> _Access:
    """Weight words, each written with its last beat."""
    segments, words = instruction.field("segments"), instruction.field("beats") // arch.weight_beats
    start = event.operands[1] + np.arange(segments)[:, None] * instruction.field("local_stride")
    word = (start % _WORD + np.arange(words)).reshape(-1)
    interval = arch.memory.read_interval
    cycle = np.concatenate([first + interval * np.arange(length) for _, first, length in event.bursts])
    written = cycle[arch.weight_beats - 1 :: arch.weight_beats] + 1
    return "weights", "LOAD", True, written, written, word


def _ternary_matmul(arch: Architecture, instruction: Instruction, event: Event) -> Iterator[_Access]:
    field = instruction.field
    x, w, a = event.operands[:3]
    rows, k_chunks, n_chunks = field("rows"), field("k_chunks"), field("n_chunks")
    tile = np.arange(n_chunks * k_chunks)[:, None]
    n, k = tile // k_chunks, tile % k_chunks
    issue = (event.pop + 1 + tile * rows + np.arange(rows)).reshape(-1)
    streamed = (x + k * field("x_k_stride")) % _WORD + np.arange(rows)
    sums = (a + n * field("acc_n_stride")) % _WORD + np.arange(rows)
    weights = (w + n * field("w_n_stride") + k * field("w_k_stride")) % _WORD
    first = issue[::rows]
    yield "scratchpad", "ARRAY streamed", False, issue, issue, streamed.reshape(-1)
    yield "weights", "ARRAY", False, first, first, weights.reshape(-1)
    yield "accumulators", "ARRAY", True, issue + 1, issue + array_retirement(arch), sums.reshape(-1)


def _matmul(arch: Architecture, instruction: Instruction, event: Event) -> Iterator[_Access]:
    if arch.array.kind == "ternary":
        yield from _ternary_matmul(arch, instruction, event)
        return
    field = instruction.field
    x, w, a = event.operands[:3]
    rows, w_rows, k_chunks = field("rows"), field("w_rows"), field("k_chunks")
    tile = np.arange(field("n_chunks") * k_chunks)[:, None]
    n, k = tile // k_chunks, tile % k_chunks
    start = event.pop + 1 + w_rows + tile * max(rows, w_rows)
    before = np.where(tile == 0, event.pop + 1, start - max(rows, w_rows))
    issue, read = (start + np.arange(rows)).reshape(-1), (before + np.arange(w_rows)).reshape(-1)
    streamed = (x + k * field("x_k_stride")) % _WORD + np.arange(rows)
    weights = (w + n * field("w_n_stride") + k * field("w_k_stride")) % _WORD + np.arange(w_rows)
    sums = (a + n * field("acc_n_stride")) % _WORD + np.arange(rows)
    latency = array_retirement(arch)
    yield "scratchpad", "ARRAY stationary", False, read, read, weights.reshape(-1)
    yield "scratchpad", "ARRAY streamed", False, issue, issue, streamed.reshape(-1)
    yield "accumulators", "ARRAY", True, issue + 1, issue + latency, sums.reshape(-1)


def _vector(arch: Architecture, instruction: Instruction, event: Event) -> Iterator[_Access]:
    field = instruction.field
    row, chunk = np.arange(field("rows"))[:, None], np.arange(field("chunks"))[None, :]
    cycle = (event.pop + 1 + row * field("chunks") + chunk).reshape(-1)
    done = cycle + vector_retirement(arch)

    def words(index: int, stride: str, fold: int = arch.fold) -> Integers:
        found: Integers = (event.operands[index] + chunk // fold * field(stride) + row).reshape(-1) % _WORD
        return found

    if field("source") != Source.BUFFER:
        in_scratchpad = field("source") == Source.SCRATCHPAD
        memory, fold = ("scratchpad", arch.fold) if in_scratchpad else ("accumulators", 1)
        yield memory, "VECTOR source", False, cycle, cycle, words(0, "src_stride", fold)
    if field("residual") != Residual.NONE and not field("res_buffer"):
        yield "scratchpad", "VECTOR residual", False, cycle, cycle, words(2, "res_stride")
    if field("affine"):
        place = event.operands[3] + chunk * (1 - field("uniform"))
        parameter = np.broadcast_to(place, (field("rows"), field("chunks"))).reshape(-1)
        yield "parameters", "VECTOR", False, cycle, done, parameter
    if field("destination") == Destination.SCRATCHPAD:
        yield "scratchpad", "VECTOR", True, cycle + 1, done, words(1, "dst_stride")


def _attend(arch: Architecture, instruction: Instruction, event: Event) -> Iterator[_Access]:
    """Reads of the scratchpad; what the lanes write between a slot and the array's latency behind it."""
    place = np.arange(instruction.field("features"))
    scores, values = event.pop + 1 + 2 * place, event.pop + 2 + 2 * place
    keys, queries, own, sums = (operand + place for operand in event.operands)
    latency = array_retirement(arch)
    if instruction.field("scores"):
        yield "scratchpad", "ARRAY keys", False, scores, scores, keys
        yield "scratchpad", "ARRAY queries", False, scores, scores, queries
    if instruction.field("values"):
        yield "scratchpad", "ARRAY values", False, values, values, own
        # The array's own reads are a period before its next writes.
        yield "value memory", "ARRAY", True, values, values + latency, sums
    if instruction.field("last_exp"):
        record = np.array([instruction.field("record")])
        yield "records", "ARRAY", True, np.array([event.issue + 1]), np.array([event.retire]), record


def _divide(arch: Architecture, instruction: Instruction, event: Event) -> Iterator[_Access]:
    place = np.arange(instruction.field("rows"))
    cycle = event.pop + 1 + place
    record = np.full(len(place), instruction.field("record"))
    yield "value memory", "VECTOR", False, cycle, cycle, event.operands[0] + place
    yield "records", "VECTOR", False, cycle, cycle, record
    done = cycle + vector_retirement(arch)
    yield "scratchpad", "VECTOR", True, cycle + 1, done, event.operands[1] + place
