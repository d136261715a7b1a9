"""The closed form of resources: its table, its exact parts, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from archsim import ArchsimError, estimate_resources, load_architecture, parse_architecture
from archsim._architecture import Architecture
from archsim._block_ram import MemoryShape, blocks
from archsim._resources_value import Resources, resources_of

ROOT = Path(__file__).parents[3]
EDGE = load_architecture("edge-8x8")


def test_a_sum_of_components_is_the_total() -> None:
    found = estimate_resources(EDGE, family="ecp5")
    total = Resources()
    for each in found.components.values():
        total = total + each
    assert found.total == total
    # 64 elements; 6 in each of 8 lanes; 14 in the row unit (docs/machine.md: products of 17 bits).
    assert total.dsp == 64 + 6 * 8 + 14


@pytest.mark.parametrize(
    ("words", "bits", "grain", "count"),
    [
        (512, 36, 36, 1),  # one block's widest shape
        (512, 37, 37, 2),
        (1024, 18, 18, 1),
        (1024, 64, 64, 4),
        (16384, 8, 8, 8),
        (512, 64, 32, 2),  # two grains, each a block of its own
        (16, 4, 4, 0),  # a look-up table's memory
    ],
)
def test_blocks_follow_from_the_shape(words: int, bits: int, grain: int, count: int) -> None:
    shape = MemoryShape(component="x", words=words, bits=bits, grain=grain)
    assert blocks(shape, family="ecp5") == count
    assert blocks(replace(shape, readers=2), family="ecp5") == 2 * count


def test_cells_are_counted_by_what_they_take() -> None:
    cells = {"LUT4": 3, "CCU2C": 2, "TRELLIS_DPR16X4": 1, "PFUMX": 9, "TRELLIS_FF": 5, "DP16KD": 1}
    assert resources_of(cells, family="ecp5") == Resources(lut=3 + 4 + 4, ff=5, bram=1)
    assert resources_of({"RAMB36E1": 2, "LUT6": 1, "DSP48E1": 1}, family="xc7") == Resources(
        lut=1, bram=4, dsp=1
    )


def test_every_machine_that_was_mapped_is_within_a_tenth() -> None:
    rows = json.loads((ROOT / "sim_results" / "resources.json").read_text())["ecp5"]
    machines = {arch.name: arch for arch in _machines()}
    assert len(rows) >= 9
    for name, row in rows.items():
        guess = estimate_resources(machines[name], family="ecp5").total.as_dict()
        for resource, real in row["total"].items():
            assert abs(guess[resource] - real) <= 0.1 * real, (name, resource, guess[resource], real)


def _machines() -> list[Architecture]:
    """The table's machines, from the text of each that stands beside its row."""
    rows = json.loads((ROOT / "sim_results" / "resources.json").read_text())["ecp5"]
    return [parse_architecture(row["architecture"], source=name) for name, row in rows.items()]


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("ice40", r"^family must be one of ecp5, xc7, xcup, not 'ice40'$"),
        ("xc7", r"^family must be one whose costs are known for core, not 'xc7'$"),
    ],
)
def test_a_family_without_costs_is_refused(family: str, message: str) -> None:
    with pytest.raises(ArchsimError, match=message):
        estimate_resources(EDGE, family=family)


def test_an_array_kind_without_costs_is_refused() -> None:
    other = replace(EDGE, array=replace(EDGE.array, kind="fusemax"))
    with pytest.raises(
        ArchsimError, match=r"^array.kind must be 'dense' for its resources to be known, not 'fusemax'$"
    ):
        estimate_resources(other, family="ecp5")
