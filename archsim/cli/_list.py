"""``archsim list``: what there is to name."""

from __future__ import annotations

import click

from archsim.cli._tables import print_rows, print_words

KINDS = ("architectures", "technologies", "boards", "models")


@click.command("list", short_help="List architectures, technologies, boards and models.")
@click.argument("kind", type=click.Choice(KINDS), required=False)
def list_command(kind: str | None) -> None:
    """List the library's architectures, technologies and boards, and the zoo's models.

    \b
    Examples:
      archsim list
      archsim list models
    """
    wanted = (kind,) if kind else KINDS
    if "architectures" in wanted:
        _list_architectures()
    if "technologies" in wanted:
        _list_technologies()
    if "boards" in wanted:
        _list_boards()
    if "models" in wanted:
        _list_models()


def _list_architectures() -> None:
    from archsim._architecture_file import architecture_names, load_architecture

    architectures = [load_architecture(name) for name in architecture_names()]
    rows = [
        (
            a.name,
            f"{a.array.rows}x{a.array.cols}",
            f"{a.clock_mhz:g} MHz",
            f"{a.bus.bytes} B/cycle",
            f"{a.scratchpad.words * a.word_bytes >> 10} KiB",
            a.technology,
        )
        for a in architectures
    ]
    print_rows("Architectures", ("name", "array", "clock", "bus", "scratchpad", "technology"), rows)


def _list_technologies() -> None:
    from archsim._energy_file import energy_table_names, load_energy_table

    tables = [load_energy_table(name) for name in energy_table_names()]
    rows = [
        (t.name, f"{t.entry('array', 'mac').pj:g} pJ", f"{t.entry('dram', 'read').pj_per_count:.3g} pJ/bit")
        for t in tables
    ]
    print_rows("Technologies", ("name", "int8 multiply-accumulate", "DRAM read"), rows)


def _list_boards() -> None:
    from hls_gen import BOARDS

    rows = [(board.name, board.part, f"{board.clock_mhz:g} MHz") for board in BOARDS]
    print_rows("Boards (for HLS)", ("name", "part", "clock"), rows, text=("part",))


def _list_models() -> None:
    from workloads import ZOO

    print_words("Models", ZOO)
    click.echo("\nA model may also be a config.json, a .onnx or .yaml file, or gemm:MxKxN.")
