"""What mapping a model on a hierarchy asks for and gives back, as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archsim._hierarchy import Hierarchy
from archsim._nest import Nest
from archsim._nest_cost import NestCost
from mapper._distinct import Canonical, Distinct, Unmapped, problem_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search's options."""

    objective: tuple[str, ...]
    """One metric, or those of a Pareto front."""
    factors: str = "auto"
    budget: int | None = None

    @property
    def text(self) -> str:
        """What tells one set of options from another."""
        return f"{self.objective}\n{self.factors}\n{self.budget}"


@dataclass(frozen=True, slots=True)
class Task:
    """One search."""

    problem: Canonical
    asked: Asked

    @property
    def text(self) -> str:
        """Everything that its answer depends on, besides the program."""
        return f"{self.problem.text}\n{self.asked.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a search found, in the problem's canonical names."""

    points: tuple[tuple[Nest, NestCost], ...]
    """None where nothing fits."""
    proved_optimal: bool
    gap: float
    """How much lower the first metric may still be, relative to the result."""
    evaluated: int
    """Partial mappings whose cost was computed."""
    factors: str
    search_s: float
    """Seconds that the search took when it was run."""
    cached: bool = False
    """Whether an earlier run searched."""


@dataclass(frozen=True, slots=True)
class MappedEinsum:
    """A distinct Einsum with its mappings, in the model's names."""

    what: Distinct
    answer: Answer

    @property
    def key(self) -> str:
        """What tells it from the model's other rows."""
        return problem_key(self.what.canonical.text)

    @property
    def name(self) -> str:
        """The tensor that the first use makes."""
        return self.what.einsum.output.tensor

    @property
    def nest(self) -> Nest:
        """The best mapping, of a front the first."""
        return self.what.named(self.answer.points[0][0])

    @property
    def cost(self) -> NestCost:
        """What that mapping costs, once."""
        return self.answer.points[0][1]

    @property
    def front(self) -> Iterator[tuple[Nest, NestCost]]:
        """Every mapping with its cost."""
        return ((self.what.named(nest), cost) for nest, cost in self.answer.points)

    def document(self) -> dict[str, Any]:
        """A row of the JSON document."""
        what, answer = self.what, self.answer
        points = [figures(cost) | {"mapping": str(nest)} for nest, cost in self.front]
        return {
            "einsum": str(what.einsum),
            "product": what.einsum.is_product,
            "ranks": dict(what.ranks),
            "uses": [f"{use.part}/{use.einsum.output.tensor}" for use in what.uses],
            "count": what.count,
            "macs": what.points,
            "levels": levels(self.cost),
            "proved_optimal": answer.proved_optimal,
            "gap": answer.gap,
            "factors": answer.factors,
            "evaluated": answer.evaluated,
            "search_s": answer.search_s,
            "cached": answer.cached,
            **points[0],
            **({"front": points} if len(points) > 1 else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMapping:
    """A model on a hierarchy: each distinct Einsum's best mapping."""

    model: str
    hierarchy: Hierarchy
    asked: Asked
    rows: tuple[MappedEinsum, ...]
    left: tuple[Unmapped, ...]
    """Einsums that are not mapped."""
    wall_s: float
    """Seconds from the first look into the cache to the last answer."""
    notes: tuple[str, ...] = field(default=())

    @property
    def energy_pj(self) -> float:
        """Of all Einsums and repetitions that are mapped."""
        return math.fsum(row.what.count * row.cost.energy_pj for row in self.rows)

    @property
    def cycles(self) -> float:
        """The same; Einsums follow one another."""
        return math.fsum(row.what.count * row.cost.cycles for row in self.rows)

    @property
    def dram_bits(self) -> float:
        """Bits to and from the outermost level."""
        return math.fsum(row.what.count * row.cost.dram_bits for row in self.rows)

    @property
    def macs(self) -> int:
        """Points of the iteration spaces."""
        return sum(row.what.count * row.what.points for row in self.rows)

    @property
    def proved_optimal(self) -> bool:
        """Whether every mapping is."""
        return all(row.answer.proved_optimal for row in self.rows)

    @property
    def search_s(self) -> float:
        """Seconds that the searches took, one after another, whenever they were run."""
        return math.fsum(row.answer.search_s for row in self.rows)

    @property
    def cached(self) -> int:
        """Rows that an earlier run found."""
        return sum(row.answer.cached for row in self.rows)

    @property
    def evaluated(self) -> int:
        """Partial mappings that this run evaluated."""
        return sum(row.answer.evaluated for row in self.rows if not row.answer.cached)

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "name": self.model,
            "arch": self.hierarchy.name,
            "objective": list(self.asked.objective),
            "factors": self.asked.factors,
            "budget": self.asked.budget,
            "energy_pj": self.energy_pj,
            "cycles": self.cycles,
            "latency_s": self.cycles / (self.hierarchy.clock_mhz * 1e6),
            "edp": self.energy_pj * self.cycles,
            "dram_bits": self.dram_bits,
            "buffer_bits": max(row.cost.buffer_bits for row in self.rows),
            "macs": self.macs,
            "proved_optimal": self.proved_optimal,
            "gap": max(row.answer.gap for row in self.rows),
            "search_s": self.search_s,
            "wall_s": self.wall_s,
            "cached": self.cached,
            "evaluated": self.evaluated,
            "rows": [row.document() for row in self.rows],
            "not_mapped": [
                {"einsum": str(each.use.einsum), "part": each.use.part, "count": each.use.repeat}
                | {"reason": each.reason}
                for each in self.left
            ],
        }


def figures(cost: NestCost) -> dict[str, float]:
    """The five metrics of a mapping."""
    return {
        "energy_pj": cost.energy_pj,
        "cycles": cost.cycles,
        "edp": cost.edp,
        "dram_bits": cost.dram_bits,
        "buffer_bits": cost.buffer_bits,
    }


METRIC_FIGURES: Mapping[str, str] = {
    "latency": "cycles",
    "energy": "energy_pj",
    "edp": "edp",
    "traffic": "dram_bits",
    "buffer": "buffer_bits",
}
"""Metric -> its figure."""


def metric(cost: NestCost, name: str) -> float:
    """One metric of a mapping."""
    return figures(cost)[METRIC_FIGURES[name]]


def levels(cost: NestCost) -> list[dict[str, Any]]:
    """Each level's part, outermost first."""
    return [
        {
            "level": level.level,
            "read_bits": float(level.read_bits),
            "write_bits": float(level.write_bits),
            "energy_pj": level.energy_pj,
            "cycles": level.cycles,
            "held_bits": level.held_bits,
        }
        for level in cost.levels
    ]


def resources(cost: NestCost) -> Sequence[tuple[str, float]]:
    """Cycles that each resource needs, the longest first: the array and every level."""
    found = [("array", cost.array_cycles), *((level.level, level.cycles) for level in cost.levels)]
    return sorted(found, key=lambda pair: -pair[1])
