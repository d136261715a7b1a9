"""The attention array's lane: under each column, the running maximum, denominator and numerators."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl._attend_pe import DOWN_BITS
from rtl._exponential import POWER_BITS, POWER_FRACTION, SCORE_BITS, STEP_BITS, Exponential, Step
from rtl._pipe import delayed_word

VALUE_BITS = 40
"""Bits of a running numerator: 65,535 keys of weight 2^15 times an int8."""
DENOMINATOR_BITS = 32
ADDRESS_BITS = 16
LANE_LEAD = 2
"""Cycles from a control word's arrival at a lane to the cycle in which the lane does it."""
LANE_WRITE = 1
"""Cycles from there to a memory's write."""

CONTROL = data.StructLayout({"step": unsigned(STEP_BITS), "flag": 1, "address": ADDRESS_BITS})
"""What a lane does: ``flag`` is, in FINISH, that the tile is not its block's first; in MAXIMUM, that it is;
in TOTAL, that it is the last, whose denominator goes to record ``address``. In RESCALE and VALUE
``address`` is a value memory word."""


class AttendLane(wiring.Component):
    """One query's share of what the array carries from tile to tile.

    A control word is done ``LANE_LEAD`` cycles after it came, on what then comes on ``down``; it leaves for
    the next lane one cycle after it came.

    Members
    -------
    control, control_out:
        The wave of steps.
    down:
        The column's bus.
    maximum:
        The running maximum, one cycle after MAXIMUM.
    value_en, value_addr, value, record_en, record_addr, record:
        Ports of the divider, of the value memory and of the denominator records.
    """

    def __init__(self, *, words: int, records: int) -> None:
        self._words, self._records = words, records
        wave = {"control": In(CONTROL), "control_out": Out(CONTROL), "down": In(signed(DOWN_BITS))}
        addresses = dict.fromkeys(("value_addr", "record_addr"), In(ADDRESS_BITS))
        reads = {"value_en": In(1), "record_en": In(1), **addresses}
        words_read = {"value": Out(signed(VALUE_BITS)), "record": Out(DENOMINATOR_BITS)}
        super().__init__({**wave, "maximum": Out(signed(SCORE_BITS)), **reads, **words_read})

    def elaborate(self, platform: object) -> Any:
        """The control's registers, the memories, and around one multiplier what each step does."""
        m = Module()
        following, control = (Signal(CONTROL, reset_less=True, name=f"control{i}") for i in (1, 2))
        m.d.sync += [following.eq(self.control), control.eq(following)]
        m.d.comb += self.control_out.eq(following)
        merged = Signal(signed(VALUE_BITS), reset_less=True)
        denominator = Signal(DENOMINATOR_BITS, reset_less=True)
        stored = self._values(m, control, merged)
        self._denominators(m, control, denominator)

        score, maximum = (
            Signal(signed(SCORE_BITS), reset_less=True, name=name) for name in ("score", "running")
        )
        power = Signal(POWER_BITS, reset_less=True)
        product = Signal(signed(VALUE_BITS + 1 + POWER_BITS))
        exponential = Exponential(
            step=control.step, score=score, power=power, product=product, scale_word=self.down
        )
        exponential.update(m, keep=control.flag)
        m.d.comb += [product.eq(self._product(m, control.step, exponential, stored, denominator))]
        self._carry(m, control, product, merged, denominator)
        self._maximum(m, control, score, maximum)
        return m

    def _values(self, m: Any, control: Any, merged: Any) -> Any:
        """The value memory; its word of the slot that is done now."""
        shape = signed(VALUE_BITS)
        m.submodules.values = values = Memory(shape=shape, depth=self._words, init=[])
        merge, divide, write = values.read_port(), values.read_port(), values.write_port()
        m.d.comb += [
            merge.en.eq(self.control.step == Step.RESCALE),
            merge.addr.eq(self.control.address),
            divide.en.eq(self.value_en),
            divide.addr.eq(self.value_addr),
            self.value.eq(divide.data),
            write.data.eq(merged),
        ]
        m.d.sync += [write.en.eq(control.step == Step.VALUE), write.addr.eq(control.address)]
        return delayed_word(m, merge.data, 1)

    def _denominators(self, m: Any, control: Any, denominator: Any) -> None:
        m.submodules.records = records = Memory(shape=DENOMINATOR_BITS, depth=self._records, init=[])
        read, write = records.read_port(), records.write_port()
        m.d.comb += [
            read.en.eq(self.record_en),
            read.addr.eq(self.record_addr),
            self.record.eq(read.data),
            write.data.eq(denominator),
        ]
        m.d.sync += [
            write.en.eq((control.step == Step.TOTAL) & control.flag),
            write.addr.eq(control.address),
        ]

    def _product(self, m: Any, step: Any, exponential: Exponential, stored: Any, denominator: Any) -> Any:
        """The product of this slot: the exponential's, or an earlier tile's sum times the power."""
        wide, narrow = exponential.factors()
        factor, power = Signal(signed(VALUE_BITS)), Signal(signed(POWER_BITS + 1))
        earlier = Mux(step == Step.RESCALE, stored, denominator)
        is_earlier = (step == Step.RESCALE) | (step == Step.ADD_UP)
        m.d.comb += [factor.eq(Mux(is_earlier, earlier, wide)), power.eq(narrow)]
        return factor * power

    def _carry(self, m: Any, control: Any, product: Any, merged: Any, denominator: Any) -> None:
        """Numerators and denominator: rescaled to the new maximum, then the tile's own part added."""
        carried = Signal(signed(VALUE_BITS), reset_less=True)
        own = Signal(DENOMINATOR_BITS, reset_less=True)
        rescaled = (product + (1 << POWER_FRACTION - 1)) >> POWER_FRACTION
        with m.If(control.step == Step.RESCALE):
            m.d.sync += carried.eq(rescaled)
        with m.Elif(control.step == Step.VALUE):
            m.d.sync += merged.eq(self.down + carried)
        with m.Elif(control.step == Step.ADD_UP):
            m.d.sync += [carried.eq(rescaled), own.eq(self.down)]
        with m.Elif(control.step == Step.TOTAL):
            m.d.sync += denominator.eq(own + carried)

    def _maximum(self, m: Any, control: Any, score: Any, maximum: Any) -> None:
        """The running maximum; its last growth is what the next exponential is of."""
        older = Signal(signed(SCORE_BITS), reset_less=True)
        tile = self.down[:SCORE_BITS].as_signed()
        m.d.comb += self.maximum.eq(maximum)
        with m.If(control.step == Step.DIFFER):
            m.d.sync += score.eq(older - maximum)
        with m.Elif(control.step == Step.MAXIMUM):
            m.d.sync += older.eq(maximum)
            with m.If(control.flag | (tile > maximum)):
                m.d.sync += maximum.eq(tile)
