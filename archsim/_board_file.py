"""The board file: YAML to a ``Board``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from archsim._board import Board, Capacity, Pins
from archsim._errors import ArchsimError
from archsim._yaml_file import read_document, read_text, suggestion, validate

_SUFFIXES = (".yaml", ".yml")
_Count = Annotated[int, Field(ge=0, le=1 << 30)]
_Pin = Annotated[str, Field(pattern=r"[A-Z]{1,2}[0-9]{1,2}", max_length=4)]


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CapacityFile(_Section):
    """What the device holds."""

    lut: _Count
    ff: _Count
    dsp: _Count
    bram_kbit: _Count
    uram: _Count = 0


class PinsFile(_Section):
    """Package pins."""

    clock: _Pin
    uart_rx: _Pin = Field(description="into the FPGA")
    uart_tx: _Pin = Field(description="out of the FPGA")
    leds: list[_Pin] = Field(default=[], max_length=8)
    leds_active_low: bool = False


class BoardFile(_Section):
    """The board file's schema."""

    name: str = Field(min_length=1, max_length=100)
    family: Literal["ecp5", "xc7", "xcup", "versal", "stratix10"]
    part: str = Field(pattern=r"^[A-Za-z0-9-]+$", max_length=60)
    clock_mhz: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)]
    source: str = Field(min_length=1, max_length=1000)
    board_part: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.:-]+$", max_length=100)
    capacity: CapacityFile | None = None
    pins: PinsFile | None = None


def load_board(name_or_path: str | Path) -> Board:
    """The board of that library name, or in that ``.yaml`` file.

    Raises: ArchsimError with file, line and key where the file cannot be used, and with the nearest
    name where the library has none such.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(_SUFFIXES):
        path = Path(name_or_path)
        return parse_board(read_text(path), source=str(path))
    if name_or_path not in (names := board_names()):
        raise ArchsimError(
            f"the board must be a .yaml file or one of {', '.join(names)}, not {name_or_path[:100]!r}"
            + suggestion(name_or_path, names)
        )
    file = resources.files("archsim") / "library" / "boards" / f"{name_or_path}.yaml"
    return parse_board(file.read_text("utf-8"), source=f"boards/{name_or_path}.yaml")


def board_names() -> tuple[str, ...]:
    """The library's boards, sorted."""
    files = (resources.files("archsim") / "library" / "boards").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def parse_board(text: str, *, source: str = "<text>") -> Board:
    """The board that ``text`` describes; ``source`` names it in messages."""
    document = read_document(text, source=source)
    file = validate(document, BoardFile)
    if file.family == "ecp5" and (file.pins is None or file.capacity is None):
        raise document.error(("family",), "pins and capacity must be given for a board of family 'ecp5'")
    if file.family == "ecp5" and ecp5_device(file.part) is None:
        wanted = "an ECP5 part number, as LFE5U-85F-6BG381C"
        raise document.error(("part",), f"part must be {wanted}, not {file.part!r}")
    plain = file.model_dump(exclude={"capacity", "pins"})
    pins = Pins(**{**file.pins.model_dump(), "leds": tuple(file.pins.leds)}) if file.pins else None
    capacity = Capacity(**file.capacity.model_dump()) if file.capacity else None
    return Board(**plain, capacity=capacity, pins=pins)


_SIZES = {
    ("LFE5U", "12F"): "--12k",
    ("LFE5U", "25F"): "--25k",
    ("LFE5U", "45F"): "--45k",
    ("LFE5U", "85F"): "--85k",
    ("LFE5UM", "25F"): "--um-25k",
    ("LFE5UM", "45F"): "--um-45k",
    ("LFE5UM", "85F"): "--um-85k",
    ("LFE5UM5G", "25F"): "--um5g-25k",
    ("LFE5UM5G", "45F"): "--um5g-45k",
    ("LFE5UM5G", "85F"): "--um5g-85k",
}
_PACKAGES = {
    "BG381": "CABGA381",
    "BG554": "CABGA554",
    "BG756": "CABGA756",
    "BG256": "CABGA256",
    "MG285": "CSFBGA285",
}


def ecp5_device(part: str) -> tuple[str, str, str] | None:
    """Nextpnr's size switch, package and speed grade of an ECP5 part number; None where it is none."""
    pieces = part.split("-")
    if len(pieces) != 3 or (pieces[0], pieces[1]) not in _SIZES:
        return None
    speed, package = pieces[2][:1], pieces[2][1:6]
    if speed not in ("6", "7", "8") or package not in _PACKAGES:
        return None
    return _SIZES[pieces[0], pieces[1]], _PACKAGES[package], speed
