"""RTL: the machine as Amaranth components, its program's encoding, and its cosimulation."""

from rtl._build import Design, build
from rtl._check import Checked, Difference, Run, compare, cosim
from rtl._cosim import Driver, run_jobs
from rtl._design_cache import build_cached
from rtl._encode import decode, encode
from rtl._errors import RtlError
from rtl._jobs import Job, RunResult

__all__ = [
    "Checked",
    "Design",
    "Difference",
    "Driver",
    "Job",
    "RtlError",
    "Run",
    "RunResult",
    "build",
    "build_cached",
    "compare",
    "cosim",
    "decode",
    "encode",
    "run_jobs",
]
