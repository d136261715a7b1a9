"""STORE: writes segments of the scratchpad to memory over AXI4."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from archsim._isa import Engine
from rtl._axi import BURST_INCREMENT, axi4_write
from rtl._bursts import BURST_BITS, Bursts, is_empty
from rtl._command import command_layout
from rtl._queue import Queue
from rtl._semaphores import GROUP, Retirement

STORE_EVENTS = data.StructLayout({"store_beats": 1, "store_bursts": 1})
"""What STORE adds to its counters in a cycle."""

_READ_AHEAD = 4
"""Beats between scratchpad and bus: three cycles from a read to its place being free, and one over."""


def row_read_port(arch: Architecture) -> wiring.Signature:
    """Read of a physical row: ``addr`` counts rows over all banks; ``data`` comes one cycle later."""
    return wiring.Signature({"en": Out(1), "addr": Out(32), "data": In(8 * arch.bank_row_bytes)})


class Store(wiring.Component):
    """The STORE engine; ``docs/machine.md`` has its cycles.

    ``head.ready`` does not depend on ``head.valid``. The pop is cycle s; the address handshake is at
    s + 1 at the earliest, and its first beat STORE_LEAD cycles later: read the row, choose the beat, send.
    The next burst's address follows the last beat.

    Members: ``head``, commands; ``axi``, the write channels; ``read``, the scratchpad's port;
    ``retiring``, what retires in this cycle; ``error``, high when a response is an error; ``events``.
    """

    def __init__(self, arch: Architecture) -> None:
        self._arch = arch
        super().__init__(
            {
                "head": In(stream.Signature(command_layout(Engine.STORE))),
                "axi": Out(axi4_write(arch.bus.bytes)),
                "read": Out(row_read_port(arch)),
                "retiring": Out(GROUP),
                "error": Out(1),
                "events": Out(STORE_EVENTS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bursts = bursts = Bursts(Engine.STORE, self._arch)
        m.submodules.responses = responses = Queue(1, depth=self._arch.bus.outstanding)
        m.submodules.retirement = retirement = Retirement(depth=self._arch.bus.outstanding + 2)
        sending = Signal()
        command = self.head.payload
        popping = self.head.valid & self.head.ready

        # Pop.
        starting = popping & ~is_empty(command)
        m.d.comb += self.head.ready.eq(~bursts.active & ~sending)
        m.d.comb += [bursts.start.eq(starting), bursts.command.eq(command)]

        self._addresses(m, bursts, responses=responses, sending=sending)
        self._beats(m, bursts, sending=sending)

        # Responses and retirement.
        axi, complete = self.axi, Signal()
        m.d.comb += [axi.bready.eq(1), responses.head.ready.eq(axi.bvalid)]
        m.d.comb += self.error.eq(axi.bvalid & axi.bresp[1])
        m.d.sync += complete.eq(axi.bvalid & responses.head.payload)
        m.d.comb += [
            retirement.transfer.eq(starting),
            retirement.sync.eq(popping & is_empty(command)),
            retirement.signals.eq(command.signals),
            retirement.complete.eq(complete),
            self.retiring.eq(retirement.retiring),
        ]
        return m

    def _addresses(self, m: Module, bursts: Bursts, *, responses: Queue, sending: Signal) -> None:
        """One address at a time; a burst holds its place among the responses until its own."""
        axi, burst = self.axi, bursts.burst
        handshake = axi.awvalid & axi.awready
        m.d.comb += [
            axi.awvalid.eq(bursts.active & ~sending & responses.push.ready),
            axi.awaddr.eq(burst.address),
            axi.awlen.eq((burst.length - 1)[:8]),
            axi.awsize.eq(exact_log2(self._arch.bus.bytes)),
            axi.awburst.eq(BURST_INCREMENT),
            bursts.advance.eq(handshake),
            responses.push.valid.eq(handshake),
            responses.push.payload.eq(burst.last),
            self.events.store_bursts.eq(handshake),
        ]
        with m.If(handshake):
            m.d.sync += sending.eq(1)
        with m.Elif(axi.wvalid & axi.wready & axi.wlast):
            m.d.sync += sending.eq(0)

    def _beats(self, m: Module, bursts: Bursts, *, sending: Signal) -> None:
        """Rows are read as long as the beats have places to go to."""
        axi = self.axi
        beat = data.StructLayout({"data": 8 * self._arch.bus.bytes, "last": 1})
        m.submodules.beats = beats = Queue(beat, depth=_READ_AHEAD)
        to_read, local = Signal(BURST_BITS), Signal(32)
        ahead = Signal(range(_READ_AHEAD + 1))
        sent = axi.wvalid & axi.wready

        # Read.
        m.d.comb += self.read.en.eq((to_read != 0) & (ahead != _READ_AHEAD))
        m.d.sync += ahead.eq(ahead + self.read.en - sent)
        with m.If(bursts.advance):
            m.d.sync += [to_read.eq(bursts.burst.length), local.eq(bursts.burst.local)]
        with m.Elif(self.read.en):
            m.d.sync += [to_read.eq(to_read - 1), local.eq(local + 1)]

        # Choose the beat: a row holds one, or a power of two of them.
        lane_bits = exact_log2(self._arch.bank_row_bytes // self._arch.bus.bytes)
        m.d.comb += self.read.addr.eq(local >> lane_bits)
        arriving, last = Signal(), Signal()
        m.d.sync += [arriving.eq(self.read.en), last.eq(to_read == 1)]
        chosen: Value = self.read.data
        if lane_bits:
            lane = Signal(lane_bits)
            m.d.sync += lane.eq(local[:lane_bits])
            chosen = self.read.data.word_select(lane, 8 * self._arch.bus.bytes)
        m.d.comb += [beats.push.valid.eq(arriving), beats.push.payload.data.eq(chosen)]
        m.d.comb += beats.push.payload.last.eq(last)

        # Send.
        m.d.comb += [
            axi.wvalid.eq(beats.head.valid),
            beats.head.ready.eq(axi.wready),
            axi.wdata.eq(beats.head.payload.data),
            axi.wlast.eq(beats.head.payload.last),
            axi.wstrb.eq((1 << self._arch.bus.bytes) - 1),
            self.events.store_beats.eq(sent),
        ]
