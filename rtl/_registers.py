"""The register map: control, status and counters behind an AXI4-Lite port."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from archsim._counters import COUNTER_ADDRESS, COUNTERS, STALL_BASE, Counter
from archsim._isa import SEMAPHORES
from rtl._axi import axi4_lite
from rtl._counters import Counters

CONTROL, STATUS, IRQ_ENABLE, PROGRAM_ADDRESS, PROGRAM_LENGTH, VERSION = range(0, 0x18, 4)
VERSION_VALUE = 0x00010000
AMOUNT_BITS = 3
"""Bits of what a counter grows by in one cycle."""

STATUS_BITS = ("done", "busy", "read_error", "write_error", "bank_conflict", "illegal_instruction")
"""Names of the bits of STATUS, from bit 0."""

FAULTS = data.StructLayout(dict.fromkeys(STATUS_BITS[2:], 1))
"""What goes wrong in a cycle; STATUS remembers it until the next start."""

EVENTS = data.StructLayout({counter.name.lower(): AMOUNT_BITS for counter in Counter})
"""What each named counter grows by in a cycle."""

REGISTER_MAP: Mapping[str, int] = MappingProxyType(
    {
        "control": CONTROL,
        "status": STATUS,
        "irq_enable": IRQ_ENABLE,
        "program_address": PROGRAM_ADDRESS,
        "program_length": PROGRAM_LENGTH,
        "version": VERSION,
        **{counter.name.lower(): COUNTER_ADDRESS + 8 * counter for counter in Counter},
        **{f"stall_{index}": COUNTER_ADDRESS + 8 * (STALL_BASE + index) for index in range(SEMAPHORES)},
    }
)
"""Byte address of each register by name; a counter's is that of its low word, the high one follows."""


class Registers(wiring.Component):
    """Holds the control registers, the status and the counters.

    A word is written in the cycle after it is taken. A write to CONTROL with bit 0 while not busy makes
    ``start`` and ``busy`` high in the next cycle, which is cycle 0, and clears status and counters; where
    the program does not fit, the run ends with that cycle. ``halt`` ends the run with its cycle. Program
    address and length keep their values while busy. Events reach their counter two cycles later. A read is
    answered after some cycles, a counter's after a visit to it. Addresses without a register read as zero;
    writing there has no effect; every response is OKAY.

    Members: ``bus``, AXI4-Lite; ``start``, ``busy``, ``done``, ``irq``; ``program_address``,
    ``program_length``; ``fits``, whether there is such a program; ``begins``, cycle 0 is the next one, and
    there is; ``halt``, ``faults``, ``events``; ``stalls``, one bit a semaphore.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "bus": In(axi4_lite()),
                "start": Out(1),
                "busy": Out(1),
                "done": Out(1),
                "irq": Out(1),
                "program_address": Out(32),
                "program_length": Out(32),
                "fits": In(1),
                "begins": Out(1),
                "halt": In(1),
                "faults": In(FAULTS),
                "events": In(EVENTS),
                "stalls": In(SEMAPHORES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        starting, refused = Signal(), Signal()
        irq_enable = Signal()
        seen = Signal(FAULTS)

        # Status.
        m.d.comb += self.begins.eq(starting & self.fits)
        m.d.sync += [self.start.eq(starting), refused.eq(starting & ~self.fits)]
        m.d.sync += seen.eq(seen.as_value() | self.faults.as_value())
        with m.If(refused):
            m.d.sync += seen.illegal_instruction.eq(1)
        with m.If(self.halt | refused):
            m.d.sync += [self.busy.eq(0), self.done.eq(1)]
        with m.If(starting):
            m.d.sync += [self.busy.eq(1), self.done.eq(0), seen.eq(0)]
        m.d.comb += self.irq.eq(self.done & irq_enable)

        self._accept_writes(m, starting=starting, irq_enable=irq_enable)
        words: dict[int, Value] = {
            STATUS: Cat(self.done, self.busy, seen.as_value()),
            IRQ_ENABLE: irq_enable,
            PROGRAM_ADDRESS: self.program_address,
            PROGRAM_LENGTH: self.program_length,
            VERSION: Const(VERSION_VALUE, 32),
        }
        self._answer_reads(m, words, self._counters(m, clear=self.start))
        return m

    def _accept_writes(self, m: Module, *, starting: Signal, irq_enable: Signal) -> None:
        """Takes address and word together, when the last response is out of the way; then writes."""
        bus = self.bus
        accepting = Signal()
        data, strobe = Signal.like(bus.wdata), Signal.like(bus.wstrb)
        places = (CONTROL, IRQ_ENABLE, PROGRAM_ADDRESS, PROGRAM_LENGTH)
        writes = {place: Signal(name=f"writes_{place:02x}") for place in places}
        m.d.comb += [
            accepting.eq(bus.awvalid & bus.wvalid & ~bus.bvalid),
            bus.awready.eq(accepting),
            bus.wready.eq(accepting),
        ]
        m.d.sync += bus.bvalid.eq(accepting | (bus.bvalid & ~bus.bready))
        m.d.sync += [data.eq(bus.wdata), strobe.eq(bus.wstrb)]
        m.d.sync += [signal.eq(accepting & (bus.awaddr[:12] == place)) for place, signal in writes.items()]
        mask = Cat(each.replicate(8) for each in strobe)
        with m.If(writes[CONTROL]):
            m.d.comb += starting.eq(data[0] & strobe[0] & ~self.busy)
        with m.If(writes[IRQ_ENABLE] & strobe[0]):
            m.d.sync += irq_enable.eq(data[0])
        for place, register in (
            (PROGRAM_ADDRESS, self.program_address),
            (PROGRAM_LENGTH, self.program_length),
        ):
            with m.If(writes[place] & ~self.busy):
                m.d.sync += register.eq((data & mask) | (register & ~mask))

    def _answer_reads(self, m: Module, words: dict[int, Value], counters: Counters) -> None:
        """Answers one address after the other, a counter's when it has been visited."""
        bus = self.bus
        asked, address, is_counter = Signal(), Signal(10), Signal()
        first = COUNTER_ADDRESS // 4
        here = bus.araddr[2:12]
        m.d.comb += bus.arready.eq(~asked & ~bus.rvalid)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [asked.eq(1), address.eq(here)]
            m.d.sync += is_counter.eq((here >= first) & (here < first + 2 * COUNTERS))
        m.d.comb += [counters.asked.eq(asked & is_counter), counters.number.eq(address >> 1)]

        word = Signal(32)
        with m.Switch(address):
            for place, value in words.items():
                with m.Case(place // 4):
                    m.d.comb += word.eq(value)
            with m.Default():
                m.d.comb += word.eq(0)
        count = Mux(address[0], counters.word[32:], counters.word[:32])
        with m.If(bus.rvalid):
            m.d.sync += bus.rvalid.eq(~bus.rready)
        with m.Elif(asked & (~is_counter | counters.answered)):
            m.d.sync += [bus.rvalid.eq(1), asked.eq(0), bus.rdata.eq(Mux(is_counter, count, word))]

    def _counters(self, m: Module, *, clear: Signal) -> Counters:
        """The counters in register-map order: the named ones, and one for each stall bit."""
        widths = [AMOUNT_BITS] * len(Counter) + [1] * SEMAPHORES
        m.submodules.counters = counters = Counters(widths, first=COUNTER_ADDRESS // 8)
        amounts = Cat(self.events.as_value(), self.stalls)
        m.d.comb += [counters.clear.eq(clear), counters.amounts.eq(amounts)]
        return counters
