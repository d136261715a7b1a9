"""The exponential's polynomial against powers of two, and against scalar integers."""

from __future__ import annotations

import numpy as np

from workloads._exp2 import EXP2_COEFFICIENTS, EXP2_ERROR, LOWEST, ONE, exp2_fixed

FRACTIONS = np.arange(1 << 14)


def test_the_stated_error_is_reached_and_not_exceeded() -> None:
    # Exponents of one octave, in which nothing is shifted out.
    found = exp2_fixed(FRACTIONS - (1 << 14)) * 2 + 0
    whole = ONE * 2.0 ** (FRACTIONS / (1 << 14))
    unshifted = np.array([scalar_power(int(g)) for g in FRACTIONS])
    error = np.abs(unshifted / whole - 1)
    assert 0.9 * EXP2_ERROR < error.max() <= EXP2_ERROR
    assert np.abs(found - unshifted).max() == 1  # the bit that the octave's shift drops


def test_it_never_falls() -> None:
    every = exp2_fixed(np.arange(LOWEST - 10, 1))
    assert np.diff(every).min() >= 0


def test_whole_octaves_are_exact() -> None:
    octaves = np.arange(17)
    assert exp2_fixed(-octaves << 14).tolist() == [ONE >> n for n in octaves]
    assert EXP2_COEFFICIENTS[-1] == ONE


def test_far_below_it_is_nothing() -> None:
    assert exp2_fixed(np.array([LOWEST, LOWEST - 1, -(1 << 40)])).tolist() == [0, 0, 0]


def test_it_is_the_scalar_steps() -> None:
    for y in (*range(-70, 1), *range(-300_000, 0, 1009)):
        assert exp2_fixed(np.array(y)) == scalar_exp2(y)


def scalar_power(fraction: int) -> int:
    """The five steps on Python's integers."""
    power = 62
    for coefficient in (297, 1824, 7872, 22713, 32768):
        power = (power * fraction + 8192) // 16384 + coefficient
    return power


def scalar_exp2(y: int) -> int:
    octaves, fraction = divmod(max(y, -262_144), 16384)
    return scalar_power(fraction) >> -octaves
