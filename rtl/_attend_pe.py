"""The attention array's processing element: a multiplier that scores, exponentiates and weighs values."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl._exponential import FACTOR_BITS, POWER_BITS, SCORE_BITS, STEP_BITS, Exponential, Step

DOWN_BITS = 32


class AttendElement(wiring.Component):
    """One key of the tile against one query: its score, its power, and its values' weight.

    ``step`` and ``right`` flow right, ``down`` flows down; each leaves one cycle after it came. The step at
    t works on what came with it: ``right`` is a byte of K or V, or, in FINISH and MAXIMUM, bit 0 says
    whether the row has a key; ``down`` is a byte of Q, the query's maximum, or the scale and its shift,
    which pass, or a column's sum or maximum, which takes up this element's.

    Nothing is reset: what a step uses was made by earlier steps of the same wave.
    """

    def __init__(self) -> None:
        buses = {"step": unsigned(STEP_BITS), "right": signed(8), "down": signed(DOWN_BITS)}
        inputs = {name: In(shape) for name, shape in buses.items()}
        super().__init__({**inputs, **{f"{name}_out": Out(shape) for name, shape in buses.items()}})

    def elaborate(self, platform: object) -> Any:
        """One multiplier and its factors; the exponential; the score; the column's bus."""
        m = Module()
        total = Signal(signed(SCORE_BITS), reset_less=True)
        score = Signal(signed(SCORE_BITS), reset_less=True)
        power = Signal(POWER_BITS, reset_less=True)
        factors = [Signal(signed(bits), name=f"factor{bits}") for bits in FACTOR_BITS]
        product = Signal(signed(sum(FACTOR_BITS)))
        exponential = Exponential(
            step=self.step, score=score, power=power, product=product, scale_word=self.down
        )
        m.d.comb += product.eq(factors[0] * factors[1])
        m.d.comb += [f.eq(v) for f, v in zip(factors, self._factors(exponential), strict=True)]
        exponential.update(m, keep=self.right[0])
        column = self.down[:SCORE_BITS].as_signed()
        with m.If(self.step == Step.SCORE_FIRST):
            m.d.sync += total.eq(product)
        with m.Elif(self.step == Step.SCORE):
            m.d.sync += total.eq(total + product)
        with m.Elif(self.step == Step.DIFFER):
            m.d.sync += score.eq(score - column)
        with m.Elif(self.step == Step.MAXIMUM):
            m.d.sync += score.eq(total)
        self._pass_on(m, total, power, product)
        return m

    def _factors(self, exponential: Exponential) -> tuple[Value, Value]:
        """K * Q and V * P beside the exponential's."""
        scoring = (self.step == Step.SCORE_FIRST) | (self.step == Step.SCORE)
        weighing = self.step == Step.VALUE
        wide, narrow = exponential.factors()
        query = self.down[:8].as_signed()
        return Mux(scoring | weighing, self.right, wide), Mux(scoring, query, narrow)

    def _pass_on(self, m: Any, total: Any, power: Any, product: Any) -> None:
        """The three buses' registers."""
        step, right, down = (
            Signal.like(getattr(self, name), name=f"{name}_register", reset_less=True)
            for name in ("step", "right", "down")
        )
        m.d.comb += [self.step_out.eq(step), self.right_out.eq(right), self.down_out.eq(down)]
        m.d.sync += [step.eq(self.step), right.eq(self.right), down.eq(self.down)]
        with m.If(self.step == Step.VALUE):
            m.d.sync += down.eq(self.down + product)
        with m.Elif(self.step == Step.ADD_UP):
            m.d.sync += down.eq(self.down + power)
        with m.Elif(self.step == Step.MAXIMUM):
            with m.If(self.right[0] & (total > self.down[:SCORE_BITS].as_signed())):
                m.d.sync += down.eq(total)
