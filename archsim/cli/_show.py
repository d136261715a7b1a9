"""``archsim show``: one architecture, hierarchy, technology or model in full."""

from __future__ import annotations

import click

from archsim.cli._job import Job
from archsim.cli._tables import print_rows


@click.command("show", short_help="Show an architecture, a hierarchy, a technology or a model.")
@click.argument("what", metavar="NAME")
@click.option("--seq", type=click.IntRange(1, 1 << 24), metavar="N", help="Sequence length of a model.")
def show_command(what: str, seq: int | None) -> None:
    """Show an architecture or a hierarchy as its file, a technology as its table, a model as its cascades.

    \b
    Examples:
      archsim show edge-8x8
      archsim show std3-16
      archsim show 45nm
      archsim show bert-base --seq 128
    """
    from archsim._architecture_file import architecture_names, architecture_text, load_architecture
    from archsim._energy_file import energy_table_names
    from archsim._hierarchy_file import hierarchy_names, hierarchy_text

    if what in hierarchy_names():
        click.echo(hierarchy_text(what), nl=False)
    elif what in architecture_names():
        click.echo(architecture_text(load_architecture(what)), nl=False)
    elif what in energy_table_names():
        _show_technology(what)
    else:
        from archsim.cli._jobs import describe_model

        click.echo(describe_model(Job(model=what, arch="", seq=seq)))


def _show_technology(name: str) -> None:
    from archsim._energy_file import load_energy_table

    table = load_energy_table(name)
    header = ("component", "action", "pJ", "bits", "nm", "kind", "source")
    rows = [
        (e.component, e.action, f"{e.pj:g}", str(e.width_bits), f"{e.node_nm:g}", e.kind, e.source)
        for e in table.entries
    ]
    print_rows(table.name, header, rows, text=("action", "kind", "source"))
