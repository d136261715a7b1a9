"""``archsim map``: the best mapping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from archsim.cli._job import Job, Objective
from archsim.cli._options import all_option, file_option, json_option, model_options
from archsim.cli._progress import Steps
from archsim.cli._tables import print_estimate
from archsim.cli._write import write_json, write_text

if TYPE_CHECKING:
    from archsim.cli._map_value import ModelMapping

METRICS = ("latency", "energy", "edp", "traffic", "buffer")
ON_HARDWARE = METRICS[:3]
"""Objectives of a mapping on hardware that is built."""
MAX_BUDGET = 1 << 48


class ObjectiveParameter(click.ParamType[tuple[str, ...]]):
    """One metric, or two or three of them for a Pareto front."""

    name = "objective"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The metrics in the order given."""
        names = value if isinstance(value, tuple) else tuple(str(value).split(","))
        for name in names:
            if name not in METRICS:
                self.fail(f"an objective must be one of {', '.join(METRICS)}, not {name!r}", param, ctx)
        if not 1 <= len(set(names)) == len(names) <= 3:
            self.fail(f"a front must be of two or three different metrics, not {value!r}", param, ctx)
        return names


@click.command("map", short_help="Find the best mapping and print its loop nests.")
@model_options
@click.option(
    "--objective",
    type=ObjectiveParameter(),
    default="latency",
    show_default=True,
    metavar="METRIC[,METRIC]",
    help="latency, energy, edp (their product); on a hierarchy also traffic (of the outermost level) and "
    "buffer (bits held on chip), and two or three of them for a Pareto front.",
)
@click.option(
    "--factors",
    type=click.Choice(("auto", "perfect", "imperfect")),
    help="Tiles that divide evenly, or any; auto takes any where even ones cannot fill the array.",
)
@click.option(
    "--budget",
    type=click.IntRange(1, MAX_BUDGET),
    metavar="N",
    help="End each search after N partial mappings, with the gap to its bound.",
)
@click.option(
    "--constraints",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML with what is fixed: dataflow, what levels hold, ranks of spatial dimensions.",
)
@click.option(
    "--fuse", is_flag=True, help="Fuse Einsums where that is better, and compare with no fusion (no cache)."
)
@click.option("--explain", is_flag=True, help="Say why each winner wins, and what other dataflows cost.")
@click.option(
    "--jobs", type=click.IntRange(1, 256), metavar="N", help="Processes; as many as cores unless given."
)
@click.option("--no-cache", "fresh", is_flag=True, help="Search again, and keep nothing.")
@click.option(
    "--timeloop",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write each mapping with its problem and machine as Timeloop's YAML.",
)
@file_option("--report", help="Write an HTML page with pictures.")
@all_option
@json_option
def map_command(
    job: Job, *, objective: tuple[str, ...], every: bool, json_path: Path | None, **options: Any
) -> None:
    """Search the best mapping of each Einsum of MODEL on ARCH, and print its loop nests.

    ARCH is an architecture, or a hierarchy of memory levels: a library name (see `archsim list
    hierarchies`) or a .yaml file with `kind: hierarchy`. On a hierarchy the search covers every mapping,
    and says whether its answer is proved optimal. Results are kept: a second run does not search.

    \b
    Examples:
      archsim map gemm:512x768x768 --arch edge-8x8
      archsim map bert-base --arch edge-16x16 --seq 128 --objective edp --json mapping.json
      archsim map gemm:1024x1024x1024 --arch std3-16 --objective edp --explain
      archsim map resnet50 --arch std3-16 --objective edp --report resnet50.html
      archsim map gemm:64x64x64 --arch std3-16 --objective energy,latency
      archsim map gpt3_layer.yaml --arch tpu2-128 --objective energy --fuse
    """
    from archsim._hierarchy_file import is_hierarchy

    _require_known(job.arch)
    if is_hierarchy(job.arch):
        if options.pop("fuse"):
            _map_fused(job, objective, json_path=json_path, **options)
            return
        _map_on_hierarchy(job, objective, every=every, json_path=json_path, **options)
        return
    _refuse(objective, options)
    _map_on_hardware(
        replace(job, objective=cast("Objective", objective[0])), every=every, json_path=json_path
    )


def _require_known(arch: str) -> None:
    """Refuse a name that neither library has, with the names of both."""
    from archsim._architecture_file import architecture_names
    from archsim._errors import ArchsimError
    from archsim._hierarchy_file import hierarchy_names
    from archsim._yaml_file import suggestion

    known = (*architecture_names(), *hierarchy_names())
    if not arch.endswith((".yaml", ".yml")) and arch not in known:
        wanted = f"a .yaml file or one of {', '.join(known)}"
        raise ArchsimError(f"ARCH must be {wanted}, not {arch[:100]!r}{suggestion(arch, known)}")


def _refuse(objective: tuple[str, ...], options: dict[str, Any]) -> None:
    """What only a hierarchy can be asked."""
    if len(objective) > 1 or objective[0] not in ON_HARDWARE:
        raise click.UsageError(
            f"--objective must be one of {', '.join(ON_HARDWARE)} unless ARCH is a hierarchy,"
            f" not {','.join(objective)}"
        )
    for name, value in options.items():
        if value:
            option = {"fresh": "no-cache"}.get(name, name)
            raise click.UsageError(
                f"--{option} must be given with a hierarchy (see `archsim list hierarchies`)"
            )


def _map_on_hardware(job: Job, *, every: bool, json_path: Path | None) -> None:
    from archsim.cli import _jobs

    outcome = _jobs.map_model(job, steps=Steps())
    if json_path:
        extra = {"mappings": dict(outcome.mappings), "evaluated": outcome.evaluated}
        write_json(json_path, outcome.estimate.document() | extra)
    for name, nest in outcome.mappings.items():
        click.echo(f"{name}\n{nest}\n")
    print_estimate(outcome.estimate, every=every)
    click.echo(f"{outcome.evaluated:,} mappings evaluated")


def _map_on_hierarchy(
    job: Job,
    objective: tuple[str, ...],
    *,
    every: bool,
    json_path: Path | None,
    factors: str | None,
    budget: int | None,
    constraints: Path | None,
    explain: bool,
    jobs: int | None,
    fresh: bool,
    timeloop: Path | None,
    report: Path | None,
) -> None:
    from archsim._cache import cache_dir
    from archsim.cli import _map_hierarchy as mapping
    from archsim.cli import _map_tables as tables
    from archsim.cli._map_store import Store
    from archsim.cli._map_value import Asked

    steps = Steps()
    asked = Asked(objective=objective, factors=factors or "auto", budget=budget)
    store = None if fresh else Store(cache_dir() / "mappings")
    searching = mapping.Searching(store, jobs)
    try:
        found = mapping.map_on_hierarchy(job, asked, searching, constraints=constraints, steps=steps)
        shown = tables.costliest(found, None if every else tables.MOST_NESTS)
        others = mapping.others(shown if explain or report else (), asked, searching, steps)
    finally:
        for notice in store.notices if store is not None else ():
            click.echo(f"archsim: {notice}", err=True)
    if json_path:
        write_json(json_path, mapping.document(found, others if explain else {}))
    tables.print_mapping(found, every=every)
    for row in shown if explain else ():
        tables.print_explanation(row, others[row.key], found)
    if timeloop:
        _write_timeloop(found, timeloop)
    if report:
        from archsim.cli._map_page import render

        write_text(report, render(found, others))
        click.echo(f"report in {report}")


def _map_fused(
    job: Job,
    objective: tuple[str, ...],
    *,
    json_path: Path | None,
    factors: str | None,
    budget: int | None,
    **others: Any,
) -> None:
    from archsim.cli import _map_fused as fused

    if len(objective) > 1 or objective[0] not in fused.METRICS:
        raise click.UsageError(f"--objective must be one of {', '.join(fused.METRICS)} with --fuse")
    if extra := [name for name, value in others.items() if value and name != "fresh"]:
        raise click.UsageError(f"--fuse must be given without --{extra[0]}")
    chosen = factors or "auto"
    found = fused.map_fused(job, objective[0], factors=chosen, budget=budget, steps=Steps())
    if json_path:
        write_json(json_path, fused.document(found))
    fused.print_fused(found)


def _write_timeloop(found: ModelMapping, folder: Path) -> None:
    """Three files of the one Einsum, or a folder of them for each."""
    from archsim.cli._write import write_folder
    from mapper._errors import MapperError
    from mapper._timeloop import export_timeloop

    files: dict[str, str] = {}
    for number, row in enumerate(found.rows, 1):
        inside = f"{number:03}-{row.name}/" if len(found.rows) > 1 else ""
        try:
            texts = export_timeloop(row.nest, found.hierarchy)
        except MapperError as error:
            if len(found.rows) == 1:
                raise
            click.echo(f"archsim: {row.name} is not written for Timeloop: {error}", err=True)
            continue
        files |= {inside + name: text for name, text in texts.items()}
    write_folder(folder, files)
    click.echo(f"Timeloop's files in {folder}")
