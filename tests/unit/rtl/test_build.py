from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from archsim._architecture import Architecture, Bus, Scratchpad
from rtl._build import Design, build, check
from rtl._errors import RtlError
from rtl._toolchain import lint
from rtl._verilog import LINT_HEADER, finish
from tests.unit.rtl.control_bench import machine

SMALL: dict[str, Any] = {"accumulator_words": 8, "parameter_words": 4, "program_words": 8}


@pytest.fixture(scope="module")
def design() -> Design:
    return build(replace(machine(side=2, bus_bytes=4), **SMALL))


def test_emission_is_deterministic(design: Design) -> None:
    assert build(design.arch).verilog == design.verilog


def test_ports_have_their_conventional_names(design: Design) -> None:
    head = re.search(rf"^module {design.top}\((.*?)\);", design.verilog, re.MULTILINE | re.DOTALL)
    assert head
    ports = {name.strip() for name in head[1].split(",")}
    read = ["araddr", "arlen", "arsize", "arburst", "arvalid", "arready"]
    read += ["rdata", "rresp", "rlast", "rvalid", "rready"]
    write = ["awaddr", "awlen", "awsize", "awburst", "awvalid", "awready"]
    write += ["wdata", "wstrb", "wlast", "wvalid", "wready", "bresp", "bvalid", "bready"]
    full = set(read) | set(write)
    lite = full - {"arlen", "arsize", "arburst", "rlast", "awlen", "awsize", "awburst", "wlast"}
    named = {f"m_axi_{name}" for name in full} | {f"s_axil_{name}" for name in lite}
    assert ports == named | {"clk", "rst", "irq", "busy", "done"}


@pytest.mark.parametrize("warnings", [(), ("-Wall",)])
def test_verilator_has_nothing_to_say(design: Design, warnings: tuple[str, ...]) -> None:
    said = lint(design.verilog, top=design.top, warnings=warnings)
    assert [line for line in said.splitlines() if line.startswith("%")] == []


def test_registers_are_those_of_the_document(design: Design) -> None:
    assert design.registers["status"] == 4
    assert len(design.registers) == 6 + 20 + 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"array.kind": "sparse"},
            "array.kind must be one of ('dense', 'fusemax', 'ternary'), not 'sparse'",
        ),
        ({"array.kind": "ternary"}, "array.weight_words must be in 1..65536, not 0"),
        ({"array.rows": 0}, "array.rows must be in 1..256, not 0"),
        ({"bus.bytes": 128}, "bus.bytes must be 4, 8, 16, 32 or 64, not 128"),
        (
            {"array.rows": 1, "array.cols": 1, "bus.bytes": 32},
            "bus.bytes must be at most eight words of 2 bytes, not 32",
        ),
        ({"bus.max_burst_beats": 257}, "bus.max_burst_beats must be in 1..256, not 257"),
        ({"bus.outstanding": 0}, "bus.outstanding must be in 1..64, not 0"),
        (
            {"scratchpad.words_per_bank": 100},
            "scratchpad.words_per_bank must be a power of two, at least 1, not 100",
        ),
        (
            {"bus.bytes": 32, "scratchpad.words_per_bank": 4},
            "scratchpad.words_per_bank must be a power of two, at least 8, not 4",
        ),
        ({"program_words": 4096}, "program.words must be in 1..4095, not 4096"),
        ({"vector.tables": 5}, "vector.tables must be in 1..4, not 5"),
        ({"queue_depth": 0}, "queue_depth must be in 1..256, not 0"),
    ],
)
def test_what_cannot_be_made_is_refused(change: dict[str, Any], message: str) -> None:
    arch = machine(side=4)
    for key, value in change.items():
        part, _, name = key.rpartition(".")
        arch = replace(
            arch, **({part: replace(getattr(arch, part), **{name: value})} if part else {name: value})
        )
    with pytest.raises(RtlError) as error:
        check(arch)
    assert str(error.value) == message


def test_limits_themselves_are_accepted() -> None:
    arch: Architecture = machine(side=8)
    check(replace(arch, bus=Bus(bytes=64, max_burst_beats=256, outstanding=64), program_words=65535))
    check(replace(arch, bus=Bus(bytes=64), scratchpad=Scratchpad(banks=1, words_per_bank=8)))


def test_blank_memory_becomes_a_loop() -> None:
    before = "  reg [7:0] rows [1:0];\n  initial begin\n    rows[0] = 8'h00;\n    rows[1] = 8'h00;\n  end\n"
    after = (
        "  reg [7:0] rows [1:0];\n"
        "  initial begin : rows_blank\n"
        "    integer blank;\n"
        "    for (blank = 0; blank < 2; blank = blank + 1) rows[blank] = 8'h00;\n"
        "  end\n"
    )
    assert finish(before) == LINT_HEADER + after


def test_filled_memory_is_left_alone() -> None:
    text = "  initial begin\n    rom[0] = 8'h00;\n    rom[1] = 8'h01;\n  end\n"
    assert finish(text) == LINT_HEADER + text


def test_no_name_has_brackets_which_synthesis_would_read_as_a_bit() -> None:
    text = finish("  wire \\sums[1] ;\n  assign \\sums[1]  = sums[3:2];\n  assign \\$2  = \\deep[1][0] ;\n")
    lines = ["  wire \\sums.1 ;", "  assign \\sums.1  = sums[3:2];", "  assign \\$2  = \\deep.1.0 ;"]
    assert text.splitlines()[-3:] == lines
