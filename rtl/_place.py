"""Place and route on an ECP5 with nextpnr, and the bitstream."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsim._board import Board
from archsim._board_file import ecp5_device
from rtl._yowasp import run_tool

NETLIST, REPORT, CONFIG, BITSTREAM, CONSTRAINTS = (
    "netlist.json",
    "report.json",
    "board.config",
    "board.bit",
    "board.lpf",
)
_TIMING_WEIGHT = 600
"""How much more a net on the slowest path pulls than one with time to spare; nextpnr's own is 10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One step of a path: a cell's logic or a net's routing."""

    kind: str
    delay_ns: float
    cell: str
    """Cell at whose input or output the step ends."""
    net: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What place and route gives."""

    clock_mhz: float
    """Highest clock of the core's domain."""
    constraint_mhz: float
    used: Mapping[str, int]
    """Sites in use by nextpnr's name."""
    available: Mapping[str, int]
    critical: tuple[Segment, ...]
    """The slowest path."""

    @property
    def met(self) -> bool:
        """Whether the clock that was asked for is reached."""
        return self.clock_mhz >= self.constraint_mhz


def place(
    folder: Path,
    *,
    part: str,
    clock_mhz: float,
    seed: int,
    speed: str | None = None,
    constraints: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Placed:
    """Place and route ``netlist.json`` in ``folder``; leaves the configuration there.

    ``speed`` overrides the speed grade of ``part``. A missed clock is a result, not an error.

    Raises: RtlError when the design does not fit.
    """
    size, package, grade = _device(part)
    arguments = [size, "--package", package, "--speed", speed or grade, "--json", NETLIST]
    arguments += ["--freq", f"{clock_mhz:g}", "--seed", str(seed), "--report", REPORT, "--textcfg", CONFIG]
    arguments += ["--timing-allow-fail", "--quiet", "--log", "place.log"]
    arguments += ["--placer-heap-timingweight", str(_TIMING_WEIGHT)]
    if constraints is None:
        arguments.append("--lpf-allow-unconstrained")
    else:
        (folder / CONSTRAINTS).write_text(constraints)
        arguments += ["--lpf", CONSTRAINTS]
    run_tool("nextpnr-ecp5", arguments, folder, progress=progress)
    return read_report(json.loads((folder / REPORT).read_text()))


def device_size(part: str) -> str:
    """Nextpnr's option for the device of ``part``."""
    return _device(part)[0]


def _device(part: str) -> tuple[str, str, str]:
    device = ecp5_device(part)
    assert device is not None, "the board file is checked when it is read"
    return device


def read_report(report: Mapping[str, Any]) -> Placed:
    """Nextpnr's JSON report as a value."""
    clocks = report["fmax"]
    # The oscillator's own domain, if it has any register, is the quicker one.
    name = min(clocks, key=lambda each: clocks[each]["achieved"])
    paths = [
        path for path in report["critical_paths"] if _domain(path["from"]) == _domain(path["to"]) == name
    ]
    return Placed(
        clock_mhz=clocks[name]["achieved"],
        constraint_mhz=clocks[name]["constraint"],
        used={site: each["used"] for site, each in report["utilization"].items() if each["used"]},
        available={site: each["available"] for site, each in report["utilization"].items()},
        critical=tuple(_segments(paths[0]["path"])) if paths else (),
    )


def _domain(event: str) -> str:
    return event.split(" ", 1)[-1]


def _segments(path: Sequence[Mapping[str, Any]]) -> list[Segment]:
    return [
        Segment(kind=each["type"], delay_ns=each["delay"], cell=each["to"]["cell"], net=each.get("net", ""))
        for each in path
    ]


def pack(folder: Path, *, progress: Callable[[str], None] | None = None) -> None:
    """Make the bitstream of the configuration in ``folder``."""
    run_tool("ecppack", ["--compress", "--input", CONFIG, "--bit", BITSTREAM], folder, progress=progress)


def lpf(board: Board) -> str:
    """The constraints of ``board``'s pins, for the ports of the board's design."""
    pins = board.pins
    assert pins is not None, "the board file is checked when it is read"
    lines = ["BLOCK RESETPATHS;", "BLOCK ASYNCPATHS;", f'FREQUENCY PORT "clk" {board.clock_mhz:g} MHZ;']
    sites = {"clk": pins.clock, "uart_rx": pins.uart_rx, "uart_tx": pins.uart_tx}
    sites |= {f"leds[{index}]": site for index, site in enumerate(pins.leds)}
    for port, site in sites.items():
        pull = " PULLMODE=UP" if port == "uart_rx" else ""
        lines += [f'LOCATE COMP "{port}" SITE "{site}";', f'IOBUF PORT "{port}" IO_TYPE=LVCMOS33{pull};']
    return "\n".join([*lines, ""])
