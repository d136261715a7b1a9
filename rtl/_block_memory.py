"""Block RAM behind the core's AXI4 port, with the latencies that an architecture gives its memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from rtl._axi import ADDRESS_BITS, LITE_BYTES, axi4
from rtl._bursts import LENGTH_BITS
from rtl._errors import RtlError
from rtl._pipe import UNCHECKED, delayed, delayed_word
from rtl._queue import Queue

_DECODE_ERROR = 3
_MOST_CYCLES = 4096


class BlockMemory(wiring.Component):
    """``size_bytes`` of memory whose beats come in the cycles of ``docs/machine.md``.

    It relies on what the core promises: RREADY and BREADY are always high, and the beats of a write
    burst are over before the next address. The host reads and writes words while the core rests.

    Members: ``axi``; ``host_addr`` (bytes), ``host_write`` with ``host_data``, ``host_word``, the
    word at ``host_addr`` three cycles later; ``busy``, the core is at work and the host is not served.

    Raises: RtlError where the memory's latencies cannot be kept.
    """

    def __init__(self, arch: Architecture, *, size_bytes: int) -> None:
        self._arch = arch
        self._size = size_bytes
        memory = arch.memory
        for name, value, least in (
            ("memory.read_latency_cycles", memory.read_latency, 3),
            ("memory.write_latency_cycles", memory.write_latency, 1),
            ("memory.read_interval_cycles", memory.read_interval, 1),
            ("memory.write_interval_cycles", memory.write_interval, 1),
        ):
            if not least <= value <= _MOST_CYCLES:
                raise RtlError(f"{name} must be from {least} to {_MOST_CYCLES} on a board, not {value!r}")
        host = {"host_addr": In(ADDRESS_BITS), "host_write": In(1), "host_data": In(8 * LITE_BYTES)}
        super().__init__(
            {"axi": In(axi4(arch.bus.bytes)), "busy": In(1), **host, "host_word": Out(8 * LITE_BYTES)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat_bytes = self._arch.bus.bytes
        self._shift = exact_log2(beat_bytes)
        depth = self._size // beat_bytes
        m.submodules.cells = cells = Memory(shape=8 * beat_bytes, depth=depth, init=[], attrs=UNCHECKED)
        self._reads(m, cells.read_port())
        self._writes(m, cells.write_port(granularity=8 * LITE_BYTES))
        return m

    def _reads(self, m: Module, port: Any) -> None:
        """Bursts in order; a burst's first beat waits for a credit that its address earns in time."""
        axi, memory = self.axi, self._arch.memory
        burst = data.StructLayout({"address": ADDRESS_BITS, "length": LENGTH_BITS})
        m.submodules.bursts = bursts = Queue(burst, depth=self._arch.bus.outstanding + 1)
        asking = Signal()
        m.d.comb += [
            axi.arready.eq(bursts.push.ready),
            asking.eq(axi.arvalid & axi.arready),
            bursts.push.valid.eq(asking),
            bursts.push.payload.address.eq(axi.araddr),
            bursts.push.payload.length.eq(axi.arlen),
        ]
        credit, wait = Signal(8), Signal(range(memory.read_interval))
        index, issue, last = Signal(LENGTH_BITS), Signal(), Signal()
        head = bursts.head.payload
        first = index == 0
        m.d.comb += [
            issue.eq(bursts.head.valid & (~first | (credit != 0)) & (wait == 0)),
            last.eq(index == head.length),
            bursts.head.ready.eq(issue & last),
        ]
        m.d.sync += credit.eq(credit + delayed(m, asking, memory.read_latency - 3) - (issue & first))
        m.d.sync += wait.eq(Mux(issue, memory.read_interval - 1, Mux(wait != 0, wait - 1, 0)))
        with m.If(issue):
            m.d.sync += index.eq(Mux(last, 0, index + 1))
        address = head.address + (index << self._shift)
        outside = address[exact_log2(self._size) :].any()
        beat = delayed(m, Cat(issue, last, outside), 2)
        m.d.comb += [axi.rvalid.eq(beat[0]), axi.rlast.eq(beat[1])]
        m.d.comb += axi.rresp.eq(Mux(beat[2], _DECODE_ERROR, 0))
        place = delayed_word(m, Mux(self.busy, address, self.host_addr)[self._shift :], 1)
        m.d.comb += [port.addr.eq(place), axi.rdata.eq(port.data)]
        m.d.sync += self.host_word.eq(self._word_of(m, port.data))

    def _word_of(self, m: Module, beat: Any) -> Any:
        lane_bits = self._shift - exact_log2(LITE_BYTES)
        if not lane_bits:
            return beat
        lane = delayed_word(m, self.host_addr[exact_log2(LITE_BYTES) :][:lane_bits], 2)
        return beat.word_select(lane, 8 * LITE_BYTES)

    def _writes(self, m: Module, port: Any) -> None:
        """One burst at a time; its response comes a fixed time after its last beat."""
        axi, memory = self.axi, self._arch.memory
        address = Signal(ADDRESS_BITS)
        wait = Signal(range(memory.write_interval))
        beat = Signal()
        m.d.comb += [axi.awready.eq(1), axi.wready.eq(wait == 0), beat.eq(axi.wvalid & axi.wready)]
        m.d.sync += wait.eq(Mux(beat, memory.write_interval - 1, Mux(wait != 0, wait - 1, 0)))
        with m.If(axi.awvalid):
            m.d.sync += address.eq(axi.awaddr)
        with m.Elif(beat):
            m.d.sync += address.eq(address + self._arch.bus.bytes)
        outside = address[exact_log2(self._size) :].any()
        done = delayed(m, Cat(beat & axi.wlast, outside), memory.write_latency)
        m.d.comb += [axi.bvalid.eq(done[0]), axi.bresp.eq(Mux(done[1], _DECODE_ERROR, 0))]
        lanes = self._arch.bus.bytes // LITE_BYTES
        chosen = 1 << self.host_addr[2 : self._shift] if lanes > 1 else 1
        inside = ~self.host_addr[exact_log2(self._size) :].any()
        # A register stands before the blocks: no read comes so soon after a burst's end that it would tell.
        enable, place, word = Signal(lanes), Signal(port.addr.shape()), Signal(port.data.shape())
        m.d.sync += [
            place.eq(Mux(self.busy, address, self.host_addr) >> self._shift),
            word.eq(Mux(self.busy, axi.wdata, self.host_data.replicate(lanes))),
            enable.eq(
                Mux(self.busy, (beat & ~outside).replicate(lanes), Mux(self.host_write & inside, chosen, 0))
            ),
        ]
        m.d.comb += [port.addr.eq(place), port.data.eq(word), port.en.eq(enable)]
