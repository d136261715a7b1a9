"""Designs cut into units: every module is in one, and equal hardware has equal text."""

from __future__ import annotations

import pytest

from rtl._errors import RtlError
from rtl._units import Port, ports_of, stub, units

TEXT = r"""
module top(clk, d, q);
  input clk;
  wire clk;
  input [7:0] d;
  wire [7:0] d;
  output q;
  wire q;
  \top.one  one (
    .clk(clk),
    .\port$17$2 (d)
  );
  leaf leaf (
    .clk(clk)
  );
endmodule
module \top.one (clk, \port$17$2 );
  input clk;
  wire clk;
  input [7:0] \port$17$2 ;
  wire [7:0] \port$17$2 ;
  \top.one.deep  deep (
    .clk(clk)
  );
  leaf a (
    .clk(clk)
  );
  leaf b (
    .clk(clk)
  );
endmodule
module \top.one.deep (clk);
  input clk;
  wire clk;
endmodule
module leaf(clk);
  input clk;
  wire clk;
endmodule
"""


def test_units_are_the_top_its_children_and_shared_leaves() -> None:
    found = {unit.name: unit for unit in units(TEXT, top="top")}
    assert list(found) == ["top", "top.one", "leaf"]
    assert found["top"].children == ("leaf", "top.one")
    assert found["top.one"].children == ("leaf",)
    assert "module \\top.one.deep" in found["top.one"].verilog


def test_numbers_in_names_do_not_matter_and_are_remembered() -> None:
    one = units(TEXT, top="top")[1]
    other = units(TEXT.replace("$17$2", "$4"), top="top")[1]
    assert one.verilog == other.verilog
    assert (one.names["port$0"], other.names["port$0"]) == ("port$17$2", "port$4")


def test_a_stub_has_the_ports_of_its_module() -> None:
    ports = (Port("clk", True, 1), Port("q", False, 9))
    assert ports_of(stub("x", ports)) == ports


def test_a_top_that_is_not_there_is_refused() -> None:
    with pytest.raises(RtlError, match=r"^top must be one of the design's modules, not 'core'$"):
        units(TEXT, top="core")


def test_a_parent_knows_the_names_of_its_childs_ports() -> None:
    parent, child, _ = units(TEXT.replace("leaf leaf", "leaf x$40"), top="top")
    renamed = next(new for new, old in parent.names.items() if old == "port$17$2")
    assert f"\\{renamed} " in parent.verilog
    assert child.names["port$0"] == "port$17$2"
