"""Walks the segments of a transfer and splits them into AXI bursts; LOAD and STORE share it."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from archsim._isa import Engine, Space
from rtl._axi import ADDRESS_BITS, BOUNDARY_BYTES
from rtl._command import command_layout

LENGTH_BITS = 8
"""Bits of a burst's length as AXI4 counts it: one less than its beats."""
_SEGMENT_BITS = 16
_PAGE_BITS = exact_log2(BOUNDARY_BYTES)

BURST = data.StructLayout(
    {"address": ADDRESS_BITS, "length": LENGTH_BITS, "local": 32, "begins": 1, "last": 1}
)
"""A burst: first byte, beats less one, and whether it is its segment's first, its instruction's last.

``local`` is where its segment begins, in beats; in the weight memory, in words."""


def local_beats(words: Value, arch: Architecture) -> Value:
    """A local address or stride, given in words of L bytes, in beats of B bytes, modulo its size."""
    shift = exact_log2(arch.word_bytes) - exact_log2(arch.bus.bytes)
    return (words << shift)[:32] if shift >= 0 else words >> -shift


class Bursts(wiring.Component):
    """The bursts of one transfer, one after another.

    A burst ends with its segment, after ``bus.max_burst_beats``, or at a 4 KiB boundary, whichever is
    first. ``start`` in cycle s with a transfer on ``command`` makes its first burst visible at s + 1;
    ``advance`` makes the next one visible in the next cycle. ``start`` is low while ``active``.

    Members: ``active``, ``burst`` is one to do; ``goes_on``, what ``active`` is in the next cycle; ``burst``,
    a BURST.
    Operands: op0 is the DRAM byte address, op1 the local address in words. Operand order: DRAM, local.
    """

    def __init__(self, engine: Engine, arch: Architecture) -> None:
        assert engine in (Engine.LOAD, Engine.STORE)
        self._arch = arch
        self._shape = command_layout(engine)
        self._has_weights = engine is Engine.LOAD and arch.array.kind == "ternary"
        self._beat_bits = exact_log2(arch.bus.bytes)
        super().__init__(
            {
                "start": In(1),
                "command": In(self._shape),
                "advance": In(1),
                "active": Out(1),
                "goes_on": Out(1),
                "burst": Out(BURST),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ends, moves_on = Signal(), Signal()
        # Without a transfer the registers follow what is offered, so that ``start`` alone comes late. They
        # have a mark of their own for that, which many hang on.
        rests = Signal(init=1)
        ended = self.advance & self.burst.last
        m.d.sync += [
            self.active.eq(self.goes_on),
            rests.eq(Mux(rests, ~self.start, ended)),
        ]
        m.d.comb += self.goes_on.eq(Mux(self.active, ~ended, self.start))
        m.d.comb += moves_on.eq(rests | (self.advance & ends))

        beats = Signal(_SEGMENT_BITS)
        following = Signal(ADDRESS_BITS)
        self._segments(m, rests=rests, ends=ends, moves_on=moves_on, following=following)
        with m.If(rests):
            m.d.sync += beats.eq(self.command.beats)
        self._walk(m, rests=rests, ends=ends, following=following, beats=beats)
        return m

    def _segments(
        self, m: Module, *, rests: Signal, ends: Signal, moves_on: Signal, following: Signal
    ) -> None:
        """Where segments begin, one of them ahead, and how many are left."""
        command, burst = self.command, self.burst
        strides = [Signal(32, name=f"{side}_stride") for side in ("dram", "local")]
        left, final = Signal(_SEGMENT_BITS), Signal()
        next_local, is_weights = Signal(32), Signal()
        offers_weights = command.space == Space.WEIGHTS
        offered = [command.dram_stride, command.local_stride]
        with m.If(rests):
            m.d.sync += [stride.eq(value) for stride, value in zip(strides, offered, strict=True)]
            m.d.sync += [left.eq(command.segments), final.eq(command.segments == 1), burst.begins.eq(1)]
            m.d.sync += is_weights.eq(offers_weights)
            m.d.sync += burst.local.eq(self._local(command.op1, offers_weights))
        with m.Elif(self.advance):
            m.d.sync += burst.begins.eq(ends)
            with m.If(ends):
                m.d.sync += [left.eq(left - 1), final.eq(left == 2)]
                m.d.sync += burst.local.eq(self._local(next_local, is_weights))
        with m.If(moves_on):
            for ahead, first, stride, value in zip(
                (following, next_local), (command.op0, command.op1), strides, offered, strict=True
            ):
                m.d.sync += ahead.eq(Mux(rests, first, ahead) + Mux(rests, value, stride))
        m.d.comb += burst.last.eq(ends & final)

    def _walk(self, m: Module, *, rests: Signal, ends: Signal, following: Signal, beats: Signal) -> None:
        """The burst at hand.

        ``left`` beats, and one, are left in its segment where that ends in its page, of 4 KiB; where it
        does not, ``over``, and one, lie in later pages. Both decisions on the length are registers.
        """
        command, burst, longest = self.command, self.burst, self._arch.bus.max_burst_beats
        page = 1 << _PAGE_BITS - self._beat_bits
        address, left, over = burst.address, Signal(range(page)), Signal(_SEGMENT_BITS + 1)
        more, crosses = Signal(), Signal()
        """The burst ends neither its page nor its segment; its segment ends in a later page."""
        m.d.comb += [
            crosses.eq(~over[-1]),
            ends.eq(~more & ~crosses),
            burst.length.eq(Mux(more, longest - 1, Mux(crosses, self._to_page(address), left))),
        ]
        is_long = Signal()
        with m.If(rests):
            m.d.sync += is_long.eq(command.beats >= longest)
            m.d.sync += self._begin(command.op0, command.beats, (address, left, over))
            m.d.sync += more.eq((command.beats >= longest) & (self._to_page(command.op0) >= longest))
        with m.Elif(self.advance & more):
            m.d.sync += [address[:_PAGE_BITS].eq(address[:_PAGE_BITS] + (longest << self._beat_bits))]
            m.d.sync += [left.eq(left - longest)]
            m.d.sync += more.eq(Mux(crosses, self._to_page(address), left) >= 2 * longest)
        with m.Elif(self.advance & crosses):
            places = exact_log2(page)
            m.d.sync += address[self._beat_bits :].eq((address[_PAGE_BITS:] + 1) << places)
            m.d.sync += [left.eq(over), over[places:].eq(over[places:] - 1)]
            m.d.sync += more.eq((over >= longest) & (page > longest))
        with m.Elif(self.advance):
            m.d.sync += self._begin(following, beats, (address, left, over))
            m.d.sync += more.eq(is_long & (self._to_page(following) >= longest))

    def _begin(self, start: Value, beats: Value, target: tuple[Signal, Signal, Signal]) -> list[Any]:
        """A segment's first burst: what ``over`` counts is negative where no page is crossed."""
        address, left, over = target
        offset = start[self._beat_bits : _PAGE_BITS]
        page_back = Const(-1, len(over) - len(offset))
        return [address.eq(start), left.eq(beats), over.eq(beats + Cat(offset, page_back))]

    def _to_page(self, address: Value) -> Value:
        """Beats less one up to the end of the page."""
        return ~address[self._beat_bits : _PAGE_BITS]

    def _local(self, words: Value, is_weights: Value) -> Value:
        """A segment's local address as bursts count it."""
        beats = local_beats(words, self._arch)
        return Mux(is_weights, words, beats) if self._has_weights else beats
