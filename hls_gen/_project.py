"""A generated project: its files as one immutable value, and the only code that puts them on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hls_gen._errors import HlsError
from hls_gen._kernel import Port


@dataclass(frozen=True, slots=True)
class Project:
    """A project's files by relative path, sorted, and what its testbench writes."""

    name: str
    """The kernel's name."""
    files: Mapping[str, bytes]
    result: Port
    """The tensor that the top function computes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(sorted(self.files.items()))))

    def text(self, path: str) -> str:
        """A text file's contents."""
        return self.files[path].decode()

    def write(self, directory: Path, *, replace: bool = False) -> None:
        """Put all files into ``directory`` at once, or none of them.

        They are written beside it and renamed. A directory that has something in it is refused,
        or with ``replace`` exchanged.
        """
        if directory.exists() and not directory.is_dir():
            raise HlsError(f"output must be a directory, not the file '{directory}'")
        if directory.exists() and any(directory.iterdir()) and not replace:
            raise HlsError(f"output directory must be new or empty, not '{directory}'")
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as beside:
            fresh = Path(beside) / "new"
            self._write_into(fresh)
            if directory.exists():
                directory.rename(Path(beside) / "old")
            fresh.rename(directory)

    def _write_into(self, directory: Path) -> None:
        for path, contents in self.files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(contents)
