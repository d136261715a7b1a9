"""Energy as action counts times a table of published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archsim._errors import ArchsimError

Action = tuple[str, str, str]
"""(component, action, tensor); the tensor is "" where the action belongs to no one tensor."""

Kind = Literal["measured", "simulated", "derived"]

PER_BIT = frozenset({"read", "write"})
"""Actions counted in bits and priced by the bit; every other action is counted in operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyEntry:
    """One published figure: what one action of one component costs."""

    component: str
    """``dram``, ``scratchpad``, ``accumulator``, ``parameters``, ``weights``, ``buffer``, ``table``,
    ``array`` or ``vector``."""
    action: str
    """``read`` or ``write`` of a memory; ``mac`` of the array, ``add`` of a ternary one; ``slot`` of one
    vector lane."""
    pj: float
    """Energy in pJ of one access of ``width_bits``, or of one operation."""
    node_nm: float
    """Process node of the figure in nm."""
    width_bits: int
    """Width of the access or of the operands for which the figure was published."""
    source: str
    kind: Kind

    def __post_init__(self) -> None:
        where = f"energy of {self.component} {self.action}"
        if not 0 <= self.pj < float("inf"):
            raise ArchsimError(f"{where} must be a finite number of pJ >= 0, not {self.pj!r}")
        if self.width_bits < 1:
            raise ArchsimError(f"{where}: width_bits must be a positive integer, not {self.width_bits!r}")
        if self.kind not in ("measured", "simulated", "derived"):
            raise ArchsimError(f"{where}: kind must be measured, simulated or derived, not {self.kind!r}")

    @property
    def pj_per_count(self) -> float:
        """Energy in pJ of one bit moved or of one operation, as ``PER_BIT`` says."""
        return self.pj / self.width_bits if self.action in PER_BIT else self.pj


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTable:
    """A technology: one entry for each (component, action)."""

    name: str
    entries: tuple[EnergyEntry, ...]

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for entry in self.entries:
            key = (entry.component, entry.action)
            if key in seen:
                raise ArchsimError(f"energy table {self.name!r} must list {key[0]} {key[1]} once, not twice")
            seen.add(key)

    def entry(self, component: str, action: str) -> EnergyEntry:
        """The entry of ``component`` and ``action``; an error names the pair that is missing."""
        for entry in self.entries:
            if entry.component == component and entry.action == action:
                return entry
        raise ArchsimError(f"energy table {self.name!r} must have an entry for {component} {action}")


def price(actions: Mapping[Action, int], table: EnergyTable) -> dict[str, float]:
    """Energy in pJ of each component, in the components' alphabetical order.

    Reads and writes are counted in bits and cost ``pj / width_bits`` each; other actions cost ``pj``.

    >>> entry = EnergyEntry(component="dram", action="read", pj=1300.0, node_nm=45, width_bits=64,
    ...                     source="Horowitz, ISSCC 2014", kind="derived")
    >>> price({("dram", "read", "X"): 128}, EnergyTable(name="45nm", entries=(entry,)))
    {'dram': 2600.0}
    """
    cost = {(entry.component, entry.action): entry.pj_per_count for entry in table.entries}
    total: dict[str, float] = {}
    for (component, action, _), count in sorted(actions.items()):
        if (component, action) not in cost:
            table.entry(component, action)
        total[component] = total.get(component, 0.0) + count * cost[component, action]
    return total
