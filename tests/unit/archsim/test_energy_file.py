from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim._energy import EnergyTable
from archsim._energy_file import energy_schema, energy_table_names, load_energy_table, parse_energy_table
from archsim._errors import ArchsimError

ENTRY = """\
  - component: {component}
    action: {action}
    pj: {pj}
    node_nm: 45
    width_bits: 64
    source: a paper
    kind: measured
"""
HEAD = "name: own\nentries:\n"
PAIRS = [
    *((memory, action) for memory in ("dram", "scratchpad", "accumulator") for action in ("read", "write")),
    *((memory, action) for memory in ("parameters", "buffer", "table") for action in ("read", "write")),
    *(("weights", action) for action in ("read", "write")),
    ("array", "mac"),
    ("array", "add"),
    ("vector", "slot"),
]


def message(text: str) -> str:
    with pytest.raises(ArchsimError) as caught:
        parse_energy_table(text, source="e.yaml")
    return str(caught.value)


@pytest.mark.parametrize("name", energy_table_names())
def test_library_prices_every_action_of_the_machine(name: str) -> None:
    table = load_energy_table(name)
    assert table.name == name
    assert {(entry.component, entry.action) for entry in table.entries} == set(PAIRS)
    assert all(entry.source for entry in table.entries)


@pytest.mark.parametrize(
    ("name", "component", "action", "pj"),
    [
        ("45nm", "dram", "read", 1300.0),  # Horowitz, ISSCC 2014: 1.3 to 2.6 nJ for 64 bits
        ("45nm", "scratchpad", "read", 20.0),  # the same, 32 KB SRAM
        ("45nm", "buffer", "write", 10.0),  # the same, 8 KB SRAM
        ("45nm", "array", "mac", 0.2 + 0.1),  # the same, int8 multiply and int32 add
        ("45nm", "array", "add", 0.1),  # the same, int32 add
        ("45nm", "weights", "read", 20.0),  # the same, 32 KB SRAM
        ("45nm", "vector", "slot", 3.1 + 2 * 0.1),  # the same, int32 multiply and two adds
        ("7nm", "dram", "write", (250 + 450) / 2),  # Jouppi, ISCA 2021: HBM2
        ("7nm", "scratchpad", "read", 14.0),  # the same, 1 MB SRAM
        ("7nm", "array", "mac", 0.07 + 0.03),  # the same, int8 multiply and int32 add
        ("7nm", "array", "add", 0.03),  # the same, int32 add
        ("7nm", "vector", "slot", 1.48 + 2 * 0.03),  # the same, int32 multiply and two adds
    ],
)
def test_library_figures_follow_from_their_sources(name: str, component: str, action: str, pj: float) -> None:
    assert load_energy_table(name).entry(component, action).pj == pytest.approx(pj, rel=1e-12)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (("dram", "mac", 1), "e.yaml:4: entries[0].action must be read or write for dram, not 'mac'"),
        (("array", "slot", 1), "e.yaml:4: entries[0].action must be mac or add for array, not 'slot'"),
        (("array", "mac", -1), "e.yaml:5: entries[0].pj must be at least 0, not -1"),
        (("array", "mac", ".nan"), "e.yaml:5: entries[0].pj must be a finite number, not nan"),
        (("matrix", "mac", 1), "e.yaml:3: entries[0].component must be 'dram', 'scratchpad', 'accumulator'"),
    ],
)
def test_message_says_file_line_key_wanted_and_found(entries: tuple[str, str, object], expected: str) -> None:
    component, action, pj = entries
    text = HEAD + ENTRY.format(component=component, action=action, pj=pj)
    assert message(text).startswith(expected)


def test_a_figure_is_given_once() -> None:
    text = HEAD + 2 * ENTRY.format(component="array", action="mac", pj=1)
    expected = "e.yaml:10: entries[1] must be the only array mac, not given again after entries[0]"
    assert message(text) == expected


def test_unknown_key_and_missing_key_in_an_entry() -> None:
    text = HEAD + ENTRY.format(component="array", action="mac", pj=1).replace("node_nm", "node")
    known = "component, action, pj, node_nm, width_bits, source, kind"
    assert message(text).splitlines() == [
        "e.yaml:3: entries[0].node_nm must be given",
        f"e.yaml:6: entries[0].node must be one of {known}; did you mean 'node_nm'?",
    ]


def test_unknown_name_suggests_the_nearest() -> None:
    expected = r"^the technology must be a \.yaml file or one of 45nm, 7nm, not '8nm'; did you mean '7nm'\?$"
    with pytest.raises(ArchsimError, match=expected):
        load_energy_table("8nm")


def test_file_is_loaded_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(HEAD + ENTRY.format(component="array", action="mac", pj=2))
    assert load_energy_table(str(path)).entry("array", "mac").pj == 2.0


def test_schema_names_the_keys_of_an_entry() -> None:
    entry = energy_schema()["$defs"]["EntryFile"]
    keys = {"component", "action", "pj", "node_nm", "width_bits", "source", "kind"}
    assert set(entry["properties"]) == set(entry["required"]) == keys


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_an_error(text: str) -> None:
    outcome: object
    try:
        outcome = parse_energy_table(text, source="e.yaml")
    except ArchsimError as error:
        outcome = error
    assert isinstance(outcome, EnergyTable) or str(outcome).startswith("e.yaml:")
