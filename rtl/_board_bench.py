"""A whole board in Verilator, reached through the frames on its serial pins."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from archsim._cache import cache_dir
from rtl._board import BOARD_TOP, PLL_MODEL, BoardTop, board_verilog
from rtl._build import Design
from rtl._link import Link, pipe_link
from rtl._toolchain import cache_lock, run_process, tool_environment, verilator_root

_HARNESS = Path(__file__).resolve().parent / "board_harness.cpp"
_EXECUTABLE = "board"


def compile_board(design: Design, top: BoardTop, *, progress: Callable[[str], None] | None = None) -> Path:
    """The executable that simulates the board, compiled unless the cache has it.

    Raises: RtlError with the tool's last lines when Verilator or the C++ compiler fails.
    """
    text = board_verilog(top) + design.verilog + PLL_MODEL
    parts = (text, _HARNESS.read_text(), metadata.version("verilator"))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    folder = cache_dir() / "board" / key
    with cache_lock(folder):
        if not (folder / _EXECUTABLE).exists():
            if progress:
                progress(f"compiling the simulator of the board (kept in {folder})")
            _compile(folder, text)
    return folder / _EXECUTABLE


def _compile(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as name:
        work = Path(name)
        (work / "board.v").write_text(text)
        verilator = str(verilator_root() / "bin" / "verilator")
        flags = ["--cc", "--exe", "-O3", "--top-module", BOARD_TOP, "--prefix", "Vtop", "--Mdir", "objects"]
        quiet = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "--x-assign", "fast", "--x-initial", "fast"]
        files = [str(_HARNESS), "board.v", "-o", _EXECUTABLE]
        run_process([verilator, *flags, *quiet, *files], work)
        run_process(["make", "-j", "2", "-C", "objects", "-f", "Vtop.mk", "OPT_FAST=-O1"], work)
        shutil.move(work / "objects" / _EXECUTABLE, folder / _EXECUTABLE)


@contextmanager
def simulated_board(executable: Path, top: BoardTop) -> Iterator[Link]:
    """A link to a board that is simulated as long as the context lasts."""
    process = subprocess.Popen(
        [executable, str(top.bit_cycles)],
        env=tool_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield pipe_link(process.stdout.fileno(), process.stdin.fileno())
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()
