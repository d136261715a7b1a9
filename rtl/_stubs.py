"""The core alone in a device: its ports behind registers, so that its own clock can be measured."""

from __future__ import annotations

from collections.abc import Sequence

from rtl._units import Port

STUBBED = "archsim_stubbed"
_CLOCKS = ("clk", "rst")


def stubbed(top: str, ports: Sequence[Port]) -> str:
    """Verilog of ``top`` without its bus: four pins, and every port of the core on a register.

    Inputs hang on a shift register from one pin; outputs are captured, and folded into the other pin
    one by one along a second shift register. No path between two registers is longer for it than a wire.
    """
    inputs = [port for port in ports if port.is_input and port.name not in _CLOCKS]
    outputs = [port for port in ports if not port.is_input]
    into, out = sum(port.width for port in inputs), sum(port.width for port in outputs)
    wires = [*_wires(inputs, "given"), *_wires(outputs, "seen")]
    wires += [f"    .{name}({value})" for name, value in (("clk", "clk"), ("rst", "reset"))]
    return f"""
module {STUBBED}(input clk, input rst, input from_pin, output to_pin);
  reg reset; reg [{into - 1}:0] given; wire [{out - 1}:0] seen; reg [{out - 1}:0] captured, folded;
  assign to_pin = folded[{out - 1}];
  always @(posedge clk) begin
    reset <= rst; given <= {{given, from_pin}}; captured <= seen; folded <= {{folded, 1'b0}} ^ captured;
  end
  {top} core (
{("," + chr(10)).join(wires)}
  );
endmodule
"""


def _wires(ports: Sequence[Port], vector: str) -> list[str]:
    lines, place = [], 0
    for port in ports:
        lines.append(f"    .{port.name}({vector}[{place + port.width - 1}:{place}])")
        place += port.width
    return lines
