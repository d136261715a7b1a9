"""The way in and out of a board: frames of bytes to register accesses and memory words.

A request is an operation, a byte address and a count of words, little endian; a write is followed by
its words and answered by one byte, a read is answered by its words::

    operation (1 byte) | address (4) | words (2) | word (4) ...        0x06, or word (4) ...
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl._axi import ADDRESS_BITS, LITE_BYTES, axi4_lite

ACKNOWLEDGE = 0x06
HEADER_BYTES = 7


class Operation(IntEnum):
    """What a request asks for; every other byte is skipped."""

    WRITE_REGISTERS = 0x01
    READ_REGISTERS = 0x02
    WRITE_MEMORY = 0x03
    READ_MEMORY = 0x04


def _is_any(value: Any, *choices: Operation) -> Any:
    return Cat(value == choice for choice in choices).any()


class _State(IntEnum):
    HEADER = 0
    NEXT = 1
    GATHER = 2
    WRITE = 3
    READ = 4
    FETCH = 5
    SEND = 6
    ANSWER = 7


class Bridge(wiring.Component):
    """Serves requests one after another; it trusts the sender to wait for each answer.

    Members: ``valid`` with ``byte``, what comes in; ``bytes``, a stream of what goes out; ``registers``,
    AXI4-Lite; ``address``, ``write`` with ``word``, the memory's words, and ``read``, which is the one
    at ``address`` three cycles after it changed.
    """

    def __init__(self) -> None:
        word = 8 * LITE_BYTES
        memory = {"address": Out(ADDRESS_BITS), "write": Out(1), "word": Out(word), "read": In(word)}
        line = {"valid": In(1), "byte": In(8), "bytes": Out(stream.Signature(8))}
        super().__init__({**line, **memory, "registers": Out(axi4_lite())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(_State)
        header, left, count = Signal(8 * HEADER_BYTES), Signal(16), Signal(range(8))
        operation, is_write, is_memory = header[:8], Signal(), Signal()
        with m.Switch(state):
            with m.Case(_State.HEADER):
                self._header(m, state, header, count)
            with m.Case(_State.NEXT):
                m.d.sync += count.eq(0)
                with m.If(left == 0):
                    m.d.sync += state.eq(_State.HEADER)
                    with m.If(is_write):
                        m.d.sync += state.eq(_State.ANSWER)
                with m.Else():
                    m.d.sync += state.eq(_State.READ)
                    with m.If(is_write):
                        m.d.sync += state.eq(_State.GATHER)
            with m.Case(_State.GATHER):
                with m.If(self.valid):
                    m.d.sync += [self.word.eq(Cat(self.word[8:], self.byte)), count.eq(count + 1)]
                    with m.If(count == LITE_BYTES - 1):
                        m.d.sync += state.eq(_State.WRITE)
            with m.Case(_State.WRITE):
                self._write(m, state, is_memory, left)
            with m.Case(_State.READ):
                self._read(m, state, is_memory, count)
            with m.Case(_State.FETCH):
                m.d.comb += self.registers.rready.eq(1)
                with m.If(self.registers.rvalid):
                    m.d.sync += [self.word.eq(self.registers.rdata), count.eq(0), state.eq(_State.SEND)]
            with m.Case(_State.SEND):
                self._send(m, state, count, left)
            with m.Case(_State.ANSWER):
                m.d.comb += [self.bytes.valid.eq(1), self.bytes.payload.eq(ACKNOWLEDGE)]
                with m.If(self.bytes.ready):
                    m.d.sync += state.eq(_State.HEADER)
        with m.If((state == _State.HEADER) & (count == HEADER_BYTES)):
            m.d.sync += [self.address.eq(header[8:40]), left.eq(header[40:])]
            m.d.sync += is_write.eq(_is_any(operation, Operation.WRITE_REGISTERS, Operation.WRITE_MEMORY))
            m.d.sync += is_memory.eq(_is_any(operation, Operation.WRITE_MEMORY, Operation.READ_MEMORY))
        self._wires(m)
        return m

    def _header(self, m: Any, state: Any, header: Any, count: Any) -> None:
        """Seven bytes, the first of which must be an operation."""
        known = Cat(self.byte == each for each in Operation).any()
        with m.If(count == HEADER_BYTES):
            m.d.sync += state.eq(_State.NEXT)
        with m.Elif(self.valid & ((count != 0) | known)):
            m.d.sync += [header.eq(Cat(header[8:], self.byte)), count.eq(count + 1)]

    def _wires(self, m: Any) -> None:
        registers = self.registers
        m.d.comb += [
            registers.awaddr.eq(self.address),
            registers.wdata.eq(self.word),
            registers.wstrb.eq(~0),
            registers.bready.eq(1),
            registers.araddr.eq(self.address),
        ]

    def _write(self, m: Any, state: Any, is_memory: Any, left: Any) -> None:
        """A register takes address and word together, which are offered from the next cycle on."""
        registers, offered = self.registers, Signal()
        m.d.comb += [registers.awvalid.eq(offered), registers.wvalid.eq(offered)]
        taken = offered & registers.awready
        m.d.sync += offered.eq(~is_memory & ~taken)
        with m.If(is_memory):
            m.d.comb += self.write.eq(1)
        with m.If(is_memory | taken):
            m.d.sync += [self.address.eq(self.address + LITE_BYTES), left.eq(left - 1), state.eq(_State.NEXT)]

    def _read(self, m: Any, state: Any, is_memory: Any, count: Any) -> None:
        registers = self.registers
        with m.If(is_memory):
            m.d.sync += count.eq(count + 1)
            with m.If(count == 3):
                m.d.sync += [self.word.eq(self.read), count.eq(0), state.eq(_State.SEND)]
        with m.Else():
            m.d.comb += registers.arvalid.eq(1)
            with m.If(registers.arready):
                m.d.sync += state.eq(_State.FETCH)

    def _send(self, m: Any, state: Any, count: Any, left: Any) -> None:
        m.d.comb += [self.bytes.valid.eq(1), self.bytes.payload.eq(self.word[:8])]
        with m.If(self.bytes.ready):
            m.d.sync += [self.word.eq(self.word >> 8), count.eq(count + 1)]
            with m.If(count == LITE_BYTES - 1):
                m.d.sync += self.address.eq(self.address + LITE_BYTES)
                m.d.sync += [left.eq(left - 1), state.eq(_State.NEXT)]
