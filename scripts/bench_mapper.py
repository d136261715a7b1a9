"""Speed, results and memory of the exact mapper, in a process of its own so that its memory is known.

``make bench`` prints these tables after its own; this file by itself prints them alone. Every search
is made anew: no result is read from a cache. Seconds are those of the computer and of what else it
does; ratios compare what ran within the same minutes.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from archsim.cli._job import Job
from archsim.cli._map_fused import document, map_fused
from archsim.cli._map_hierarchy import Searching, map_on_hierarchy
from archsim.cli._map_tables import joules
from archsim.cli._map_value import Asked, ModelMapping
from archsim.cli._progress import Steps
from archsim.cli._tables import print_figures, print_rows
from archsim.cli._write import write_json
from mapper._exact import prepare

RUNS = 3
"""Of so many searches the median counts."""
MOST_MEMORY_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is mapped, and what must come of it."""

    model: str
    machine: str
    objective: str
    within_s: float
    """Of search, on two cores; of a whole model, of mapping."""
    no_worse_than: float | None = None
    """Published or known value of the objective: pJ, cycles, or their product."""
    source: str = ""
    runs: int = RUNS


CUBE, SIDE_OF_PRIME = "gemm:1024x1024x1024", "gemm:1009x1009x1009"
CHECKPOINT_PJ, CHECKPOINT_CYCLES = 1.816973e9, 4_194_304
PROBLEMS = (
    Problem(
        model=CUBE, machine="std3-16", objective="edp", within_s=0.5,
        no_worse_than=CHECKPOINT_PJ * CHECKPOINT_CYCLES, source="1.816973 mJ x 4,194,304",
    ),
    Problem(
        model=CUBE, machine="std3-16", objective="energy", within_s=0.5,
        no_worse_than=CHECKPOINT_PJ, source="1.816973 mJ",
    ),
    Problem(
        model=CUBE, machine="std3-16", objective="latency", within_s=0.5,
        no_worse_than=CHECKPOINT_CYCLES, source="4,194,304 cycles",
    ),
    Problem(model=CUBE, machine="std3-128", objective="edp", within_s=0.5),
    Problem(model="gemm:512x768x768", machine="std3-16", objective="edp", within_s=1.0),
    Problem(model="gemm:2048x12288x12288", machine="std3-128", objective="edp", within_s=2.0),
    Problem(
        model=SIDE_OF_PRIME, machine="std3-16", objective="edp", within_s=2.0,
        no_worse_than=1.7508e9 * 4_044_266, source="1.7508 mJ x 4,044,266",
    ),
    Problem(model="resnet50", machine="std3-16", objective="edp", within_s=30.0, runs=1),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """What came of a problem."""

    model: str
    machine: str
    objective: str
    distinct: int
    """Searches."""
    energy_pj: float
    cycles: float
    proved_optimal: bool
    no_worse: bool
    """Than the known value, where there is one."""
    known: str
    search_s: float
    """Seconds of search, one after another."""
    wall_s: float
    """Seconds of mapping, on all cores."""
    within_s: float
    evaluated: int
    to_first: float
    """``wall_s`` over that of the first problem."""

    @property
    def good(self) -> bool:
        """Whether the result is proved, and no worse than what is known."""
        return self.proved_optimal and self.no_worse


def measure(steps: Steps) -> list[Mapping]:
    """Every problem, in order."""
    prepare()
    found: list[Mapping] = []
    for problem in PROBLEMS:
        with steps(f"mapping {problem.model} on {problem.machine} for {problem.objective}"):
            found.append(_measured(problem, found[0].wall_s if found else None))
    return found


def _measured(problem: Problem, first_s: float | None) -> Mapping:
    job = Job(model=problem.model, arch=problem.machine)
    asked = Asked(objective=(problem.objective,))
    runs = [_quiet(job, asked) for _ in range(problem.runs)]
    wall_s = statistics.median(each.wall_s for each in runs)
    best = runs[0]
    value = {"edp": best.energy_pj * best.cycles, "energy": best.energy_pj, "latency": best.cycles}
    known = problem.no_worse_than
    return Mapping(
        model=problem.model,
        machine=problem.machine,
        objective=problem.objective,
        distinct=len(best.rows),
        energy_pj=best.energy_pj,
        cycles=best.cycles,
        proved_optimal=best.proved_optimal,
        no_worse=known is None or value[problem.objective] <= known,
        known=problem.source,
        search_s=statistics.median(each.search_s for each in runs),
        wall_s=wall_s,
        within_s=problem.within_s,
        evaluated=best.evaluated,
        to_first=1.0 if first_s is None else wall_s / first_s,
    )


def _quiet(job: Job, asked: Asked) -> ModelMapping:
    from rich.console import Console

    with Path(os.devnull).open("w") as nowhere:
        steps = Steps(Console(file=nowhere))
        return map_on_hierarchy(job, asked, Searching(None), constraints=None, steps=steps)


def compile_s() -> float:
    """Seconds that a first run needs before it can search: no compiled code is kept from earlier."""
    with tempfile.TemporaryDirectory(prefix="archsim-bench-") as folder:
        start = time.perf_counter()
        command = [sys.executable, "-c", "from mapper._exact import prepare; prepare()"]
        subprocess.run(command, check=True, env=os.environ | {"NUMBA_CACHE_DIR": folder})
        return time.perf_counter() - start


def peak_bytes() -> int:
    """Largest resident memory of this process, or of one that it started."""
    users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(user).ru_maxrss for user in users) * 1024


def show(found: Sequence[Mapping], *, first_s: float, peak: int) -> None:
    """The tables, on stdout."""
    header = ("problem", "energy", "cycles", "proved", "s (limit)", "to first")
    print_rows("Exact mapper", header, [_row(each) for each in found])
    known = [(_name(each), "no worse than" if each.no_worse else "WORSE THAN", each.known) for each in found]
    rows = [row for row in known if row[-1]]
    print_rows("Against what is known", ("problem", "is", "known"), rows, text=("is", "known"))
    print_figures(
        "Exact mapper: the rest",
        {
            "first run, kernels compiled": f"{first_s:.1f} s",
            "peak memory of a process": f"{peak / 1e6:,.0f} MB",
            "partial mappings": f"{sum(each.evaluated for each in found):,}",
        },
    )


def _name(each: Mapping) -> str:
    sizes = each.model.removeprefix("gemm:")
    first, *others = sizes.split("x")
    cube = others == [first, first]
    return f"{f'{first}^3' if cube else sizes} {each.machine} {each.objective}"


def _row(each: Mapping) -> tuple[str, ...]:
    return (
        _name(each),
        joules(each.energy_pj),
        f"{each.cycles:,.10g}",
        "yes" if each.proved_optimal else "NO",
        f"{each.wall_s:.2f} ({each.within_s:g})",
        f"{each.to_first:.1f}",
    )


LAYER = Path(__file__).resolve().parents[1] / "examples" / "gpt3_layer.yaml"
LAYER_S = 10.0
"""Within which a layer of GPT-3 6.7B is to be fused."""


def fused(steps: Steps) -> dict[str, object]:
    """One layer of GPT-3 6.7B with fusion, and its gain over none."""
    found = map_fused(
        Job(model=str(LAYER), arch="tpu2-128"), "energy", factors="auto", budget=None, steps=steps
    )
    outcome = document(found)
    del outcome["parts"]
    return outcome


def show_fused(outcome: dict[str, Any]) -> None:
    """The gain, on stdout."""
    alone = outcome["unfused"]
    names = {"energy_pj": "energy", "cycles": "cycles", "dram_bits": "traffic"}
    gains = {f"gain in {name}": f"{alone[key] / outcome[key]:.3f}" for key, name in names.items()}
    seconds = f"{outcome['search_s']:.2f} ({LAYER_S:g})"
    proved = "yes" if outcome["proved_optimal"] else "NO"
    print_figures(
        "A layer of GPT-3 6.7B, fused, tpu2-128 energy", {"proved": proved, "s (limit)": seconds, **gains}
    )


@click.command()
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here."
)
def main(*, json_path: Path | None) -> None:
    """Print the exact mapper's results, seconds and memory."""
    steps = Steps()
    found = measure(steps)
    layer = fused(steps)
    peak = peak_bytes()
    with steps("compiling the search's kernels from nothing"):
        first_s = compile_s()
    show(found, first_s=first_s, peak=peak)
    show_fused(layer)
    if json_path:
        rest = {"first_run_s": first_s, "peak_bytes": peak, "fused_layer": layer}
        write_json(json_path, {"problems": [asdict(each) for each in found], **rest})
    if not (all(each.good for each in found) and layer["proved_optimal"]):
        raise click.ClickException("a mapping must be proved, and no worse than what is known; see the table")
    if peak > MOST_MEMORY_BYTES:
        raise click.ClickException(f"memory must stay under {MOST_MEMORY_BYTES:,} bytes, not {peak:,}")


if __name__ == "__main__":
    main()
