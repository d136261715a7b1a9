"""The closed form of resources against the hardware: its memories, and the entries of its queues."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from archsim import Architecture, Bus, Scratchpad, _block_ram, _structures, load_architecture
from archsim._block_ram import memories
from archsim._structures import components
from rtl import _lane, _pipe, _scratchpad, _weights, build
from rtl._units import units

_MEMORY = re.compile(r"^  reg \[(?P<top>\d+):0\] \S+\s*\[(?P<last>\d+):0\];$", re.MULTILINE)
_EXACT = ("scratchpad", "parameters", "program", "attend_lane")
"""Units that have no other memories than those that may become block RAM."""


def _small(name: str) -> Architecture:
    """A machine of the library with few lanes and banks: quick to build."""
    arch = load_architecture(name)
    array = replace(arch.array, rows=2, cols=2)
    bus, scratchpad = Bus(bytes=8), Scratchpad(banks=2, words_per_bank=64)
    return replace(arch, array=array, bus=bus, scratchpad=scratchpad, queue_depth=3)


@pytest.fixture(scope="module", params=["edge-8x8", "ternary-ecp5", "fusemax-4x4"])
def built(request: pytest.FixtureRequest) -> tuple[Architecture, dict[str, Counter[tuple[int, int]]]]:
    """A machine, and the memories of each of its units as (words, bits)."""
    arch = _small(request.param)
    design = build(arch)
    found = {}
    for unit in units(design.verilog, top=design.top):
        shapes = [(int(each["last"]) + 1, int(each["top"]) + 1) for each in _MEMORY.finditer(unit.verilog)]
        found[unit.name.rpartition(".")[2].removeprefix("archsim_")] = Counter(shapes)
    return arch, found


def test_memories_are_those_of_the_hardware(
    built: tuple[Architecture, dict[str, Counter[tuple[int, int]]]],
) -> None:
    arch, real = built
    expected: dict[str, Counter[tuple[int, int]]] = {}
    copies = {component.name: component.copies for component in components(arch)}
    for shape in memories(arch):
        own = expected.setdefault(shape.component, Counter())
        own[shape.words, shape.bits] += shape.copies // copies[shape.component]
    assert copies.keys() == real.keys()
    for unit, shapes in expected.items():
        assert shapes <= real[unit], unit
    for unit in expected.keys() & set(_EXACT):
        assert expected[unit] == real[unit]


def test_entries_of_queues_are_as_wide_as_the_hardware_s(
    built: tuple[Architecture, dict[str, Counter[tuple[int, int]]]],
) -> None:
    arch, real = built
    queues = [component for component in components(arch) if component.cost == "queue"]
    assert len(queues) == 4
    for component in queues:
        # Depth 3: one entry is a register, two are the memory.
        bits = component.structures(arch, "ecp5")["bits of an entry"]
        assert real[component.name] == Counter([(2, bits)])


def test_what_the_closed_form_knows_of_the_hardware_is_so() -> None:
    assert _structures.RING == (_pipe._RING_CYCLES, _pipe._RING_BITS)
    assert _block_ram.WEIGHT_BANK_WORDS == _weights.BANK_WORDS
    assert (_block_ram.TABLE_ENTRIES, _block_ram.STEP_BITS) == (_lane.TABLE_ENTRIES, _lane.STEP_BITS)
    for kind, words in _structures.WORD_READERS.items():
        arch = load_architecture(
            {"dense": "edge-8x8", "ternary": "ternary-ecp5", "fusemax": "fusemax-4x4"}[kind]
        )
        ports = _scratchpad.word_readers(arch)
        # A divider reads no words, so that its ports are not there.
        assert words == len([name for name in ports if kind != "fusemax" or name in ("x", "w")])
