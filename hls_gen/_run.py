"""Compile an emitted project with g++ and run its testbench: what tests and the command line do."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hls_gen._errors import HlsError
from hls_gen._project import Project

_COMPILE_SECONDS = 300
_RUN_SECONDS = 600


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What the testbench said."""

    passed: bool
    message: str
    """Its output: the first difference, if there is one."""
    result: NDArray[np.int8]
    """The tensor ``y`` as the compiled kernel computed it."""


def ap_include_dir() -> Path:
    """The folder of ``ap_int.h`` and ``hls_stream.h`` in the installed hls4ml.

    The package is located and not imported. Raises HlsError where it is not installed.
    """
    spec = find_spec("hls4ml")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        found = Path(folder) / "templates" / "vivado" / "ap_types"
        if (found / "ap_int.h").is_file():
            return found
    raise HlsError("package hls4ml must be installed, for its ap_int headers, not absent")


def compile_project(directory: Path, *, include_dir: Path) -> None:
    """``make build/testbench`` in a written project; HlsError with the compiler's words if it fails."""
    command = ["make", "--silent", "build/testbench", f"AP_INCLUDE={include_dir.resolve()}"]
    done = _call(command, directory, _COMPILE_SECONDS)
    if done.returncode != 0:
        raise HlsError(f"project must compile, not fail with:\n{done.stderr[-4000:]}")


def run_testbench(project: Project, directory: Path) -> Run:
    """Run a compiled project's testbench on the files of its ``data`` folder.

    Raises HlsError where it ends in another way than equal or different, as with a file missing.
    """
    output = directory / "output"
    output.mkdir(exist_ok=True)
    written = output / f"{project.result.name}.bin"
    written.unlink(missing_ok=True)
    done = _call(["./build/testbench", "data", "output"], directory, _RUN_SECONDS)
    if done.returncode not in (0, 1) or not written.is_file():
        raise HlsError(f"testbench must compare, not end with {done.returncode!r}: {done.stderr.strip()}")
    result = np.frombuffer(written.read_bytes(), project.result.element.dtype).reshape(project.result.shape)
    return Run(done.returncode == 0, done.stdout.strip(), result)


def compile_and_run(project: Project, *, include_dir: Path | None = None) -> Run:
    """Compile a project in a temporary directory against the ap_int headers, and run it there."""
    with tempfile.TemporaryDirectory(prefix="archsim-hls-") as folder:
        directory = Path(folder) / project.name
        project.write(directory)
        compile_project(directory, include_dir=include_dir or ap_include_dir())
        return run_testbench(project, directory)


def _call(command: list[str], directory: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError as error:
        raise HlsError(f"program {command[0]!r} must be installed, not absent") from error
    except subprocess.TimeoutExpired as error:
        raise HlsError(f"{command[0]!r} must end within {seconds} s, not run on") from error
