"""STORE: writes segments of the scratchpad to memory over AXI4."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from archsim._isa import SEMAPHORES, Engine
from archsim._timing import SCRATCHPAD_READ
from rtl._axi import BURST_INCREMENT, axi4_write
from rtl._bursts import LENGTH_BITS, Bursts
from rtl._command import command_layout
from rtl._pipe import delayed
from rtl._queue import Queue
from rtl._semaphores import GROUP, Retirement

STORE_EVENTS = data.StructLayout({"store_beats": 1, "store_bursts": 1})
"""What STORE adds to its counters in a cycle."""

_READ_AHEAD = SCRATCHPAD_READ + 3
"""Beats between scratchpad and bus: a read's place is free after as many cycles."""


def row_read_port(arch: Architecture) -> wiring.Signature:
    """Read of a physical row: ``addr`` counts rows over all banks; ``data`` come SCRATCHPAD_READ later."""
    return wiring.Signature({"en": Out(1), "addr": Out(32), "data": In(8 * arch.bank_row_bytes)})


class Store(wiring.Component):
    """The STORE engine; ``docs/machine.md`` has its cycles.

    ``head.ready`` does not depend on ``head.valid``. The pop is cycle s; the address handshake is at
    s + 1 at the earliest, and its first beat STORE_LEAD cycles later: read the row, hold it, choose the
    beat, send.
    The next burst's address follows the last beat.

    Members: ``head``, commands; ``axi``, the write channels; ``read``, the scratchpad's port;
    ``retiring``, what transfers signal; ``gives``, what a pop signals at once; ``resting``, no transfer
    is in flight; ``error``, high when a response is an error; ``events``.
    """

    def __init__(self, arch: Architecture) -> None:
        self._arch = arch
        super().__init__(
            {
                "head": In(stream.Signature(command_layout(Engine.STORE))),
                "axi": Out(axi4_write(arch.bus.bytes)),
                "read": Out(row_read_port(arch)),
                "retiring": Out(GROUP),
                "gives": Out(SEMAPHORES),
                "resting": Out(1),
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
        starting = popping & ~command.is_sync
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
            retirement.sync.eq(popping & command.is_sync),
            retirement.signals.eq(command.signals),
            retirement.complete.eq(complete),
            self.retiring.eq(retirement.retiring),
            self.gives.eq(Mux(command.is_sync & retirement.at_once, command.signals, 0)),
            self.resting.eq(retirement.resting),
        ]
        return m

    def _addresses(self, m: Module, bursts: Bursts, *, responses: Queue, sending: Signal) -> None:
        """One address at a time; a burst holds its place among the responses until its own."""
        axi, burst = self.axi, bursts.burst
        handshake = axi.awvalid & axi.awready
        goes_on = handshake | (sending & ~(axi.wvalid & axi.wready & axi.wlast))
        # High while there is a burst, none is on its way, and its response has a place: a register, since
        # much moves with the handshake.
        m.d.sync += axi.awvalid.eq(bursts.goes_on & ~goes_on & responses.has_place)
        m.d.sync += sending.eq(goes_on)
        m.d.comb += [
            axi.awaddr.eq(burst.address),
            axi.awlen.eq(burst.length),
            axi.awsize.eq(exact_log2(self._arch.bus.bytes)),
            axi.awburst.eq(BURST_INCREMENT),
            bursts.advance.eq(handshake),
            responses.push.valid.eq(handshake),
            responses.push.payload.eq(burst.last),
            self.events.store_bursts.eq(handshake),
        ]

    def _beats(self, m: Module, bursts: Bursts, *, sending: Signal) -> None:
        """Rows are read as long as the beats have places to go to."""
        axi = self.axi
        beat = data.StructLayout({"data": 8 * self._arch.bus.bytes, "last": 1})
        m.submodules.beats = beats = Queue(beat, depth=_READ_AHEAD)
        # What is left to read, less one, and whether that is nothing more.
        reading, left, final, local = Signal(), Signal(LENGTH_BITS), Signal(), Signal(32)
        ahead, has_room = Signal(range(_READ_AHEAD + 1)), Signal(init=1)
        sent = axi.wvalid & axi.wready
        lane_bits = exact_log2(self._arch.bank_row_bytes // self._arch.bus.bytes)

        # Read. The first row is asked for with its address, so that each row has a register.
        burst, begins = bursts.burst, bursts.burst.begins & ~sending
        asks = reading & has_room
        now = Mux(begins, burst.local, local)
        reads = bursts.advance | asks
        more = ahead + reads - sent
        m.d.comb += [self.read.en.eq(reads), self.read.addr.eq(now >> lane_bits)]
        m.d.sync += [ahead.eq(more), has_room.eq(more != _READ_AHEAD)]
        with m.If(bursts.advance):
            m.d.sync += [
                reading.eq(burst.length != 0),
                left.eq(burst.length - 1),
                final.eq(burst.length == 1),
            ]
        with m.Elif(asks):
            m.d.sync += [reading.eq(~final), left.eq(left - 1), final.eq(left == 1)]
        with m.If(reads):
            m.d.sync += local.eq(now + 1)

        # Hold the row, then choose the beat: a row holds one, or a power of two of them.
        row = Signal.like(self.read.data, reset_less=True)
        last = Mux(bursts.advance, burst.length == 0, final)
        arriving = delayed(m, Cat(reads, last, now[:lane_bits]), SCRATCHPAD_READ + 1)
        m.d.sync += row.eq(self.read.data)
        chosen = row.word_select(arriving[2:], 8 * self._arch.bus.bytes) if lane_bits else row
        m.d.comb += [
            beats.push.valid.eq(arriving[0]),
            beats.push.payload.last.eq(arriving[1]),
            beats.push.payload.data.eq(chosen),
        ]

        # Send.
        m.d.comb += [
            axi.wvalid.eq(beats.head.valid),
            beats.head.ready.eq(axi.wready),
            axi.wdata.eq(beats.head.payload.data),
            axi.wlast.eq(beats.head.payload.last),
            axi.wstrb.eq((1 << self._arch.bus.bytes) - 1),
            self.events.store_beats.eq(sent),
        ]
