"""The page of areas: counts that are known by hand, and the committed page from the committed figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts.area import DENSE, FAMILIES, MAC, SIDES, TERNARY, THREES, Row, page, picture, tasks

RESULTS = Path(__file__).resolve().parents[3] / "sim_results"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The committed figures."""
    return [Row(**each) for each in json.loads((RESULTS / "area.json").read_text())["rows"]]


def row(subject: str, side: int) -> Row:
    return Row(subject=subject, side=side, family="xc7", dsp=False, lut=1, ff=1, multipliers=0, blocks=0)


def test_all_that_is_asked_for_is_there(rows: list[Row]) -> None:
    assert [(each.subject, each.side, each.family, each.dsp) for each in rows] == list(tasks())
    assert len(rows) == len(FAMILIES) * len(SIDES) * 6


def test_a_product_is_a_multiplier_or_look_up_tables(rows: list[Row]) -> None:
    for each in rows:
        products = {MAC: 1, DENSE: each.side**2}.get(each.subject, 0)
        assert each.multipliers == (products if each.dsp else 0), each
        assert each.blocks == 0
        assert each.lut or each.multipliers


def test_the_multiply_accumulate_has_the_registers_that_it_names(rows: list[Row]) -> None:
    """A product of 16 bits and a sum that holds as many of them as the array has rows."""
    for each in rows:
        if each.subject == MAC and not each.dsp:
            assert each.ff == 16 + 16 + (each.side - 1).bit_length(), each


@pytest.mark.parametrize(("side", "dense", "packed"), [(4, 32, 32), (8, 64, 104), (16, 128, 416)])
def test_weights_of_a_cycle(side: int, dense: int, packed: int) -> None:
    """A row of bytes, or a tile of trits, five a byte: 16 in 4, 64 in 13, 256 in 52."""
    assert row(DENSE, side).weight_bits == dense
    assert row(TERNARY, side).weight_bits == row(THREES, side).weight_bits == packed
    assert row(DENSE, side).macs == row(TERNARY, side).macs == side * side
    assert row(MAC, side).macs == 1


def test_the_page_is_made_of_the_figures(rows: list[Row]) -> None:
    assert (RESULTS / "area.md").read_text() == page(rows)
    assert (RESULTS / "area.svg").read_text() == picture(rows)


def test_ratios_are_those_of_the_counts(rows: list[Row]) -> None:
    text = (RESULTS / "area.md").read_text()
    for section in text.split("\n## ")[1:]:
        family = section.split("\n", 1)[0]
        lut = {(e.subject, e.side): e.lut for e in rows if e.family == family and not e.dsp}
        for side in SIDES:
            found = re.search(rf"^\| {side}x{side} \| (.*) \|$", section, re.MULTILINE)
            assert found
            first, _, threes, _, alone, _ = map(float, found[1].split(" | "))
            assert first == pytest.approx(lut[DENSE, side] / lut[TERNARY, side], abs=0.006)
            assert threes == pytest.approx(lut[DENSE, side] / lut[THREES, side], abs=0.006)
            assert alone == pytest.approx(lut[MAC, side] * side**2 / lut[TERNARY, side], abs=0.006)
