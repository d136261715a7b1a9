"""A vendor's project around the generated core: Tcl, constraints and the core packaged as an IP.

The files are for a person who has the vendor's tool; nothing here runs it.
"""

from __future__ import annotations

from collections.abc import Iterator

from archsim._board import Board
from rtl._build import Design
from rtl._mapping import FAMILIES
from rtl._units import Port, module_of, ports_of

_VIVADO_FAMILIES = ("xc7", "xcup", "versal")
assert set(_VIVADO_FAMILIES[:2]) <= set(FAMILIES)


def vendor_project(design: Design, board: Board) -> dict[str, str]:
    """File name -> text of the project for ``board``; nothing for a board that needs no vendor's tool."""
    if board.family in _VIVADO_FAMILIES:
        return _vivado(design, board)
    if board.family == "stratix10":
        return _quartus(design, board)
    return {}


def _vivado(design: Design, board: Board) -> dict[str, str]:
    return {
        f"{design.top}.v": design.verilog,
        f"{design.top}.xdc": _clock(design, board),
        "build.tcl": _vivado_build(design, board),
        "package_ip.tcl": _vivado_ip(design, board),
        "README.md": _readme(design, board, "vivado -mode batch -source build.tcl", "vivado"),
    }


def _quartus(design: Design, board: Board) -> dict[str, str]:
    return {
        f"{design.top}.v": design.verilog,
        f"{design.top}.sdc": _clock(design, board),
        "build.tcl": _quartus_build(design, board),
        f"{design.top}_hw.tcl": "\n".join(_platform_component(design)) + "\n",
        "README.md": _readme(design, board, "quartus_sh -t build.tcl", "quartus"),
    }


def _clock(design: Design, board: Board) -> str:
    return f"create_clock -name clk -period {1000 / design.arch.clock_mhz:.3f} [get_ports clk]\n"


def _vivado_build(design: Design, board: Board) -> str:
    """Synthesis, placement and routing of the core out of context, with its reports; then the IP."""
    top = design.top
    board_part = (
        f"catch {{set_property board_part {board.board_part} [current_project]}}\n"
        if board.board_part
        else ""
    )
    return f"""\
# Builds the core of {design.arch.name} for {board.name}: vivado -mode batch -source build.tcl
set here [file dirname [file normalize [info script]]]
create_project -force {top}_project $here/project -part {board.part}
{board_part}add_files $here/{top}.v
add_files -fileset constrs_1 $here/{top}.xdc
set_property top {top} [current_fileset]
synth_design -top {top} -part {board.part} -mode out_of_context
report_utilization -hierarchical -file $here/utilization_synthesis.txt
opt_design
place_design
phys_opt_design
route_design
report_utilization -file $here/utilization.txt
report_timing_summary -file $here/timing.txt
write_checkpoint -force $here/{top}.dcp
close_design
source $here/package_ip.tcl
"""


def _vivado_ip(design: Design, board: Board) -> str:
    """The core as an IP whose AXI ports a block design connects."""
    top = design.top
    return f"""\
# Packages the core as an IP with an AXI4 manager (m_axi), an AXI4-Lite subordinate (s_axil) and an interrupt.
set here [file dirname [file normalize [info script]]]
create_project -force {top}_ip $here/ip_project -part {board.part}
add_files $here/{top}.v
set_property top {top} [current_fileset]
ipx::package_project -root_dir $here/ip -vendor archsim -library archsim \\
    -taxonomy /UserIP -import_files -force
set core [ipx::current_core]
set_property name {top} $core
set_property display_name "archsim {design.arch.name}" $core
ipx::infer_bus_interface clk xilinx.com:signal:clock_rtl:1.0 $core
ipx::infer_bus_interface rst xilinx.com:signal:reset_rtl:1.0 $core
set polarity [ipx::add_bus_parameter POLARITY [ipx::get_bus_interfaces rst -of_objects $core]]
set_property value ACTIVE_HIGH $polarity
ipx::infer_bus_interface irq xilinx.com:signal:interrupt_rtl:1.0 $core
ipx::associate_bus_interfaces -busif m_axi -clock clk $core
ipx::associate_bus_interfaces -busif s_axil -clock clk $core
ipx::associate_bus_interfaces -clock clk -reset rst $core
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
close_project
"""


def _quartus_build(design: Design, board: Board) -> str:
    top = design.top
    return f"""\
# Builds the core of {design.arch.name} for {board.name}: quartus_sh -t build.tcl
load_package flow
project_new {top} -overwrite
set_global_assignment -name FAMILY "Stratix 10"
set_global_assignment -name DEVICE {board.part}
set_global_assignment -name TOP_LEVEL_ENTITY {top}
set_global_assignment -name VERILOG_FILE {top}.v
set_global_assignment -name SDC_FILE {top}.sdc
set_global_assignment -name PROJECT_OUTPUT_DIRECTORY output
# The core's ports go to other logic, not to pins.
foreach port [list {" ".join(port.name for port in _ports(design))}] {{
    set_instance_assignment -name VIRTUAL_PIN ON -to $port
}}
execute_flow -compile
project_close
"""


def _platform_component(design: Design) -> Iterator[str]:
    """A Platform Designer component with the core's AXI interfaces."""
    top = design.top
    yield f"# Platform Designer component of {design.arch.name}."
    yield "package require -exact qsys 18.1"
    yield f"set_module_property NAME {top}"
    yield f'set_module_property DISPLAY_NAME "archsim {design.arch.name}"'
    yield "set_module_property VERSION 1.0"
    yield 'add_fileset QUARTUS_SYNTH QUARTUS_SYNTH "" ""'
    yield f"set_fileset_property QUARTUS_SYNTH TOP_LEVEL {top}"
    yield f"add_fileset_file {top}.v VERILOG PATH {top}.v TOP_LEVEL_FILE"
    yield from ("add_interface clock clock end", "add_interface_port clock clk clk Input 1")
    yield from ("add_interface reset reset end", "set_interface_property reset associatedClock clock")
    yield "add_interface_port reset rst reset Input 1"
    for name, kind in (("m_axi", "axi4 start"), ("s_axil", "axi4lite end")):
        yield f"add_interface {name} {kind}"
        yield f"set_interface_property {name} associatedClock clock"
        yield f"set_interface_property {name} associatedReset reset"
        for port in _ports(design):
            if port.name.startswith(f"{name}_"):
                role = port.name.removeprefix(f"{name}_")
                way = "Input" if port.is_input else "Output"
                yield f"add_interface_port {name} {port.name} {role} {way} {port.width}"
    yield "add_interface status conduit end"
    yield from (f"add_interface_port status {name} {name} Output 1" for name in ("busy", "done"))
    yield "add_interface irq interrupt end"
    yield from ("set_interface_property irq associatedClock clock", "add_interface_port irq irq irq Output 1")


def _ports(design: Design) -> tuple[Port, ...]:
    return ports_of(module_of(design.verilog, design.top))


def _readme(design: Design, board: Board, command: str, tool: str) -> str:
    return f"""\
# {design.arch.name} for {board.name}

`{command}` in this folder makes the core for {board.part} out of context, with its reports of
resources and timing, and packages it with its AXI ports. The project was generated and not run: neither
resources nor timing of this part are known here. `docs/machine.md` has the register map and the protocol.

Made for {tool}. The bus to memory is `m_axi` ({8 * design.arch.bus.bytes} bits), the registers are `s_axil`.
"""
