"""``archsim passes``: how often a model must come back to a fiber, whatever the mapping."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli._options import MAX_SEQ, ModelParameter, json_option
from archsim.cli._progress import Steps
from archsim.cli._tables import print_rows
from archsim.cli._write import write_json

if TYPE_CHECKING:
    from workloads import Passes

HEADER = ("rank", "size", "passes", "forced by", "keep", "or move again")


@click.command("passes", short_help="Count the passes over each rank, and say what forces them.")
@click.argument("model", type=ModelParameter())
@click.option("--rank", metavar="R", help="One rank alone, with its trips.")
@click.option("--seq", type=click.IntRange(1, MAX_SEQ), metavar="N", help="Sequence length.")
@json_option
def passes_command(model: str, rank: str | None, seq: int | None, json_path: Path | None) -> None:
    """Count the passes of MODEL over each rank, and say which Einsums force them.

    "keep" is the elements on chip that spare the extra passes their way to memory, for one coordinate of
    the other ranks; "or move again" is the elements that go to and from memory otherwise.

    \b
    Examples:
      archsim passes attention:three-pass
      archsim passes attention:one-pass --rank m1
      archsim passes bert-base --seq 512 --json passes.json
    """
    from workloads import all_passes, load_model, passes

    steps = Steps()
    found: dict[str, dict[str, Passes]] = {}
    cascades = [part.cascade for part in load_model(model, seq=seq).parts]
    ranks = dict.fromkeys(name for cascade in cascades for name in cascade.ranks)
    if rank is not None and rank not in ranks:
        raise click.UsageError(f"--rank must be a rank of {model} ({', '.join(ranks)}), not {rank!r}")
    for cascade in (each for each in cascades if rank is None or rank in each.ranks):
        with steps(f"counting the passes of {cascade.name}, {len(cascade.einsums)} Einsums"):
            results = all_passes(cascade) if rank is None else {rank: passes(cascade, rank)}
        found[cascade.name] = results
    if json_path:
        write_json(json_path, {"name": model, "cascades": {n: _document(r) for n, r in found.items()}})
    for name, results in found.items():
        if rank is None:
            print_rows(name, HEADER, [_row(result) for result in results.values()], text=("forced by",))
        else:
            click.echo("\n".join(str(result) for result in results.values()))


def _row(result: Passes) -> tuple[str, ...]:
    pairs = (result.names((item.first, item.again)) for item in result.revisits)
    forced = "; ".join(
        f"{again} after {first} on {item.tensor}"
        for (first, again), item in zip(pairs, result.revisits, strict=True)
    )
    size = result.cascade.ranks[result.rank]
    return (result.rank, f"{size:,}", str(result.count), forced, f"{result.live:,}", f"{result.traffic:,}")


def _document(results: dict[str, Passes]) -> dict[str, Any]:
    return {rank: result.document() for rank, result in results.items()}
