"""Synthesis: a design's real resources, clock and bitstream, kept so that asking again is immediate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from archsim._board import MAPPED_FAMILIES, PLACED_FAMILIES, Board
from archsim._cache import cache_dir
from archsim._resources_value import Resources, resources_of
from rtl._absorb import absorb_registers
from rtl._board import BOARD_TOP, DEFAULT_BAUD, board_of, board_verilog, memory_bytes
from rtl._build import Design
from rtl._errors import RtlError
from rtl._fan_out import copy_registers
from rtl._floorplan import choose_sites
from rtl._mapping import FAMILIES, Flow, Mapped, count_cells, map_design
from rtl._netlist import link, ports_of_netlist
from rtl._place import BITSTREAM, CONFIG, NETLIST, Placed, Segment, device_size, lpf, pack, place
from rtl._stubs import STUBBED, stubbed
from rtl._toolchain import cache_lock
from rtl._yowasp import tool_versions

Subject = Literal["board", "core"]
"""What is placed: the whole board with its bridge and memory, or the core between registers."""
Progress = Callable[[str], None]

DEFAULT_SEED = 1
_REVISION = "1"
_RESULT = "result.json"
_SHELL = (
    "_absorb.py",
    "_block_memory.py",
    "_board.py",
    "_bridge.py",
    "_fan_out.py",
    "_floorplan.py",
    "_netlist.py",
    "_place.py",
    "_pll.py",
    "_queue.py",
    "_stubs.py",
    "_uart.py",
)
"""Sources that a placed result depends on besides the core's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a synthesis may be asked for."""

    clock_mhz: float | None = None
    """Clock to reach; the architecture's if None."""
    subject: Subject = "board"
    seed: int = DEFAULT_SEED
    """Of the placer."""
    speed: str | None = None
    """Another speed grade than the board's part has."""
    baud: int = DEFAULT_BAUD
    place: bool = True
    """Whether to place and route where the family allows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """What synthesis found."""

    design: str
    """The architecture's name."""
    board: str
    part: str
    family: str
    subject: Subject
    core: Resources
    """The core alone, as mapped."""
    cells: Mapping[str, int]
    """Cells of the core by type."""
    units: Mapping[str, Resources]
    """Unit of the core -> one of it, without the units inside."""
    placed: Placed | None
    memory_bytes: int
    """On-chip memory of the board's design; 0 where there is none."""
    seed: int
    files: Mapping[str, Path] = field(default_factory=dict)
    """What was made, in the cache: netlist, configuration, and the bitstream if the clock is met."""


def synthesize(
    design: Design,
    board: Board,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
) -> Synthesis:
    """Map ``design`` to the cells of ``board``'s FPGA, and place and route it where that is possible.

    A design is mapped unit by unit, and every unit and every result is kept on disk. Without place and
    route (Xilinx parts) ``placed`` is None.

    Raises: RtlError when the family is not known to Yosys, the design does not fit, or a tool fails.
    """
    chosen = options or Options()
    if board.family not in MAPPED_FAMILIES:
        raise RtlError(
            f"board must be of a family that Yosys maps, {', '.join(MAPPED_FAMILIES)}, not {board.family!r}"
        )
    mapped = map_design(design.verilog, top=design.top, flow=_flow(board), progress=progress)
    core = resources_of(count_cells(mapped), family=board.family)
    check_fits(core, board)
    base = _base(design, board, mapped, core, chosen)
    if board.family not in PLACED_FAMILIES or not chosen.place:
        return base
    folder = cache_dir() / "synthesis" / _key(design, board, chosen)
    with cache_lock(folder):
        if not (folder / _RESULT).exists():
            _run_into(folder, design, board, mapped, chosen, core, progress)
    return _with_result(base, folder)


def check_fits(core: Resources, board: Board) -> None:
    """Raises RtlError where ``core`` alone is more than ``board``'s FPGA holds."""
    if board.capacity is None:
        return
    for name, need, have in (
        ("look-up tables", core.lut, board.capacity.lut),
        ("flip-flops", core.ff, board.capacity.ff),
        ("multipliers", core.dsp, board.capacity.dsp),
        ("18 Kbit blocks of RAM", core.bram, board.capacity.bram_kbit // 18),
    ):
        if need > have:
            raise RtlError(
                f"board must have {need} {name} for this architecture, and {board.name!r} has {have}"
            )


def _flow(board: Board) -> Flow:
    for family in FAMILIES:
        if family == board.family:
            return Flow(family=family)
    raise AssertionError("mapped families are flows")


def _base(design: Design, board: Board, mapped: Mapped, core: Resources, chosen: Options) -> Synthesis:
    own = {name: _own(mapped, name) for name in mapped.netlists}
    return Synthesis(
        design=design.arch.name,
        board=board.name,
        part=board.part,
        family=board.family,
        subject=chosen.subject,
        core=core,
        cells=dict(sorted(count_cells(mapped).items())),
        units=own,
        placed=None,
        memory_bytes=0,
        seed=chosen.seed,
    )


def _own(mapped: Mapped, name: str) -> Resources:
    cells: dict[str, int] = {}
    for cell in mapped.netlists[name]["cells"].values():
        cells[cell["type"]] = cells.get(cell["type"], 0) + 1
    return resources_of(cells, family=mapped.flow.family)


def _run_into(
    folder: Path,
    design: Design,
    board: Board,
    mapped: Mapped,
    chosen: Options,
    core: Resources,
    progress: Progress | None,
) -> None:
    tell = progress or (lambda text: None)
    clock = chosen.clock_mhz or design.arch.clock_mhz
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="place-") as name:
        work = Path(name)
        size, constraints, shell = 0, None, (STUBBED, stubbed(design.top, ports_of_netlist(mapped)))
        if chosen.subject == "board":
            size = memory_bytes(board, design.arch, used_kbit=18 * core.bram)
            top = board_of(design, board, clock_mhz=clock, size_bytes=size, baud=chosen.baud)
            clock, constraints, shell = top.pll.output_mhz, lpf(board), (BOARD_TOP, board_verilog(top))
        tell("mapping the shell around the core")
        link(mapped, work, shell=shell, output=[f"write_json {NETLIST}"], progress=progress)
        _prepare(work / NETLIST, size=device_size(board.part), seed=chosen.seed, tell=tell)
        tell(f"placing and routing for {clock:g} MHz (minutes)")
        placed = place(
            work,
            part=board.part,
            clock_mhz=clock,
            seed=chosen.seed,
            speed=chosen.speed,
            constraints=constraints,
            progress=progress,
        )
        if chosen.subject == "board" and placed.met:
            tell("packing the bitstream")
            pack(work, progress=progress)
        _publish(work, folder, placed, size)


def _prepare(path: Path, *, size: str, seed: int, tell: Progress) -> None:
    """What neither Yosys nor nextpnr does to a netlist, and changes neither its bits nor its cycles."""
    document = json.loads(path.read_text())
    module = max(document["modules"].values(), key=lambda each: len(each.get("cells", ())))
    tell(f"moved {absorb_registers(module)} registers into block RAM and multipliers")
    tell(f"copied {copy_registers(module)} registers for those that hear them")
    tell(f"chose the sites of {choose_sites(module, size=size, seed=seed)} multipliers and block RAMs")
    path.write_text(json.dumps(document))


def _publish(work: Path, folder: Path, placed: Placed, size: int) -> None:
    entry = work / "entry"
    entry.mkdir()
    for file in (CONFIG, BITSTREAM, "board.lpf", "place.log", "report.json"):
        if (work / file).exists():
            (work / file).rename(entry / file)
    document = {"placed": dataclasses.asdict(placed), "memory_bytes": size}
    (entry / _RESULT).write_text(json.dumps(document))
    shutil.rmtree(folder, ignore_errors=True)
    entry.rename(folder)


def _with_result(base: Synthesis, folder: Path) -> Synthesis:
    document: dict[str, Any] = json.loads((folder / _RESULT).read_text())
    raw = document["placed"]
    placed = Placed(**{**raw, "critical": tuple(Segment(**each) for each in raw["critical"])})
    files = {path.name: path for path in sorted(folder.iterdir()) if path.name != _RESULT}
    return dataclasses.replace(base, placed=placed, memory_bytes=document["memory_bytes"], files=files)


def _key(design: Design, board: Board, chosen: Options) -> str:
    arch = design.arch
    parts = [design.verilog, repr(board), repr(chosen), repr(arch.memory), str(arch.clock_mhz)]
    parts += [*tool_versions(), _REVISION]
    for name in _SHELL:
        parts.append((Path(__file__).parent / name).read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def copy_files(result: Synthesis, folder: Path) -> tuple[str, ...]:
    """Copy what was made into ``folder``, each file whole or not at all; returns the names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in result.files.items():
        partial = folder / f".{name}.{os.getpid()}"
        shutil.copyfile(source, partial)
        partial.replace(folder / name)
    return tuple(sorted(result.files))
