"""Registers that an ECP5's block RAMs and multipliers have inside: those beside them go there.

Yosys leaves them in the fabric. A block RAM answers 5.8 ns after its clock at speed grade 6, and 1.0 ns with
its output register; a product needs no way to a register outside, and where the operands are registered too,
the way to the multiplier has a whole cycle, 3.5 ns of which the product took before. Sources: Lattice
FPGA-TN-02204, "ECP5 and ECP5-5G Memory Usage Guide" (REGMODE), and FPGA-TN-02205, "ECP5 and ECP5-5G sysDSP
Usage Guide" (REG_OUTPUT_CLK, REG_INPUTA_CLK); the times are those of nextpnr's database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

_PRODUCT = tuple(f"P{bit}" for bit in range(36))
_OPERANDS = {side: tuple(f"{side}{bit}" for bit in range(18)) for side in "AB"}
_RAM_SIDES = "AB"
_CHOOSERS = ("PFUMX", "L6MUX21")
"""Multiplexers within a slice, which cost a look-up table's level nothing."""

_SLOW = ("CCU2C", "DP16KD", "TRELLIS_DPR16X4")
"""Carry chains, and memories that answer without a register."""

_FEW_LEVELS = 1
"""Levels of logic before an operand's register that leave time for the way to a multiplier."""

Cell = dict[str, Any]


def absorb_registers(module: dict[str, Any]) -> int:
    """Move registers of ``module``, a flat netlist in Yosys' JSON, in place; returns how many.

    A multiplier or a side of a block RAM takes the registers behind its outputs if every output that is
    used feeds one register and nothing else, and these have one clock, no enable and no reset. A multiplier
    that has its product's register also takes, or copies if others use them, those of its operands if
    every bit of both is a constant 0 or such a register, with at most a look-up table before it.
    """
    return _Netlist(module).absorb()


class _Netlist:
    """A flat netlist, with the users of every net and the plain register that takes it."""

    def __init__(self, module: dict[str, Any]) -> None:
        self.cells: dict[str, Cell] = module["cells"]
        self.uses: Counter[Any] = Counter()
        self.registers: dict[Any, str] = {}
        self.drivers: dict[Any, str] = {}
        for port in module["ports"].values():
            if port["direction"] != "input":
                self.uses.update(port["bits"])
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    self.uses.update(bits)
                else:
                    self.drivers |= dict.fromkeys(bits, name)
            if _is_plain(cell):
                self.registers[cell["connections"]["DI"][0]] = name

    def absorb(self) -> int:
        """Move what can be moved; returns how many registers."""
        moved = 0
        for cell in [*self.cells.values()]:
            match cell["type"]:
                case "MULT18X18D":
                    moved += self._into_multiplier(cell)
                case "DP16KD":
                    moved += sum(self._into_memory(cell, side) for side in _RAM_SIDES)
        # A register that a block RAM could take has gone there by now.
        for cell in self.cells_of("MULT18X18D"):
            moved += self._into_operands(cell)
        return moved

    def cells_of(self, kind: str) -> list[Cell]:
        """The cells of one type."""
        return [cell for cell in self.cells.values() if cell["type"] == kind]

    def _into_multiplier(self, cell: Cell) -> int:
        names = self._behind(cell, _PRODUCT)
        if not names or "CLK0" in cell["connections"]:
            return 0
        (clock,) = self._clocks(names.values())
        cell["connections"] |= {"CLK0": [clock], "CE0": ["1"], "RST0": ["0"]}
        cell["port_directions"] |= dict.fromkeys(("CLK0", "CE0", "RST0"), "input")
        cell["parameters"] |= {"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0"}
        cell["parameters"] |= {"CLK0_DIV": "ENABLED", "GSR": "DISABLED"}
        return self._move(cell, names)

    def _into_operands(self, cell: Cell) -> int:
        given, clocks = cell["connections"], set()
        moves: dict[str, str] = {}
        for pin in (*_OPERANDS["A"], *_OPERANDS["B"]):
            net = given.get(pin, ["0"])[0]
            if net == "0":
                continue
            name = self.drivers.get(net, "")
            if name not in self.cells or not _is_plain(self.cells[name]):
                return 0
            clocks |= self._clocks([name])
            if not self._is_near(self.cells[name]["connections"]["DI"][0], _FEW_LEVELS):
                return 0
            moves[pin] = name
        if not moves or clocks != {*given.get("CLK0", [])}:
            return 0
        for side in _OPERANDS:
            settings = {"CLK": "CLK0", "CE": "CE0", "RST": "RST0"}
            cell["parameters"] |= {f"REG_INPUT{side}_{key}": value for key, value in settings.items()}
        return sum(self._take(cell, pin, name) for pin, name in moves.items())

    def _take(self, cell: Cell, pin: str, name: str) -> int:
        """Give ``pin`` what register ``name`` is given; returns 1 if nobody needs the register then."""
        held = self.cells[name]["connections"]
        source, (net,) = held["DI"], held["Q"]
        cell["connections"][pin] = source
        self.uses[net] -= 1
        self.uses[source[0]] += 1
        if self.uses[net]:
            return 0
        del self.cells[name]
        self.uses[source[0]] -= 1
        return 1

    def _is_near(self, net: Any, levels: int) -> bool:
        """Whether at most ``levels`` look-up tables lie between registers and ``net``, and nothing slower."""
        cell = self.cells.get(self.drivers.get(net, ""))
        if cell is None:
            return True
        if (cell["type"] == "LUT4" and not levels) or cell["type"] in _SLOW:
            return False
        if cell["type"] not in (*_CHOOSERS, "LUT4"):
            return True
        left = levels - (cell["type"] == "LUT4")
        inputs = [port for port, way in cell["port_directions"].items() if way == "input"]
        return all(self._is_near(cell["connections"][port][0], left) for port in inputs)

    def _into_memory(self, cell: Cell, side: str) -> int:
        given = cell["connections"]
        outputs = [f"DO{side}{bit}" for bit in range(18)]
        if _reads_wide(cell):
            # A word of 36 bits leaves through both sides, and takes the registers of both.
            if side == "A" or given.get("CLKA") != given.get("CLKB") or given.get("RSTA") != ["0"]:
                return 0
            outputs += [f"DOA{bit}" for bit in range(18)]
        names = self._behind(cell, outputs)
        enabled = given.get(f"OCE{side}") == ["1"] and given.get(f"RST{side}") == ["0"]
        clocked = cell["parameters"].get(f"CLK{side}MUX") == f"CLK{side}"
        if not names or not enabled or not clocked or {*given[f"CLK{side}"]} != self._clocks(names.values()):
            return 0
        cell["parameters"][f"REGMODE_{side}"] = "OUTREG"
        if _reads_wide(cell):
            cell["parameters"]["REGMODE_A"] = "OUTREG"
            given["OCEA"] = ["1"]
            cell["port_directions"]["OCEA"] = "input"
        return self._move(cell, names)

    def _behind(self, cell: Cell, outputs: Iterable[str]) -> dict[str, str]:
        """Output -> the register that alone takes it, for all that are used; empty unless all may move."""
        given = cell["connections"]
        used = {port: given[port][0] for port in outputs if port in given and self.uses[given[port][0]]}
        names = {port: self.registers[net] for port, net in used.items() if net in self.registers}
        alone = all(self.uses[net] == 1 for net in used.values())
        return names if alone and len(names) == len(used) and len(self._clocks(names.values())) == 1 else {}

    def _clocks(self, names: Iterable[str]) -> set[Any]:
        return {self.cells[name]["connections"]["CLK"][0] for name in names}

    def _move(self, cell: Cell, names: dict[str, str]) -> int:
        for port, name in names.items():
            cell["connections"][port] = self.cells.pop(name)["connections"]["Q"]
            self.drivers[cell["connections"][port][0]] = ""
        return len(names)


def _reads_wide(cell: Cell) -> bool:
    """Whether a block RAM is read by words of 36 bits, which side B asks for."""
    return int(cell["parameters"].get("DATA_WIDTH_B", "0"), 2) == 36


def _is_plain(cell: Cell) -> bool:
    """Whether ``cell`` is a register that takes its input at every rising edge and begins at zero."""
    if cell["type"] != "TRELLIS_FF":
        return False
    settings = {key: str(value).strip() for key, value in cell["parameters"].items()}
    given = cell["connections"]
    return (
        settings.get("CEMUX") == "1"
        and settings.get("CLKMUX") == "CLK"
        and settings.get("REGSET") == "RESET"
        and settings.get("LSRMUX") == "LSR"
        and given.get("LSR", ["0"]) == ["0"]
        and "M" not in given
    )
