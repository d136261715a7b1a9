"""The ECP5's phase-locked loop: which divisors give a clock.

Source: Lattice FPGA-TN-02200, "ECP5 and ECP5-5G sysCLOCK PLL/DLL Design and Usage Guide", and the limits of
FPGA-DS-02012, table 3.22: phase detector 10 to 400 MHz, oscillator 400 to 800 MHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from rtl._errors import RtlError

_DETECTOR_MHZ = (10.0, 400.0)
_OSCILLATOR_MHZ = (400.0, 800.0)
_DIVISORS = range(1, 129)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pll:
    """Divisors of a loop whose feedback is an output of its own, so that it bounds the clock in no way."""

    input_mhz: float
    input_div: int
    feedback_div: int
    """Of the output that is fed back: the oscillator runs at input_mhz / input_div * feedback_div."""
    output_div: int

    @property
    def oscillator_mhz(self) -> float:
        """The frequency that is divided for the outputs."""
        return self.input_mhz / self.input_div * self.feedback_div

    @property
    def output_mhz(self) -> float:
        """The clock that comes out."""
        return self.oscillator_mhz / self.output_div


def pll_for(input_mhz: float, wanted_mhz: float) -> Pll:
    """The loop whose clock is nearest to ``wanted_mhz`` and not above it.

    Raises: RtlError where no divisors come within a tenth of it.
    """
    found = max(_loops(input_mhz, wanted_mhz), key=lambda each: each.output_mhz, default=None)
    if found is None or found.output_mhz < 0.9 * wanted_mhz:
        raise RtlError(f"clock_mhz must be one that a PLL makes of {input_mhz:g} MHz, not {wanted_mhz:g}")
    return found


def _loops(input_mhz: float, wanted_mhz: float) -> Iterator[Pll]:
    """The best output of every oscillator within the limits; the quickest phase detector first."""
    low, high = _OSCILLATOR_MHZ
    for input_div in _DIVISORS:
        detector = input_mhz / input_div
        if not _DETECTOR_MHZ[0] <= detector <= _DETECTOR_MHZ[1]:
            continue
        for feedback_div in _DIVISORS:
            oscillator = detector * feedback_div
            output_div = ceil(oscillator / wanted_mhz - 1e-9)
            if low <= oscillator <= high and output_div in _DIVISORS:
                yield Pll(
                    input_mhz=input_mhz,
                    input_div=input_div,
                    feedback_div=feedback_div,
                    output_div=output_div,
                )
