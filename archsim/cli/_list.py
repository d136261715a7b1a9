"""``archsim list``: what there is to name."""

from __future__ import annotations

import click

from archsim.cli._tables import print_rows, print_words

KINDS = ("architectures", "hierarchies", "spatial", "technologies", "boards", "models")


@click.command("list", short_help="List machines, technologies, boards and models.")
@click.argument("kind", type=click.Choice(KINDS), required=False)
def list_command(kind: str | None) -> None:
    """List the library's architectures, hierarchies, spatial machines, technologies and boards, and the zoo.

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
    if "spatial" in wanted:
        _list_spatial()
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


def _list_spatial() -> None:
    from archsim._spatial_file import load_spatial, spatial_names

    machines = [load_spatial(name) for name in spatial_names()]
    rows = [
        (
            m.name,
            f"{m.cores.count if m.cores else 1}",
            f"{m.rows}x{m.cols}",
            f"{m.lanes}",
            f"{m.clock_mhz:g} MHz",
            f"{m.buffer.bytes >> 10} KiB",
            f"{m.dram.bytes_per_second / 1e9:.4g} GB/s",
        )
        for m in machines
    ]
    header = ("name", "cores", "array", "lanes", "clock", "buffer", "memory")
    print_rows("Spatial machines (for reproduce)", header, rows)


def _list_technologies() -> None:
    from archsim._energy_file import energy_table_names, load_energy_table

    tables = [load_energy_table(name) for name in energy_table_names()]
    rows = [
        (t.name, f"{t.entry('array', 'mac').pj:g} pJ", f"{t.entry('dram', 'read').pj_per_count:.3g} pJ/bit")
        for t in tables
    ]
    print_rows("Technologies", ("name", "int8 multiply-accumulate", "DRAM read"), rows)


def _list_boards() -> None:
    from archsim import board_names, load_board
    from archsim._board import MAPPED_FAMILIES, PLACED_FAMILIES
    from hls_gen import BOARDS

    found = [load_board(name) for name in board_names()]
    makes = [
        "resources, clock, bitstream"
        if board.family in PLACED_FAMILIES
        else "resources, project"
        if board.family in MAPPED_FAMILIES
        else "project"
        for board in found
    ]
    synthesised = [(board.name, board.part, made) for board, made in zip(found, makes, strict=True)]
    print_rows("Boards (for synth)", ("name", "part", "makes"), synthesised, text=("part", "makes"))
    rows = [(board.name, board.part, f"{board.clock_mhz:g} MHz") for board in BOARDS]
    print_rows("Boards (for HLS)", ("name", "part", "clock"), rows, text=("part",))


def _list_models() -> None:
    from workloads import ZOO

    print_words("Models", ZOO)
    click.echo("\nA model may also be a config.json, a .onnx or .yaml file, or gemm:MxKxN.")
