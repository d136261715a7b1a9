"""A machine of your own: from its file, varied in Python, and written back as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from archsim import Architecture, architecture_text, estimate, load_architecture, load_energy_table
from mapper import search
from workloads import load_model


def cycles(machine: Architecture) -> int:
    """Estimated cycles of a product of few rows under the best mapping for ``machine``."""
    product = load_model("gemm:16x512x512").parts[0].cascade
    table = load_energy_table(machine.technology)
    tilings = [found.tiling for found in search(product, machine, table=table)]
    return estimate(product, machine, tilings, table).cycles


def main() -> None:
    """See how wide a memory port this array needs."""
    board = load_architecture(Path(__file__).with_name("board.yaml"))
    for width in (4, 8, 16, 32, 64):
        wider = replace(board, name=f"board-{width}", bus=replace(board.bus, bytes=width))
        print(f"{width:3} bytes a cycle: {cycles(wider):9,} cycles")
    path = Path("board-8.yaml")
    narrow = replace(board, name="board-8", bus=replace(board.bus, bytes=8))
    path.write_text(architecture_text(narrow), encoding="utf-8")
    assert load_architecture(path) == narrow
    print(f"the 8-byte one is in {path}")


if __name__ == "__main__":
    main()
