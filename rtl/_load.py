"""LOAD: reads segments of memory over AXI4 into a scratchpad, the parameters or the program memory."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from archsim._isa import SEMAPHORES, Engine
from rtl._axi import BURST_INCREMENT, axi4_read
from rtl._bursts import Bursts
from rtl._command import command_layout
from rtl._queue import Queue
from rtl._semaphores import GROUP, Retirement

LOAD_EVENTS = data.StructLayout({"load_beats": 1, "load_bursts": 1})
"""What LOAD adds to its counters in a cycle."""

_LANDING = data.StructLayout({"local": 32, "begins": 1, "space": 2, "last": 1})
"""Where a burst's beats go: to ``local`` and on if it begins its segment, else on from the beat before.

``last``: whether it is its instruction's last burst."""


def beat_write_port(arch: Architecture) -> wiring.Signature:
    """Write of one beat: ``addr`` counts beats of B bytes, in the memory that ``space`` names.

    Of a machine with a weight memory also ``start``: the beat is its segment's first, and ``addr`` there
    a weight word.
    """
    start = {"start": Out(1)} if arch.array.kind == "ternary" else {}
    beat = {"en": Out(1), "space": Out(2), "addr": Out(32), "data": Out(8 * arch.bus.bytes)}
    return wiring.Signature(beat | start)


class Load(wiring.Component):
    """The LOAD engine; ``docs/machine.md`` has its cycles.

    ``head.ready`` does not depend on ``head.valid``. The pop is cycle s; the first address handshake is
    s + 1 at the earliest, then one a cycle while fewer than ``bus.outstanding`` bursts lack their last
    beat. A beat accepted in cycle b is on ``write`` in b + 1, and the last one retires then.

    Members: ``head``, commands; ``axi``, the read channels; ``write``, the local memories' port;
    ``retiring``, what transfers signal; ``gives``, what a pop signals at once; ``completes``, a transfer
    retires; ``resting``, none is in flight; ``error``, high when a beat's response is an error; ``events``.
    """

    def __init__(self, arch: Architecture) -> None:
        self._arch = arch
        super().__init__(
            {
                "head": In(stream.Signature(command_layout(Engine.LOAD))),
                "axi": Out(axi4_read(arch.bus.bytes)),
                "write": Out(beat_write_port(arch)),
                "retiring": Out(GROUP),
                "gives": Out(SEMAPHORES),
                "resting": Out(1),
                "completes": Out(1),
                "error": Out(1),
                "events": Out(LOAD_EVENTS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch, axi = self._arch, self.axi
        m.submodules.bursts = bursts = Bursts(Engine.LOAD, arch)
        has_weights = arch.array.kind == "ternary"
        m.submodules.landings = landings = Queue(_LANDING, depth=arch.bus.outstanding)
        m.submodules.retirement = retirement = Retirement(depth=arch.bus.outstanding + 2)

        # Pop.
        popping = self.head.valid & self.head.ready
        command = self.head.payload
        starting = popping & ~command.is_sync
        m.d.comb += self.head.ready.eq(~bursts.active)
        m.d.comb += [bursts.start.eq(starting), bursts.command.eq(command)]
        space = Signal(2)
        with m.If(~bursts.active):
            m.d.sync += space.eq(command.space)

        self._addresses(m, bursts, landings, space)

        # Beats.
        landing = landings.head.payload
        beat = axi.rvalid & axi.rready
        first = Signal(init=1)
        anew = landing.begins & first
        m.d.comb += [axi.rready.eq(1), landings.head.ready.eq(beat & axi.rlast)]
        with m.If(beat):
            m.d.sync += [
                first.eq(axi.rlast),
                self.write.addr.eq(Mux(anew, landing.local, self.write.addr + 1)),
            ]
        complete = Signal()
        m.d.sync += [
            self.write.en.eq(beat),
            self.write.space.eq(landing.space),
            self.write.data.eq(axi.rdata),
            complete.eq(beat & axi.rlast & landing.last),
        ]
        if has_weights:
            m.d.sync += self.write.start.eq(anew)
        m.d.comb += [self.error.eq(beat & axi.rresp[1])]
        m.d.comb += [self.events.load_beats.eq(beat), self.events.load_bursts.eq(axi.arvalid & axi.arready)]

        # Retirement.
        m.d.comb += [
            retirement.transfer.eq(starting),
            retirement.sync.eq(popping & command.is_sync),
            retirement.signals.eq(command.signals),
            retirement.complete.eq(complete),
            self.retiring.eq(retirement.retiring),
            self.gives.eq(Mux(command.is_sync & retirement.at_once, command.signals, 0)),
            self.resting.eq(retirement.resting),
            self.completes.eq(complete),
        ]
        return m

    def _addresses(self, m: Module, bursts: Bursts, landings: Queue, space: Signal) -> None:
        """Address handshakes. A burst holds its place in the queue of landings until its last beat."""
        axi, burst, landing = self.axi, bursts.burst, landings.push.payload
        asking = axi.arvalid & axi.arready
        # High while there is a burst and a place for it: a register, since much moves with the handshake.
        m.d.sync += axi.arvalid.eq(bursts.goes_on & landings.has_place)
        m.d.comb += [
            axi.araddr.eq(burst.address),
            axi.arlen.eq(burst.length),
            axi.arsize.eq(exact_log2(self._arch.bus.bytes)),
            axi.arburst.eq(BURST_INCREMENT),
            bursts.advance.eq(asking),
            landings.push.valid.eq(asking),
            landing.local.eq(burst.local),
            landing.begins.eq(burst.begins),
            landing.space.eq(space),
            landing.last.eq(burst.last),
        ]
