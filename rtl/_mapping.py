"""Technology mapping: each unit of a design through Yosys, kept on disk by its text and its flow."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never, get_args

from archsim._cache import cache_dir
from rtl._errors import RtlError
from rtl._units import DEEP, Unit, units
from rtl._verilog import unfilled
from rtl._yowasp import run_yosys, tool_versions

Family = Literal["ecp5", "xc7", "xcup", "xcu"]
"""ECP5; Xilinx 7 series, UltraScale+ and UltraScale, by Yosys' names."""
FAMILIES: tuple[Family, ...] = get_args(Family)
Netlist = Mapping[str, Any]
"""A module as Yosys' JSON has it: ports, cells and nets."""

_REVISION: Mapping[Family, str] = {"ecp5": "5", "xc7": "2", "xcup": "2", "xcu": "2"}
"""Changes when a family's flow below does, so that kept results of the old one are not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """How a design is mapped."""

    family: Family
    dsp: bool = True
    """Whether products may become multiplier blocks."""
    block_ram: bool = True
    """Whether memories may become block RAM."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise RtlError(f"family must be one of {FAMILIES}, not {self.family!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A design as cells of a family: one netlist a unit."""

    flow: Flow
    top: str
    units: tuple[Unit, ...]
    netlists: Mapping[str, Netlist]
    """Unit name -> its module."""


def map_design(
    verilog: str, *, top: str, flow: Flow, progress: Callable[[str], None] | None = None
) -> Mapped:
    """Map every unit of ``verilog``; units that were mapped before are read from disk."""
    pieces = units(verilog, top=top)
    netlists = {}
    for number, unit in enumerate(pieces, 1):
        if progress:
            progress(f"mapping {unit.name} ({number} of {len(pieces)})")
        netlists[unit.name] = map_unit(unit, flow=flow, progress=progress)
    return Mapped(flow=flow, top=top, units=pieces, netlists=netlists)


def map_whole(verilog: str, *, top: str, flow: Flow, progress: Callable[[str], None] | None = None) -> Mapped:
    """Map all units in one run of Yosys: a third of the time of a run a unit, and nothing is kept.

    The commands are those of ``map_unit``; where there are several ways to cover the same logic, the
    choice differs by a percent, since it depends on how much was read before.
    """
    pieces = units(verilog, top=top)
    names = [unit.name for unit in pieces]
    if progress:
        progress(f"mapping {top} in one run")
    with _mapping_folder() as folder:
        (folder / "design.v").write_text(unfilled(verilog, from_words=DEEP))
        script = [
            "read_verilog -sv design.v",
            *(f"setattr -mod -set keep_hierarchy 1 ={name}" for name in names),
        ]
        script += [*synthesis_script(flow, top), f"select {' '.join(f'={name}' for name in names)}"]
        run_yosys([*script, "write_json -selected design.json"], folder, progress=progress)
        modules = json.loads((folder / "design.json").read_text())["modules"]
    # The attribute would keep the units apart for good.
    netlists = {name: {**_kept_parts(modules[name]), "attributes": {}} for name in names}
    return Mapped(flow=flow, top=top, units=pieces, netlists=netlists)


def map_unit(unit: Unit, *, flow: Flow, progress: Callable[[str], None] | None = None) -> Netlist:
    """The mapped module of one unit, its ports under the design's names."""
    path = cache_dir() / "netlist" / f"{unit_key(unit, flow)}.json.gz"
    if path.is_file():
        netlist = json.loads(gzip.decompress(path.read_bytes()))
    else:
        netlist = _synthesise(unit, flow, progress)
        _keep(path, netlist)
    return _renamed(netlist, unit)


def unit_key(unit: Unit, flow: Flow) -> str:
    """Name of a kept netlist: a digest of the text, the flow and the tools."""
    parts = (unit.name, unit.verilog, repr(flow), _REVISION[flow.family], tool_versions()[0])
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def synthesis_script(flow: Flow, top: str) -> list[str]:
    """The Yosys commands that map ``top`` for a family."""
    switches = [*(["-nodsp"] if not flow.dsp else []), *(["-nobram"] if not flow.block_ram else [])]
    match flow.family:
        case "ecp5":
            # Wider functions over the slices' multiplexers take a fifth more look-up tables, and bind more
            # cells to one place than a full device has places for.
            return [" ".join(["synth_ecp5", "-noiopad", "-nowidelut", *switches, "-top", f"\\{top}"])]
        case "xc7" | "xcup" | "xcu":
            command = " ".join(["synth_xilinx", "-family", flow.family, "-flatten", "-noiopad", "-noclkbuf"])
            uram = ["-uram"] if flow.family == "xcup" and flow.block_ram else []
            return [" ".join([command, *uram, *switches, "-top", f"\\{top}"])]
        case _:
            assert_never(flow.family)


def count_cells(mapped: Mapped) -> Counter[str]:
    """Cells of the whole design by type."""
    return total_cells(mapped.top, {name: cells_of(netlist) for name, netlist in mapped.netlists.items()})


def cells_of(netlist: Netlist) -> Counter[str]:
    """Cells of one unit by type, instances of other units among them."""
    return Counter(cell["type"] for cell in netlist["cells"].values() if cell["type"] != "$scopeinfo")


def total_cells(name: str, own: Mapping[str, Counter[str]]) -> Counter[str]:
    """Cells of unit ``name`` with everything that it instantiates."""
    total: Counter[str] = Counter()
    for kind, count in own[name].items():
        inner = total_cells(kind, own) if kind in own else Counter({kind: 1})
        for cell, each in inner.items():
            total[cell] += count * each
    return total


def _synthesise(unit: Unit, flow: Flow, progress: Callable[[str], None] | None) -> Netlist:
    with _mapping_folder() as folder:
        (folder / "unit.v").write_text(unit.verilog)
        script = ["read_verilog -sv unit.v", *synthesis_script(flow, unit.name), "write_json unit.json"]
        run_yosys(script, folder, progress=progress)
        module = json.loads((folder / "unit.json").read_text())["modules"][unit.name]
    return _kept_parts(module)


@contextmanager
def _mapping_folder() -> Iterator[Path]:
    parent = cache_dir() / "netlist"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="map-") as name:
        yield Path(name)


def _kept_parts(module: Netlist) -> Netlist:
    """A module of Yosys' JSON without what only a reader wants."""
    cells = {f"c{number}": _lean(cell) for number, cell in enumerate(module["cells"].values())}
    return {**module, "cells": cells, "netnames": _named(module["netnames"])}


def _named(nets: Mapping[str, Any]) -> dict[str, Any]:
    """The nets that the source names, by which a slow path is known."""
    return {
        name: {"hide_name": 0, "bits": net["bits"], "attributes": {}}
        for name, net in nets.items()
        if not net["hide_name"]
    }


def _lean(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell without what only a reader wants."""
    kept = ("hide_name", "type", "parameters", "port_directions", "connections")
    return {**{key: cell[key] for key in kept if key in cell}, "attributes": {}}


def _renamed(netlist: Netlist, unit: Unit) -> Netlist:
    """The module with the design's own names of its ports and nets, and of the ports of the units inside."""
    cells = {
        name: {**cell, **{key: _keys(cell[key], unit) for key in ("connections", "port_directions")}}
        if cell["type"] in unit.children
        else cell
        for name, cell in netlist["cells"].items()
    }
    # A net that kept its canonical name could have that of a port.
    own = {key: _keys(netlist[key], unit) for key in ("ports", "netnames")}
    return {**netlist, **own, "cells": cells}


def _keys(values: Mapping[str, Any], unit: Unit) -> dict[str, Any]:
    return {unit.names.get(name, name): value for name, value in values.items()}


def _keep(path: Path, netlist: Netlist) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "wb") as file:
        file.write(gzip.compress(json.dumps(netlist).encode(), 6))
    Path(name).replace(path)


def netlist_document(modules: Iterable[tuple[str, Netlist]]) -> str:
    """Netlists as one document that Yosys reads."""
    return json.dumps({"creator": "archsim", "modules": dict(modules)})
