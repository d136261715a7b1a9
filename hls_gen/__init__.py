"""C++ for high-level synthesis: one kernel at a time as a complete, testable Vitis HLS project."""

from __future__ import annotations

from hls_gen._boards import BOARDS, Board, board_named
from hls_gen._emit import Tensors, emit
from hls_gen._errors import HlsError
from hls_gen._kernel import (
    AttentionSpec,
    Element,
    KernelSpec,
    LinearSpec,
    NormSpec,
    NormStage,
    Operation,
    Port,
    ResidualSpec,
    ports,
)
from hls_gen._project import Project
from hls_gen._quantised import QuantisedJob, quantised_job
from hls_gen._run import Run, ap_include_dir, compile_and_run, compile_project, run_testbench

__all__ = [
    "BOARDS",
    "AttentionSpec",
    "Board",
    "Element",
    "HlsError",
    "KernelSpec",
    "LinearSpec",
    "NormSpec",
    "NormStage",
    "Operation",
    "Port",
    "Project",
    "QuantisedJob",
    "ResidualSpec",
    "Run",
    "Tensors",
    "ap_include_dir",
    "board_named",
    "compile_and_run",
    "compile_project",
    "emit",
    "ports",
    "quantised_job",
    "run_testbench",
]
