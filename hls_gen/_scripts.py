"""The project's build files: the vendor tool's Tcl and configuration, and a Makefile for g++."""

from __future__ import annotations

from dataclasses import dataclass

_CFLAGS = "-std=c++17 -Iinclude"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What the vendor's tool is asked to make."""

    name: str
    """Of the sources and of what comes out."""
    top: str
    """The top function."""
    data: tuple[str, ...]
    """The testbench's files."""
    part: str
    clock_mhz: float

    @property
    def period_ns(self) -> str:
        """The clock period, in nanoseconds."""
        return f"{1000 / self.clock_mhz:.3f}"


def tcl_script(build: Build) -> str:
    """``run_hls.tcl``, for ``vitis_hls -f`` or ``vitis-run --mode hls --tcl``."""
    return _commands(
        ("open_project", "-reset", f"{build.name}_hls"),
        ("set_top", build.top),
        ("add_files", f"src/{build.name}.cpp", "-cflags", _CFLAGS),
        ("add_files", "-tb", "src/testbench.cpp", "-cflags", _CFLAGS),
        ("add_files", "-tb", "data"),
        ("open_solution", "-reset", "-flow_target", "vitis", "solution"),
        ("set_part", build.part),
        ("create_clock", "-period", build.period_ns, "-name", "default"),
        ("csim_design",),
        ("csynth_design",),
        ("export_design", "-format", "xo", "-output", f"{build.name}.xo"),
        ("exit",),
    )


def vpp_config(build: Build) -> str:
    """``hls_config.cfg``, for ``v++ --compile --mode hls --config``."""
    options = (
        ("flow_target", "vitis"),
        ("clock", f"{build.period_ns}ns"),
        ("syn.top", build.top),
        ("syn.file", f"src/{build.name}.cpp"),
        ("syn.cflags", _CFLAGS),
        ("tb.file", "src/testbench.cpp"),
        *(("tb.file", path) for path in build.data),
        ("tb.cflags", _CFLAGS),
        ("package.output.format", "xo"),
        ("package.output.file", f"{build.name}.xo"),
    )
    lines = [f"part={build.part}", "", "[hls]", *(f"{key}={value}" for key, value in options)]
    return "\n".join(lines) + "\n"


def makefile(name: str) -> str:
    """``Makefile``: compiles kernel and testbench with g++ and runs them (``make check``)."""
    return "\n".join(
        (
            "# AP_INCLUDE is the folder of ap_int.h and hls_stream.h.",
            "AP_INCLUDE ?= $(XILINX_HLS)/include",
            "CXX ?= g++",
            "CXXFLAGS ?= -O1",
            "# ap_int clears the bits above a value in place, before it is set.",
            "WARNINGS := -Wall -Wextra -Wno-unknown-pragmas -Wno-maybe-uninitialized -Wno-uninitialized",
            f"SOURCES := src/{name}.cpp src/testbench.cpp",
            f"HEADERS := src/{name}.hpp $(wildcard include/archsim/*.hpp)",
            "",
            ".PHONY: check clean",
            "",
            "check: build/testbench",
            "\t./build/testbench data",
            "",
            "build/testbench: $(SOURCES) $(HEADERS) Makefile",
            "\t@mkdir -p build",
            f'\t$(CXX) {_CFLAGS} $(CXXFLAGS) $(WARNINGS) -isystem "$(AP_INCLUDE)" $(SOURCES) -o $@',
            "",
            "clean:",
            "\trm -rf build",
            "",
        )
    )


def _commands(*commands: tuple[str, ...]) -> str:
    return "".join(" ".join(map(_word, command)) + "\n" for command in commands)


def _word(word: str) -> str:
    """A Tcl word, in braces where a blank would split it."""
    return f"{{{word}}}" if " " in word else word
