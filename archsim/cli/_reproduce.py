"""``archsim reproduce``: a published comparison computed again, beside its published values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli._options import folder_option, json_option
from archsim.cli._progress import Steps
from archsim.cli._reproduce_ternary import matmulfree_command
from archsim.cli._tables import print_rows
from archsim.cli._write import write_folder, write_text

if TYPE_CHECKING:
    from archsim.cli._reproduce_data import Reproduction


@click.group("reproduce", short_help="Compute a published comparison again.")
def reproduce_command() -> None:
    """Compute a published comparison again, and print it beside its published values.

    \b
    Examples:
      archsim reproduce fusemax
      archsim reproduce fusemax --json fusemax.json
      archsim reproduce matmulfree
    """


@reproduce_command.command("fusemax")
@json_option
@folder_option("sim_results/fusemax")
def fusemax_command(json_path: Path | None, output: Path) -> None:
    """Compute FuseMax's comparison: 4 models, 6 lengths, 5 configurations, attention and whole layer.

    Prints every point, what the search finds beyond, decoding in splits on many cores, and each published
    figure with the relative error. A page with pictures and the distances from physical limits is written to
    the folder.

    \b
    Examples:
      archsim reproduce fusemax
      archsim reproduce fusemax --json fusemax.json --output results
    """
    from archsim.cli import _reproduce_page as page
    from archsim.cli._reproduce_data import gather

    what = gather(Steps())
    write_folder(output, page.files(what))
    if json_path:
        rows = [point.document() for point in what.points]
        write_text(json_path, json.dumps(rows, indent=2, sort_keys=True, allow_nan=False) + "\n")
    _print(what)
    click.echo(f"page in {output / 'README.md'}")


reproduce_command.add_command(matmulfree_command)


def _print(what: Reproduction) -> None:
    from archsim._fusemax import SCOPES
    from archsim.cli import _reproduce_page as page
    from archsim.cli._reproduce_best import AREA_HEADER, BEST_HEADER, area_rows, best_rows
    from archsim.cli._reproduce_decode import DECODE_HEADER, decode_rows

    for scope in SCOPES:
        rows = [page.short_row(point) for point in what.points if point.scope == scope]
        print_rows(scope.capitalize(), page.SHORT_HEADER, rows)
    print_rows("The search's best on FuseMax's machine", BEST_HEADER, best_rows(what), text=("mapping",))
    print_rows("The fastest machine of FuseMax's area", AREA_HEADER, area_rows(what), text=("machine",))
    print_rows(
        "Other assumptions, on BERT, as ratios",
        page.VARIANT_HEADER,
        page.variant_rows(what),
        text=("assumed instead",),
    )
    print_rows("Decoding: one query on many cores", DECODE_HEADER, decode_rows(what), text=("way",))
    print_rows("Beside the published values", page.ERROR_HEADER, page.error_rows(what), text=("figure",))
    print_rows("Means over models and lengths", page.MEAN_HEADER, page.mean_rows(what))
