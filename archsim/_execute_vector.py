"""A VECTOR pass on arrays: the arithmetic of ``docs/machine.md``, all rows of an instruction at once.

Rows do not depend on each other and a row's record is written after its last slot, so a pass is
computed as (rows, chunks, lanes) arrays of int64, in which no intermediate value overflows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from archsim._isa import Destination, Lookup, Pre, Reduce, Residual, Source

Ints = NDArray[np.int64]
Fields = Mapping[str, int]
_WORD = 1 << 32
_NO_SHIFT = np.zeros((), np.int64)


@dataclass(frozen=True, slots=True)
class Records:
    """The row records, one entry a row."""

    offset: Ints
    mantissa: Ints
    exponent: Ints
    a1: Ints
    a2: Ints

    @classmethod
    def zeros(cls, rows: int) -> Records:
        """Records of a machine just started."""
        return cls(*(np.zeros(rows, np.int64) for _ in range(5)))


def recip(total: int) -> tuple[int, int]:
    """Mantissa and exponent of 2**7 / total."""
    s = max(total, 1)
    j = s.bit_length() - 1
    f = (s << 9) >> j
    # round(2^24 / (f + 1/2)) = floor(2^25 / (2f + 1) + 1/2); the quotient is never halfway.
    return ((1 << 26) // (2 * f + 1) + 1) // 2, 8 + j


def rsqrt(value: int) -> tuple[int, int]:
    """Mantissa and exponent of 2**10 / sqrt(value)."""
    v = max(value, 1)
    j = (v.bit_length() - 1) // 2
    f = (v << 8) >> 2 * j
    # round(sqrt(q)) = floor((floor(sqrt(4 q)) + 1) / 2) with q = 2^39 / (2f + 1)
    return min(65535, (isqrt((1 << 41) // (2 * f + 1)) + 1) // 2), 5 + j


def run_pass(
    fields: Fields,
    *,
    sources: tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int16]],
    parameters: NDArray[np.int8],
    tables: NDArray[np.int16],
    records: Records,
    lanes: int,
    fold: int = 1,
) -> None:
    """Run one pass; ``fields`` are op0 .. op3 and the payload fields, those not given being zero.

    ``sources`` are accumulators, scratchpad and buffer, of which the last two are written;
    ``parameters`` is (words, L, 8) bytes, ``tables`` (tables, 256). ``fold`` chunks lie side by side in
    a word of the scratchpad.
    """
    field = _Fields(fields)
    rows = slice(0, field["rows"])
    x = _elements(
        sources, Source(field["source"]), field=field, names=("op0", "src_stride"), lanes=lanes, fold=fold
    )
    p = _scaled(x, field, records, rows)
    y, left = _affine(p, field, parameters, lanes) if field["affine"] else (_sat(p, 16), _NO_SHIFT)
    if field["residual"] != Residual.NONE:
        second = Source.BUFFER if field["res_buffer"] else Source.SCRATCHPAD
        q = _elements(sources, second, field=field, names=("op2", "res_stride"), lanes=lanes, fold=fold)
        y = _combined(y, q if field["res_buffer"] else q << left, field)
    t = _looked_up(y, field, tables, records.offset[rows, None, None])
    valid = _valid(field, lanes)
    _write(np.where(valid, t, 0), field, sources=sources, lanes=lanes, fold=fold)
    _reduce(t, np.broadcast_to(valid, t.shape), field, records)


class _Fields(dict[str, int]):
    """Fields of which those not given are zero."""

    __slots__ = ()

    def __missing__(self, key: str) -> int:
        return 0


def _addresses(field: _Fields, base: str, stride: str, fold: int = 1) -> Ints:
    """(rows, chunks) word addresses, modulo 2**32, of ``fold`` chunks a word."""
    row, chunk = np.arange(field["rows"])[:, None], np.arange(field["chunks"])[None, :]
    found: Ints = (field[base] + chunk // fold * field[stride] + row) % _WORD
    return found


def _elements(
    sources: tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int16]],
    source: Source,
    *,
    field: _Fields,
    names: tuple[str, str],
    lanes: int,
    fold: int,
) -> Ints:
    """(rows, chunks, lanes) elements of the operand whose address and stride have these ``names``."""
    words = sources[source]
    if source is Source.SCRATCHPAD and fold > 1:
        side = np.arange(field["chunks"])[None, :] % fold
        return words.reshape(len(words), -1, lanes)[_addresses(field, *names, fold), side].astype(np.int64)
    return words[_addresses(field, *names)][..., :lanes].astype(np.int64)


def _valid(field: _Fields, lanes: int) -> NDArray[np.bool_]:
    """(1, chunks, lanes): which lanes carry elements."""
    lane, chunk = np.arange(lanes)[None, None, :], np.arange(field["chunks"])[None, :, None]
    found: NDArray[np.bool_] = (lane < field["group"]) & (chunk * field["group"] + lane < field["length"])
    return found


def _sat(value: Ints, bits: int) -> Ints:
    return np.clip(value, -(1 << bits - 1), (1 << bits - 1) - 1)


def _wrap(value: Ints, bits: int) -> Ints:
    """``value`` in two's complement of ``bits`` bits."""
    half = 1 << bits - 1
    found: Ints = (value + half) % (1 << bits) - half
    return found


def _rounded(value: Ints, shift: Ints) -> Ints:
    """``value / 2**shift`` to the nearest integer, halves upwards."""
    half = np.where(shift > 0, np.left_shift(1, np.maximum(shift - 1, 0)), 0)
    found: Ints = (value + half) >> shift
    return found


def _scaled(x: Ints, field: _Fields, records: Records, rows: slice) -> Ints:
    if field["pre"] == Pre.NONE:
        return x
    if field["pre"] == Pre.NORM:
        x = field["count"] * x - records.offset[rows, None, None]
    return _sat(_rounded(x * records.mantissa[rows, None, None], records.exponent[rows, None, None]), 16)


def _affine(p: Ints, field: _Fields, parameters: NDArray[np.int8], lanes: int) -> tuple[Ints, Ints]:
    """y, and the left shift of the residual in the same parameter words."""
    chunk = np.arange(field["chunks"]) * (1 - field["uniform"])
    places = (field["op3"] + chunk) % _WORD
    words = np.ascontiguousarray(parameters[places, :lanes]).view("<i8")[..., 0].astype(np.int64)
    m, b = words << 48 >> 48, words << 3 >> 19
    return _sat((p * m + b) >> field["shift"], 16), words >> 61 & 7


def _combined(y: Ints, q: Ints, field: _Fields) -> Ints:
    """v, of q already shifted left."""
    shift = np.array(field["res_shift"])
    if field["residual"] == Residual.ADD:
        return _sat(y + _rounded(q * field["res_multiplier"], shift), 16)
    return _sat(_rounded(y * q, shift), 16)


def _looked_up(v: Ints, field: _Fields, tables: NDArray[np.int16], offset: Ints) -> Ints:
    if field["lookup"] == Lookup.NONE:
        return v
    table = tables[field["slot"]].astype(np.int64)
    if field["lookup"] == Lookup.TABLE:
        found: Ints = table[_sat(v, 8) & 255]
        return found
    if field["lookup"] == Lookup.INTERPOLATE:
        place = v >> 8
        a, b = table[place & 255], table[np.minimum(place + 1, 127) & 255]
        between: Ints = a + ((b - a) * (v & 255) + 128 >> 8)
        return between
    z = np.clip(offset - v, 0, 65535)
    return np.where(z >> 8 > 15, 0, table[z & 255] >> np.minimum(z >> 8, 15))


def _write(
    t: Ints,
    field: _Fields,
    *,
    sources: tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int16]],
    lanes: int,
    fold: int,
) -> None:
    addresses = _addresses(field, "op1", "dst_stride")
    if field["destination"] == Destination.SCRATCHPAD and fold > 1:
        folded = _addresses(field, "op1", "dst_stride", fold)
        side = np.arange(field["chunks"])[None, :] % fold
        sources[1].reshape(len(sources[1]), -1, lanes)[folded, side] = _sat(t, 8)
    elif field["destination"] == Destination.SCRATCHPAD:
        words = np.zeros((*addresses.shape, sources[1].shape[1]), np.int8)
        words[..., :lanes] = _sat(t, 8)
        sources[1][addresses] = words
    elif field["destination"] == Destination.BUFFER:
        sources[2][addresses] = t


def _reduce(t: Ints, valid: NDArray[np.bool_], field: _Fields, records: Records) -> None:
    kind, rows = field["reduce"], slice(0, field["rows"])
    keep = 0 if field["reduce_first"] else 1
    if kind == Reduce.MAX:
        peak = np.where(valid, t, -32768).max(axis=(1, 2))
        records.offset[rows] = np.maximum(peak, records.offset[rows]) if keep else peak
    if kind == Reduce.ABSMAX:
        peak = np.where(valid, np.abs(t), 0).max(axis=(1, 2))
        records.offset[rows] = np.maximum(peak, records.offset[rows]) if keep else peak
    if kind in (Reduce.SUM, Reduce.MOMENTS):
        total = np.where(valid, t, 0).sum(axis=(1, 2))
        records.a1[rows] = _wrap(keep * records.a1[rows] + total, 40)
    if kind in (Reduce.MOMENTS, Reduce.SQUARES):
        squares = np.where(valid, t * t, 0).sum(axis=(1, 2))
        records.a2[rows] = _wrap(keep * records.a2[rows] + squares, 48)
    if kind not in (Reduce.NONE, Reduce.MAX):
        for row in range(field["rows"]):
            _scale(row, kind, field["count"], records)


def _scale(row: int, kind: int, count: int, records: Records) -> None:
    """Mantissa, exponent and offset of one row after its sums or peak; exact integers of any size."""
    a1, a2 = int(records.a1[row]), int(records.a2[row])
    if kind == Reduce.SUM:
        records.mantissa[row], records.exponent[row] = recip(a1)
        return
    if kind == Reduce.ABSMAX:
        peak = int(records.offset[row])
        records.mantissa[row], records.exponent[row] = recip(peak + (peak >> 7) + 1)
        return
    centred = kind == Reduce.MOMENTS
    records.offset[row] = a1 if centred else 0
    records.mantissa[row], records.exponent[row] = rsqrt(count * a2 - a1 * a1 * centred)
