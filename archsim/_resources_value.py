"""Resources of an FPGA: what a design takes, counted alike whoever counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Amounts of a family's resources.

    ``lut`` are look-up tables, those that carry chains and small memories take included; ``ram_kbit``
    is block RAM by its primitives' size (18 Kbit each, half of a Xilinx pair).
    """

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram: int = 0
    """Blocks of 18 Kbit."""
    uram: int = 0
    """Blocks of 288 Kbit."""

    def __add__(self, other: Resources) -> Resources:
        return Resources(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def times(self, count: int) -> Resources:
        """``count`` copies."""
        return Resources(**{f.name: getattr(self, f.name) * count for f in fields(self)})

    def as_dict(self) -> dict[str, int]:
        """Names and amounts."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


RESOURCE_NAMES = tuple(f.name for f in fields(Resources))

_ECP5 = {
    "LUT4": Resources(lut=1),
    "CCU2C": Resources(lut=2),
    "TRELLIS_DPR16X4": Resources(lut=4),
    "TRELLIS_FF": Resources(ff=1),
    "MULT18X18D": Resources(dsp=1),
    "DP16KD": Resources(bram=1),
}
_XILINX = {
    **{f"LUT{inputs}": Resources(lut=1) for inputs in range(1, 7)},
    "INV": Resources(lut=1),
    **{f"RAM{size}X1D": Resources(lut=lut) for size, lut in (("32", 2), ("64", 2), ("128", 4))},
    **{f"RAM{size}X1S": Resources(lut=lut) for size, lut in (("32", 1), ("64", 1), ("128", 2), ("256", 4))},
    "RAM32M": Resources(lut=4),
    "RAM64M": Resources(lut=4),
    "RAM32M16": Resources(lut=8),
    "RAM64M8": Resources(lut=8),
    "SRL16E": Resources(lut=1),
    "SRLC32E": Resources(lut=1),
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), Resources(ff=1)),
    "DSP48E1": Resources(dsp=1),
    "DSP48E2": Resources(dsp=1),
    "RAMB18E1": Resources(bram=1),
    "RAMB18E2": Resources(bram=1),
    "RAMB36E1": Resources(bram=2),
    "RAMB36E2": Resources(bram=2),
    "URAM288": Resources(uram=1),
}
CELLS: Mapping[str, Mapping[str, Resources]] = {"ecp5": _ECP5, "xc7": _XILINX, "xcup": _XILINX}
"""Family -> cell -> what it takes; cells that are not here (multiplexers behind LUTs, carries) take no more.

A CCU2C is two LUTs of a slice with their carry; a TRELLIS_DPR16X4 holds four LUTs' memory, as nextpnr
counts them (its two writing LUTs besides are sites of another kind). Xilinx: UG474 and UG574,
tables of distributed RAM.
"""


def resources_of(cells: Mapping[str, int], *, family: str) -> Resources:
    """What the ``cells`` (type to count) of ``family`` take."""
    kinds, total = CELLS[family], Resources()
    for cell, count in cells.items():
        total += kinds.get(cell, Resources()).times(count)
    return total
