"""The steps of an attention period, and the fixed-point exponential that elements and lanes share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from amaranth.hdl import Mux, Value

from workloads._exp2 import EXP2_COEFFICIENTS, FRACTION_BITS, LOWEST

SCORE_BITS = 24
"""Bits of a score, of a maximum, and of their differences."""
POWER_BITS = 17
"""Bits of a partial power; a finished one is at most 2^15."""
SCALE_BITS = 16
SHIFT_BITS = 6
POWER_FRACTION = 15
"""Fraction bits of a power."""
FACTOR_BITS = (25, 18)
"""The two ports of an element's multiplier."""


class Step(IntEnum):
    """What elements and lanes do in a slot; from DIFFER to TOTAL, slots 2d to 2d + 9 in order."""

    NONE = 0
    SCORE_FIRST = 1
    SCORE = 2
    VALUE = 3
    DIFFER = 4
    SCALE = 5
    HORNER4 = 6
    HORNER3 = 7
    HORNER2 = 8
    HORNER1 = 9
    FINISH = 10
    ADD_UP = 11
    MAXIMUM = 12
    TOTAL = 13
    RESCALE = 14


STEP_BITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """One unit's exponential, SCALE to FINISH, around a multiplier that it shares.

    ``score`` holds the difference x, from SCALE on the exponent y; ``power`` holds p, and in the end the
    result; ``product`` is that of ``factors`` in their steps; ``scale_word`` is the multiplier of SCALE in
    its low bits, and above them the shift. Source: FuseMax (MICRO 2024), where exp is a chain of MACs.
    """

    step: Value
    score: Any
    power: Any
    product: Any
    scale_word: Any

    def factors(self) -> tuple[Value, Value]:
        """The difference by the scale, then the fraction by p."""
        scaling = self.step == Step.SCALE
        fraction, scale = self.score[:FRACTION_BITS], self.scale_word[:SCALE_BITS]
        return Mux(scaling, self.score, fraction), Mux(scaling, scale, self.power)

    def update(self, m: Any, *, keep: Value) -> None:
        """Statements of the steps SCALE to FINISH; the result is 0 unless ``keep`` is high in FINISH."""
        half = 1 << FRACTION_BITS - 1
        turned = (self.product[: POWER_BITS + FRACTION_BITS] + half) >> FRACTION_BITS
        first, *middle, last = EXP2_COEFFICIENTS
        with m.If(self.step == Step.SCALE):
            m.d.sync += [self.score.eq(self._exponent()), self.power.eq(first)]
        for step, coefficient in zip(_HORNER, middle, strict=True):
            with m.Elif(self.step == step):
                m.d.sync += self.power.eq(turned + coefficient)
        with m.Elif(self.step == Step.FINISH):
            places = (-(self.score >> FRACTION_BITS))[:_PLACES_BITS]
            m.d.sync += self.power.eq(Mux(keep, (turned + last)[:POWER_BITS] >> places, 0))

    def _exponent(self) -> Value:
        """y, from above the least exponent."""
        amount = self.scale_word[SCALE_BITS : SCALE_BITS + SHIFT_BITS]
        shifted = self.product >> amount
        return Mux(shifted < LOWEST, LOWEST, shifted[:SCORE_BITS].as_signed())


_HORNER = (Step.HORNER4, Step.HORNER3, Step.HORNER2, Step.HORNER1)
_PLACES_BITS = (-LOWEST >> FRACTION_BITS).bit_length()
