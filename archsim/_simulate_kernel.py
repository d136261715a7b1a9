"""The simulator's inner loop: max-plus times over flat int64 arrays, compiled by Numba.

``archsim._simulate`` prepares the arrays and says why the result is exact; ``archsim._naive`` is the
cycle-by-cycle twin. Numba's cache notices changes of this file only, so all that shapes the code is
defined here, and what belongs to the machine (its timing constants too) comes in as values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Integers = NDArray[np.int64]
_F = TypeVar("_F", bound=Callable[..., object])


def _jit(function: _F) -> _F:
    """Numba's ``njit`` with the type that the function has."""
    return cast("_F", njit(cache=True)(function))


ENGINES, OPERANDS, REGISTERS, SEMAPHORES, LOOP_DEPTH = 4, 4, 16, 16, 8
PAGE_BYTES = 4096
"""Bursts end at multiples of this many bytes (AXI4)."""
_WORD = (1 << 32) - 1
_LOAD, _STORE = 0, 1

# Kinds of instructions; those from TIMED on belong to an engine.
HALT, SET, ADD, RING, LOOP, END, TIMED, TRANSFER, SYNC = range(9)
"""TIMED: ARRAY and VECTOR, whose issue and retirement follow the pop by constants. SYNC: LOAD and STORE."""

# Columns of the instruction table.
C_KIND, C_ENGINE, C_REG, C_IMM, C_LIMIT, C_ISSUE, C_NEXT, C_RETIRE = range(8)
"""C_ISSUE, C_NEXT, C_RETIRE: last issue, the engine being ready and retirement of TIMED, after the pop."""
C_SEGMENTS, C_BEATS, C_STRIDE, C_BASE, C_REGISTER = 8, 9, 10, 11, 15
COLUMNS = C_REGISTER + OPERANDS

# The machine. Latency, interval and tail have two places each: LOAD's and STORE's.
(M_BUS, M_MAX_BURST, M_OUTSTANDING, M_DEPTH, M_FETCH_BEATS, M_FETCH_ADDRESS, M_STEP, M_START) = range(8)
M_LATENCY, M_INTERVAL, M_TAIL = 8, 10, 12
"""From a burst's address to its first beat, from beat to beat, from the last beat to the burst's end."""
M_POP, M_NEXT, M_PLACE, M_TOKEN, M_HALT, PARAMS = range(14, 20)
"""From a push to its pop, from a pop to the next and to the push in its place, from a token's giver to its
pop, from a retirement to HALT."""

# How a loop compares a register: not at all, modulo PAGE_BYTES, exactly.
IGNORED, BY_PAGE, EXACTLY = range(3)

# Times, shifted as one when periods are skipped. The first four have a place for each engine.
T_READY, T_RETIRED, T_HEAD, T_SOONEST, T_BEAT, T_FRONTIER, T_RINGS = 0, 4, 8, 12, 16, 18, 19
"""First next pop, last retirement, the head's time, its earliest pop with its tokens; last beat of LOAD
and STORE; the run's frontier; then rings: ends of the last bursts, cycles of the last pops."""

# Whole numbers that are not times; all but the last three have a place for each engine.
N_PUSHES, N_POPS, N_STARTED, N_NEED, N_CAUSE, N_TRANSFERS, N_EVENTS, N_BURSTS, N_OVERFLOW = range(0, 36, 4)
NUMBERS = 36

TOKENS = 1 << 16
"""Places of a semaphore's token queue: one more than its counter can hold."""
SNAPSHOT_TOKENS = 512
"""Tokens that a snapshot can hold; where more are waiting, no period is looked for."""
LONG_AGO = -(1 << 40)
SHORTEST = 4
"""Trip count from which a loop is watched for a period."""

P_PC, P_PUSH, P_OPERAND = 0, 1, 2
E_PC, E_PUSH, E_HEAD, E_POP, E_ISSUE, E_RETIRE, E_CAUSE, E_OPERAND = range(8)
EVENT_COLUMNS = E_OPERAND + OPERANDS
BURST_COLUMNS = 4
"""Event, address handshake, first beat, beats."""

FINISHED, DEADLOCK, TOO_MANY_TOKENS = range(3)


class Code(NamedTuple):
    """The program and the machine.

    The semaphores of instruction pc are ``x_semaphore[x_first[pc]:x_first[pc + 1]]``.
    """

    rows: Integers
    wait_first: Integers
    wait_semaphore: Integers
    signal_first: Integers
    signal_semaphore: Integers
    release_first: Integers
    release_semaphore: Integers
    waiter: Integers
    """Engine that waits for each semaphore, or -1."""
    compared: Integers
    """(instructions, registers): for each END, how its loop compares each register."""
    machine: Integers


class State(NamedTuple):
    """The run's present.

    Token k of semaphore i is ``tokens[i, k % TOKENS]``, the cycle of the earliest pop that takes it.
    """

    t: Integers
    n: Integers
    pending: Integers
    """(engines, queue places, columns): instructions pushed and not known to be popped."""
    tokens: Integers
    heads: Integers
    tails: Integers
    registers: Integers


class Tallies(NamedTuple):
    """What adds up: per instruction executions, bursts, cycles of the frontier; per wait slot stalls."""

    executed: Integers
    bursts: Integers
    credit: Integers
    stalls: Integers


class Notes(NamedTuple):
    """The tables of a trace, without rows where none is wanted."""

    events: Integers
    bursts: Integers


class Saved(NamedTuple):
    """One snapshot for each loop level: its relative state, and the numbers that a period adds to."""

    state: Integers
    n: Integers
    registers: Integers
    executed: Integers
    bursts: Integers
    credit: Integers
    stalls: Integers
    marks: Integers
    """(levels, 4): length of the state, cycle, iterations left, iteration of the next snapshot."""


S_LENGTH, S_NOW, S_LEFT, S_NEXT = range(4)


@_jit
def _transfer(
    engine: int, s: int, address: int, shape: tuple[int, int, int], m: Integers, state: State, notes: Notes
) -> int:
    """Time the bursts of a transfer (segments, beats, stride) popped at ``s``: the number of bursts."""
    segments, beats, stride = shape
    t, n = state.t, state.n
    latency, interval, tail = m[M_LATENCY + engine], m[M_INTERVAL + engine], m[M_TAIL + engine]
    flying = m[M_OUTSTANDING]
    ring = T_RINGS + engine * flying
    request, beat, count = s, t[T_BEAT + engine], 0
    for segment in range(segments):
        place = (address + segment * stride) & _WORD
        left = beats
        while left > 0:
            length = min(left, m[M_MAX_BURST], (PAGE_BYTES - place % PAGE_BYTES) // m[M_BUS])
            slot = ring + n[N_TRANSFERS + engine] % flying
            request = max(request, t[slot]) + 1
            if engine == _STORE:
                request = max(request, beat + 1)
            first = max(request + latency, beat + interval)
            beat = first + (length - 1) * interval
            t[slot] = beat + tail
            n[N_TRANSFERS + engine] += 1
            if n[N_BURSTS] < notes.bursts.shape[0]:
                row = n[N_BURSTS]
                notes.bursts[row, 0] = n[N_EVENTS]
                notes.bursts[row, 1] = request
                notes.bursts[row, 2] = first
                notes.bursts[row, 3] = length
                n[N_BURSTS] += 1
            place += length * m[M_BUS]
            left -= length
            count += 1
    t[T_BEAT + engine] = beat
    t[T_READY + engine] = (request if engine == _LOAD else beat) + 1
    t[T_RETIRED + engine] = beat + tail + 1
    return count


@_jit
def _give(semaphore: int, soonest: int, waiter: int, state: State) -> int:
    """One token, for a pop at ``soonest`` or later: the engine that it may wake, as a bit."""
    if waiter < 0:
        return 0
    tail = state.tails[semaphore]
    if tail - state.heads[semaphore] >= TOKENS - 1:
        state.n[N_OVERFLOW] = semaphore + 1
    state.tokens[semaphore, tail % TOKENS] = soonest
    state.tails[semaphore] = tail + 1
    return 1 << waiter


@_jit
def _take(engine: int, pc: int, code: Code, state: State, stalls: Integers) -> bool:
    """Take the tokens that the head of ``engine`` waits for, as far as they are known; True if it has all.

    A token is the head's own from the moment it is known, because one engine waits for it, in order.
    """
    t, n = state.t, state.n
    base = code.wait_first[pc]
    for offset in range(code.wait_first[pc + 1] - base):
        if not n[N_NEED + engine] >> offset & 1:
            continue
        semaphore = code.wait_semaphore[base + offset]
        head = state.heads[semaphore]
        if head == state.tails[semaphore]:
            continue
        soonest = state.tokens[semaphore, head % TOKENS]
        state.heads[semaphore] = head + 1
        n[N_NEED + engine] &= ~(1 << offset)
        stalls[base + offset] += max(0, soonest - t[T_HEAD + engine])
        if soonest > t[T_SOONEST + engine]:
            t[T_SOONEST + engine] = soonest
            n[N_CAUSE + engine] = semaphore
    return n[N_NEED + engine] == 0


@_jit
def _advance(engine: int, code: Code, state: State, tallies: Tallies, notes: Notes) -> int:
    """Run ``engine`` as far as its tokens are known: the engines that it may have woken, as bits."""
    t, n, m = state.t, state.n, code.machine
    depth = m[M_DEPTH]
    woken = 0
    while n[N_PUSHES + engine] > n[N_POPS + engine]:
        place = n[N_POPS + engine] % depth
        pc = state.pending[engine, place, P_PC]
        if n[N_STARTED + engine] == 0:
            n[N_STARTED + engine] = 1
            n[N_NEED + engine] = (1 << (code.wait_first[pc + 1] - code.wait_first[pc])) - 1
            n[N_CAUSE + engine] = -1
            t[T_HEAD + engine] = max(state.pending[engine, place, P_PUSH] + m[M_POP], t[T_READY + engine])
            t[T_SOONEST + engine] = t[T_HEAD + engine]
        if not _take(engine, pc, code, state, tallies.stalls):
            break
        s = t[T_SOONEST + engine]
        kind = code.rows[pc, C_KIND]
        if kind == TRANSFER:
            shape = (code.rows[pc, C_SEGMENTS], code.rows[pc, C_BEATS], code.rows[pc, C_STRIDE])
            address = state.pending[engine, place, P_OPERAND]
            tallies.bursts[pc] += _transfer(engine, s, address, shape, m, state, notes)
            issue, retire = t[T_READY + engine] - 1, t[T_RETIRED + engine]
        elif kind == SYNC:
            issue, retire = s, max(s, t[T_RETIRED + engine])
            t[T_READY + engine] = s + 1
        else:
            issue, retire = s + code.rows[pc, C_ISSUE], s + code.rows[pc, C_RETIRE]
            t[T_READY + engine] = s + code.rows[pc, C_NEXT]
        t[T_READY + engine] = max(t[T_READY + engine], s + m[M_NEXT])
        tallies.credit[pc] += max(0, retire - t[T_FRONTIER])
        t[T_FRONTIER] = max(t[T_FRONTIER], retire)
        for slot in range(code.signal_first[pc], code.signal_first[pc + 1]):
            semaphore = code.signal_semaphore[slot]
            woken |= _give(semaphore, retire + m[M_TOKEN], code.waiter[semaphore], state)
        for slot in range(code.release_first[pc], code.release_first[pc + 1]):
            semaphore = code.release_semaphore[slot]
            woken |= _give(semaphore, issue + m[M_TOKEN], code.waiter[semaphore], state)
        t[T_RINGS + 2 * m[M_OUTSTANDING] + engine * depth + place] = s
        n[N_POPS + engine] += 1
        n[N_STARTED + engine] = 0
        if n[N_EVENTS] < notes.events.shape[0]:
            event = notes.events[n[N_EVENTS]]
            event[E_PC], event[E_PUSH] = pc, state.pending[engine, place, P_PUSH]
            event[E_HEAD], event[E_POP] = t[T_HEAD + engine], s
            event[E_ISSUE], event[E_RETIRE], event[E_CAUSE] = issue, retire, n[N_CAUSE + engine]
            for index in range(OPERANDS):
                event[E_OPERAND + index] = state.pending[engine, place, P_OPERAND + index]
        n[N_EVENTS] += 1
    return woken


@_jit
def _settle(work: int, code: Code, state: State, tallies: Tallies, notes: Notes) -> None:
    """Run the engines in ``work``, and those that they wake, until none can go on."""
    while work:
        for engine in range(ENGINES):
            if work >> engine & 1:
                work &= ~(1 << engine)
                work |= _advance(engine, code, state, tallies, notes)


@_jit
def _capture(out: Integers, now: int, code: Code, compared: Integers, state: State) -> int:
    """Write the state relative to ``now``: its length, or 0 where it does not fit.

    Places 2g and 2g+1 are the blocked head's cycles of engine g, which ``_same`` ignores where the
    engine stands still; the rest is compared as it is.
    """
    t, n, m = state.t, state.n, code.machine
    depth, flying = m[M_DEPTH], m[M_OUTSTANDING]
    waiting = 0
    for semaphore in range(SEMAPHORES):
        waiting += state.tails[semaphore] - state.heads[semaphore]
    if waiting > SNAPSHOT_TOKENS:
        return 0
    at = 2 * ENGINES
    for engine in range(ENGINES):
        waiting = n[N_PUSHES + engine] - n[N_POPS + engine]
        blocked = waiting > 0
        out[2 * engine] = t[T_HEAD + engine] - now if blocked else 0
        out[2 * engine + 1] = max(t[T_SOONEST + engine] - now, 0) if blocked else 0
        out[at] = waiting
        out[at + 1] = n[N_NEED + engine] if blocked else 0
        out[at + 2] = 0 if blocked else max(t[T_READY + engine] - now, 0)
        at += 3
        for number in range(n[N_POPS + engine], n[N_PUSHES + engine]):
            pc = state.pending[engine, number % depth, P_PC]
            address = state.pending[engine, number % depth, P_OPERAND]
            out[at] = pc
            out[at + 1] = address % PAGE_BYTES if code.rows[pc, C_KIND] == TRANSFER else 0
            at += 2
        ring = T_RINGS + 2 * flying + engine * depth
        for place in range(depth):
            out[at] = max(t[ring + (n[N_POPS + engine] + place) % depth] - now, 0)
            at += 1
    for engine in range(2):
        out[at] = max(t[T_RETIRED + engine] - now, 0)
        # The first beat from which the bus is free, which counts while it lies ahead of ``now``.
        out[at + 1] = max(t[T_BEAT + engine] + m[M_INTERVAL + engine] - now, 0)
        at += 2
        for place in range(flying):
            slot = T_RINGS + engine * flying + (n[N_TRANSFERS + engine] + place) % flying
            out[at] = max(t[slot] - now, 0)
            at += 1
    out[at] = max(t[T_FRONTIER] - now, 0)
    at += 1
    for semaphore in range(SEMAPHORES):
        out[at] = state.tails[semaphore] - state.heads[semaphore]
        at += 1
        for place in range(state.heads[semaphore], state.tails[semaphore]):
            out[at] = max(state.tokens[semaphore, place % TOKENS] - now, 0)
            at += 1
    for register in range(REGISTERS):
        how, value = compared[register], state.registers[register]
        out[at] = value if how == EXACTLY else (value % PAGE_BYTES if how == BY_PAGE else 0)
        at += 1
    return at


@_jit
def _stands(engine: int, n: Integers, old_n: Integers) -> bool:
    """Whether ``engine`` has been blocked at the same head since the snapshot."""
    pushes, pops = n[N_PUSHES + engine], n[N_POPS + engine]
    return pushes == old_n[N_PUSHES + engine] and pops == old_n[N_POPS + engine] and pushes > pops


@_jit
def _same(new: Integers, old: Integers, length: int, n: Integers, old_n: Integers) -> bool:
    """Whether two snapshots are the same state, engines that stood still in between apart."""
    for place in range(2 * ENGINES, length):
        if new[place] != old[place]:
            return False
    for engine in range(ENGINES):
        if _stands(engine, n, old_n):
            continue
        if new[2 * engine] != old[2 * engine] or new[2 * engine + 1] != old[2 * engine + 1]:
            return False
    return True


@_jit
def _shift(shift: int, state: State, old_n: Integers) -> None:
    """Move every time by ``shift``, but for the heads of engines that stand still."""
    t = state.t
    for engine in range(ENGINES):
        if _stands(engine, state.n, old_n):
            t[T_HEAD + engine] -= shift
            t[T_SOONEST + engine] -= shift
        for place in range(state.pending.shape[1]):
            state.pending[engine, place, P_PUSH] += shift
    for place in range(len(t)):
        t[place] += shift
    for semaphore in range(SEMAPHORES):
        for place in range(state.heads[semaphore], state.tails[semaphore]):
            state.tokens[semaphore, place % TOKENS] += shift


@_jit
def _copy(target: Integers, source: Integers, first: int, stop: int) -> None:
    """Copy places ``first`` to ``stop``; a slice assignment would double the time to compile."""
    for place in range(first, stop):
        target[place] = source[place]


@_jit
def _save(
    top: int,
    body: tuple[int, int],
    fresh: Integers,
    length: int,
    code: Code,
    state: State,
    tallies: Tallies,
    saved: Saved,
) -> None:
    """Keep the snapshot of level ``top``, and the tallies of the loop's body."""
    first, stop = body
    _copy(saved.state[top], fresh, 0, length)
    _copy(saved.n[top], state.n, 0, NUMBERS)
    _copy(saved.registers[top], state.registers, 0, REGISTERS)
    _copy(saved.executed[top], tallies.executed, first, stop)
    _copy(saved.bursts[top], tallies.bursts, first, stop)
    _copy(saved.credit[top], tallies.credit, first, stop)
    _copy(saved.stalls[top], tallies.stalls, code.wait_first[first], code.wait_first[stop])


@_jit
def _repeat(
    top: int, body: tuple[int, int], periods: int, code: Code, state: State, tallies: Tallies, saved: Saved
) -> None:
    """Add to tallies and registers, ``periods`` times, what they have gained since the snapshot."""
    first, stop = body
    for pc in range(first, stop):
        tallies.executed[pc] += (tallies.executed[pc] - saved.executed[top, pc]) * periods
        tallies.bursts[pc] += (tallies.bursts[pc] - saved.bursts[top, pc]) * periods
        tallies.credit[pc] += (tallies.credit[pc] - saved.credit[top, pc]) * periods
    for slot in range(code.wait_first[first], code.wait_first[stop]):
        tallies.stalls[slot] += (tallies.stalls[slot] - saved.stalls[top, slot]) * periods
    for register in range(REGISTERS):
        value = state.registers[register]
        state.registers[register] = (value + (value - saved.registers[top, register]) * periods) & _WORD


@_jit
def _watch(
    top: int,
    now: int,
    trips: int,
    left: int,
    body: tuple[int, int],
    fresh: Integers,
    code: Code,
    state: State,
    tallies: Tallies,
    saved: Saved,
) -> tuple[int, int]:
    """Skip whole periods if this END's state has been seen, else keep it at powers of two: (now, left)."""
    marks = saved.marks[top]
    length = _capture(fresh, now, code, code.compared[body[1] - 1], state)
    if (
        length > 0
        and length == marks[S_LENGTH]
        and _same(fresh, saved.state[top], length, state.n, saved.n[top])
    ):
        period = marks[S_LEFT] - left
        periods = left // period
        shift = (now - marks[S_NOW]) * periods
        _shift(shift, state, saved.n[top])
        _repeat(top, body, periods, code, state, tallies, saved)
        marks[S_NEXT] = 0
        return now + shift, left - period * periods
    if length > 0 and trips - left >= marks[S_NEXT]:
        _save(top, body, fresh, length, code, state, tallies, saved)
        marks[S_LENGTH], marks[S_NOW], marks[S_LEFT], marks[S_NEXT] = length, now, left, 2 * (trips - left)
    return now, left


@_jit
def _fetch(code: Code, state: State, tallies: Tallies, notes: Notes) -> int:
    """The program fetch, LOAD's first instruction, popped in cycle 0: its number of bursts."""
    t, m = state.t, code.machine
    bursts = _transfer(_LOAD, 0, m[M_FETCH_ADDRESS], (1, m[M_FETCH_BEATS], 0), m, state, notes)
    if notes.events.shape[0] > 0:
        event = notes.events[0]
        for column in range(EVENT_COLUMNS):
            event[column] = 0
        event[E_PC] = event[E_CAUSE] = -1
        event[E_ISSUE], event[E_RETIRE] = t[T_READY + _LOAD] - 1, t[T_RETIRED + _LOAD]
        event[E_OPERAND] = m[M_FETCH_ADDRESS]
    state.n[N_EVENTS] = 1
    t[T_FRONTIER] = t[T_RETIRED + _LOAD]
    return bursts


@_jit
def _push(pc: int, now: int, code: Code, state: State) -> int:
    """Push an instruction into its engine's queue, which has a place: the cycle of the push."""
    rows, m, n = code.rows, code.machine, state.n
    engine = rows[pc, C_ENGINE]
    place = n[N_PUSHES + engine] % m[M_DEPTH]
    # The pop that frees this place is the one whose cycle lies where this instruction's will.
    left = state.t[T_RINGS + 2 * m[M_OUTSTANDING] + engine * m[M_DEPTH] + place]
    now = max(now, left + m[M_PLACE])
    state.pending[engine, place, P_PC] = pc
    state.pending[engine, place, P_PUSH] = now
    for index in range(OPERANDS):
        offset = state.registers[rows[pc, C_REGISTER + index]]
        state.pending[engine, place, P_OPERAND + index] = (rows[pc, C_BASE + index] + offset) & _WORD
    n[N_PUSHES + engine] += 1
    return now


@_jit
def _write(pc: int, rows: Integers, registers: Integers) -> None:
    """SET, ADD or RING."""
    register, imm = rows[pc, C_REG], rows[pc, C_IMM]
    if rows[pc, C_KIND] == SET:
        registers[register] = imm
        return
    value = (registers[register] + imm) & _WORD
    registers[register] = 0 if rows[pc, C_KIND] == RING and value == rows[pc, C_LIMIT] else value


@_jit
def simulate_kernel(
    code: Code, state: State, tallies: Tallies, notes: Notes, saved: Saved, plain: bool
) -> tuple[int, int, int]:
    """Run the program: (status, cycles or the instruction at fault, bursts of the fetch)."""
    t, n, rows, m = state.t, state.n, code.rows, code.machine
    trips, left, starts = np.zeros((3, LOOP_DEPTH), np.int64)
    fresh = np.zeros(saved.state.shape[1], np.int64)
    fetch_bursts = _fetch(code, state, tallies, notes)
    now = t[T_FRONTIER] + 1 + m[M_START]
    level = pc = 0
    while True:
        kind = rows[pc, C_KIND]
        tallies.executed[pc] += 1
        if kind >= TIMED:
            engine = rows[pc, C_ENGINE]
            if n[N_PUSHES + engine] - n[N_POPS + engine] >= m[M_DEPTH]:
                return DEADLOCK, pc, fetch_bursts
            now = _push(pc, now, code, state)
        elif kind == HALT:
            for engine in range(ENGINES):
                if n[N_PUSHES + engine] > n[N_POPS + engine]:
                    return DEADLOCK, pc, fetch_bursts
            now = max(now, t[T_FRONTIER] + m[M_HALT])
        tallies.credit[pc] += max(0, now - t[T_FRONTIER])
        t[T_FRONTIER] = max(t[T_FRONTIER], now)
        if kind == HALT:
            return FINISHED, now + 1, fetch_bursts
        if kind >= TIMED:
            _settle(1 << rows[pc, C_ENGINE], code, state, tallies, notes)
            if n[N_OVERFLOW]:
                return TOO_MANY_TOKENS, pc, fetch_bursts
        elif kind == LOOP:
            trips[level] = left[level] = rows[pc, C_IMM]
            starts[level] = pc + 1
            saved.marks[level, S_LENGTH], saved.marks[level, S_NEXT] = 0, 1
            level += 1
        elif kind == END:
            top = level - 1
            left[top] -= 1
            if not plain and trips[top] >= SHORTEST and left[top] > 0 and saved.marks[top, S_NEXT] > 0:
                body = (starts[top], pc + 1)
                now, left[top] = _watch(
                    top, now, trips[top], left[top], body, fresh, code, state, tallies, saved
                )
            if left[top] > 0:
                pc = starts[top] - 1
            else:
                level -= 1
        else:
            _write(pc, rows, state.registers)
        pc += 1
        now += m[M_STEP]
