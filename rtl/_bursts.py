"""Walks the segments of a transfer and splits them into AXI bursts; LOAD and STORE share it."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from archsim._isa import Engine, Space
from rtl._axi import ADDRESS_BITS, BOUNDARY_BYTES
from rtl._command import command_layout

BURST_BITS = 9
"""Bits of a burst's length; AXI4 allows 256 beats."""

BURST = data.StructLayout({"address": ADDRESS_BITS, "length": BURST_BITS, "local": 32, "last": 1})
"""A burst: first byte, beats, local address in beats, and whether it is its instruction's last.

To the weight memory the local address is that of the segment's first word, in its first burst."""


def local_beats(words: Value, arch: Architecture) -> Value:
    """A local address or stride, given in words of L bytes, in beats of B bytes, modulo its size."""
    shift = exact_log2(arch.word_bytes) - exact_log2(arch.bus.bytes)
    return (words << shift)[:32] if shift >= 0 else words >> -shift


def is_empty(command: Any) -> Value:
    """Whether a command moves nothing: a SYNC, or a transfer of no beats, which acts as one."""
    return command.is_sync | (command.segments == 0) | (command.beats == 0)


class Bursts(wiring.Component):
    """The bursts of one transfer, one after another.

    A burst ends with its segment, after ``bus.max_burst_beats``, or at a 4 KiB boundary, whichever is
    first. ``start`` in cycle s with a transfer on ``command`` makes its first burst visible at s + 1;
    ``advance`` makes the next one visible in the next cycle.

    Members: ``active``, ``burst`` is one to do; ``burst``, a BURST; of a LOAD on a machine with a
    weight memory also ``begins``, the burst is its segment's first one.
    Operands: op0 is the DRAM byte address, op1 the local address in words. Operand order: DRAM, local.
    """

    def __init__(self, engine: Engine, arch: Architecture) -> None:
        assert engine in (Engine.LOAD, Engine.STORE)
        self._arch = arch
        self._shape = command_layout(engine)
        self._has_weights = engine is Engine.LOAD and arch.array.kind == "ternary"
        super().__init__(
            {
                **({"begins": Out(1)} if self._has_weights else {}),
                "start": In(1),
                "command": In(self._shape),
                "advance": In(1),
                "active": Out(1),
                "burst": Out(BURST),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        transfer = Signal(self._shape)
        address, local = Signal(ADDRESS_BITS), Signal(32)
        beats_left, segments_left = Signal(16), Signal(16)

        # The burst at hand.
        bus, burst = self._arch.bus, self.burst
        beat_bits = exact_log2(bus.bytes)
        to_boundary = BOUNDARY_BYTES // bus.bytes - address[beat_bits : exact_log2(BOUNDARY_BYTES)]
        limit = Signal(BURST_BITS)
        m.d.comb += [
            limit.eq(Mux(to_boundary < bus.max_burst_beats, to_boundary, bus.max_burst_beats)),
            burst.length.eq(Mux(beats_left < limit, beats_left, limit)),
            burst.address.eq(address),
            burst.local.eq(local),
        ]
        segment_ends = beats_left == burst.length
        m.d.comb += burst.last.eq(segment_ends & (segments_left == 1))

        # Its successor: further on in the segment, or at the start of the next one. The operands
        # are the registers that hold the segment's start.
        next_dram = Signal(ADDRESS_BITS)
        next_local = Signal(32)
        m.d.comb += [
            next_dram.eq(transfer.op0 + transfer.dram_stride),
            next_local.eq(transfer.op1 + transfer.local_stride),
        ]
        with m.If(self.advance):
            m.d.sync += [
                address.eq(address + (burst.length << beat_bits)),
                local.eq(local + burst.length),
                beats_left.eq(beats_left - burst.length),
            ]
            with m.If(segment_ends):
                m.d.sync += [transfer.op0.eq(next_dram), transfer.op1.eq(next_local)]
                m.d.sync += [address.eq(next_dram), local.eq(self._local(transfer, next_local))]
                m.d.sync += [beats_left.eq(transfer.beats), segments_left.eq(segments_left - 1)]
            with m.If(burst.last):
                m.d.sync += self.active.eq(0)

        with m.If(self.start):
            command = self.command
            m.d.sync += [transfer.eq(command), self.active.eq(1)]
            m.d.sync += [address.eq(command.op0), local.eq(self._local(command, command.op1))]
            m.d.sync += [beats_left.eq(command.beats), segments_left.eq(command.segments)]
        if self._has_weights:
            with m.If(self.start):
                m.d.sync += self.begins.eq(1)
            with m.Elif(self.advance):
                m.d.sync += self.begins.eq(segment_ends)
        return m

    def _local(self, command: Any, words: Value) -> Value:
        """A segment's local address as bursts count it."""
        beats = local_beats(words, self._arch)
        return Mux(command.space == Space.WEIGHTS, words, beats) if self._has_weights else beats
