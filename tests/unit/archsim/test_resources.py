"""The closed form of resources: its table, its exact parts, and what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsim import ArchsimError, estimate_resources, load_architecture, parse_architecture
from archsim._architecture import Architecture
from archsim._architecture_file import architecture_names
from archsim._block_ram import MemoryShape, blocks
from archsim._resources_value import Resources, resources_of
from archsim._structures import components

ROOT = Path(__file__).parents[3]
EDGE = load_architecture("edge-8x8")


@pytest.mark.parametrize("name", ["edge-8x8", "ternary-ecp5", "fusemax-4x4"])
def test_a_sum_of_components_is_the_total(name: str) -> None:
    found = estimate_resources(load_architecture(name), family="ecp5")
    total = Resources()
    for each in found.components.values():
        total = total + each
    assert found.total == total


# The row unit squares its lanes' elements, and multiplies a count by three parts of a sum of squares and
# two parts of a sum by themselves and each other: 6 products of at most 18 x 18 bits beside the squares.
# A lane has 6 (count, two halves of a mantissa, two of a gain, a residual), a gated one 7 (a step).
ROW_UNIT, LANE, GATED_LANE = 6, 6, 7
# Kind fusemax: 25 x 18 bits in an element are two, 40 x 18 in a lane three, 17 x 16 in a divider's one.
ELEMENT, ATTEND_LANE, DIVIDE_LANE = 2, 3, 1


@pytest.mark.parametrize(
    ("name", "multipliers"),
    [
        ("edge-8x8", 8 * 8 + 8 * (LANE + 1) + ROW_UNIT),
        ("edge-16x16", 16 * 16 + 16 * (LANE + 1) + ROW_UNIT),
        ("ternary-ecp5", 8 * (GATED_LANE + 1) + ROW_UNIT),
        ("fusemax-4x4", 4 * 4 * ELEMENT + 4 * (ATTEND_LANE + DIVIDE_LANE)),
        ("fusemax-8x8", 8 * 8 * ELEMENT + 8 * (ATTEND_LANE + DIVIDE_LANE)),
    ],
)
def test_multipliers_follow_from_the_products(name: str, multipliers: int) -> None:
    assert estimate_resources(load_architecture(name), family="ecp5").total.dsp == multipliers


@pytest.mark.parametrize(
    ("name", "by_component"),
    [
        # 4 banks of 256 words of 128 bits, written 32 bits at a time; two readers of 512 x 128 bits in the
        # buffer and of 128 x 256 in the accumulators; 512 x 33 bits of tables and steps a lane; a bank of
        # Four times 2,048 weight words of 208 bits in 24 columns of 2,048 x 9 bits, and 512 words in six.
        (
            "ternary-ecp5",
            {
                "scratchpad": 4 * 4,
                "program": 16,
                "parameters": 16,
                "array": 24 * 4 + 6 + 2 * 8,
                "vector": 2 * 4 + 2,
                "lane": 8,
            },
        ),
        # 16 banks of two words of 32 bits in a row of 512; two readers of 512 x 40 bits a lane.
        ("fusemax-4x4", {"scratchpad": 16 * 2, "program": 16, "attend_lane": 4 * 2 * 2}),
        # 16 banks of two words of 64 bits in a row of 256. Of 512 bits of an instruction, 128 at a time,
        # each 128 take 15 of the nines that a block writes alone: 60 nines, four a block.
        ("fusemax-8x8", {"scratchpad": 16 * 2 * 2, "program": 15, "attend_lane": 8 * 2 * 2}),
    ],
)
def test_block_ram_follows_from_the_memories(name: str, by_component: dict[str, int]) -> None:
    found = estimate_resources(load_architecture(name), family="ecp5").components
    assert {key: each.bram for key, each in found.items() if each.bram} == by_component


def test_twice_the_columns_are_twice_their_units() -> None:
    narrow = load_architecture("ternary-ecp5")
    wide = replace(narrow, array=replace(narrow.array, cols=16))
    before, after = (estimate_resources(each, family="ecp5").components for each in (narrow, wide))
    for leaf in ("column", "lane"):
        assert after[leaf] == before[leaf].times(2)
    # 16 x 8 trits are 26 bytes of five, 16 x 16 are 52.
    assert after["trits"] == before["trits"].times(2)


@pytest.mark.parametrize(
    ("words", "bits", "grain", "count"),
    [
        (512, 36, 36, 1),  # one block's widest shape
        (512, 37, 37, 2),
        (1024, 18, 18, 1),
        (1024, 64, 64, 4),
        (16384, 8, 8, 8),
        (512, 64, 32, 2),  # two grains of four nines, as many as a block has
        (512, 512, 128, 15),  # four grains of fifteen nines
        (1024, 64, 32, 4),  # two grains of four nines, two of which a block has at this depth
        (8192, 6, 3, 4),  # two grains in bits of two, which have no enables of their own: two each
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
    rows = _rows()
    for name, row in rows.items():
        guess = estimate_resources(_machine(name, row), family="ecp5").total.as_dict()
        assert guess.keys() == row["total"].keys()
        for resource, real in row["total"].items():
            assert abs(guess[resource] - real) <= 0.1 * real, (name, resource, guess[resource], real)


def test_the_table_has_every_kind_and_holds_half_out() -> None:
    rows = _rows()
    kinds = Counter(_machine(name, row).array.kind for name, row in rows.items())
    assert len(rows) >= 34
    assert kinds["dense"] >= 16
    assert kinds["ternary"] >= 9
    assert kinds["fusemax"] >= 9
    assert sum(row["held_out"] for row in rows.values()) >= len(rows) / 2
    sides = {side for name, row in rows.items() for side in _sides(_machine(name, row))}
    assert min(sides) == 2
    assert max(sides) == 16


def test_a_mapped_total_is_the_sum_of_its_units() -> None:
    """What is written beside the estimate is Yosys' count of each unit, times its instances."""
    for name, row in _rows().items():
        arch = _machine(name, row)
        copies = {component.name: component.copies for component in components(arch)}
        assert copies.keys() == row["components"].keys()
        total = Resources()
        for unit, own in row["components"].items():
            total += Resources(**own).times(copies[unit])
        assert total.as_dict() == row["total"], name


@pytest.mark.parametrize("name", architecture_names())
def test_every_machine_of_the_library_has_resources(name: str) -> None:
    total = estimate_resources(load_architecture(name), family="ecp5").total
    assert min(total.lut, total.ff, total.dsp, total.bram) > 0
    assert total.uram == 0


def _rows() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "sim_results" / "resources.json").read_text())["ecp5"]
    return found


def _machine(name: str, row: dict[str, Any]) -> Architecture:
    """A machine of the table, from the text that stands beside its row."""
    return parse_architecture(row["architecture"], source=name)


def _sides(arch: Architecture) -> tuple[int, int]:
    return arch.array.rows, arch.array.cols


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("ice40", r"^family must be one of ecp5, xc7, xcup, not 'ice40'$"),
        ("xc7", r"^family must be one whose costs are known, not 'xc7'$"),
    ],
)
def test_a_family_without_costs_is_refused(family: str, message: str) -> None:
    with pytest.raises(ArchsimError, match=message):
        estimate_resources(EDGE, family=family)
