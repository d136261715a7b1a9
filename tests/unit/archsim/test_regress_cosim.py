"""The gate on real hardware, and the resources that it counts in the Verilog."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

import rtl
from archsim import load_architecture
from archsim._isa import INSTRUCTION_BITS
from archsim.cli import main
from archsim.cli._job import Job
from archsim.cli._pipeline import load, verifiable
from archsim.cli._progress import Steps
from archsim.cli._regress_hardware import run_hardware
from archsim.cli._regress_resources import resources
from workloads import evaluate_quantised

LEAF = """
module leaf(input clk, input [7:0] a, input [3:0] b, output reg [11:0] product, output [7:0] read);
  reg [7:0] rows [31:0];
  reg [7:0] out;
  wire [7:0] tripled;
  integer blank;
  initial begin
    for (blank = 0; blank < 32; blank = blank + 1) rows[blank] = 8'h00;
  end
  assign tripled = a * 8'd3;
  assign read = out;
  always @(posedge clk) product <= a * b;
  always @(posedge clk) begin
    rows[b] <= tripled;
    if (b[0]) out <= rows[b];
  end
endmodule
"""
TOP = """
module top(input clk, input [7:0] a, input [3:0] b, output [11:0] p, q, output [7:0] r, s);
  leaf one (.clk(clk), .a(a), .b(b), .product(p), .read(r));
  leaf two (.clk(clk), .a(a), .b(b), .product(q), .read(s));
endmodule
"""


def test_resources_are_those_of_every_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSIM_CACHE", str(tmp_path))
    design = rtl.Design(arch=load_architecture("edge-8x8"), verilog=LEAF + TOP, top="top")
    # A leaf: 12 + 8 flip-flops, 32 bytes of memory, one product of variables (the one by 3 is none),
    # and as cells both products (12 and 8 bits) and the write under a condition (8 bits).
    wanted = {
        "flip_flop_bits": 2 * (12 + 8),
        "memory_bits": 2 * 32 * 8,
        "multipliers": 2,
        "cells": 2 * 3,
        "cell_bits": 2 * (12 + 8 + 8),
    }
    assert resources(design) == wanted
    assert resources(design) == wanted, "from the disk"
    with pytest.raises(rtl.RtlError, match=r"^the design must be Verilog that Verilator reads, and is not:"):
        resources(rtl.Design(arch=design.arch, verilog="module top(", top="top"))


@pytest.mark.cosim
def test_the_hardware_is_held_to_its_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, name = tmp_path / "suite.yaml", "gemm:16x8x24 on edge-8x8, seed 3"
    suite.write_text('name: s\ncases:\n  - {model: "gemm:16x8x24", arch: edge-8x8, seed: 3}\n')
    assert main(["regress", str(suite), "--update"]) == 0
    baseline = tmp_path / "suite.baseline.json"
    document = json.loads(baseline.read_text())
    figures, bits = document["cases"][name]["figures"], document["cases"][name]["bits"]
    assert figures["cosim.cycles"] == figures["cosim.simulated_cycles"] == figures["simulate.cycles"]
    assert figures["estimate.cycles"] <= figures["simulate.cycles"]
    assert figures["cosim.elements_compared"] == 16 * 24
    assert figures["cosim.elements_wrong"] == figures["cosim.counters_differing"] == 0
    assert figures["cosim.instructions"] == figures["program.instructions"]
    assert bits == {"Y": oracle_digest()}
    assert figures["resources.multipliers"] >= 8 * 8

    document["cases"][name]["bits"]["Y"] = "0" * 64
    baseline.write_text(json.dumps(document))
    assert main(["regress", str(suite)]) == 1
    assert "bits of Y" in capsys.readouterr().out


def oracle_digest() -> str:
    """Digest of the product that the integer oracle computes for the case."""
    work = verifiable(load(Job(model="gemm:16x8x24", arch="edge-8x8")), seed=3)
    product = evaluate_quantised(work.quantised, work.inputs)["Y"]
    return hashlib.sha256(b"|i1 16x24\n" + product.tobytes()).hexdigest()


@pytest.mark.cosim
def test_whatever_the_hardware_does_otherwise_fails_the_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[rtl.Checked] = []

    def otherwise(*arguments: object, **options: object) -> tuple[rtl.Checked, ...]:
        (right,) = cosim(*arguments, **options)  # type: ignore[arg-type]
        (tensor, (cycle, _)), *_ = right.finished.items()
        counters = {"cycles": (1000, 1001), "load_beats": (7, 8)}
        found.append(replace(right, counters=counters, finished={tensor: (cycle, cycle + 1)}))
        return (found[0],)

    cosim = rtl.cosim
    monkeypatch.setattr(rtl, "cosim", otherwise)
    problem = load(Job(model="gemm:8x8x8", arch="edge-8x8"))
    result = run_hardware(problem, seed=1, locks=tmp_path, steps=Steps())
    ((tensor, (cycle, _)),) = found[0].finished.items()
    assert result.failures == (
        "cycles: simulated 1,000, RTL 1,001",
        "load_beats: simulated 7, RTL 8",
        f"{tensor}: last byte simulated in cycle {cycle:,}, RTL {cycle + 1:,}",
    )


@pytest.mark.cosim
def test_resources_of_a_machine_hold_its_memories_and_array() -> None:
    machine = load_architecture("edge-8x8")
    counted = resources(rtl.build_cached(machine))
    word, cols = 8 * machine.word_bytes, machine.array.cols
    pad, vector = machine.scratchpad, machine.vector
    memories = (
        pad.banks * pad.words_per_bank * word
        + machine.accumulator_words * 32 * cols
        + machine.parameter_words * 64 * machine.word_bytes
        + vector.buffer_words * 16 * cols
        + machine.program_words * INSTRUCTION_BITS
        + vector.tables * 256 * 16 * cols
    )
    # Beside these there are queues, row records and delay lines.
    assert memories < counted["memory_bits"] < 1.05 * memories
    assert counted["multipliers"] >= machine.array.rows * cols
