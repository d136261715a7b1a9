"""``archsim list``: what there is to name."""

from __future__ import annotations

import click

from archsim.cli._tables import print_rows, print_words

KINDS = ("architectures", "hierarchies", "technologies", "boards", "models")


@click.command("list", short_help="List architectures, hierarchies, technologies, boards and models.")
@click.argument("kind", type=click.Choice(KINDS), required=False)
def list_command(kind: str | None) -> None:
    """List the library's architectures, hierarchies, technologies and boards, and the zoo's models.

    \b
    Examples:
      archsim list
      archsim list models
    """
    wanted = (kind,) if kind else KINDS
    if "architectures" in wanted:
        _list_architectures()
    if "hierarchies" in wanted:
        _list_hierarchies()
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


def _list_hierarchies() -> None:
    from archsim._hierarchy_file import hierarchy_names, load_hierarchy

    hierarchies = [load_hierarchy(name) for name in hierarchy_names()]
    rows = [
        (
            h.name,
            "x".join(str(side.size) for level in h.levels for side in level.spatial) or "1",
            f"{h.clock_mhz:g} MHz",
            " > ".join(_level(level.name, level.size_bits) for level in h.levels),
        )
        for h in hierarchies
    ]
    print_rows("Hierarchies (for map)", ("name", "MACs", "clock", "levels"), rows, text=("levels",))


def _level(name: str, size_bits: int | None) -> str:
    if size_bits is None:
        return name
    return f"{name} {size_bits >> 13} KiB" if size_bits >= 1 << 13 else f"{name} {size_bits} bit"


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
