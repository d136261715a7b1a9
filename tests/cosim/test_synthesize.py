"""Synthesis end to end on a small circuit: mapped, placed, counted, kept, and with a bitstream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsim import load_board
from archsim._resources_value import Resources
from rtl._build import Design, build
from rtl._errors import RtlError
from rtl._synthesize import Options, copy_files, synthesize
from rtl._units import module_of, ports_of
from tests.cosim.programs import machine

pytestmark = [pytest.mark.cosim, pytest.mark.slow]

CIRCUIT = """
module archsim_core(clk, rst, a, b, y);
  input clk;
  wire clk;
  input rst;
  wire rst;
  input [7:0] a;
  wire [7:0] a;
  input [7:0] b;
  wire [7:0] b;
  output [15:0] y;
  reg [15:0] y;
  always @(posedge clk) if (rst) y <= 0; else y <= a * b + y;
endmodule
"""


@pytest.fixture
def design() -> Design:
    """A multiplier with an accumulator under the core's name."""
    return Design(arch=machine(2, 2, bus_bytes=8), verilog=CIRCUIT)


def test_a_circuit_takes_what_it_is_made_of_and_its_clock_is_that_of_its_slowest_path(design: Design) -> None:
    lines: list[str] = []
    options = Options(subject="core", clock_mhz=50)
    result = synthesize(design, load_board("ulx3s-85f"), options, progress=lines.append)
    # A multiplier, a carry chain of 16 bits, and 16 registers.
    assert result.core == Resources(lut=16, ff=16, dsp=1)
    placed = result.placed
    assert placed is not None
    # Besides: the reset's register, 16 inputs, and 16 outputs twice.
    assert placed.used["TRELLIS_FF"] == 16 + 1 + 16 + 2 * 16
    assert placed.used["MULT18X18D"] == 1
    assert placed.met
    slowest = sum(segment.delay_ns for segment in placed.critical)
    assert 1000 / slowest == pytest.approx(placed.clock_mhz, rel=1e-3)
    assert synthesize(design, load_board("ulx3s-85f"), options) == result
    assert lines[0] == "mapping archsim_core (1 of 1)"


def test_a_missed_clock_is_a_result(design: Design, tmp_path: Path) -> None:
    result = synthesize(design, load_board("ulx3s-85f"), Options(subject="core", clock_mhz=400))
    assert result.placed is not None
    assert not result.placed.met
    assert "board.config" in copy_files(result, tmp_path)
    assert (tmp_path / "board.config").read_bytes() == result.files["board.config"].read_bytes()


def test_a_board_whose_family_is_not_known_or_that_is_too_small_is_refused(design: Design) -> None:
    with pytest.raises(
        RtlError, match=r"^board must be of a family that Yosys maps, ecp5, xc7, xcup, not 'versal'$"
    ):
        synthesize(design, load_board("vhk158"))
    board = load_board("colorlight-i5")
    assert board.capacity is not None
    small = replace(board, name="small", capacity=replace(board.capacity, dsp=0))
    with pytest.raises(
        RtlError, match=r"^board must have 1 multipliers for this architecture, and 'small' has 0$"
    ):
        synthesize(design, small)


def hollow() -> Design:
    """A core with all ports and little inside: it answers with what it is asked."""
    design = build(machine(2, 2, bus_bytes=8))
    ports = ports_of(module_of(design.verilog, design.top))
    lines = [f"  {'input' if p.is_input else 'output'} [{p.width - 1}:0] {p.name} ;" for p in ports]
    lines += [f"  reg [{p.width - 1}:0] {p.name} ;" for p in ports if not p.is_input]
    moves = [f"{p.name} <= {p.name} ^ s_axil_wdata;" for p in ports if not p.is_input]
    heads = ", ".join(port.name for port in ports)
    text = [
        f"module {design.top}({heads});",
        *lines,
        "  always @(posedge clk) begin",
        *moves,
        "  end",
        "endmodule",
    ]
    return replace(design, verilog="\n".join([*text, ""]))


def test_a_board_gets_its_pins_its_memory_and_a_bitstream(tmp_path: Path) -> None:
    result = synthesize(hollow(), load_board("ulx3s-85f"), Options(clock_mhz=25))
    placed = result.placed
    assert placed is not None
    assert placed.constraint_mhz == 25
    assert placed.used["EHXPLLL"] == 1
    # All of the 3,744 Kbit but what is past a power of two of bytes.
    assert result.memory_bytes == 1 << 18
    assert placed.used["DP16KD"] == 128
    names = copy_files(result, tmp_path)
    assert {"board.bit", "board.config", "board.lpf"} <= set(names)
    config = (tmp_path / "board.config").read_text()
    # Lattice's part number in the configuration's first lines; the pin of the oscillator is used.
    assert "LFE5U-85F" in config
    assert (tmp_path / "board.bit").stat().st_size > 10_000
