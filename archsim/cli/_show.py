"""``archsim show``: one machine, technology or model in full."""

from __future__ import annotations

from typing import get_args

import click

from archsim.cli._job import Job, Phase
from archsim.cli._options import MAX_BATCH, MAX_SEQ
from archsim.cli._tables import print_rows


@click.command("show", short_help="Show a machine, a technology or a model.")
@click.argument("what", metavar="NAME")
@click.option("--phase", type=click.Choice(get_args(Phase)), help="Phase of a model.  [default: prefill]")
@click.option("--seq", type=click.IntRange(1, MAX_SEQ), metavar="N", help="Sequence length of a model.")
@click.option("--batch", type=click.IntRange(1, MAX_BATCH), metavar="N", help="Batch of a model.")
def show_command(what: str, phase: Phase | None, seq: int | None, batch: int | None) -> None:
    """Show a machine as its file, a technology as its table, a model as its cascades.

    A machine is an architecture, a hierarchy or a spatial machine.

    \b
    Examples:
      archsim show edge-8x8
      archsim show std3-16
      archsim show fusemax
      archsim show 45nm
      archsim show bert-base --seq 128
      archsim show llama-2-7b --phase decode --seq 4096
    """
    from archsim._architecture_file import architecture_names, architecture_text, load_architecture
    from archsim._energy_file import energy_table_names
    from archsim._hierarchy_file import hierarchy_names, hierarchy_text
    from archsim._spatial_file import spatial_names, spatial_text

    library = (*hierarchy_names(), *spatial_names(), *architecture_names(), *energy_table_names())
    if what in library and any(given is not None for given in (phase, seq, batch)):
        raise click.UsageError(f"--phase, --seq and --batch must be of a model, not of {what!r}")
    if what in hierarchy_names():
        click.echo(hierarchy_text(what), nl=False)
    elif what in spatial_names():
        click.echo(spatial_text(what), nl=False)
    elif what in architecture_names():
        click.echo(architecture_text(load_architecture(what)), nl=False)
    elif what in energy_table_names():
        _show_technology(what)
    else:
        from archsim.cli._jobs import describe_model

        job = Job(model=what, arch="", phase=phase or "prefill", seq=seq, batch=batch or 1)
        click.echo(describe_model(job))


def _show_technology(name: str) -> None:
    from archsim._energy_file import load_energy_table

    table = load_energy_table(name)
    header = ("component", "action", "pJ", "bits", "nm", "kind", "source")
    rows = [
        (e.component, e.action, f"{e.pj:g}", str(e.width_bits), f"{e.node_nm:g}", e.kind, e.source)
        for e in table.entries
    ]
    print_rows(table.name, header, rows, text=("action", "kind", "source"))
