"""The ECP5's phase-locked loop: which divisors give a clock.

Source: Lattice FPGA-TN-02200, "ECP5 and ECP5-5G sysCLOCK PLL/DLL Design and Usage Guide", and the limits of
FPGA-DS-02012, table 3.22: phase detector 10 to 400 MHz, oscillator 400 to 800 MHz.
"""

from __future__ import annotations

from dataclasses import dataclass

from rtl._errors import RtlError

_DETECTOR_MHZ = (10.0, 400.0)
_OSCILLATOR_MHZ = (400.0, 800.0)
_DIVISORS = range(1, 129)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pll:
    """Divisors of a loop whose feedback is its own output."""

    input_mhz: float
    input_div: int
    feedback_div: int
    output_div: int

    @property
    def output_mhz(self) -> float:
        """The clock that comes out."""
        return self.input_mhz / self.input_div * self.feedback_div


def pll_for(input_mhz: float, wanted_mhz: float) -> Pll:
    """The loop whose clock is nearest to ``wanted_mhz`` and not above it.

    Raises: RtlError where no divisors come within a tenth of it.
    """
    found: Pll | None = None
    for input_div in _DIVISORS:
        detector = input_mhz / input_div
        if not _DETECTOR_MHZ[0] <= detector <= _DETECTOR_MHZ[1]:
            continue
        feedback_div = int(wanted_mhz / detector + 1e-9)
        output_div = _output_div(detector * feedback_div)
        if feedback_div not in _DIVISORS or output_div is None:
            continue
        each = Pll(input_mhz=input_mhz, input_div=input_div, feedback_div=feedback_div, output_div=output_div)
        if found is None or each.output_mhz > found.output_mhz:
            found = each
    if found is None or found.output_mhz < 0.9 * wanted_mhz:
        raise RtlError(f"clock_mhz must be one that a PLL makes of {input_mhz:g} MHz, not {wanted_mhz:g}")
    return found


def _output_div(output_mhz: float) -> int | None:
    """The divisor that puts the oscillator nearest to the middle of its range."""
    if output_mhz <= 0:
        return None
    low, high = _OSCILLATOR_MHZ
    fits = [each for each in _DIVISORS if low <= output_mhz * each <= high]
    return min(fits, key=lambda each: abs(output_mhz * each - (low + high) / 2), default=None)
