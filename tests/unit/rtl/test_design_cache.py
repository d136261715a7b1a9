"""The cache of designs: what is kept, and what makes another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsim import Architecture, Array, Bus, Memory, Scratchpad, Vector
from rtl import build, build_cached
from rtl._design_cache import _key

TINY = Architecture(
    name="tiny",
    clock_mhz=100,
    array=Array(rows=1, cols=1),
    bus=Bus(bytes=4),
    scratchpad=Scratchpad(banks=4, words_per_bank=64),
    accumulator_words=16,
    parameter_words=16,
    vector=Vector(buffer_words=16, rows=4, tables=1),
    program_words=16,
)


def test_the_second_design_is_the_first_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSIM_CACHE", str(tmp_path))
    first = build_cached(TINY)
    (kept,) = (tmp_path / "design").iterdir()
    assert kept.read_text() == first.verilog == build(TINY).verilog
    kept.write_text("// read back\n")
    assert build_cached(TINY).verilog == "// read back\n"


def test_only_what_gates_depend_on_makes_another_design() -> None:
    assert _key(replace(TINY, name="other", clock_mhz=50, memory=Memory(read_latency=9))) == _key(TINY)
    assert _key(replace(TINY, queue_depth=2)) != _key(TINY)
    assert _key(replace(TINY, array=Array(rows=2, cols=1))) != _key(TINY)
