"""RTL: the machine as Amaranth components, its program's encoding, and its cosimulation."""

from rtl._build import Design, build
from rtl._check import Checked, Difference, Run, compare, cosim
from rtl._cosim import Driver, compile_simulator, run_jobs
from rtl._design_cache import build_cached
from rtl._encode import decode, encode
from rtl._errors import RtlError
from rtl._jobs import Job, RunResult
from rtl._language import Text, Token, run_text
from rtl._link import Link, serial_link
from rtl._synthesize import Options, Synthesis, synthesize
from rtl._vendor import vendor_project

__all__ = [
    "Checked",
    "Design",
    "Difference",
    "Driver",
    "Job",
    "Link",
    "Options",
    "RtlError",
    "Run",
    "RunResult",
    "Synthesis",
    "Text",
    "Token",
    "build",
    "build_cached",
    "compare",
    "compile_simulator",
    "cosim",
    "decode",
    "encode",
    "run_jobs",
    "run_text",
    "serial_link",
    "synthesize",
    "vendor_project",
]
