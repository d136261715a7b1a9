"""The design of a whole board: clock, serial bridge, block memory and the core."""

from __future__ import annotations

from typing import Any

from amaranth.back import verilog
from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Instance,
    Module,
    Mux,
    ResetSignal,
    Signal,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from archsim._architecture import Architecture
from archsim._board import Board
from rtl._axi import axi4, axi4_lite, flat_names
from rtl._block_memory import BlockMemory
from rtl._bridge import Bridge
from rtl._build import TOP, Design
from rtl._errors import RtlError
from rtl._pll import Pll, pll_for
from rtl._uart import Receiver, Sender
from rtl._verilog import finish

BOARD_TOP = "archsim_board"
DEFAULT_BAUD = 1_000_000
LEDS = 8
_RESET_CYCLES = 16

PLL_MODEL = """
module EHXPLLL(input CLKI, input CLKFB, output CLKOP, output CLKOS, output LOCK);
  parameter CLKI_DIV = 1; parameter CLKFB_DIV = 1; parameter CLKOP_DIV = 1; parameter CLKOS_DIV = 1;
  parameter CLKOP_ENABLE = "ENABLED"; parameter CLKOS_ENABLE = "ENABLED";
  parameter CLKOP_CPHASE = 0; parameter CLKOP_FPHASE = 0;
  parameter CLKOS_CPHASE = 0; parameter CLKOS_FPHASE = 0; parameter FEEDBK_PATH = "CLKOS";
  assign CLKOP = CLKI; assign CLKOS = CLKI; assign LOCK = 1'b1;
endmodule
"""
"""A loop that passes its input on, for simulation, where only cycles count."""


def memory_bytes(board: Board, arch: Architecture, *, used_kbit: int) -> int:
    """The largest power of two of bytes that fits in what the core leaves of the block RAM.

    Raises: RtlError where that is less than 4 KiB, a page.
    """
    assert board.capacity is not None
    left = (board.capacity.bram_kbit - used_kbit) * 1024 // 9  # nine bits hold a byte
    if left < 4096:
        raise RtlError(f"board must have block RAM for a memory beside the core, not {board.name!r}")
    return 1 << (left.bit_length() - 1)


class BoardTop(wiring.Component):
    """A core behind a serial port, with its memory on the chip.

    Members: ``clk``, the oscillator; ``uart_rx`` and ``uart_tx``; ``leds``: busy, done, interrupt, a
    byte came in, and the clock's life sign.
    """

    def __init__(
        self, arch: Architecture, board: Board, *, pll: Pll, size_bytes: int, baud: int = DEFAULT_BAUD
    ) -> None:
        self.arch, self.board, self.pll, self.size_bytes = arch, board, pll, size_bytes
        self.bit_cycles = round(pll.output_mhz * 1e6 / baud)
        actual = pll.output_mhz * 1e6 / max(self.bit_cycles, 1)
        if self.bit_cycles < 4 or abs(actual - baud) > 0.02 * baud:
            limit = f"one that {pll.output_mhz:g} MHz divides into at least 4 cycles a bit, within 2 %"
            raise RtlError(f"baud must be {limit}, not {baud!r}")
        super().__init__({"clk": In(1), "uart_rx": In(1), "uart_tx": Out(1), "leds": Out(LEDS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._clock(m)
        m.submodules.receiver = receiver = Receiver(bit_cycles=self.bit_cycles)
        m.submodules.sender = sender = Sender(bit_cycles=self.bit_cycles)
        m.submodules.bridge = bridge = Bridge()
        m.submodules.memory = memory = BlockMemory(self.arch, size_bytes=self.size_bytes)
        registers = axi4_lite().create(path=("registers",))
        memory_port = axi4(self.arch.bus.bytes).create(path=("memory",))
        busy, done, irq = Signal(name="core_busy"), Signal(name="core_done"), Signal(name="core_irq")
        m.submodules.core = self._core(registers, memory_port, (busy, done, irq))
        wiring.connect(m, bridge.registers, wiring.flipped(registers))
        wiring.connect(m, memory_port, memory.axi)
        wiring.connect(m, bridge.bytes, sender.bytes)
        beat = Signal(26)
        lights = Cat(busy, done, irq, receiver.line, Const(0, 3), beat[-1])
        m.d.sync += beat.eq(beat + 1)
        m.d.comb += [
            receiver.line.eq(self.uart_rx),
            self.uart_tx.eq(sender.line),
            bridge.valid.eq(receiver.valid),
            bridge.byte.eq(receiver.byte),
            bridge.read.eq(memory.host_word),
            memory.busy.eq(busy),
            memory.host_addr.eq(bridge.address),
            memory.host_write.eq(bridge.write),
            memory.host_data.eq(bridge.word),
            self.leds.eq(
                Mux(self.board.pins is not None and self.board.pins.leds_active_low, ~lights, lights)
            ),
        ]
        return m

    def _core(self, registers: Any, memory: Any, flags: tuple[Any, Any, Any]) -> Instance:
        """The generated core by its name; its text stands beside this one's."""
        ports: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for name, signal in flat_names("s_axil", registers):
            ports[f"{'i' if _drives(axi4_lite(), name) else 'o'}_{name}"] = signal
        for name, signal in flat_names("m_axi", memory):
            ports[f"{'o' if _drives(axi4(self.arch.bus.bytes), name) else 'i'}_{name}"] = signal
        ports |= {f"o_{name}": flag for name, flag in zip(("busy", "done", "irq"), flags, strict=True)}
        return Instance(TOP, **ports)

    def _clock(self, m: Module) -> None:
        """The loop, and a reset that ends some cycles after it has locked."""
        clock, feedback, locked = Signal(name="core_clock"), Signal(name="feedback"), Signal()
        m.domains.sync = ClockDomain()
        m.domains.early = ClockDomain(reset_less=True)
        count = Signal(range(_RESET_CYCLES + 1))
        m.d.comb += [ClockSignal("sync").eq(clock), ClockSignal("early").eq(clock)]
        stable = Signal(2)
        # A register, since a reset goes far.
        resetting = Signal(init=1)
        m.d.early += stable.eq(Cat(locked, stable[0]))
        m.d.early += [count.eq(Mux(count == _RESET_CYCLES, count, count + stable[1]))]
        m.d.early += resetting.eq(count != _RESET_CYCLES)
        m.d.comb += ResetSignal("sync").eq(resetting)
        m.submodules.pll = Instance(
            "EHXPLLL",
            p_CLKI_DIV=self.pll.input_div,
            p_CLKFB_DIV=1,
            p_CLKOP_DIV=self.pll.output_div,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=self.pll.output_div // 2,
            p_CLKOP_FPHASE=0,
            p_CLKOS_DIV=self.pll.feedback_div,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_CPHASE=self.pll.feedback_div // 2,
            p_CLKOS_FPHASE=0,
            p_FEEDBK_PATH="CLKOS",
            i_CLKI=self.clk,
            i_CLKFB=feedback,
            o_CLKOP=clock,
            o_CLKOS=feedback,
            o_LOCK=locked,
        )


def _drives(signature: wiring.Signature, name: str) -> bool:
    """Whether the manager of ``signature`` drives the member at the end of the flat ``name``."""
    member = signature.members[name.rsplit("_", maxsplit=1)[-1]]
    return bool(member.flow == Out)


def board_verilog(top: BoardTop) -> str:
    """The board's own text, in which the core is an instance."""
    ports = {name: (getattr(top, name), None) for name in ("clk", "uart_rx", "uart_tx", "leds")}
    return finish(verilog.convert(top, name=BOARD_TOP, ports=ports, emit_src=False))


def board_of(design: Design, board: Board, *, clock_mhz: float, size_bytes: int, baud: int) -> BoardTop:
    """The board's design for ``design`` at ``clock_mhz`` or the nearest clock below."""
    pll = pll_for(board.clock_mhz, clock_mhz)
    return BoardTop(design.arch, board, pll=pll, size_bytes=size_bytes, baud=baud)
