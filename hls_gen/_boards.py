"""Boards that a project can be made for."""

from __future__ import annotations

from dataclasses import dataclass

from hls_gen._errors import HlsError


@dataclass(frozen=True, slots=True)
class Board:
    """A board's device and the clock that a kernel on it is asked to meet at most."""

    name: str
    part: str
    """The vendor's full part name: device, package, speed and temperature grade."""
    clock_mhz: float


BOARDS: tuple[Board, ...] = (
    Board("kv260", "xck26-sfvc784-2LV-c", 300.0),
    Board("u280", "xcu280-fsvh2892-2L-e", 300.0),
    Board("u50", "xcu50-fsvh2104-2-e", 300.0),
    Board("vcu1525", "xcvu9p-fsgd2104-2L-e", 300.0),
    Board("zcu102", "xczu9eg-ffvb1156-2-e", 300.0),
)
"""The known boards, by name."""


def board_named(name: str) -> Board:
    """The board of that name or part; HlsError says which there are."""
    for board in BOARDS:
        if name in (board.name, board.part):
            return board
    raise HlsError(
        f"board must be {', '.join(each.name for each in BOARDS)} or one of their parts, not {name!r}"
    )
