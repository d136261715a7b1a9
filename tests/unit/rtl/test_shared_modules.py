"""The Verilog with shared leaf modules does, cycle by cycle, what Amaranth's simulator did inline."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.back import verilog

from rtl import _array, _vector
from rtl._toolchain import tool_environment, verilator_root
from tests.unit.rtl import test_array, test_vector
from tests.unit.rtl._bench import Diary, architecture

Tape = list[tuple[dict[str, int], dict[str, int]]]


def widths(engine: Any) -> dict[str, int]:
    """Bits of every port, by its name in Verilog."""
    ports = engine.signature.flatten(engine)
    return {"__".join(map(str, path)): len(getattr(v, "as_value", lambda v=v: v)()) for path, _, v in ports}


def slices(bits: dict[str, int], names: list[str]) -> dict[str, str]:
    """Where each name stands in one vector of all of them, from bit 0 upwards."""
    places = np.cumsum([0, *(bits[name] for name in names)])
    return {name: f"[{place} +: {bits[name]}]" for name, place in zip(names, places, strict=False)}


def packed(bits: dict[str, int], values: dict[str, int]) -> str:
    """The vector of ``values``, as a line of a memory file."""
    word = 0
    for name in reversed(values):
        word = word << bits[name] | values[name]
    return f"{word:x}"


def bench_text(bits: dict[str, int], tape: Tape) -> str:
    """A test bench that plays the inputs of ``tape`` and stops at the first output that differs."""
    inputs, outputs = (slices(bits, list(side)) for side in tape[0])
    given, wanted = (sum(bits[name] for name in side) for side in (inputs, outputs))
    joins = [f".\\{name} (given[t]{place})" for name, place in inputs.items()]
    joins += [f".\\{name} (seen{place})" for name, place in outputs.items()]
    checks = "\n".join(
        f'    if (seen{place} !== wanted[t]{place}) begin $display("cycle %0d: {name}", t); $finish; end'
        for name, place in outputs.items()
    )
    return f"""
module replay;
  reg clk = 0;
  reg [{given - 1}:0] given [0:{len(tape) - 1}];
  reg [{wanted - 1}:0] wanted [0:{len(tape) - 1}];
  wire [{wanted - 1}:0] seen;
  integer t = 0;
  initial begin $readmemh("given.hex", given); $readmemh("wanted.hex", wanted); end
  always #1 clk = ~clk;
  engine dut(.clk(clk), .rst(1'b0), {", ".join(joins)});
  always @(posedge clk) begin
{checks}
    if (t == {len(tape) - 1}) begin $display("same"); $finish; end
    t <= t + 1;
  end
endmodule
"""


def compiled(folder: Path, engine: Any, extra: str, tape: Tape) -> None:
    """Compiles the replay of tapes as long as ``tape`` on the Verilog of ``engine``."""
    (folder / "engine.v").write_text(verilog.convert(engine, name="engine", emit_src=False) + extra)
    (folder / "replay.sv").write_text(bench_text(widths(engine), tape))
    build = [str(verilator_root() / "bin" / "verilator"), "--binary", "--timing", "-CFLAGS", "-std=c++20"]
    build += ["-Wno-fatal", "-Wno-lint", "-Wno-style", "--top-module", "replay", "-o", "replay"]
    build += ["replay.sv", "engine.v"]
    options: dict[str, Any] = {"cwd": folder, "env": tool_environment(), "capture_output": True}
    built = subprocess.run(build, check=False, text=True, **options)
    assert built.returncode == 0, built.stdout + built.stderr


def replay(folder: Path, engine: Any, tape: Tape) -> str:
    """What the compiled replay says about ``tape``: "same", or where it differs."""
    bits = widths(engine)
    (folder / "given.hex").write_text("\n".join(packed(bits, given) for given, _ in tape))
    (folder / "wanted.hex").write_text("\n".join(packed(bits, seen) for _, seen in tape))
    program = [str(folder / "obj_dir" / "replay")]
    result = subprocess.run(program, cwd=folder, check=True, capture_output=True, text=True)
    return result.stdout.splitlines()[0]


def array_tape() -> Diary:
    rng = np.random.default_rng(1)
    arch = architecture(3, 5)
    store = rng.integers(-128, 128, size=(1024, arch.word_bytes))
    return test_array.run(arch, store, [test_array.random_command(arch, rng) for _ in range(6)])[0]


def vector_tape() -> Diary:
    rng = np.random.default_rng(2)
    arch = architecture(3, 5)
    commands = [*test_vector.tables(arch), *(test_vector.random_pass(arch, rng) for _ in range(20))]
    return test_vector.run(arch, test_vector.random_state(arch, rng), commands)[0]


@pytest.mark.cosim
def test_array_of_instances(tmp_path: Path) -> None:
    arch = architecture(3, 5)
    engine, tape = _array.ArrayEngine(arch), array_tape().tape
    # The accumulators' read port is idle while the commands run.
    tape = [({**given, "acc_read__en": 0, "acc_read__addr": 0}, seen) for given, seen in tape]
    compiled(tmp_path, engine, _array.extra_verilog(arch), tape)
    assert replay(tmp_path, engine, tape) == "same"


@pytest.mark.cosim
def test_vector_of_instances(tmp_path: Path) -> None:
    arch = architecture(3, 5)
    engine, tape = _vector.VectorEngine(arch), vector_tape().tape
    compiled(tmp_path, engine, _vector.extra_verilog(arch), tape)
    assert replay(tmp_path, engine, tape) == "same"
    given, seen = tape[-1]
    other = [*tape[:-1], (given, {**seen, "write__data": seen["write__data"] ^ 1})]
    assert replay(tmp_path, engine, other) == f"cycle {len(tape) - 1}: write__data"
