"""Hierarchy files: what they say, and what is refused, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim._errors import ArchsimError
from archsim._hierarchy_file import (
    hierarchy_names,
    hierarchy_schema,
    is_hierarchy,
    load_hierarchy,
    parse_hierarchy,
)

SMALL = """\
kind: hierarchy
name: small
clock_mhz: 1000
mac_pj: 0.5
levels:
  - name: DRAM
    read_pj_per_bit: 8
    write_pj_per_bit: 8
  - name: RF
    read_pj_per_bit: 0.05
    write_pj_per_bit: 0.05
    size_bits: 512
    spatial:
      - name: X
        size: 4
        ranks: [m]
    hold: [weight]
"""


def test_a_file_is_read() -> None:
    found = parse_hierarchy(SMALL)
    assert [level.name for level in found.levels] == ["DRAM", "RF"]
    assert found.macs == found.levels[1].fanout == 4
    assert found.levels[1].spatial[0].ranks == ("m",)
    assert found.levels[0].size_bits is None
    assert found.levels[0].bandwidth_bits_per_cycle is None
    assert found.bits("weight") == 8


@pytest.mark.parametrize(("name", "macs"), [("std3-16", 256), ("std3-128", 16384), ("tpu2-128", 16384)])
def test_the_library(name: str, macs: int) -> None:
    assert name in hierarchy_names()
    assert is_hierarchy(name)
    assert load_hierarchy(name).macs == macs


def test_kinds_of_files_are_told_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(SMALL)
    other.write_text("name: x\n")
    assert is_hierarchy(one)
    assert not is_hierarchy(str(other))
    assert not is_hierarchy("edge-8x8")
    assert load_hierarchy(one).name == "small"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size: 4", "size: 0", "<text>:15: levels[1].spatial[0].size must be at least 1, not 0"),
        ("mac_pj: 0.5", "mac_pj: -1", "<text>:4: mac_pj must be a number from 0 to 1e9, not -1"),
        ("    hold: [weight]", "    holds: [weight]", "<text>:17: levels[1].holds must be one of"),
        ("name: X", "name: RF", "<text>:5: levels and spatial dimensions must have one name each: 'RF'"),
        (
            "    size_bits: 512\n",
            "    bypass: [weight]\n",
            "<text>:12: levels[1].bypass must not repeat what hold has, not 'weight'",
        ),
        (
            "  - name: RF",
            "    size_bits: 9\n  - name: RF",
            "<text>:9: levels[0].size_bits must be absent (the outermost level holds all, once), not given",
        ),
    ],
)
def test_mistakes(old: str, new: str, message: str) -> None:
    with pytest.raises(ArchsimError) as error:
        parse_hierarchy(SMALL.replace(old, new, 1))
    assert str(error.value).startswith(message)


def test_an_unknown_name() -> None:
    with pytest.raises(ArchsimError, match=r"did you mean 'std3-16'\?"):
        load_hierarchy("std3-17")


def test_the_schema_names_every_key() -> None:
    assert {"kind", "levels", "mac_pj", "dataflow", "ragged_steps"} <= set(hierarchy_schema()["properties"])
