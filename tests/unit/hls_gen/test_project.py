"""Writing a project: all of it or none of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hls_gen import Element, HlsError, Port, Project

RESULT = Port("y", Element.I8, (1,))
PROJECT = Project("p", {"b.txt": b"b", "a/c.bin": b"\0\1"}, RESULT)


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.mark.parametrize("exists", [True, False])
def test_written_files_are_the_project(tmp_path: Path, *, exists: bool) -> None:
    target = tmp_path / "deep" / "out"
    if exists:
        target.mkdir(parents=True)
    PROJECT.write(target)
    assert contents(tmp_path) == {"deep/out/b.txt": b"b", "deep/out/a/c.bin": b"\0\1"}


def test_files_are_sorted() -> None:
    assert list(PROJECT.files) == ["a/c.bin", "b.txt"]


def test_a_folder_in_use_is_refused_or_exchanged(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_bytes(b"x")
    message = f"output directory must be new or empty, not '{target}'"
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        PROJECT.write(target)
    assert contents(tmp_path) == {"out/mine": b"x"}
    PROJECT.write(target, replace=True)
    assert contents(tmp_path) == {"out/b.txt": b"b", "out/a/c.bin": b"\0\1"}


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"x")
    message = f"output must be a directory, not the file '{target}'"
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        PROJECT.write(target, replace=True)
    assert target.read_bytes() == b"x"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    broken = Project("p", {"a": b"", "a/b": b""}, RESULT)
    with pytest.raises(OSError, match="a"):
        broken.write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
