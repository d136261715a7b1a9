"""The loop's divisors keep the device's limits, and give the nearest clock below the wanted one."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rtl._errors import RtlError
from rtl._pll import pll_for


@pytest.mark.parametrize("wanted", [12.5, 25, 50, 62.5, 80, 100, 120, 125, 133.3, 150])
@pytest.mark.parametrize("oscillator", [25, 48, 100])
def test_the_clock_is_the_best_that_the_limits_allow(oscillator: int, wanted: float) -> None:
    pll = pll_for(oscillator, wanted)
    detector = oscillator / pll.input_div
    assert 10 <= detector <= 400
    assert 400 <= oscillator / pll.input_div * pll.feedback_div <= 800
    assert pll.output_mhz == oscillator / pll.input_div * pll.feedback_div / pll.output_div
    # A second search: every fraction of the oscillator that the divisors make.
    fractions = [
        Fraction(oscillator * feedback, divisor * output)
        for divisor in range(1, 129)
        for feedback in range(1, 129)
        for output in range(1, 129)
        if 10 * divisor <= oscillator <= 400 * divisor
        and 400 * divisor <= oscillator * feedback <= 800 * divisor
        and oscillator * feedback <= wanted * divisor * output
    ]
    assert pll.output_mhz == pytest.approx(float(max(fractions)), abs=1e-9)


def test_the_board_of_the_ternary_machine_gets_its_80_mhz_from_25() -> None:
    assert pll_for(25, 80).output_mhz == 80


def test_a_clock_out_of_reach_is_refused() -> None:
    with pytest.raises(RtlError, match=r"^clock_mhz must be one that a PLL makes of 25 MHz, not 2$"):
        pll_for(25, 2)
