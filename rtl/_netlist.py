"""Mapped units put together again: one flat netlist for place and route, or as Verilog to simulate."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from archsim._cache import cache_dir
from rtl._build import Design
from rtl._errors import RtlError
from rtl._mapping import Flow, Mapped, count_cells, map_whole, synthesis_script
from rtl._netlist_verilog import netlist_verilog
from rtl._toolchain import cache_lock
from rtl._units import Port, stub
from rtl._verilog import unfilled
from rtl._yowasp import run_yosys, share_dir, tool_versions

_LIBRARIES = {
    "ecp5": ("ecp5/cells_sim.v", "ecp5/cells_bb.v"),
    "xc7": ("xilinx/cells_sim.v", "xilinx/cells_xtra.v"),
    "xcup": ("xilinx/cells_sim.v", "xilinx/cells_xtra.v"),
}

_REVISION = "2"
"""Changes when what is kept of a netlist does."""
_CARRIES = "output [3:0] CO"
"""Of a carry chain's cell, each made of the one before: a loop to Verilator unless it takes them apart."""


def link(
    mapped: Mapped,
    folder: Path,
    *,
    shell: tuple[str, str] | None = None,
    output: Sequence[str],
    progress: Callable[[str], None] | None = None,
) -> None:
    """Flatten ``mapped``, inside ``shell`` (module name, Verilog) if there is one, and run ``output``.

    ``output`` holds Yosys commands, as ``write_json netlist.json``; files are in ``folder``.
    """
    names = [f"u{number}.json" for number in range(len(mapped.units))]
    for name, unit in zip(names, mapped.units, strict=True):
        document = {"creator": "archsim", "modules": {unit.name: mapped.netlists[unit.name]}}
        (folder / name).write_text(json.dumps(document))
    top = shell[0] if shell else mapped.top
    script = _shell(mapped, folder, shell, flow=mapped.flow) if shell else _libraries(mapped.flow)
    script += [f"read_json {name}" for name in names]
    script += [f"hierarchy -check -top {top}", "flatten -scopename", "opt_clean -purge", *output]
    run_yosys(script, folder, progress=progress)


def _libraries(flow: Flow) -> list[str]:
    files = " ".join(f"+/{name}" for name in _LIBRARIES[flow.family])
    return [f"read_verilog -lib -specify {files}"]


def _shell(mapped: Mapped, folder: Path, shell: tuple[str, str] | None, *, flow: Flow) -> list[str]:
    """The shell mapped around a place for the design."""
    assert shell is not None
    name, text = shell
    (folder / "shell.v").write_text(unfilled(text) + stub(mapped.top, ports_of_netlist(mapped)))
    return ["read_verilog -sv shell.v", *synthesis_script(flow, name), f"delete ={mapped.top}"]


def ports_of_netlist(mapped: Mapped) -> tuple[Port, ...]:
    """The ports of the whole design."""
    ports = mapped.netlists[mapped.top]["ports"].items()
    return tuple(Port(name, port["direction"] == "input", len(port["bits"])) for name, port in ports)


def netlist_design(design: Design, flow: Flow, *, progress: Callable[[str], None] | None = None) -> Design:
    """``design`` as the cells it is mapped to, with Yosys' own models of them: what is built, to simulate.

    Same ports, same name: ``cosim`` runs it as it runs the source. Models exist for Xilinx' logic, small
    memories and multipliers; that of its block RAM has ports and no content. Kept on disk by the design.

    Raises: RtlError for a flow whose cells have no open model.
    """
    if flow.family == "ecp5" or flow.block_ram:
        raise RtlError(f"flow must be of a Xilinx family without block RAM to be simulated, not {flow!r}")
    parts = (_REVISION, design.top, design.verilog, repr(flow), *tool_versions())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    folder = cache_dir() / "netlist" / f"flat-{key}"
    with cache_lock(folder):
        if not folder.exists():
            mapped = map_whole(design.verilog, top=design.top, flow=flow, progress=progress)
            _flatten_into(folder, mapped, progress)
    return replace(design, verilog=(folder / "flat.v").read_text())


def _flatten_into(folder: Path, mapped: Mapped, progress: Callable[[str], None] | None) -> None:
    if progress:
        progress("putting the mapped units together")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="flat-") as name:
        work = Path(name)
        output = [f"select ={mapped.top}", "write_json -selected flat.json"]
        link(mapped, work, output=output, progress=progress)
        entry = work / "entry"
        entry.mkdir()
        netlist = json.loads((work / "flat.json").read_text())["modules"][mapped.top]
        text = netlist_verilog(mapped.top, netlist) + cell_models(sorted(count_cells(mapped)))
        (entry / "flat.v").write_text(text)
        entry.rename(folder)


def cell_models(cells: Sequence[str]) -> str:
    """The models of ``cells`` and of what they are made of, from the file that comes with Yosys."""
    library = (share_dir() / "xilinx" / "cells_sim.v").read_text()
    models = {
        found["name"]: found[0]
        for found in re.finditer(r"^module (?P<name>\w+)\b.*?^endmodule", library, re.MULTILINE | re.DOTALL)
    }
    wanted, waiting = {}, [cell for cell in cells if cell in models]
    while waiting:
        name = waiting.pop()
        wanted[name] = models[name]
        used = re.findall(r"^ +(\w+) (?:#|\w+ ?\()", models[name], re.MULTILINE)
        waiting += [inner for inner in used if inner in models and inner not in wanted]
    models_text = "\n".join(["", *(wanted[name] for name in sorted(wanted)), ""])
    return models_text.replace(_CARRIES, f"{_CARRIES} /* verilator split_var */")
