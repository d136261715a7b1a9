"""The vector unit in plain Python integers, element by element: the oracle of the RTL and of others.

It follows "VECTOR arithmetic" of ``docs/machine.md`` and ``docs/ternary-machine.md`` line by line, and
shares no code with the product beyond the instruction table's enumerations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, isqrt

from archsim._isa import Destination, Lookup, Pre, Reduce, Residual, Source

Fields = Mapping[str, int]


@dataclass
class Row:
    """A row record."""

    offset: int = 0
    mantissa: int = 0
    exponent: int = 0
    a1: int = 0
    a2: int = 0


@dataclass
class State:
    """The memories that a VECTOR pass sees; a word is a list of lanes, absent words are zero.

    Scratchpad words have L signed bytes, accumulator and buffer words C integers, parameter words
    triples (m, b, left) for L lanes, tables 256 entries.
    """

    lanes: int
    word_bytes: int
    scratchpad: dict[int, list[int]] = field(default_factory=dict)
    accumulators: dict[int, list[int]] = field(default_factory=dict)
    buffer: dict[int, list[int]] = field(default_factory=dict)
    parameters: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    tables: dict[int, list[int]] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    fold: int = 1
    """Chunks that lie side by side in a scratchpad word."""

    def row(self, index: int) -> Row:
        """The record of a row, zero if it was never written."""
        return self.rows.setdefault(index, Row())


def wrap(value: int, bits: int) -> int:
    """``value`` in two's complement of ``bits`` bits."""
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def sat8(value: int) -> int:
    """``value`` clamped to int8."""
    return max(-128, min(127, value))


def sat16(value: int) -> int:
    """``value`` clamped to int16."""
    return max(-32768, min(32767, value))


def rounded_shift(value: int, shift: int) -> int:
    """``value / 2**shift`` to the nearest integer, halves upwards."""
    return floor(Fraction(value, 1 << shift) + Fraction(1, 2)) if shift else value


def recip(s: int) -> tuple[int, int]:
    """Mantissa and exponent of 2**7 / s."""
    s = max(s, 1)
    j = s.bit_length() - 1
    f = (s << 9) >> j
    return round(Fraction(2**15 * 512) / (f + Fraction(1, 2))), 8 + j


def rsqrt(v: int) -> tuple[int, int]:
    """Mantissa and exponent of 2**10 / sqrt(v)."""
    v = max(v, 1)
    j = (v.bit_length() - 1) // 2
    f = (v << 8) >> 2 * j
    square = Fraction(2**30 * 256) / (f + Fraction(1, 2))
    # round(sqrt(square)): the largest m with (m - 1/2)^2 <= square
    mantissa = (isqrt(floor(4 * square)) + 1) // 2
    return min(65535, mantissa), 5 + j


def run_table(state: State, op0: int, slot: int) -> None:
    """TABLE: entry i is bytes 0 and 1 of scratchpad word op0 + i."""
    entries = []
    for i in range(256):
        word = state.scratchpad.get(op0 + i, [0, 0])
        entries.append(wrap((word[0] & 255) | (word[1] & 255) << 8, 16))
    state.tables[slot] = entries


def run_pass(state: State, fields: Fields) -> None:
    """VECTOR: one pass; ``fields`` are the operands op0 .. op3 and the payload fields, by name."""
    for i in range(fields["rows"]):
        row = state.row(i)
        elements: list[int] = []
        words: list[list[int]] = []
        for j in range(fields["chunks"]):
            word = [_element(state, fields, row, (i, j, c)) for c in range(state.lanes)]
            valid = [
                c < fields["group"] and j * fields["group"] + c < fields["length"] for c in range(state.lanes)
            ]
            elements += [t for t, ok in zip(word, valid, strict=True) if ok]
            words.append([t if ok else 0 for t, ok in zip(word, valid, strict=True)])
        for j, word in enumerate(words):
            _write(state, fields, i, j, word)
        _reduce(row, fields, elements)


def _element(state: State, fields: Fields, row: Row, place: tuple[int, int, int]) -> int:
    _, j, c = place
    x = _source(state, Source(fields["source"]), (fields["op0"], fields["src_stride"]), place)
    p = _scaled(x, Pre(fields["pre"]), fields["count"], row)
    y, left = sat16(p), 0
    if fields["affine"]:
        m, b, left = state.parameters[fields["op3"] + (0 if fields.get("uniform") else j)][c]
        y = sat16((p * m + b) >> fields["shift"])
    v = y
    if fields["residual"] != Residual.NONE:
        second = (fields["op2"], fields["res_stride"])
        if fields.get("res_buffer"):
            q = _source(state, Source.BUFFER, second, place)
        else:
            q = _source(state, Source.SCRATCHPAD, second, place) * 2**left
        if fields["residual"] == Residual.ADD:
            v = sat16(y + rounded_shift(q * fields["res_multiplier"], fields["res_shift"]))
        else:
            v = sat16(rounded_shift(y * q, fields["res_shift"]))
    return _looked_up(state, fields, row, v)


def _source(state: State, source: Source, operand: tuple[int, int], place: tuple[int, int, int]) -> int:
    """The element of row i, chunk j, lane c of an operand (address, stride)."""
    (base, stride), (i, j, c) = operand, place
    if source is Source.SCRATCHPAD:
        word = state.scratchpad[base + j // state.fold * stride + i]
        return word[j % state.fold * state.lanes + c]
    memory = state.accumulators if source is Source.ACCUMULATOR else state.buffer
    return memory[base + j * stride + i][c]


def _scaled(x: int, pre: Pre, count: int, row: Row) -> int:
    if pre is Pre.NONE:
        return x
    d = count * x - row.offset if pre is Pre.NORM else x
    return sat16(rounded_shift(d * row.mantissa, row.exponent))


def _looked_up(state: State, fields: Fields, row: Row, v: int) -> int:
    if fields["lookup"] == Lookup.NONE:
        return v
    table = state.tables[fields["slot"]]
    if fields["lookup"] == Lookup.TABLE:
        return table[sat8(v) & 255]
    if fields["lookup"] == Lookup.INTERPOLATE:
        a = table[(v >> 8) & 255]
        b = a if v >> 8 == 127 else table[((v >> 8) + 1) & 255]
        return a + (((b - a) * (v & 255) + 128) >> 8)
    z = max(0, min(65535, row.offset - v))
    return table[z & 255] >> (z >> 8) if z >> 8 <= 15 else 0


def _write(state: State, fields: Fields, i: int, j: int, word: list[int]) -> None:
    base, stride, lanes = fields["op1"], fields["dst_stride"], state.lanes
    if fields["destination"] == Destination.SCRATCHPAD:
        address, first = base + j // state.fold * stride + i, j % state.fold * lanes
        kept = state.scratchpad[address] if state.fold > 1 else [0] * state.word_bytes
        state.scratchpad[address] = [*kept[:first], *(sat8(t) for t in word), *kept[first + lanes :]]
    elif fields["destination"] == Destination.BUFFER:
        state.buffer[base + j * stride + i] = word


def _reduce(row: Row, fields: Fields, elements: list[int]) -> None:
    kind, fresh, count = Reduce(fields["reduce"]), fields["reduce_first"], fields["count"]
    if kind is Reduce.MAX:
        row.offset = max([-32768 if fresh else row.offset, *elements])
    if kind in (Reduce.SUM, Reduce.MOMENTS):
        row.a1 = wrap((0 if fresh else row.a1) + sum(elements), 40)
    if kind in (Reduce.MOMENTS, Reduce.SQUARES):
        row.a2 = wrap((0 if fresh else row.a2) + sum(t * t for t in elements), 48)
    if kind is Reduce.ABSMAX:
        row.offset = max([0 if fresh else row.offset, *(abs(t) for t in elements)])
        row.mantissa, row.exponent = recip(row.offset + row.offset // 128 + 1)
    if kind is Reduce.SUM:
        row.mantissa, row.exponent = recip(row.a1)
    if kind is Reduce.MOMENTS:
        row.offset = row.a1
        row.mantissa, row.exponent = rsqrt(count * row.a2 - row.a1 * row.a1)
    if kind is Reduce.SQUARES:
        row.offset = 0
        row.mantissa, row.exponent = rsqrt(count * row.a2)
