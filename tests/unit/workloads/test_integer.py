"""The integer oracle against scalar Python integers, exact fractions and float formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from workloads import _integer as integer
from workloads._errors import WorkloadError
from workloads._integer import Integers

RNG_SEED = 20240607


def rng() -> np.random.Generator:
    return np.random.default_rng(RNG_SEED)


def clamp(value: int, bits: int) -> int:
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, value))


def half(shift: int) -> int:
    return 1 << shift - 1 if shift else 0


def nearest(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def naive_recip(s: int) -> tuple[int, int]:
    s = max(s, 1)
    j = s.bit_length() - 1
    f = s >> j - 9 if j >= 9 else s << 9 - j
    return nearest(Fraction(1 << 25, 2 * f + 1)), 8 + j


def naive_rsqrt(v: int) -> tuple[int, int]:
    v = max(v, 1)
    j = (v.bit_length() - 1) // 2
    f = v * 256 // 4**j
    # The mantissa nearest to r = sqrt(2**38 / (f + 1/2)), found by comparing squares.
    square = Fraction(1 << 39, 2 * f + 1)
    m = math.isqrt(math.floor(square))
    return (m if square < (m + Fraction(1, 2)) ** 2 else m + 1), 5 + j


def naive_exp(v: int, offset: int, table: list[int]) -> int:
    z = max(0, min(65535, offset - v))
    return 0 if z >> 8 > 15 else table[z & 255] >> (z >> 8)


EDGES = [-(2**31), 2**31 - 1, -32769, -32768, -129, -128, -127, -1, 0, 1, 126, 127, 128, 32767, 32768]


@pytest.mark.parametrize(("function", "bits"), [(integer.sat8, 8), (integer.sat16, 16)])
def test_saturation(function: Callable[[Integers], integer.Ints], bits: int) -> None:
    assert function(EDGES).tolist() == [clamp(value, bits) for value in EDGES]


def test_wrap32_is_modulo() -> None:
    values = [2**31, -(2**31) - 1, 2**32 + 5, 2**31 - 1, -7]
    assert integer.wrap32(values).tolist() == [-(2**31), 2**31 - 1, 5, 2**31 - 1, -7]


def test_floats_are_refused() -> None:
    with pytest.raises(TypeError):
        integer.sat8([0.5])


def test_matmul_of_int8_extremes() -> None:
    x = rng().integers(-128, 128, (3, 700))
    w = rng().integers(-128, 128, (700, 4))
    expected = [
        [sum(int(a) * int(b) for a, b in zip(row, w[:, n], strict=True)) for n in range(4)] for row in x
    ]
    assert integer.matmul(x, w).tolist() == expected


def test_affine_of_extremes() -> None:
    for p in EDGES:
        for m in (-32768, -1, 0, 1, 32767):
            for b in (-(2**44), -1, 0, 1, 2**44 - 1):
                for shift in (0, 1, 15, 31, 47, 63):
                    assert integer.affine(p, m, b, shift).item() == clamp(p * m + b >> shift, 16)


@pytest.mark.parametrize("left", [0, 1, 7])
def test_residuals_of_extremes(left: int) -> None:
    for y in (-32768, -1, 0, 1, 32767):
        for q in (-128, -1, 0, 1, 127):
            for shift in (0, 1, 7, 30, 31):
                wide = q * 2**left
                for k in (-32768, -1, 0, 1, 32767):
                    assert integer.residual_add(y, q, k, shift, left=left).item() == clamp(
                        y + (wide * k + half(shift) >> shift), 16
                    )
                assert integer.residual_multiply(y, q, shift, left=left).item() == clamp(
                    y * wide + half(shift) >> shift, 16
                )


def test_a_residual_is_not_shifted_left_unless_told() -> None:
    assert integer.residual_add(1, 2, 3, 0).item() == 7
    assert integer.residual_multiply(5, 2, 0).item() == 10
    assert integer.Residual(np.array([2]), 3, 0).added_to(1).tolist() == [7]


def test_columns_of_a_residual_shift_left_each_by_its_own() -> None:
    q = np.array([[3, -5, 7], [-1, 2, 100]])
    residual = integer.Residual(q, 3, 1, np.array([0, 2, 7]))
    # (q * [1, 4, 128] * 3 + 1) >> 1
    assert residual.added_to([[10, 10, 10]]).tolist() == [[15, -20, 1354], [9, 22, 19210]]


def test_table_lookup_saturates_and_wraps_the_index() -> None:
    table = np.arange(256) * 100 - 12800
    v = [-40000, -129, -128, -1, 0, 1, 127, 128, 40000]
    assert integer.table_lookup(v, table).tolist() == [int(table[clamp(x, 8) % 256]) for x in v]


def test_exp2_table_is_the_closed_form() -> None:
    table = integer.exp2_table()
    assert table.dtype == np.int16
    # round(r) = t exactly if 2t - 1 < 2r < 2t + 1; both sides to the power 256 are integers over 2**i.
    for i, t in enumerate(table.tolist()):
        assert (2 * t - 1) ** 256 << i < (2 * 32767) ** 256 < (2 * t + 1) ** 256 << i


def test_exp_lookup_over_its_whole_range() -> None:
    table = integer.exp2_table().tolist()
    v = np.arange(-40000, 33000, 7)
    for offset in (-32768, 0, 32767):
        expected = [naive_exp(int(x), offset, table) for x in v]
        assert integer.exp_lookup(v, offset, integer.exp2_table()).tolist() == expected


def test_exp_lookup_of_any_table_is_zero_from_the_sixteenth_octave() -> None:
    table = rng().integers(-32768, 32768, 256)
    z = [15 * 256 - 1, 15 * 256, 16 * 256 - 1, 16 * 256, 70000]
    expected = [naive_exp(-v, 0, table.tolist()) for v in z]
    assert integer.exp_lookup(np.negative(z), 0, table).tolist() == expected
    assert expected[3:] == [0, 0]


def test_exp_lookup_error_is_stated() -> None:
    z = np.arange(0, 16 * 256)
    exact = 32767 * np.exp2(-z / 256)
    error = integer.exp_lookup(-z, 0, integer.exp2_table()) - exact
    assert error.min() > -1.5
    assert error.max() <= 0.5


def test_recip_and_rsqrt_of_small_and_extreme_values() -> None:
    values = [*range(-2, 3000), *(2**k + d for k in range(12, 62) for d in (-1, 0, 1))]
    mantissa, exponent = integer.recip(values)
    assert list(zip(mantissa.tolist(), exponent.tolist(), strict=True)) == [naive_recip(v) for v in values]
    mantissa, exponent = integer.rsqrt(values)
    assert list(zip(mantissa.tolist(), exponent.tolist(), strict=True)) == [naive_rsqrt(v) for v in values]


def test_recip_error_is_below_a_thousandth() -> None:
    s = np.unique(np.geomspace(1, 2**39, 20000).astype(np.int64))
    mantissa, exponent = integer.recip(s)
    relative = mantissa / 2.0**exponent / (128 / s) - 1
    assert np.abs(relative).max() < 2**-10 + 2**-14
    assert mantissa.max() < 1 << 16


def test_rsqrt_error_is_below_a_thousandth() -> None:
    v = np.unique(np.geomspace(1, 2**62, 20000).astype(np.int64))
    mantissa, exponent = integer.rsqrt(v)
    relative = mantissa / 2.0**exponent / (1024 / np.sqrt(v.astype(float))) - 1
    assert np.abs(relative).max() < 2**-10 + 2**-14
    assert mantissa.max() < 1 << 16


def test_norm_and_scale_against_scalars() -> None:
    random = rng()
    for _ in range(300):
        count, x = int(random.integers(1, 2000)), int(random.integers(-32768, 32768))
        offset, value = int(random.integers(-(2**31), 2**31)), int(random.integers(1, 2**60))
        mantissa, exponent = naive_rsqrt(value)
        record = integer.Record(np.int64(offset), *(np.int64(v) for v in (mantissa, exponent)))  # type: ignore[arg-type]
        expected = clamp((count * x - offset) * mantissa + half(exponent) >> exponent, 16)
        assert integer.norm(x, count, record).item() == expected
        mantissa, exponent = naive_recip(value % 2**39)
        assert integer.scale(x, mantissa, exponent).item() == clamp(
            x * mantissa + half(exponent) >> exponent, 16
        )


def test_affine_parameters_take_the_largest_shift() -> None:
    scale = np.array([0.01, 0.002, 0.0001])
    bias = np.array([1.0, -2.0, 0.0])
    result = integer.affine_parameters(scale, bias, scale_out=0.05)
    assert np.abs(result.m).max() <= 32767 < 2 * np.abs(result.m).max() + 1
    assert result.m.tolist() == [round(s / 0.05 * 2**result.shift) for s in scale]
    half_place = 2 ** (result.shift - 1)
    assert result.b.tolist() == [round(b / 0.05 * 2**result.shift) + half_place for b in bias]


def test_affine_parameters_are_limited_by_a_large_bias() -> None:
    result = integer.affine_parameters(2.0**-30, 2.0**20, scale_out=1.0)
    assert result.shift == 23
    assert int(result.b[0]) == 2**43 + 2**22


@pytest.mark.parametrize("scale_in", [40000.0, math.inf, math.nan])
def test_affine_parameters_refuse_what_does_not_fit(scale_in: float) -> None:
    with pytest.raises(WorkloadError, match=r"of an affine pass must be"):
        integer.affine_parameters(scale_in, scale_out=1.0)


def test_affine_rounds_to_nearest() -> None:
    parameters = integer.affine_parameters(0.0037, 0.11, scale_out=0.02)
    p = np.arange(-20000, 20000, 3)
    exact = (p * 0.0037 + 0.11) / 0.02
    inside = np.abs(exact) < 32000
    assert np.abs(parameters(p) - exact)[inside].max() < 0.5 + np.abs(exact[inside]).max() * 2**-15 + 1e-6


def test_residual_parameters_are_close() -> None:
    for ratio in (1e-6, 0.01, 1.0, 3.7, 30000.0, -0.5):
        multiplier, shift = integer.residual_parameters(ratio, scale_out=1.0)
        assert -32768 <= multiplier <= 32767
        assert 0 <= shift <= 30
        assert abs(multiplier / 2**shift - ratio) <= max(abs(ratio) * 2**-14, 2.0**-31)
    with pytest.raises(
        WorkloadError, match=r"^the scale ratio of a residual must be at most 32767, not 40000$"
    ):
        integer.residual_parameters(40000.0, scale_out=1.0)


FUNCTIONS = {
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_lut_is_within_half_a_unit(name: str) -> None:
    table = integer.lut_table(name, input_scale=0.05, output_scale=0.03)
    v = np.arange(-128, 128)
    exact = np.array([FUNCTIONS[name](x * 0.05) / 0.03 for x in v])
    assert table.dtype == np.int16
    assert np.abs(integer.table_lookup(v, table) - exact).max() <= 0.5 + 1e-9


def test_lut_saturates() -> None:
    assert integer.lut_table("relu", input_scale=1.0, output_scale=1e-3)[127] == 32767


def test_requantise_is_affine_residual_table_saturate() -> None:
    random = rng()
    acc = random.integers(-(2**31), 2**31, (5, 7))
    acc[0] = random.integers(-3000, 3000, 7)
    q = random.integers(-128, 128, (5, 7))
    parameters = integer.affine_parameters(
        random.uniform(1e-4, 1e-2, 7), random.normal(size=7), scale_out=0.05
    )
    table = integer.lut_table("gelu", input_scale=0.05, output_scale=0.04)
    out = integer.requantise(acc, parameters, residual=integer.Residual(q, 1234, 9), table=table)
    for i in range(5):
        for j in range(7):
            y = clamp(int(acc[i, j]) * int(parameters.m[j]) + int(parameters.b[j]) >> parameters.shift, 16)
            v = clamp(y + (int(q[i, j]) * 1234 + 256 >> 9), 16)
            assert out[i, j] == clamp(int(table[clamp(v, 8) & 255]), 8)


def naive_softmax(row: list[int], m: int, b: int, shift: int) -> list[int]:
    table = integer.exp2_table().tolist()
    y = [clamp(p * m + b >> shift, 16) for p in row]
    t = [naive_exp(v, max(y), table) for v in y]
    mantissa, exponent = naive_recip(sum(t))
    return [clamp(clamp(v * mantissa + half(exponent) >> exponent, 16), 8) for v in t]


def test_softmax_rows_to_the_bit() -> None:
    scores = rng().integers(-(2**20), 2**20, (6, 37))
    scores[1] = scores[1, 0]
    scores[2, 1:] = -(2**31)
    scores[3] = 2**31 - 1
    p = integer.exp_parameters(3e-6)
    out = integer.softmax_rows(scores, p.m, p.b, p.shift)
    expected = [naive_softmax([int(v) for v in row], int(p.m[0]), int(p.b[0]), p.shift) for row in scores]
    assert out.dtype == np.int8
    assert out.tolist() == expected


def test_softmax_ignores_columns_past_length() -> None:
    scores = rng().integers(-(2**20), 2**20, (4, 16))
    scores[:, 13] = 2**29  # would be the maximum
    p = integer.exp_parameters(3e-6)
    short = integer.softmax_rows(scores[:, :11], p.m, p.b, p.shift)
    long = integer.softmax_rows(scores, p.m, p.b, p.shift, length=11)
    assert np.array_equal(long[:, :11], short)
    assert not long[:, 11:].any()


@pytest.mark.parametrize("columns", [1, 2, 16, 128, 512])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0, 20.0])
def test_softmax_error_is_within_the_stated_bound(columns: int, spread: float) -> None:
    unit = 1e-4
    scores = np.rint(rng().normal(scale=spread, size=(64, columns)) / unit).astype(np.int64)
    scores = np.clip(scores, -int(85 / unit), int(85 / unit))
    p = integer.exp_parameters(unit)
    out = integer.softmax_rows(scores, p.m, p.b, p.shift)
    e = np.exp((scores - scores.max(axis=1, keepdims=True)) * unit)
    exact = e / e.sum(axis=1, keepdims=True) * 128
    assert np.abs(out - exact).max() <= 1 + 128 * (0.0075 + 1.5 * columns / 32767)


def test_softmax_worst_tail_stays_within_the_stated_bound() -> None:
    n, unit = 1000, 1e-4
    scores = np.full((1, n), -math.log(32767 / 1.45) / unit).astype(np.int64)
    scores[0, 0] = 0
    p = integer.exp_parameters(unit)
    e = np.exp(scores * unit)
    error = np.abs(integer.softmax_rows(scores, p.m, p.b, p.shift) - e / e.sum() * 128).max()
    assert error <= 1 + 128 * (0.0075 + 1.5 * n / 32767)


def naive_norm_row(t: list[int], gamma: integer.Affine, *, centred: bool) -> list[int]:
    n, total, squares = len(t), sum(t), sum(v * v for v in t)
    offset = total if centred else 0
    mantissa, k = naive_rsqrt(n * squares - (total * total if centred else 0))
    normal = [clamp((n * v - offset) * mantissa + half(k) >> k, 16) for v in t]
    columns = zip(normal, gamma.m.tolist(), gamma.b.tolist(), strict=True)
    return [clamp(clamp(v * m + b >> gamma.shift, 16), 8) for v, m, b in columns]


@pytest.mark.parametrize("centred", [True, False])
def test_layernorm_rows_to_the_bit(centred: bool) -> None:
    random = rng()
    acc = random.integers(-(2**18), 2**18, (6, 21))
    acc[1] = 77
    acc[2] = [2**31 - 1, -(2**31)] * 10 + [0]
    q = random.integers(-128, 128, (6, 21))
    first = integer.affine_parameters(random.uniform(1e-5, 2e-5, 21), random.normal(size=21), scale_out=1e-3)
    second = integer.norm_parameters(random.normal(size=21), random.normal(size=21), scale_out=0.03)
    out = integer.layernorm_rows(acc, first, second, residual=integer.Residual(q, 321, 2), centred=centred)
    for i, row in enumerate(acc.tolist()):
        y = [
            clamp(p * int(m) + int(b) >> first.shift, 16)
            for p, m, b in zip(row, first.m, first.b, strict=True)
        ]
        t = [clamp(v + (int(e) * 321 + 2 >> 2), 16) for v, e in zip(y, q[i], strict=True)]
        assert out[i].tolist() == naive_norm_row(t, second, centred=centred)


def test_layernorm_ignores_columns_past_length() -> None:
    random = rng()
    acc = random.integers(-(2**18), 2**18, (3, 12))
    first, second = (
        integer.affine_parameters(1e-5, scale_out=1e-3),
        integer.norm_parameters(1.0, 0.5, scale_out=0.03),
    )
    short = integer.layernorm_rows(acc[:, :9], first, second)
    long = integer.layernorm_rows(acc, first, second, length=9)
    assert np.array_equal(long[:, :9], short)
    assert not long[:, 9:].any()


def test_layernorm_of_equal_values_gives_beta() -> None:
    first, second = (
        integer.affine_parameters(1e-5, scale_out=1e-3),
        integer.norm_parameters(1.0, 0.9, scale_out=0.1),
    )
    assert (integer.layernorm_rows(np.full((2, 8), 5000), first, second) == 9).all()


@pytest.mark.parametrize("columns", [2, 16, 384, 1024])
@pytest.mark.parametrize("deviation", [3.0, 300.0, 9000.0])
@pytest.mark.parametrize("centred", [True, False])
def test_layernorm_error_is_within_the_stated_bound(columns: int, deviation: float, centred: bool) -> None:
    random = rng()
    t = integer.sat16(np.rint(random.normal(100, deviation, (32, columns))).astype(np.int64))
    t[:, 0] = t[:, 1] + np.where(t[:, 1] > 0, -3, 3)  # no row of equal values
    gamma, beta, unit = random.uniform(0.5, 1.5, columns), random.normal(size=columns), 0.05
    one = integer.Affine(np.array([1]), np.array([0]), 0)
    out = integer.layernorm_rows(
        t, one, integer.norm_parameters(gamma, beta, scale_out=unit), centred=centred
    )
    centre = t - t.mean(axis=1, keepdims=True) if centred else t
    exact = centre / np.sqrt((centre**2.0).mean(axis=1, keepdims=True))
    bound = 0.51 + 0.0011 * np.abs(gamma * exact) / unit + integer.NORM_UNIT * np.abs(gamma) / unit
    wanted = np.clip((exact * gamma + beta) / unit, -128, 127)
    assert (np.abs(out - wanted) <= bound).all()


def test_quantise_rounds_to_even_and_saturates() -> None:
    assert integer.quantise([0.25, 0.75, -0.25, 100.0, -100.0], 0.5).tolist() == [0, 2, 0, 127, -128]
