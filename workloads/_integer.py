"""The quantised oracle: the vector unit's integer arithmetic, to the bit.

Every function takes integers of any numpy type and computes in int64, which holds every
intermediate value; the result's docstring gives its range. The section "VECTOR arithmetic" of
``docs/machine.md`` is the contract. All right shifts floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads._errors import WorkloadError
from workloads._operators import STANDARD, Operators

Ints = npt.NDArray[np.int64]
Integers = npt.ArrayLike
Floats = npt.ArrayLike

MAX_SHIFT = 63
"""Largest shift that an instruction holds."""
MAX_RESIDUAL_SHIFT = 30
"""Largest residual shift that is chosen, so that the product and its rounding fit 32 bits."""
NORM_UNIT = 1.0 / 1024
"""Standard deviations for one unit of a normalised value."""
SOFTMAX_UNIT = 1.0 / 128
"""Probability for one unit of a softmax output."""
EXP_UNIT = math.log(2) / 256
"""What one unit of an exponential's argument means, in nats."""


def _ints(values: Integers) -> Ints:
    return np.asarray(values).astype(np.int64, casting="same_kind")


def _saturated(values: Integers, bits: int) -> Ints:
    return np.clip(_ints(values), -(1 << bits - 1), (1 << bits - 1) - 1)


def sat8(values: Integers) -> Ints:
    """``values`` clamped to [-128, 127]."""
    return _saturated(values, 8)


def sat16(values: Integers) -> Ints:
    """``values`` clamped to [-32768, 32767]."""
    return _saturated(values, 16)


def wrap32(values: Integers) -> Ints:
    """``values`` modulo 2**32 as a signed number, as the accumulators wrap."""
    return _ints(values).astype(np.int32).astype(np.int64)


def matmul(x: Integers, w: Integers) -> Ints:
    """``x @ w`` of int8 operands, accumulated in wrapping int32."""
    left, right = _ints(x), _ints(w)
    # Products of int8 summed over fewer than 2**38 terms are exact in float64, which BLAS multiplies fast.
    return wrap32((left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64))


def rounding(shift: Integers) -> Ints:
    """Half of the last place that a right shift by ``shift`` leaves: 2**(shift - 1), or 0."""
    amount = _ints(shift)
    return np.where(amount > 0, np.left_shift(1, np.maximum(amount - 1, 0)), 0)


def affine(p: Integers, m: Integers, b: Integers, shift: int) -> Ints:
    """``sat16((p * m + b) >> shift)``: p int32, m int16, b int45 with the rounding in it."""
    return sat16(_ints(p) * _ints(m) + _ints(b) >> shift)


def residual_add(y: Integers, q: Integers, multiplier: int, shift: int, *, left: Integers = 0) -> Ints:
    """``sat16(y + ((q << left) * multiplier, shifted right with rounding))``.

    q int8, multiplier int16, left 0 to 7: the product is at most 2**29 in magnitude.
    """
    shifted = _ints(q) << _ints(left)
    return sat16(_ints(y) + (shifted * multiplier + rounding(shift) >> shift))


def residual_multiply(y: Integers, q: Integers, shift: int, *, left: Integers = 0) -> Ints:
    """``sat16(y * (q << left), shifted right with rounding)``: q int8, left 0 to 7."""
    shifted = _ints(q) << _ints(left)
    return sat16(_ints(y) * shifted + rounding(shift) >> shift)


def table_lookup(v: Integers, table: Integers) -> Ints:
    """Entry ``sat8(v) & 255`` of a function table: entry 255 is the function of -1."""
    return np.asarray(_ints(table)[sat8(v) & 255])


def interpolate(v: Integers, table: Integers) -> Ints:
    """A function table read between its entries: v int16 is entry ``v >> 8`` and ``v & 255`` of the way on.

    Entry 255 is the function of -256 units, entry 127 that of 32512, on which the function stays.
    """
    values, entries = sat16(v), _ints(table)
    high, low = values >> 8, values & 255
    first = entries[high & 255]
    second = np.where(high == 127, first, entries[high + 1 & 255])
    return np.asarray(first + ((second - first) * low + 128 >> 8))


def exp_lookup(v: Integers, offset: Integers, table: Integers) -> Ints:
    """``table[0] * 2**(-(offset - v) / 256)``, of the fraction's table entry and a shift; 0 below 2**-16.

    ``offset`` broadcasts against ``v``; differences are clamped to [0, 65535].
    """
    z = np.clip(_ints(offset) - _ints(v), 0, 65535)
    octave = z >> 8
    return np.where(octave > 15, 0, _ints(table)[z & 255] >> np.minimum(octave, 15))


def _floor_log2(values: Ints) -> Ints:
    result = np.zeros_like(values)
    rest = values.copy()
    for step in (32, 16, 8, 4, 2, 1):
        above = rest >> step > 0
        result += np.where(above, step, 0)
        rest = np.where(above, rest >> step, rest)
    return result


def _shifted_left(values: Ints, amount: Ints) -> Ints:
    """``values * 2**amount``, floored where ``amount`` is negative."""
    return np.where(amount >= 0, values << np.maximum(amount, 0), values >> np.maximum(-amount, 0))


def recip(total: Integers) -> tuple[Ints, Ints]:
    """(mantissa, exponent) with ``x * 2**7 / total`` about ``x * mantissa >> exponent``.

    Relative error at most 2**-10 plus the mantissa's own rounding, of 2**-15.
    """
    s = np.maximum(_ints(total), 1)
    j = _floor_log2(s)
    f = _shifted_left(s, 9 - j)
    divisor = 2 * f + 1
    return ((1 << 26) + divisor) // (2 * divisor), 8 + j


_RSQRT = np.array(
    [(math.isqrt((1 << 41) // (2 * f + 1)) + 1) // 2 if f else 0 for f in range(1024)], np.int64
)
_RSQRT.flags.writeable = False


def rsqrt(value: Integers) -> tuple[Ints, Ints]:
    """(mantissa, exponent) with ``d * 2**10 / sqrt(value)`` about ``d * mantissa >> exponent``.

    Relative error at most 2**-10 plus the mantissa's own rounding, of 2**-15.
    """
    v = np.maximum(_ints(value), 1)
    j = _floor_log2(v) // 2
    return np.minimum(_RSQRT[_shifted_left(v, 8 - 2 * j)], 65535), 5 + j


def scale(x: Integers, mantissa: Integers, exponent: Integers) -> Ints:
    """``sat16(x * mantissa, shifted right by exponent with rounding)``."""
    return sat16(_ints(x) * _ints(mantissa) + rounding(exponent) >> _ints(exponent))


def norm(x: Integers, count: int, record: Record) -> Ints:
    """``sat16((count * x - offset) * mantissa, shifted right by exponent with rounding)``."""
    centred = count * _ints(x) - record.offset
    return sat16(centred * record.mantissa + rounding(record.exponent) >> record.exponent)


@dataclass(frozen=True, slots=True)
class Record:
    """What a reduction leaves for each row, in arrays of shape [..., rows, 1]."""

    offset: Ints
    mantissa: Ints
    exponent: Ints


def sum_record(t: Integers) -> Record:
    """The record of reduction SUM over the last axis: the sum's reciprocal (offset 0)."""
    total = _ints(t).sum(axis=-1, keepdims=True)
    return Record(np.zeros_like(total), *recip(total))


def moments_record(t: Integers, count: int) -> Record:
    """The record of reduction MOMENTS: offset is the sum, scale the reciprocal deviation (times count)."""
    values = _ints(t)
    total = values.sum(axis=-1, keepdims=True)
    squares = (values * values).sum(axis=-1, keepdims=True)
    return Record(total, *rsqrt(count * squares - total * total))


def squares_record(t: Integers, count: int) -> Record:
    """The record of reduction SQUARES: offset 0, scale the reciprocal root of the squares (times count)."""
    values = _ints(t)
    squares = (values * values).sum(axis=-1, keepdims=True)
    return Record(np.zeros_like(squares), *rsqrt(count * squares))


def absmax_record(t: Integers) -> Record:
    """The record of reduction ABSMAX: offset a = max abs(t), scale about 127 / a.

    ``scale`` of a value within [-a, a] is within [-127, 127].
    """
    largest = np.abs(_ints(t)).max(axis=-1, keepdims=True)
    return Record(largest, *recip(largest + (largest >> 7) + 1))


@dataclass(frozen=True, slots=True)
class Affine:
    """``(p * m + b) >> shift``, one m and b for each column, rounding folded into b."""

    m: Ints
    b: Ints
    shift: int

    def __call__(self, p: Integers) -> Ints:
        """``p`` scaled, shifted and saturated to int16; columns are the last axis."""
        return affine(p, self.m, self.b, self.shift)


def affine_parameters(scale_in: Floats, bias: Floats = 0.0, *, scale_out: Floats) -> Affine:
    """The :class:`Affine` that turns ``p * scale_in + bias`` into units of ``scale_out``, to nearest.

    ``scale_in`` (real value of one unit of p), ``bias`` (real) and ``scale_out`` are scalars or one
    for each column. The shift is the largest for which every m fits int16 and every b int45; then m's
    relative error is at most 2**-15 in the column of largest scale.
    """
    unit = np.asarray(scale_out, np.float64)
    ratio, offset = np.broadcast_arrays(
        np.atleast_1d(np.asarray(scale_in, np.float64) / unit), np.asarray(bias, np.float64) / unit
    )
    if not (np.isfinite(ratio).all() and np.isfinite(offset).all()):
        raise WorkloadError("scales and biases of an affine pass must be finite, not infinite or nan")
    for shift in range(MAX_SHIFT, -1, -1):
        m = np.rint(ratio * 2.0**shift)
        b = np.rint(offset * 2.0**shift) + (2.0 ** (shift - 1) if shift else 0.0)
        if np.abs(m).max() <= 32767 and np.abs(b).max() < 2.0**44:
            return Affine(m.astype(np.int64), b.astype(np.int64), shift)
    largest = max(np.abs(ratio).max(), np.abs(offset).max() / 2.0**29)
    raise WorkloadError(f"the scale ratio of an affine pass must be at most 32767, not {largest:g}")


def residual_parameters(scale_in: float, *, scale_out: float) -> tuple[int, int]:
    """(multiplier int16, shift) that turn units of ``scale_in`` into units of ``scale_out``, to nearest."""
    ratio = scale_in / scale_out
    for shift in range(MAX_RESIDUAL_SHIFT, -1, -1):
        if abs(multiplier := round(ratio * 2**shift)) <= 32767:
            return multiplier, shift
    raise WorkloadError(f"the scale ratio of a residual must be at most 32767, not {ratio:g}")


def exp_parameters(scale_in: Floats) -> Affine:
    """The :class:`Affine` that turns ``p * scale_in`` (nats) into the argument of ``exp_lookup``."""
    return affine_parameters(scale_in, scale_out=EXP_UNIT)


def exp2_table() -> npt.NDArray[np.int16]:
    """256 entries of ``round(32767 * 2**(-i / 256))``, for ``exp_lookup``."""
    return np.rint(32767 * np.exp2(-np.arange(256) / 256)).astype(np.int16)


def lut_table(
    function: str, *, input_scale: float, output_scale: float, operators: Operators = STANDARD
) -> npt.NDArray[np.int16]:
    """The table of a unary operator for ``table_lookup``: int8 in units of one scale, int16 of another.

    Each entry is the float function rounded to nearest, halves up, and saturated: within half an
    output unit of the function wherever that is representable.
    """
    q = np.arange(256)
    x = np.where(q < 128, q, q - 256) * input_scale
    units: npt.NDArray[np.float64] = np.floor(operators.unary(function)(x) / output_scale + 0.5)
    table: npt.NDArray[np.int16] = np.clip(units, -32768, 32767).astype(np.int16)
    return table


def interpolation_table(
    function: str, *, input_scale: float, output_scale: float, operators: Operators = STANDARD
) -> npt.NDArray[np.int16]:
    """The table of a unary operator for ``interpolate``: the function at every 256th value of an int16.

    Between entries the error is that of a chord: at most the square of ``256 * input_scale`` times the
    largest second derivative, over eight, beside the roundings.
    """
    h = np.arange(256)
    x = np.where(h < 128, h, h - 256) * 256 * input_scale
    units: npt.NDArray[np.float64] = np.floor(operators.unary(function)(x) / output_scale + 0.5)
    table: npt.NDArray[np.int16] = np.clip(units, -32768, 32767).astype(np.int16)
    return table


def quantise(x: Floats, unit: float, *, bits: int = 8) -> Ints:
    """``x`` in units of ``unit``, to nearest even, saturated to ``bits``."""
    units = np.rint(np.asarray(x, np.float64) / unit)
    return np.asarray(np.clip(units, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Residual:
    """A second int8 operand of a pass, added as ``(q << left) * multiplier >> shift``."""

    q: Ints
    multiplier: int
    shift: int
    left: Ints | int = 0
    """0 to 7; one for each column, or one for all."""

    def added_to(self, y: Integers) -> Ints:
        """``residual_add`` of this operand."""
        return residual_add(y, self.q, self.multiplier, self.shift, left=self.left)


def requantise(
    accumulators: Integers,
    parameters: Affine,
    *,
    residual: Residual | None = None,
    table: Integers | None = None,
) -> npt.NDArray[np.int8]:
    """One pass from accumulators to int8: affine, then residual addition, then the function table."""
    v = parameters(accumulators)
    if residual is not None:
        v = residual.added_to(v)
    if table is not None:
        v = table_lookup(v, table)
    return sat8(v).astype(np.int8)


def softmax_rows(
    scores: Integers,
    m: Integers,
    b: Integers,
    shift: int,
    length: int | None = None,
) -> npt.NDArray[np.int8]:
    """Softmax over the last axis of int32 scores, in units of 1/128: three passes.

    Pass 1: affine, reduce MAX. Pass 2: affine, EXP lookup in ``exp2_table()``, reduce SUM, to
    int16. Pass 3: SCALE by the sum's reciprocal, to int8. Columns from ``length`` on are ignored
    and give 0. The parameters turn scores into units of ``EXP_UNIT``; see ``exp_parameters``.

    Error against the exact softmax of ``scores * scale``, in output units and for n columns: at
    most ``1 + 128 * (0.0075 + 1.5 * n / 32767)``; the first term is the rounding and that a
    probability of 1 gives 127, the last one exponentials near 2**-15 of the largest. Scores beyond
    88 nats from zero saturate.
    """
    values = _ints(scores)
    valid = np.arange(values.shape[-1]) < (values.shape[-1] if length is None else length)
    y = affine(values, m, b, shift)
    largest = np.where(valid, y, -32768).max(axis=-1, keepdims=True)
    t = np.where(valid, exp_lookup(y, largest, exp2_table()), 0)
    record = sum_record(t)
    return sat8(scale(t, record.mantissa, record.exponent)).astype(np.int8)


def layernorm_rows(
    accumulators: Integers,
    first: Affine,
    second: Affine,
    *,
    residual: Residual | None = None,
    length: int | None = None,
    centred: bool = True,
) -> npt.NDArray[np.int8]:
    """LayerNorm (or RMSNorm, not ``centred``) over the last axis of int32 accumulators: two passes.

    Pass 1: affine ``first``, residual addition, to int16, reduce MOMENTS (or SQUARES). Pass 2:
    NORM to units of ``NORM_UNIT``, affine ``second`` (gamma in m, beta in b; see
    ``norm_parameters``), to int8. Columns from ``length`` on are ignored and give 0. There is no
    epsilon: a row of equal values gives beta.

    Error against the exact normalisation n of the int16 values, in output units: at most
    ``0.51 + 0.0011 * |gamma * n| / unit + NORM_UNIT * |gamma| / unit``, n within 32 deviations
    (always so up to a length of 1024). The int16 values are themselves within half a unit of theirs.
    """
    values = _ints(accumulators)
    count = values.shape[-1] if length is None else length
    valid = np.arange(values.shape[-1]) < count
    t = first(values)
    if residual is not None:
        t = residual.added_to(t)
    t = np.where(valid, t, 0)
    record = moments_record(t, count) if centred else squares_record(t, count)
    return np.where(valid, sat8(second(norm(t, count, record))), 0).astype(np.int8)


def norm_parameters(gamma: Floats, beta: Floats = 0.0, *, scale_out: Floats) -> Affine:
    """The :class:`Affine` after NORM: ``normalised * gamma + beta`` in units of ``scale_out``."""
    return affine_parameters(np.asarray(gamma, np.float64) * NORM_UNIT, beta, scale_out=scale_out)
