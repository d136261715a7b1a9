"""Energy is counts times a table."""

from __future__ import annotations

import pytest

from archsim._energy import EnergyEntry, EnergyTable, Kind, price
from archsim._errors import ArchsimError


def entry(component: str, action: str, pj: float, width_bits: int = 8, kind: Kind = "derived") -> EnergyEntry:
    """An entry at 45 nm."""
    return EnergyEntry(
        component=component,
        action=action,
        pj=pj,
        node_nm=45,
        width_bits=width_bits,
        source="chosen",
        kind=kind,
    )


TABLE = EnergyTable(
    name="unit",
    entries=(entry("dram", "read", 64.0, 64), entry("dram", "write", 128.0, 64), entry("array", "mac", 0.5)),
)


def test_memories_are_priced_by_the_bit_and_operations_one_by_one() -> None:
    actions = {
        ("dram", "read", "X"): 10,
        ("dram", "read", "W"): 5,
        ("dram", "write", "Z"): 3,
        ("array", "mac", ""): 8,
    }
    assert price(actions, TABLE) == {"array": 4.0, "dram": 10.0 + 5.0 + 6.0}


def test_a_missing_entry_is_named() -> None:
    with pytest.raises(ArchsimError, match=r"^energy table 'unit' must have an entry for vector slot$"):
        price({("vector", "slot", ""): 1}, TABLE)


def test_an_entry_stands_once() -> None:
    with pytest.raises(ArchsimError, match=r"^energy table 'twice' must list array mac once, not twice$"):
        EnergyTable(name="twice", entries=(TABLE.entries[2], TABLE.entries[2]))


@pytest.mark.parametrize("pj", [-1.0, float("nan"), float("inf")])
def test_an_energy_is_a_finite_number(pj: float) -> None:
    with pytest.raises(ArchsimError, match=r"^energy of array mac must be a finite number of pJ >= 0, not"):
        entry("array", "mac", pj)


def test_a_width_is_positive() -> None:
    with pytest.raises(ArchsimError, match=r"width_bits must be a positive integer, not 0$"):
        entry("dram", "read", 1.0, 0)
