"""Compiling and running: what is refused, and in which words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hls_gen import HlsError, LinearSpec, Project, _run, ap_include_dir, compile_and_run, emit
from tests.unit.hls_gen import oracle

SPEC = LinearSpec(m=1, k=1, n=1, shift=0)


def project() -> Project:
    tensors = oracle.complete(SPEC, oracle.random_inputs(SPEC, 0))
    return emit(SPEC, oracle.machine(1, 1), board="u50", tensors=tensors)


def test_headers_are_found_without_importing_their_package() -> None:
    assert (ap_include_dir() / "hls_stream.h").is_file()


def test_headers_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run, "find_spec", lambda name: None)
    with pytest.raises(
        HlsError, match=r"^package hls4ml must be installed, for its ap_int headers, not absent$"
    ):
        ap_include_dir()


def test_a_compiler_error_is_shown(tmp_path: Path) -> None:
    with pytest.raises(
        HlsError, match=r"^project must compile, not fail with:\n(.|\n)*ap_int\.h: No such file"
    ):
        compile_and_run(project(), include_dir=tmp_path)


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HlsError, match=r"^program 'make' must be installed, not absent$"):
        compile_and_run(project())


def test_a_run_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(command: list[str], *, timeout: int, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", never)
    with pytest.raises(HlsError, match=r"^'make' must end within 300 s, not run on$"):
        compile_and_run(project())
