"""The integer MatMul-free model: its passes one by one, and its distance from the float model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads import (
    HgrnSizes,
    WorkloadError,
    joined,
    load_language_model,
    own_text,
    quantise_hgrn,
    random_hgrn,
    split,
    ternary_lm_directory,
)
from workloads._hgrn_integer import KEPT_SHIFT, LOGIT_LIMIT, Ranges, forget_offset, hgrn_ranges
from workloads._hgrn_text import bits_per_token
from workloads._integer import (
    absmax_record,
    affine,
    interpolate,
    interpolation_table,
    scale,
    squares_record,
)

SMALL = HgrnSizes(vocab=17, hidden=24, layers=2, inner=40)


@given(st.integers(-LOGIT_LIMIT - 129, LOGIT_LIMIT))
def test_two_bytes_hold_a_logit(value: int) -> None:
    hi, lo = split(np.array([value]))
    assert -128 <= hi[0] <= 127
    assert -128 <= lo[0] <= 127
    assert joined(hi, lo)[0] == value


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=20))
def test_absmax_scales_the_largest_to_127(values: list[int]) -> None:
    row = np.array([values])
    record = absmax_record(row)
    q = scale(row, record.mantissa, record.exponent)[0]
    largest = max(map(abs, values))
    assert record.offset[0, 0] == largest
    assert np.abs(q).max() <= 127
    # 128 a / (a + a / 128 + 1) is 127 from about a = 127 on, less for the few smaller magnitudes.
    if largest >= 127:
        assert np.abs(q).max() >= 126
        for value, got in zip(values, q, strict=True):
            assert abs(got - 127 * value / largest) <= 0.5 + 127 * (2**-9 + 1 / largest)


@given(st.integers(-32768, 32767), st.integers(0, 2**32))
def test_interpolation_is_a_chord_of_the_table(value: int, seed: int) -> None:
    table = np.random.default_rng(seed).integers(-32768, 32768, 256)
    h = math.floor(value / 256)
    a = int(table[h % 256])
    b = a if h == 127 else int(table[(h + 1) % 256])
    wanted = math.floor(a + (b - a) * (value - 256 * h) / 256 + 0.5)
    assert interpolate(np.array([value]), table)[0] == wanted


@pytest.mark.parametrize(
    ("function", "unit", "second"),
    [("sigmoid", 16 / 32768, 0.0963), ("silu", 8 / 32768, 0.5)],  # largest second derivatives
)
def test_interpolated_functions_are_within_a_chords_error(function: str, unit: float, second: float) -> None:
    output = 2.0**-15 if function == "sigmoid" else unit
    table = interpolation_table(function, input_scale=unit, output_scale=output)
    v = np.arange(-32768, 32512)
    x = v * unit
    exact = 1 / (1 + np.exp(-x)) * (x if function == "silu" else 1)
    error = np.abs(interpolate(v, table) * output - exact).max()
    assert error <= second * (256 * unit) ** 2 / 8 + 1.01 * output


def test_a_products_output_is_over_the_norm_of_its_input() -> None:
    """Sums over the record, times m: what sums times scale over the root mean square would be."""
    model = quantise_hgrn(random_hgrn(SMALL, 1), [[1, 2, 3, 4]])
    layer = random_hgrn(SMALL, 1).blocks[0].f
    rng = np.random.default_rng(2)
    q = rng.integers(-127, 128, (50, SMALL.hidden))
    got = model.blocks[0].f(q, squares_record(q, 1), model.shifts.f) * 16 / 32768
    exact = (q @ layer.trits.T) * layer.scale / np.sqrt((q * q).mean(axis=1, keepdims=True))
    # A unit of a scaled sum is 2^-10 of the norm; the record itself is within 2^-10.
    unit = layer.scale * math.sqrt(SMALL.hidden) / 1024
    assert np.abs(got - exact).max() <= 1.1 * unit + np.abs(exact).max() / 900


@pytest.mark.parametrize("lower", [0.0, 0.3, 0.999])
def test_the_forget_gate_is_exact_where_it_is_open(lower: float) -> None:
    """f = lb + (1 - lb) sigmoid: a gate of 1 stays 1 whatever the bound's rounding, or states would decay."""
    kept = np.array([round((1 - lower) * 2**KEPT_SHIFT)])
    opened = np.arange(0, 32768, 7)
    forget = affine(opened[:, None], kept, forget_offset(kept), KEPT_SHIFT)[:, 0]
    exact = 32768 - kept[0] / 2**KEPT_SHIFT * (32768 - opened)
    assert np.abs(forget - np.minimum(exact, 32767)).max() <= 0.5
    assert affine([32767], kept, forget_offset(kept), KEPT_SHIFT)[0] == 32767


def test_integers_follow_the_float_model() -> None:
    """On a random model, whose errors nothing trained away: logits within a few percent of their spread."""
    sizes = HgrnSizes(vocab=60, hidden=96, layers=3, inner=256)
    floats = random_hgrn(sizes, 4)
    rng = np.random.default_rng(4)
    model = quantise_hgrn(floats, rng.integers(0, 60, (4, 32)))
    states, state = floats.start(6), model.start(6)
    errors, spread = [], []
    for column in rng.integers(0, 60, (40, 6)):
        states, wanted = floats.step(states, column)
        state, got = model.step(state, column)
        errors.append(got * model.logit_unit - wanted)
        spread.append(wanted)
    # An int8 input is off by 127^-1 / sqrt(12) of its largest; some 3 layers of 7 products add up.
    assert np.std(errors) <= 0.1 * np.std(spread)
    assert np.corrcoef(np.ravel(errors) + np.ravel(spread), np.ravel(spread))[0, 1] >= 0.995


def test_the_small_model_loses_a_hundredth_of_a_bit_at_most() -> None:
    """Bits a character on text of its own that it was not calibrated on, in integers and in floats."""
    floats = load_language_model(ternary_lm_directory()).model
    model = quantise_hgrn(floats, own_text(floats, sequences=8, length=64))
    text = own_text(floats, seed=11, sequences=8, length=64)
    assert bits_per_token(model, text) <= bits_per_token(floats, text) + 0.01


def test_sequences_of_a_batch_do_not_meet() -> None:
    model = quantise_hgrn(random_hgrn(SMALL, 7), [[1, 2, 3]])
    alone = [model.step(model.start(), [token])[1][0] for token in (3, 8)]
    assert (model.step(model.start(2), [3, 8])[1] == np.array(alone)).all()


def test_everything_the_hardware_is_given_fits_its_fields() -> None:
    model = quantise_hgrn(random_hgrn(SMALL, 8), own_text(random_hgrn(SMALL, 8), sequences=4, length=9))
    for block in model.blocks:
        for name in ("mixer_gain", "kept", "output_gain", "feed_gain"):
            assert np.abs(getattr(block, name)).max() <= 32767
        assert np.abs(block.kept_offset).max() < 1 << 44
    assert np.abs(model.embeddings).max() <= 32639
    assert all(0 <= getattr(model.shifts, name) < 64 for name in type(model.shifts).__slots__)


def test_ranges_are_the_largest_magnitudes() -> None:
    model = random_hgrn(SMALL, 9)
    together = hgrn_ranges(model, [[1, 2], [3, 4]])
    apart = [hgrn_ranges(model, [row]) for row in ([1, 2], [3, 4])]
    for name in Ranges.__slots__:
        wanted = np.max([getattr(each, name) for each in apart], axis=0)
        np.testing.assert_allclose(getattr(together, name), wanted, rtol=1e-12)


def test_tokens_that_do_not_exist_are_refused() -> None:
    with pytest.raises(WorkloadError, match=r"^calibration tokens must be 0 to 16, at least one$"):
        quantise_hgrn(random_hgrn(SMALL, 1), [[17]])
