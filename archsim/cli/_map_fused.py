"""``archsim map --fuse``: a cascade's best partition into fused runs on a hierarchy, beside no fusion."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import click

from archsim._hierarchy import Hierarchy
from archsim._hierarchy_file import load_hierarchy
from archsim.cli._job import Job
from archsim.cli._map_tables import joules
from archsim.cli._progress import Steps
from archsim.cli._tables import print_figures, print_rows, quantity
from mapper import FusedResult, fused_search, prepare
from workloads import Part, load_model

METRICS = ("latency", "energy", "edp", "traffic")


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedPart:
    """One part of a model, one repetition of it: with fusion and without."""

    name: str
    repeat: int
    fused: FusedResult
    alone: FusedResult
    search_s: float
    """Of the search with fusion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedModel:
    """Every part of a model on a machine."""

    name: str
    machine: Hierarchy
    objective: str
    parts: tuple[FusedPart, ...]

    def total(self, figure: str, *, fused: bool = True) -> float:
        """A cost's figure over all repetitions."""
        sides = ((part.fused if fused else part.alone, part.repeat) for part in self.parts)
        return float(sum(getattr(side.cost, figure) * repeat for side, repeat in sides))

    @property
    def proved_optimal(self) -> bool:
        """Whether every part's search with fusion is."""
        return all(part.fused.proved_optimal for part in self.parts)


def map_fused(job: Job, objective: str, *, factors: str, budget: int | None, steps: Steps) -> FusedModel:
    """Search every part of the job's model with fusion and without."""
    machine = load_hierarchy(job.arch)
    shapes = dict(job.shapes)
    model = load_model(job.model, phase=job.phase, seq=job.seq, batch=job.batch, shapes=shapes, host=job.host)
    with steps("loading the search (compiled on its first use, in about 20 s)"):
        prepare()
    parts = []
    for part in model.parts:
        with steps(f"fusing {part.cascade.name}, {len(part.cascade.einsums)} Einsums"):
            parts.append(_part(part, machine, objective, factors=factors, budget=budget))
    return FusedModel(name=model.name, machine=machine, objective=objective, parts=tuple(parts))


def _part(part: Part, machine: Hierarchy, objective: Any, *, factors: Any, budget: int | None) -> FusedPart:
    start = time.perf_counter()
    fused = fused_search(part.cascade, machine, objective, factors=factors, budget=budget)
    search_s = time.perf_counter() - start
    alone = fused_search(part.cascade, machine, objective, fuse=False, factors=factors, budget=budget)
    return FusedPart(name=part.cascade.name, repeat=part.repeat, fused=fused, alone=alone, search_s=search_s)


def document(found: FusedModel) -> dict[str, object]:
    """The outcome as JSON values: totals, those without fusion under ``unfused``, and each part."""
    return {
        **_totals(found, fused=True),
        "unfused": _totals(found, fused=False),
        "model": found.name,
        "arch": found.machine.name,
        "objective": found.objective,
        "proved_optimal": found.proved_optimal,
        "search_s": sum(part.search_s for part in found.parts),
        "parts": [
            {
                "name": part.name,
                "repeat": part.repeat,
                "mapping": str(part.fused.mapping),
                "proved_optimal": part.fused.proved_optimal,
                "gap": part.fused.gap,
                "evaluated": part.fused.evaluated,
            }
            for part in found.parts
        ],
    }


def _totals(found: FusedModel, *, fused: bool) -> dict[str, float]:
    figures = ("energy_pj", "cycles", "dram_bits")
    return {figure: found.total(figure, fused=fused) for figure in figures}


def print_fused(found: FusedModel) -> None:
    """Each part's mapping, and the totals beside those without fusion."""
    for part in found.parts:
        click.echo(f"{part.name}, {part.repeat} times\n{part.fused.mapping}")
    rows = []
    for name, figure, shown in (
        ("energy", "energy_pj", joules),
        ("cycles", "cycles", lambda value: f"{value:,.10g}"),
        ("outermost level's traffic", "dram_bits", lambda value: quantity(value / 8, "B")),
    ):
        with_it, without = found.total(figure), found.total(figure, fused=False)
        rows.append((name, shown(with_it), shown(without), f"{without / with_it:.3f}" if with_it else "–"))
    title = f"{found.name} on {found.machine.name}, for {found.objective}"
    print_rows(title, ("", "fused", "not fused", "gain"), rows)
    seconds = sum(part.search_s for part in found.parts)
    proved = "yes" if found.proved_optimal else f"no, {max(p.fused.gap for p in found.parts):.1%} may be left"
    print_figures("The search", {"proved optimal": proved, "searched for": quantity(seconds, "s")})
