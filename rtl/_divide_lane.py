"""One lane of the attention machine's divider: a numerator over its denominator, requantised to int8."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl._attend_lane import DENOMINATOR_BITS, VALUE_BITS
from rtl._pipe import delayed_word, saturated

QUOTIENT_BITS = 16
FRACTION_BITS = 8
"""Fraction bits of the quotient."""
MULTIPLIER_BITS = 16

# Stages, in cycles after a slot's issue. A value named after a stage is valid in that cycle.
READ = 1
RANGE = 3
QUOTIENT = RANGE + QUOTIENT_BITS
PRODUCT = QUOTIENT + 2
RESULT = PRODUCT + 2

SETUP = data.StructLayout(
    {"multiplier": signed(MULTIPLIER_BITS), "half": 31, "shift": 5, "keep": 1},
)
"""What holds for a whole DIVIDE: ``half`` is 2^(shift-1), 0 for no shift; the result is 0 unless ``keep``."""


class DivideLane(wiring.Component):
    """A fully pipelined restoring divider; a slot enters and leaves every cycle.

    Members, with the stage (cycles after the slot's issue) at which each is valid
    -------
    setup:
        The instruction, constant from its first slot's stage READ on.
    value, divisor, valid:
        READ: the numerator, the denominator, and whether there is a slot. The last denominator is held:
        it is the same for all slots of an instruction.
    result:
        RESULT: the int8 of ``docs/attention-machine.md``.
    """

    def __init__(self) -> None:
        members = {"setup": In(SETUP), "value": In(signed(VALUE_BITS)), "divisor": In(DENOMINATOR_BITS)}
        super().__init__({**members, "valid": In(1), "result": Out(signed(8))})

    def elaborate(self, platform: object) -> Any:
        """Magnitude and range; a quotient bit a stage; sign, product, rounding and shift."""
        m = Module()
        divisor = Signal(DENOMINATOR_BITS, reset_less=True, name="held")
        with m.If(self.valid):
            m.d.sync += divisor.eq(self.divisor)
        negative = _stage(m, self.value < 0)
        magnitude = _stage(m, Mux(self.value < 0, -self.value, self.value)[:VALUE_BITS])
        exceeds = _stage(m, magnitude >= divisor << (QUOTIENT_BITS - FRACTION_BITS))
        quotient = self._quotient(m, magnitude, divisor)
        flags = delayed_word(m, Cat(exceeds, delayed_word(m, negative, 1)), QUOTIENT_BITS)
        bounded = Mux(flags[0], (1 << QUOTIENT_BITS) - 1, quotient)
        signed_quotient = _stage(m, Mux(flags[1], -bounded, bounded))
        product = _stage(m, signed_quotient * self.setup.multiplier)
        rounded = _stage(m, product + self.setup.half)
        shifted = saturated(rounded >> self.setup.shift, 8)
        m.d.comb += self.result.eq(_stage(m, Mux(self.setup.keep, shifted, 0)))
        return m

    def _quotient(self, m: Any, magnitude: Any, divisor: Any) -> Any:
        """Sixteen bits, the highest first, where the quotient does not exceed them.

        The numerator's low bits leave a register at its top as the quotient's enter it below.
        """
        low = QUOTIENT_BITS - FRACTION_BITS
        rest = _stage(m, magnitude[low:])
        bits = _stage(m, magnitude[:low] << (QUOTIENT_BITS - low))
        for _ in range(QUOTIENT_BITS):
            grown = Cat(bits[QUOTIENT_BITS - 1], rest[:DENOMINATOR_BITS])
            fits = grown >= divisor
            rest = _stage(m, Mux(fits, grown - divisor, grown)[:DENOMINATOR_BITS])
            bits = _stage(m, Cat(fits, bits[: QUOTIENT_BITS - 1]))
        return bits


def _stage(m: Any, value: Any) -> Any:
    """``value`` one cycle later."""
    register = Signal(value.shape(), reset_less=True)
    m.d.sync += register.eq(value)
    return register
