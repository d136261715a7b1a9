"""The exact search: the best loop nest of one Einsum on a hierarchy, and the proof that it is.

``docs/mapping.md`` defines the space. The search builds mappings from the innermost level outwards:
holders of a level, then the loops of each spatial dimension, then the next level. Of the partial
mappings that cover the same tile, one that is no better in any respect that an outer level can see is
dropped, and one whose bound does not beat what was found is not extended. The order of loops between two
holders changes no cost, and a loop is placed only where it spares a holder visits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from archsim._hierarchy import Hierarchy, Level, SpatialDimension
from archsim._nest import Nest
from archsim._nest_cost import NestCost, evaluate_nest
from mapper._errors import MapperError, NothingFitsError
from mapper._exact_nest import nest_of
from mapper._exact_problem import Factors, Pattern, Problem, patterns, problem
from mapper._exact_stages import Incumbent, Run, Stage, run_pattern, stages_of
from workloads import Access, Einsum, Index

Metric = Literal["latency", "energy", "edp", "traffic", "buffer"]
METRICS: tuple[Metric, ...] = ("latency", "energy", "edp", "traffic", "buffer")
"""Cycles, pJ, pJ cycles, bits to and from the outermost level, bits held at once on chip."""

_THEN: Mapping[Metric, Metric] = {
    "latency": "energy",
    "energy": "latency",
    "edp": "energy",
    "traffic": "edp",
    "buffer": "edp",
}
"""What breaks ties."""

BEAM = 48
"""Partial mappings that the first, quick pass keeps after each step."""


@dataclass(frozen=True, slots=True)
class Point:
    """A mapping and its cost."""

    nest: Nest
    cost: NestCost


@dataclass(frozen=True, slots=True)
class ExactResult:
    """The optimum of one metric, or the front of several."""

    points: tuple[Point, ...]
    """One mapping, or the front sorted by its first metric."""
    proved_optimal: bool
    """Whether nothing better exists in the space."""
    gap: float
    """How much lower the first metric may still be, relative to the result; 0 where proved."""
    evaluated: int
    """Partial mappings whose cost was computed."""
    factors: Factors
    """Perfect or imperfect: what was searched."""


def exact_search(
    einsum: Einsum,
    ranks: Mapping[str, int],
    hierarchy: Hierarchy,
    objective: Metric | tuple[Metric, ...] = "edp",
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    factors: Factors = "auto",
    budget: int | None = None,
) -> ExactResult:
    """The best mapping of ``einsum`` over ``ranks`` on ``hierarchy``; a tuple asks for the Pareto front.

    ``budget`` ends the search after that many partial mappings, with the best found so far. Raises
    MapperError where nothing fits or a choice is unknown.
    """
    metrics = _metrics(objective)
    item = problem(einsum, ranks, hierarchy, shapes=shapes or {}, factors=factors)
    front = not isinstance(objective, str)
    known = sorted(
        ((stages_of(item, pattern, metrics), pattern) for pattern in patterns(item)),
        key=lambda pair: pair[0][0].least[metrics[0]],
    )
    search = _Search(item, known, Incumbent.empty(metrics, front), budget)
    search.sweep(relaxed=not front and metrics[0] in (0, 2), beam=BEAM)
    proved = search.prove(front)
    if not search.best.runs:
        raise NothingFitsError(_nothing_fits(item))
    points = tuple(_point(item, run) for run in search.best.chosen())
    return ExactResult(
        points,
        proved,
        0.0 if proved else search.gap(),
        search.evaluated,
        "imperfect" if item.imperfect else "perfect",
    )


def prepare() -> None:
    """Load the compiled kernels, or compile them on the first use of a version: some 15 s, then 0.5 s.

    A search does so by itself; one that is to be timed calls this before.
    """
    ranks = {"m": 2, "k": 2}
    m, k = (Index(((rank, 1),)) for rank in ranks)
    einsum = Einsum(Access("Z", (m,)), (Access("A", (m, k)),), "identity", "add")
    dram = Level(name="DRAM", read_pj_per_bit=1.0, write_pj_per_bit=1.0)
    side = SpatialDimension(name="X", size=2)
    inner = Level(name="RF", read_pj_per_bit=1.0, write_pj_per_bit=1.0, spatial=(side,))
    exact_search(einsum, ranks, Hierarchy(name="tiny", clock_mhz=1.0, levels=(dram, inner), mac_pj=1.0))


def _metrics(objective: Metric | tuple[Metric, ...]) -> tuple[int, ...]:
    wanted = (objective,) if isinstance(objective, str) else objective
    for metric in wanted:
        if metric not in METRICS:
            raise MapperError(f"objective must be one of {', '.join(METRICS)}, not {metric!r}")
    if isinstance(objective, str):
        return METRICS.index(objective), METRICS.index(_THEN[objective])
    if not 1 <= len(set(wanted)) == len(wanted) <= 3:
        raise MapperError(f"a front must be of one to three different metrics, not {', '.join(wanted)}")
    return tuple(METRICS.index(metric) for metric in wanted)


def _point(item: Problem, run: Run) -> Point:
    nest = nest_of(item, run)
    return Point(nest, evaluate_nest(nest, item.hierarchy))


def _nothing_fits(item: Problem) -> str:
    return f"{item.einsum} must have a mapping that fits {item.hierarchy.name}; none does"


@dataclass(slots=True)
class _Search:
    """Passes over every pattern of held tensors that share what was found."""

    item: Problem
    known: list[tuple[tuple[Stage, ...], Pattern]]
    best: Incumbent
    budget: int | None
    evaluated: int = 0
    open_bound: float = math.inf
    """Least first metric of what a budget left unexplored."""

    def sweep(self, *, relaxed: bool, beam: int | None) -> None:
        """One pass; ``relaxed`` leaves bandwidth out of the bounds, ``beam`` keeps few states."""
        self.best.relaxed = relaxed
        for stages, pattern in self.known:
            if self.best.beats(stages[0].least):
                continue
            left = None if self.budget is None or beam is not None else self.budget - self.evaluated
            if left is not None and left <= 0:
                self.open_bound = min(self.open_bound, float(stages[0].least[self.best.metrics[0]]))
                continue
            outcome = run_pattern(self.item, pattern, stages, self.best, beam=beam, budget=left)
            self.evaluated += outcome.evaluated
            self.open_bound = min(self.open_bound, outcome.open_bound)

    def prove(self, front: bool) -> bool:
        """Search everything that bounds leave: first without bandwidth, then with it where it matters."""
        self.open_bound = math.inf
        relaxable = not front and self.best.metrics[0] in (0, 2)
        if relaxable:
            self.best.missed = (math.inf, math.inf)
            self.sweep(relaxed=True, beam=None)
            if not math.isinf(self.open_bound):
                return False
            if not self.best.missed_matters():
                return True
        self.sweep(relaxed=False, beam=None)
        return math.isinf(self.open_bound)

    def gap(self) -> float:
        """Relative distance of the result's first metric to the bound of what was left."""
        found = float(np.min(self.best.values[:, 0]))
        return max(0.0, 1.0 - self.open_bound / found) if found > 0 else 0.0
