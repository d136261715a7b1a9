"""A board: its FPGA, what that holds, and the pins that a design of ours uses."""

from __future__ import annotations

from dataclasses import dataclass

PLACED_FAMILIES = ("ecp5",)
"""Families for which place and route is at hand."""
MAPPED_FAMILIES = ("ecp5", "xc7", "xcup")
"""Families to whose cells a design can be mapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a device holds."""

    lut: int
    ff: int
    dsp: int
    bram_kbit: int
    uram: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """Package pins of the clock, the serial port and the lights."""

    clock: str
    uart_rx: str
    """Into the FPGA."""
    uart_tx: str
    """Out of the FPGA."""
    leds: tuple[str, ...] = ()
    leds_active_low: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board of the library."""

    name: str
    family: str
    part: str
    """The vendor's whole part number."""
    clock_mhz: float
    """Of the board's own oscillator, or asked of the shell."""
    source: str
    """Where pins and sizes were read."""
    capacity: Capacity | None = None
    pins: Pins | None = None
    board_part: str | None = None
    """Vivado's name of the board."""
