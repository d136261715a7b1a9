"""Mapping a model on a hierarchy: load, find each distinct Einsum's best mapping, add up."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archsim._constraints_file import load_constraints
from archsim._hierarchy import Dataflow, Hierarchy
from archsim._hierarchy_file import load_hierarchy
from archsim._nest import Holder, tensors_of
from archsim.cli._job import Job
from archsim.cli._map_pool import Pool, cores
from archsim.cli._map_store import Store, answer_of
from archsim.cli._map_value import Answer, Asked, MappedEinsum, ModelMapping, Task, figures
from archsim.cli._progress import Steps
from mapper._distinct import Canonical, Distinct, distinct
from mapper._errors import MapperError
from workloads import Model, load_model

STATIONARY: tuple[Dataflow, ...] = ("input-stationary", "weight-stationary", "output-stationary")


@dataclass(frozen=True, slots=True)
class Searching:
    """How the searches are run."""

    store: Store | None
    """Where answers are kept; None to search always and keep nothing."""
    jobs: int | None = None
    """Processes; None for as many as cores."""


def map_on_hierarchy(
    job: Job, asked: Asked, searching: Searching, *, constraints: Path | None, steps: Steps
) -> ModelMapping:
    """The best mapping of each distinct Einsum of the model, and their sum.

    Raises MapperError where an Einsum has no mapping that fits, or none can be mapped at all.
    """
    hierarchy = load_hierarchy(job.arch)
    with steps(f"loading {job.model}"):
        shapes = dict(job.shapes)
        model = load_model(
            job.model, phase=job.phase, seq=job.seq, batch=job.batch, shapes=shapes, host=job.host
        )
    if constraints is not None:
        hierarchy = _constrained(hierarchy, constraints, model)
    problems, left = distinct(((part.cascade, part.repeat) for part in model.parts), hierarchy)
    if not problems:
        reasons = "; ".join(dict.fromkeys(each.reason for each in left))
        raise MapperError(f"a mapped model must have an Einsum that can be mapped, not only: {reasons}")
    start = time.perf_counter()
    answers = solve([Task(each.canonical, asked) for each in problems], problems, searching, steps)
    for what, answer in zip(problems, answers, strict=True):
        if not answer.points:
            raise MapperError(f"{what.einsum} must have a mapping that fits {hierarchy.name}; none does")
    return ModelMapping(
        model=model.name,
        hierarchy=hierarchy,
        asked=asked,
        rows=tuple(MappedEinsum(what, answer) for what, answer in zip(problems, answers, strict=True)),
        left=left,
        wall_s=time.perf_counter() - start,
        notes=model.notes,
    )


def _constrained(hierarchy: Hierarchy, path: Path, model: Model) -> Hierarchy:
    einsums = [einsum for part in model.parts for einsum in part.cascade.einsums]
    tensors = [access.tensor for einsum in einsums for access in (*einsum.inputs, einsum.output)]
    ranks = [rank for einsum in einsums for rank in einsum.ranks]
    return load_constraints(path, hierarchy, tensors=dict.fromkeys(tensors), ranks=dict.fromkeys(ranks))


def solve(
    tasks: Sequence[Task], problems: Sequence[Distinct], searching: Searching, steps: Steps
) -> list[Answer]:
    """The answers to ``tasks``, which are about ``problems``: kept ones first, then those searched now."""
    store = searching.store
    found: dict[int, Answer] = {}
    for number, task in enumerate(tasks):
        if store is not None and (known := store.get(task)) is not None:
            found[number] = known
    # The longest first, so that no core is left with a long one in the end.
    missing = sorted(set(range(len(tasks))) - found.keys(), key=lambda number: -_effort(tasks[number]))
    if missing:
        _load_kernels(steps)
        jobs = min(searching.jobs or cores(), len(missing))
        with Pool(jobs) as pool, steps(_title(len(missing), len(found))) as show:
            for count, (place, raw) in enumerate(pool.answers([tasks[number] for number in missing]), 1):
                number = missing[place]
                found[number] = answer_of(raw, tasks[number], cached=False)
                if store is not None:
                    store.put(tasks[number], raw)
                show(f"{count} of {len(missing)}, {problems[number].einsum.output.tensor}")
    return [found[number] for number in range(len(tasks))]


def _title(missing: int, kept: int) -> str:
    text = f"searching {missing:,} distinct Einsum{'s' if missing > 1 else ''}"
    return f"{text}, {kept:,} known from earlier" if kept else text


def _effort(task: Task) -> float:
    """Grows with the size of the space: ranks times the logarithm of their sizes, sums above all."""
    sizes = [size for _, size in task.problem.sizes]
    sums = sum(len(index.terms) > 1 for access in task.problem.einsum.inputs for index in access.indices)
    operands = len(task.problem.einsum.inputs)
    return float((len(sizes) + 2 * sums + 4 * (operands > 1)) * sum(size.bit_length() for size in sizes))


def _load_kernels(steps: Steps) -> None:
    if "mapper._exact" in sys.modules:
        return
    with steps("loading the search (compiled on its first use, in about 20 s)"):
        from mapper._exact import prepare

        prepare()


@dataclass(frozen=True, slots=True)
class Other:
    """What a dataflow costs at its best."""

    dataflow: Dataflow
    answer: Answer
    """Without points where nothing fits under it."""


def others(
    rows: Sequence[MappedEinsum], asked: Asked, searching: Searching, steps: Steps
) -> dict[str, tuple[Other, ...]]:
    """For each of ``rows``, by key, every dataflow's best mapping, its own included.

    Of a front it is the best by the first metric.
    """
    one = replace(asked, objective=asked.objective[:1])
    plan = [(row, dataflow) for row in rows for dataflow in _dataflows(row)]
    tasks = [Task(_under(row, dataflow), one) for row, dataflow in plan]
    answers = solve(tasks, [row.what for row, _ in plan], searching, steps)
    found = [(row, Other(flow, answer)) for (row, flow), answer in zip(plan, answers, strict=True)]
    return {row.key: tuple(other for one, other in found if one is row) for row in rows}


def document(found: ModelMapping, explained: Mapping[str, Sequence[Other]]) -> dict[str, Any]:
    """The JSON document; rows that are explained have what each dataflow costs."""
    result = found.document()
    for row, written in zip(found.rows, result["rows"], strict=True):
        if row.key in explained:
            written["dataflow"] = dataflow_of(row)
            written["dataflows"] = {
                other.dataflow: figures(other.answer.points[0][1]) if other.answer.points else None
                for other in explained[row.key]
            }
    return result


def _dataflows(row: MappedEinsum) -> Sequence[Dataflow]:
    einsum = row.what.canonical.einsum
    kinds = {kind for _, kind in tensors_of(einsum).values()}
    found: list[Dataflow] = [each for each in STATIONARY if each.removesuffix("-stationary") in kinds]
    sums = any(len(index.terms) > 1 for access in einsum.inputs for index in access.indices)
    return [*found, *(("row-stationary",) if sums else ())]


def _under(row: MappedEinsum, dataflow: Dataflow) -> Canonical:
    problem = row.what.canonical
    return replace(problem, hierarchy=replace(problem.hierarchy, dataflow=dataflow))


def dataflow_of(row: MappedEinsum) -> Dataflow | None:
    """What the innermost level's outermost holder makes of the best mapping; None where it holds nothing."""
    nest, cost = row.answer.points[0]
    last = cost.levels[-1].level
    kinds: Mapping[str, str] = {name: kind for name, (_, kind) in tensors_of(nest.einsum).items()}
    held = [node.tensor for node in nest.nodes if isinstance(node, Holder) and node.level == last]
    wanted = f"{kinds[held[0]]}-stationary" if held else ""
    return next((each for each in STATIONARY if each == wanted), None)
