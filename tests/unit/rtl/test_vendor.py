"""Vendor projects: complete, balanced, deterministic, and honest about not having been run."""

from __future__ import annotations

import re

import pytest

from archsim import load_board
from rtl._build import Design, build
from rtl._vendor import vendor_project
from tests.cosim.programs import machine


@pytest.fixture(scope="module")
def design() -> Design:
    """A small machine's hardware."""
    return build(machine(2, 2, bus_bytes=4))


@pytest.mark.parametrize("name", ["zcu102", "kv260", "u50", "u280", "vcu1525", "vhk158"])
def test_a_vivado_project_names_its_part_and_packages_both_ports(design: Design, name: str) -> None:
    board = load_board(name)
    files = vendor_project(design, board)
    assert files == vendor_project(design, board)
    assert set(files) == {"archsim_core.v", "archsim_core.xdc", "build.tcl", "package_ip.tcl", "README.md"}
    assert board.part in files["build.tcl"]
    assert "busif m_axi" in files["package_ip.tcl"]
    assert "busif s_axil" in files["package_ip.tcl"]
    assert files["archsim_core.xdc"] == "create_clock -name clk -period 10.000 [get_ports clk]\n"
    assert "not run" in files["README.md"]


def test_the_quartus_project_gives_every_port_a_role(design: Design) -> None:
    files = vendor_project(design, load_board("d5005"))
    assert "1SX280HN2F43E2VG" in files["build.tcl"]
    component = files["archsim_core_hw.tcl"]
    roles = set(re.findall(r"add_interface_port \w+ (\w+) ", component))
    first = design.verilog.index("module archsim_core(")
    heads = design.verilog[first : design.verilog.index(")", first)].split("(")[1]
    assert roles == {port.strip() for port in heads.split(",")}


@pytest.mark.parametrize("name", ["zcu102", "d5005"])
def test_brackets_of_the_scripts_are_balanced(design: Design, name: str) -> None:
    for file, text in vendor_project(design, load_board(name)).items():
        if file.endswith(".tcl"):
            plain = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
            assert all(plain.count(a) == plain.count(b) for a, b in ("[]", "{}", "()"))


def test_a_board_with_open_tools_needs_none(design: Design) -> None:
    assert vendor_project(design, load_board("ulx3s-85f")) == {}
