"""The Estimate: what bound, estimate, simulate and cosim all return."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from archsim._energy import Action
from archsim._errors import ArchsimError

Level = Literal["bound", "estimate", "simulate", "cosim"]
LEVELS: tuple[Level, ...] = ("bound", "estimate", "simulate", "cosim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kernel's share of an estimate."""

    name: str
    cycles: int
    macs: int
    utilization: float
    """Multiply-accumulates over those the array could have done in these cycles, 0 to 1."""
    energy_pj: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Cycles, actions and energy of a workload on a machine, whichever level says so.

    Counts are integers and exact at their level, so that two estimates can be subtracted
    (``subtract``); energies are counts times a table; ``seconds`` is cycles over the clock.
    """

    name: str
    level: Level
    cycles: int
    seconds: float
    actions: Mapping[Action, int]
    """(component, action, tensor or "") -> bits moved (``read``, ``write``) or operations done."""
    energy_pj: Mapping[str, float]
    """Component -> pJ."""
    macs: int
    """Multiply-accumulates of the workload; padding is not work."""
    utilization: Mapping[str, float]
    """Engine -> share of the cycles in which it worked, 0 to 1."""
    stalls: Mapping[str, int]
    """Cause (a semaphore's name) -> cycles in which an engine waited for it."""
    bytes: Mapping[str, int]
    """Memory -> bytes moved."""
    rows: tuple[Row, ...] = ()
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """The machine's counters by name; empty at the levels that have no machine."""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ArchsimError(f"level must be one of {', '.join(LEVELS)}, not {self.level!r}")

    @property
    def energy_total_pj(self) -> float:
        """Energy of all components in pJ."""
        return sum(self.energy_pj.values())

    def to_json(self) -> str:
        """The estimate as deterministic JSON text; ``from_json`` reads it back."""
        return json.dumps(self.document(), indent=2, sort_keys=True, allow_nan=False) + "\n"

    def document(self) -> dict[str, Any]:
        """The estimate as a tree of JSON values."""
        return {
            "name": self.name,
            "level": self.level,
            "cycles": self.cycles,
            "latency_s": self.seconds,
            "actions": [[*key, count] for key, count in sorted(self.actions.items())],
            "energy_pj": self.energy_total_pj,
            "energy_by_component_pj": dict(self.energy_pj),
            "macs": self.macs,
            "utilization": dict(self.utilization),
            "stalls": dict(self.stalls),
            "bytes": dict(self.bytes),
            "rows": [{name: getattr(row, name) for name in _ROW_FIELDS} for row in self.rows],
            "counters": dict(self.counters),
        }


_ROW_FIELDS = ("name", "cycles", "macs", "utilization", "energy_pj")


def from_json(text: str) -> Estimate:
    """The estimate that ``Estimate.to_json`` wrote."""
    try:
        tree = json.loads(text)
        return Estimate(
            name=tree["name"],
            level=tree["level"],
            cycles=tree["cycles"],
            seconds=tree["latency_s"],
            actions={(row[0], row[1], row[2]): row[3] for row in tree["actions"]},
            energy_pj=tree["energy_by_component_pj"],
            macs=tree["macs"],
            utilization=tree["utilization"],
            stalls=tree["stalls"],
            bytes=tree["bytes"],
            rows=tuple(Row(**row) for row in tree["rows"]),
            counters=tree["counters"],
        )
    except (json.JSONDecodeError, KeyError, TypeError, IndexError) as error:
        raise ArchsimError(f"an estimate's JSON must be what to_json writes: {error}") from error


def subtract(left: Estimate, right: Estimate) -> dict[str, int]:
    """The integer counts that differ, each as left minus right; empty means that the two agree.

    Keys are ``cycles``, ``macs``, ``actions/<component>/<action>/<tensor>``, ``bytes/<memory>``,
    ``counters/<name>`` and ``stalls/<cause>``. A mapping that one side leaves empty is not compared.
    """
    ours, theirs = _counts(left), _counts(right)
    groups = {key.split("/")[0] for key in ours} & {key.split("/")[0] for key in theirs}
    keys = sorted(key for key in ours.keys() | theirs.keys() if key.split("/")[0] in groups)
    differences = {key: ours.get(key, 0) - theirs.get(key, 0) for key in keys}
    return {key: value for key, value in differences.items() if value}


def _counts(estimate: Estimate) -> dict[str, int]:
    counts = {"cycles": estimate.cycles, "macs": estimate.macs}
    counts |= {"actions/" + "/".join(key): count for key, count in estimate.actions.items()}
    counts |= {f"bytes/{key}": count for key, count in estimate.bytes.items()}
    counts |= {f"counters/{key}": count for key, count in estimate.counters.items()}
    counts |= {f"stalls/{key}": count for key, count in estimate.stalls.items()}
    return counts
