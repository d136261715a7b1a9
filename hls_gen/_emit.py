"""From a kernel, an architecture and a board to a complete project."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture
from hls_gen._boards import board_named
from hls_gen._errors import HlsError
from hls_gen._kernel import KernelSpec, Port, ports, top_name
from hls_gen._kernels import kernel_header, kernel_source
from hls_gen._print import print_source
from hls_gen._project import Project
from hls_gen._scripts import Build, makefile, tcl_script, vpp_config
from hls_gen._testbench import testbench_source

Tensors = Mapping[str, NDArray[np.integer]]

_MAX_ELEMENTS = 1 << 30
"""Indices in the generated code are 32-bit integers."""


def emit(kernel: KernelSpec, architecture: Architecture, *, board: str, tensors: Tensors) -> Project:
    """The kernel's C++ project for the architecture's array on a board.

    ``tensors`` has one integer array for every port of ``hls_gen.ports(kernel)``: the inputs, and as
    ``y`` the result that the testbench expects. Biases are 45-bit values. The clock is the
    architecture's, or the board's where that is slower. Raises HlsError for an unknown board, for a
    tensor that is missing, foreign, of the wrong shape or out of range, and for a kernel of which
    the architecture's memories do not hold one row.
    """
    chosen = board_named(board)
    data = _data_files(ports(kernel), tensors)
    build = Build(
        name=kernel.name,
        top=top_name(kernel),
        data=tuple(sorted(data)),
        part=chosen.part,
        clock_mhz=min(architecture.clock_mhz, chosen.clock_mhz),
    )
    texts = {
        f"src/{kernel.name}.hpp": print_source(kernel_header(kernel)),
        f"src/{kernel.name}.cpp": print_source(kernel_source(kernel, architecture)),
        "src/testbench.cpp": print_source(testbench_source(kernel)),
        "run_hls.tcl": tcl_script(build),
        "hls_config.cfg": vpp_config(build),
        "Makefile": makefile(kernel.name),
    }
    encoded = {path: text.encode() for path, text in texts.items()}
    return Project(kernel.name, encoded | _library() | data, ports(kernel)[-1])


def _library() -> dict[str, bytes]:
    """The header library, as it is installed."""
    folder = resources.files("hls_gen") / "include" / "archsim"
    return {
        f"include/archsim/{each.name}": each.read_bytes()
        for each in folder.iterdir()
        if each.name.endswith(".hpp")
    }


def _data_files(kernel_ports: tuple[Port, ...], tensors: Tensors) -> dict[str, bytes]:
    """Row-major little-endian files, by path."""
    foreign = sorted(set(tensors) - {port.name for port in kernel_ports})
    if foreign:
        names = ", ".join(port.name for port in kernel_ports)
        raise HlsError(f"tensors must be of {names}, not {foreign[0]!r}")
    *inputs, result = kernel_ports
    files = {f"data/{port.name}.bin": _encoded(port, tensors) for port in inputs}
    return files | {f"data/expected_{result.name}.bin": _encoded(result, tensors)}


def _encoded(port: Port, tensors: Tensors) -> bytes:
    if port.size > _MAX_ELEMENTS:
        raise HlsError(f"elements of {port.name} must be at most {_MAX_ELEMENTS}, not {port.size!r}")
    if port.name not in tensors:
        raise HlsError(f"tensors must have {port.name!r}, not {sorted(tensors)!r}")
    array = np.asarray(tensors[port.name])
    if array.shape != port.shape:
        raise HlsError(f"shape of {port.name} must be {port.shape}, not {array.shape!r}")
    if array.dtype.kind not in "iu":
        raise HlsError(f"type of {port.name} must be an integer type, not '{array.dtype}'")
    low, high = port.bounds
    if int(array.min()) < low or int(array.max()) > high:
        worst = int(array.min()) if int(array.min()) < low else int(array.max())
        raise HlsError(f"values of {port.name} must be in {low}..{high}, not '{worst}'")
    return array.astype(port.element.dtype).tobytes()
